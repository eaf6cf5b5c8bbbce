"""Writes trades of two made-up shares on New York's hours, and what pandas says about their sessions.

    pip install numpy==2.4.6 pandas==3.1.1
    python sessions.py

It writes sessions.csv (the trades) and correlate.csv, seasonality.csv and stats.csv beside itself. The hours are written down
here (NYSE: 9:30 to 16:00, 13:00 on the day after Thanksgiving); bars are made with pandas, apart from querycli's own code.
"""

from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
DAYS = ["2025-11-13", "2025-11-14", "2025-11-17", "2025-11-18", "2025-11-19", "2025-11-20", "2025-11-21", "2025-11-24",
        "2025-11-25", "2025-11-26", "2025-11-28", "2025-12-01", "2025-12-02"]
rng = np.random.default_rng(13)

rows = []
price = {"SPY": 680.0, "QQQ": 610.0}
for day in DAYS:
    minutes = 210 if day == "2025-11-28" else 390
    opening = pd.Timestamp(f"{day} 09:30", tz="America/New_York").tz_convert("UTC")
    jump = rng.normal(0, 0.004)
    for symbol, weight in [("SPY", 1.0), ("QQQ", 1.3)]:
        price[symbol] *= np.exp(weight * jump + rng.normal(0, 0.001))
        # Not every half hour has a trade, and the first one may be late.
        seconds = np.sort(rng.choice(minutes * 60, 34, replace=False))
        for seq, second in enumerate(seconds):
            price[symbol] *= np.exp(rng.normal(0, 0.0012))
            ts = (opening + pd.Timedelta(seconds=int(second))).strftime("%Y-%m-%dT%H:%M:%SZ")
            rows.append((symbol, ts, seq, round(price[symbol], 2), int(rng.integers(1, 900))))
trades = pd.DataFrame(rows, columns=["symbol", "ts", "seq", "price", "size"])
trades.to_csv(HERE / "sessions.csv", index=False)

ts = pd.to_datetime(trades.ts)
trades["day"] = ts.dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%d")
trades["second"] = (ts - pd.to_datetime(trades.day + " 09:30").dt.tz_localize("America/New_York").dt.tz_convert("UTC")).dt.total_seconds()


def bars(frame, by):
    return frame.groupby(by).agg(open=("price", "first"), high=("price", "max"), low=("price", "min"), close=("price", "last"),
                                 volume=("size", "sum"))


# Daily returns, their correlation, and beta to SPY.
daily = bars(trades, ["symbol", "day"]).close.unstack("symbol")[["SPY", "QQQ"]]
moves = np.log(daily).diff().dropna()
corr, cov = moves.corr(), moves.cov()
pd.DataFrame({"symbol": corr.index, "returns": len(moves), "beta": [cov.loc[s, "SPY"] / cov.loc["SPY", "SPY"] for s in corr.index],
              "SPY": corr.SPY.values, "QQQ": corr.QQQ.values}).to_csv(HERE / "correlate.csv", index=False, float_format="%.17g")

spy = trades[trades.symbol == "SPY"].copy()

# What the half hours are like.
spy["minute"] = (spy.second // 1800).astype(int) * 30
halves = bars(spy, ["day", "minute"])
halves["r"], halves["range"] = np.log(halves.close / halves.open), np.log(halves.high / halves.low)
halves["share"] = halves.volume / halves.groupby("day").volume.transform("sum")
halves.groupby("minute").agg(sessions=("r", "size"), mean_return=("r", "mean"), deviation=("r", "std"), range=("range", "mean"),
                             volume=("volume", "mean"), volume_share=("share", "mean")).reset_index().to_csv(
    HERE / "seasonality.csv", index=False, float_format="%.17g")

# Gaps and opening ranges of the last ten sessions, with 45 minutes.
whole = bars(spy, "day")
whole["before"] = whole.close.shift()
first, later = spy[spy.second < 45 * 60].groupby("day").price, spy[spy.second >= 45 * 60].groupby("day").price
whole["top"], whole["bottom"], whole["above"], whole["below"] = first.max(), first.min(), later.max(), later.min()
d = whole.iloc[-10:]
up, down, known = d.open > d.before, d.open < d.before, d.top.notna()
rise, fall = known & (d.above > d.top), known & (d.below < d.bottom)
stats = [
    ("gap_up", up, d.before.notna()),
    ("gap_up_filled", up & (d.low <= d.before), up),
    ("gap_down", down, d.before.notna()),
    ("gap_down_filled", down & (d.high >= d.before), down),
    ("opening_range_broken_up", rise, known),
    ("broken_up_and_kept", rise & (d.close > d.top), rise),
    ("opening_range_broken_down", fall, known),
    ("broken_down_and_kept", fall & (d.close < d.bottom), fall),
    ("broken_both_ways", rise & fall, known),
]
pd.DataFrame([(name, of.sum(), among.sum(), of.sum() / among.sum()) for name, of, among in stats],
             columns=["statistic", "sessions", "among", "rate"]).to_csv(HERE / "stats.csv", index=False, float_format="%.17g")
