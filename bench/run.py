"""Runs the benchmark's queries on Bellwether and its peers, interleaved, and checks that the bars are equal.

    run.py --db URL --data DIR [--rounds 5] [--json FILE] [--peers duckdb,polars,clickhouse]

`cargo xtask bench` calls it after it has made and loaded the data; bench/README.md says what each query is. CPU is the
engine's own: the backend's /proc/PID/schedstat for Bellwether, this process's CPU time for the peers, which run inside it.
Exit code 1 when an engine's bars differ from Bellwether's, 2 when a ratio falls behind its goal by more than --margin.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time

import psycopg

import peers

SYMBOLS_Q2 = "ESZ25"


class Bellwether:
    """Our side: one backend, asked through the SQL surface that users have."""

    name = "bellwether"

    def __init__(self, url, source):
        self.db = psycopg.connect(url, autocommit=True, prepare_threshold=2)
        self.pid = self.db.info.backend_pid
        self.db.execute("SET timezone = 'UTC'")
        self.db.execute("SET max_parallel_workers_per_gather = 0")
        self.db.execute("SELECT set_config('bellwether.source', %s, false)", [source])
        self.symbols = [r[0] for r in self.db.execute("SELECT symbol FROM market.instruments ORDER BY symbol")]
        self.first, self.last = self.db.execute("SELECT min(trade_date), max(trade_date) FROM market.session_bars").fetchone()
        self.name = f"bellwether ({source})"

    def cpu(self):
        with open(f"/proc/{self.pid}/schedstat") as f:
            return int(f.read().split()[0]) / 1e9

    def sums(self, timeframe, segments):
        """The checksum of bars: their number and the sums of o, h, l, c in cents and of v."""
        return self.db.execute(
            """SELECT count(*), sum(round(open * 100))::int8, sum(round(high * 100))::int8, sum(round(low * 100))::int8,
                      sum(round(close * 100))::int8, sum(volume)::int8
               FROM market.session_ohlc(%s::text[], %s, %s::date, %s::date, segments => %s) WHERE open IS NOT NULL""",
            [self.symbols, timeframe, self.first, self.last, segments]).fetchone()

    def q1(self):
        return self.sums("1m", "ALL")

    def q2(self):
        rows = self.db.execute(
            """SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1m',
               timestamptz '2025-11-12 00:00 America/Chicago', timestamptz '2025-11-13 00:00 America/Chicago', segments => 'ALL')""",
            [SYMBOLS_Q2]).fetchall()
        return peers.checksum(rows)

    def q3(self):
        return peers.checksum(self.db.execute(
            "SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1d', %s::date, %s::date, segments => 'ETH')",
            [SYMBOLS_Q2, self.first, self.last]).fetchall())

    def q4(self):
        return peers.checksum(self.db.execute(
            "SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s::text[], '1d', %s::date, %s::date, segments => 'RTH')",
            [self.symbols, self.first, self.last]).fetchall())

    def q5(self):
        return self.sums("5m", "ETH")

    def q6(self):
        rows = self.db.execute(
            "SELECT symbol, trade_date, vwap FROM market.session_ohlc(%s::text[], '1d', %s::date, %s::date, segments => 'ETH')",
            [self.symbols, self.first, self.last]).fetchall()
        return (len(rows), round(math.fsum(r[2] for r in rows), 4))


QUERIES = ["q1", "q2", "q3", "q4", "q5", "q6"]
# what ours must be, as a share of DuckDB's CPU (bench/README.md); None: latency goal instead
GOAL_RATIO = {"q1": 1 / 6}
GOAL_WALL_MS = {"q2": 2.0, "q3": 0.3, "q4": 0.3, "q6": 0.3}


def measure(engine, query):
    c, w = engine.cpu(), time.perf_counter()
    answer = getattr(engine, query)()
    return answer, engine.cpu() - c, time.perf_counter() - w


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--db", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--peers", default="duckdb,polars,clickhouse")
    p.add_argument("--json")
    p.add_argument("--margin", type=float, default=1.25, help="how far behind a goal fails the run")
    p.add_argument("--no-goals", action="store_true", help="print goals, never fail on them (small data)")
    a = p.parse_args()

    engines, missing = [Bellwether(a.db, "trades"), Bellwether(a.db, "auto")], []
    for name in a.peers.split(","):
        try:
            engines.append(peers.ENGINES[name](a.data))
        except ImportError as e:
            missing.append(f"{name} ({e})")
    answers, cpu, wall, differ = {}, {}, {}, []
    for round_ in range(a.rounds + 1):  # the first round warms up and is not counted
        for q in QUERIES:
            for e in engines:
                answer, c, w = measure(e, q)
                if round_ == 0:
                    answers[q, e.name] = answer
                else:
                    cpu.setdefault((q, e.name), []).append(c)
                    wall.setdefault((q, e.name), []).append(w)
    ours, base = engines[0].name, next((e.name for e in engines if e.name == "duckdb"), None)
    for q in QUERIES:
        for e in engines[1:]:
            if answers[q, e.name] != answers[q, ours]:
                differ.append(f"{q}: {e.name} {answers[q, e.name]}, {ours} {answers[q, ours]}")
    late, rows = [], []
    print(f"{'query':6} {'engine':20} {'CPU ms':>10} {'wall ms':>10} {'CPU / duckdb':>13}  goal")
    for q in QUERIES:
        for e in engines:
            c, w = (statistics.median(m[q, e.name]) for m in (cpu, wall))
            ratio = c / statistics.median(cpu[q, base]) if base else float("nan")
            goal, behind = "", False
            if e.name == ours and q in GOAL_RATIO:
                goal, behind = f"<= {GOAL_RATIO[q]:.3f} of duckdb's CPU", ratio > GOAL_RATIO[q] * a.margin
            if e.name == "bellwether (auto)" and q in GOAL_WALL_MS:
                goal, behind = f"<= {GOAL_WALL_MS[q]} ms", w * 1e3 > GOAL_WALL_MS[q] * a.margin
            if behind:
                late.append(f"{q} {e.name}")
            rows.append({"query": q, "engine": e.name, "cpu_ms": c * 1e3, "wall_ms": w * 1e3, "ratio": ratio, "goal": goal, "behind": behind})
            print(f"{q:6} {e.name:20} {c * 1e3:10.2f} {w * 1e3:10.2f} {ratio:13.3f}  {goal}{'  BEHIND' if behind else ''}")
    for m in missing:
        print(f"missing peer: {m}")
    for d in differ:
        print(f"DIFFERENT BARS {d}", file=sys.stderr)
    print("bars: " + ("equal on every engine" if not differ else "DIFFERENT, see above"))
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"rows": rows, "missing": missing, "differ": differ, "cores": os.cpu_count()}, f, indent=1)
    if differ:
        return 1
    return 2 if late and not a.no_goals else 0


if __name__ == "__main__":
    sys.exit(main())
