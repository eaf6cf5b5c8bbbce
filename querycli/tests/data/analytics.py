"""Writes analytics.csv: made-up bars and what TA-Lib and pandas say about them.

    pip install numpy==2.4.6 pandas==3.1.1 TA-Lib==0.8.2
    python analytics.py > analytics.csv

Indicators are TA-Lib's; returns, volatility, drawdown and performance are written here with pandas after the papers that
querycli names, apart from its own code.
"""

import sys

import numpy as np
import pandas as pd
import talib

rng = np.random.default_rng(20251128)
n = 120
close = np.round(100 * np.exp(np.cumsum(rng.normal(0, 0.01, n))), 2)
open_ = np.round(np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.003, n)), 2)
high = np.round(np.maximum(open_, close) + rng.integers(1, 90, n) / 100, 2)
low = np.round(np.minimum(open_, close) - rng.integers(1, 90, n) / 100, 2)
volume = rng.integers(1, 5000, n).astype(float)
market = rng.normal(0, 0.008, n)
df = pd.DataFrame({"row": np.arange(n), "open": open_, "high": high, "low": low, "close": close, "volume": volume, "market": market})

df["returns"] = df.close.pct_change()
df["log_returns"] = np.log(df.close).diff()
df["drawdown"] = df.close / df.close.cummax() - 1
df["sma"] = talib.SMA(close, 10)
df["ema"] = talib.EMA(close, 10)
df["rsi"] = talib.RSI(close, 14)
df["atr"] = talib.ATR(high, low, close, 14)
df["macd"], df["signal"], df["histogram"] = talib.MACD(close, 12, 26, 9)
df["bb_upper"], df["bb_middle"], df["bb_lower"] = talib.BBANDS(close, 20, 2.0, 2.0)
weight = df.volume.cumsum()
vwap = (df.close * df.volume).cumsum() / weight
spread = np.array([np.sqrt(np.average((close[: i + 1] - vwap[i]) ** 2, weights=volume[: i + 1])) for i in range(n)])
df["vwap_lower"], df["vwap"], df["vwap_upper"] = vwap - 2 * spread, vwap, vwap + 2 * spread
df["close_volatility"] = df.log_returns.rolling(20).std()
df["parkinson"] = np.sqrt((np.log(df.high / df.low) ** 2).rolling(20).sum() / (4 * 20 * np.log(2)))
gk = 0.5 * np.log(df.high / df.low) ** 2 - (2 * np.log(2) - 1) * np.log(df.close / df.open) ** 2
df["garman_klass"] = np.sqrt(gk.rolling(20).mean())
jump = np.log(df.open / df.close.shift()).rolling(20).var()
move = np.log(df.close / df.open).rolling(20).var()
rs = np.log(df.high / df.close) * np.log(df.high / df.open) + np.log(df.low / df.close) * np.log(df.low / df.open)
k = 0.34 / (1.34 + 21 / 19)
yz = np.sqrt(jump + k * move + (1 - k) * rs.rolling(20).mean())
df["yang_zhang"] = yz.where(df.row >= 20)
df["zscore"] = (df.returns - df.returns.rolling(20).mean()) / df.returns.rolling(20).std()
df["adx"], df["plus"], df["minus"] = talib.ADX(high, low, close, 7), talib.PLUS_DI(high, low, close, 7), talib.MINUS_DI(high, low, close, 7)
df["regime"] = np.where(df.adx.isna(), "", np.where(df.adx < 25, "range", np.where(df.plus >= df["minus"], "up", "down")))
middle = df.volume.rolling(9).median()
deviation = df.volume.rolling(9).apply(lambda run: np.median(np.abs(run - np.median(run))))
df["anomaly"] = np.where(deviation.isna(), "", np.where(0.6745 * (df.volume - middle).abs() / deviation > 3.5, "t", "f"))
r = df.returns.dropna()
below = np.minimum(r, 0)
df["sharpe"] = r.mean() / r.std() * np.sqrt(252)
df["sortino"] = r.mean() / np.sqrt((below**2).mean()) * np.sqrt(252)
df["beta"] = df[["returns", "market"]].dropna().cov().loc["returns", "market"] / df.market[1:].var()
df.to_csv(sys.stdout, index=False, float_format="%.17g")
