"""Makes benchmark trades: deterministic, seeded, on the real sessions of a calendar export.

    gen.py N DIR SESSIONS.csv [--seed S] [--instruments K]

SESSIONS.csv comes from `market.sessions()`: symbol, trade_date, segment, opens_at, closes_at (UTC microseconds). Each
symbol's weight falls with its rank. Within a session the rate follows a U over the regular hours and is thin outside
them; 3 % of trades share the timestamp of the trade before (ties), and 0.05 % fall outside every session, in the hour
after a close. Prices walk on the symbol's tick. `trade_id` is the arrival order, which is the order of (ts, trade_id).

Writes trades.parquet (zstd) and trades.csv: ts, symbol, price, size, trade_id; and trades.dbn, Databento's encoding, in which
`sequence` is the trade_id and every trade was received some tens of microseconds after it happened, as in their files.
"""

import argparse
import collections
import csv
import datetime as dt
import os
import struct

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

MINUTE = 60_000_000
# symbol -> (tick, first price, weight, mean size)
TERMS = {
    "ESZ25": (0.25, 6800.0, 0.30, 3), "NQZ25": (0.25, 25000.0, 0.20, 3), "CLZ25": (0.01, 60.0, 0.10, 3), "GCZ25": (0.10, 4000.0, 0.05, 3),
    "TSLA": (0.01, 440.0, 0.13, 50), "NVDA": (0.01, 190.0, 0.11, 50), "AAPL": (0.01, 270.0, 0.07, 50), "MSFT": (0.01, 500.0, 0.04, 50),
}


def read_sessions(path):
    """symbol -> list of sessions, each a list of (segment, open, close) in time order."""
    sessions = collections.OrderedDict()
    with open(path, newline="") as f:
        for r in csv.DictReader(f):
            days = sessions.setdefault(r["symbol"], collections.OrderedDict())
            days.setdefault(r["trade_date"], []).append((r["segment"], int(r["opens_at"]), int(r["closes_at"])))
    return {s: [sorted(v, key=lambda x: x[1]) for v in d.values()] for s, d in sessions.items()}


def minutes_and_weights(sessions, rng):
    """Every minute of every session with the share of trades it gets."""
    at, weight = [], []
    for spans in sessions:
        for segment, a, z in spans:
            n = int((z - a) // MINUTE)
            u = 1 + 3 * (2 * np.arange(n) / n - 1) ** 2
            at.append(a + np.arange(n) * MINUTE)
            weight.append(u * (1.5 if segment == "RTH" else 0.12) * rng.uniform(0.8, 1.2))
    weight = np.concatenate(weight)
    return np.concatenate(at), weight / weight.sum()


def symbol_trades(n, sessions, terms, seed):
    tick, first, _, mean_size = terms
    rng = np.random.default_rng(seed)
    at, weight = minutes_and_weights(sessions, rng)
    ts = np.repeat(at, rng.multinomial(n, weight)) + rng.integers(0, MINUTE, n)
    closes = np.array([spans[-1][2] for spans in sessions])
    off = rng.random(n) < 0.0005
    ts[off] = rng.choice(closes, off.sum()) + rng.integers(0, 60 * MINUTE, off.sum())
    ts.sort()
    tie = rng.random(n) < 0.03
    tie[:1] = False
    ts = ts[np.maximum.accumulate(np.where(tie, 0, np.arange(n)))]
    steps = rng.choice(np.array([-2, -1, 0, 1, 2], np.int8), n, p=[0.03, 0.17, 0.6, 0.17, 0.03])
    ticks = np.abs(np.cumsum(steps, dtype=np.int64) + round(first / tick)) + 1
    size = np.minimum(1 + rng.geometric(1 / mean_size, n), 5000).astype(np.float64)
    return ts, np.round(ticks * tick, 2), size


def write_dbn(path, ts, code, price, size, ids, symbols, rng):
    """Version 1 of the encoding: metadata with one symbol for each instrument id, then records of 48 bytes."""
    days = [dt.datetime.fromtimestamp(t / 1e6, dt.timezone.utc).date() + dt.timedelta(days=d) for t, d in ((ts[0], -1), (ts[-1], 2))]
    first, last = (d.year * 10000 + d.month * 100 + d.day for d in days)
    text = lambda s: s.encode().ljust(22, b"\0")
    head = struct.pack("<16sHQQQQBBB47xI", b"GLBX.MDP3", 4, int(ts[0]) * 1000, int(ts[-1]) * 1000 + 1, 0, len(ts), 1, 0, 0, 0)
    head += struct.pack("<I", len(symbols)) + b"".join(map(text, symbols)) + struct.pack("<II", 0, 0)
    head += struct.pack("<I", len(symbols))
    for k, symbol in enumerate(symbols):
        head += text(symbol) + struct.pack("<III", 1, first, last) + text(str(k + 1))
    records = np.zeros(len(ts), np.dtype([
        ("length", "u1"), ("rtype", "u1"), ("publisher", "<u2"), ("instrument", "<u4"), ("ts_event", "<u8"), ("price", "<i8"), ("size", "<u4"),
        ("action", "S1"), ("side", "S1"), ("flags", "u1"), ("depth", "u1"), ("ts_recv", "<u8"), ("delta", "<i4"), ("sequence", "<u4")]))
    records["length"], records["publisher"], records["action"], records["side"] = 12, 1, b"T", b"N"
    records["instrument"], records["ts_event"], records["sequence"] = code.astype(np.uint32) + 1, ts * 1000, ids
    records["price"], records["size"] = np.round(price * 100).astype(np.int64) * 10_000_000, size
    records["ts_recv"] = ts * 1000 + 20_000 + rng.geometric(1 / 15_000, len(ts))
    with open(path, "wb") as f:
        f.write(b"DBN\x01" + struct.pack("<I", len(head)) + head)
        records.tofile(f)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("n", type=lambda x: int(float(x)))
    p.add_argument("dir")
    p.add_argument("sessions")
    p.add_argument("--seed", type=int, default=20251121)
    p.add_argument("--no-csv", action="store_true")
    a = p.parse_args()
    os.makedirs(a.dir, exist_ok=True)
    sessions = read_sessions(a.sessions)
    symbols = [s for s in TERMS if s in sessions]
    count = {s: int(TERMS[s][2] * a.n) for s in symbols}
    count[symbols[0]] += a.n - sum(count.values())
    columns = [symbol_trades(count[s], sessions[s], TERMS[s], a.seed + k) for k, s in enumerate(symbols)]
    ts, price, size = (np.concatenate([c[i] for c in columns]) for i in range(3))
    code = np.repeat(np.arange(len(symbols), dtype=np.int8), [count[s] for s in symbols])
    order = np.argsort(ts, kind="stable")
    names = pa.DictionaryArray.from_arrays(pa.array(code[order]), pa.array(symbols)).cast(pa.string())
    t = pa.table({
        "ts": pa.array(ts[order] * 1000, pa.timestamp("ns", "UTC")), "symbol": names, "price": price[order],
        "size": size[order], "trade_id": np.arange(1, a.n + 1, dtype=np.int64),
    })
    pa.parquet.write_table(t, f"{a.dir}/trades.parquet", compression="zstd", compression_level=3, row_group_size=1 << 20)
    if not a.no_csv:
        us = t.set_column(0, "ts", pa.array(ts[order], pa.timestamp("us", "UTC")))
        pa.csv.write_csv(us, f"{a.dir}/trades.csv", pa.csv.WriteOptions(quoting_style="none"))
    write_dbn(f"{a.dir}/trades.dbn", ts[order], code[order], price[order], size[order], np.arange(1, a.n + 1), symbols, np.random.default_rng(a.seed))
    print(f"{a.n} trades, {len(symbols)} symbols, seed {a.seed}")


if __name__ == "__main__":
    main()
