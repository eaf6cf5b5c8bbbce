"""Runs the benchmark's queries on Bellwether and its peers, interleaved, and checks that the bars are equal.

    run.py --db URL --data DIR [--rounds 5] [--json FILE] [--peers duckdb,polars,clickhouse]

`cargo xtask bench` calls it after it has made and loaded the data; bench/README.md says what each query is. CPU is the least of all
rounds, and the engine's own: the backend's /proc/PID/schedstat for Bellwether, this process's CPU time for the peers, which run inside it.
Goals are milliseconds of CPU on the machine of the peers' first figures, where DuckDB needed 720 ms for Q1; here they are
scaled by what DuckDB needs for it in this run, and those of bars by the number of bars. Exit code 1 when an engine's bars
differ from Bellwether's, 2 when a figure is behind its goal by more than --margin.
"""

import argparse
import json
import math
import os
import sys
import time

import psycopg

import peers

SYMBOLS_Q2 = "ESZ25"


class Bellwether:
    """Our side: one backend, asked through the SQL surface that users have."""

    def __init__(self, url, source):
        self.db = psycopg.connect(url, autocommit=True, prepare_threshold=2)
        self.pid = self.db.info.backend_pid
        self.db.execute("SET timezone = 'UTC'")
        self.db.execute("SET max_parallel_workers_per_gather = 0")
        self.db.execute("SELECT set_config('bellwether.source', %s, false)", [source])
        self.symbols = [r[0] for r in self.db.execute("SELECT symbol FROM market.instruments ORDER BY symbol")]
        self.first, self.last = self.db.execute("SELECT min(trade_date), max(trade_date) FROM market.session_bars").fetchone()
        self.name, self.source = f"bellwether ({source})", source

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

    def plain(self):
        """Q5 in plain SQL, over the view of all trades."""
        return self.db.execute(
            """SELECT count(*), sum(round((b).open * 100))::int8, sum(round((b).high * 100))::int8, sum(round((b).low * 100))::int8,
                      sum(round((b).close * 100))::int8, sum((b).volume)::int8
               FROM (SELECT symbol, market.session_bucket('5m', ts, calendar, 'ETH') AS at, market.ohlc(price, size, ts, seq) AS b
                     FROM market.trades WHERE trade_date BETWEEN %s AND %s GROUP BY 1, 2) AS bars WHERE at IS NOT NULL""",
            [self.first, self.last]).fetchone()

    def q6(self):
        rows = self.db.execute(
            "SELECT symbol, trade_date, vwap FROM market.session_ohlc(%s::text[], '1d', %s::date, %s::date, segments => 'ETH')",
            [self.symbols, self.first, self.last]).fetchall()
        return (len(rows), round(math.fsum(r[2] for r in rows), 4))


QUERIES = ["q1", "q2", "q3", "q4", "q5", "q6"]
# what the goals were measured against: DuckDB's CPU for Q1, and the bars of Q1 and Q5
REFERENCE_MS, REFERENCE_BARS = 720.0, {"q1": 141_581, "q5": 28_132}
# (query, source) -> CPU ms; bench/README.md says where they come from
GOAL_MS = {
    ("q1", "trades"): 120, ("q1", "auto"): 30, ("q2", "trades"): 2, ("q2", "auto"): 1,
    ("q3", "auto"): 0.3, ("q4", "auto"): 0.3, ("q5", "auto"): 15, ("q6", "auto"): 0.3,
}


def measure(engine, query):
    """One answer with its CPU and wall; of a query of a millisecond the least of several, as other work only adds."""
    times = 8 if isinstance(engine, Bellwether) and query in ("q2", "q3", "q4", "q6") and engine.source == "auto" else 1
    answer, cpu, wall = least(engine, getattr(engine, query), times)
    return answer, cpu / 1e3, wall / 1e3


class Table:
    """What was measured, as printed and as recorded."""

    def __init__(self, factor, margin):
        self.rows, self.late, self.factor, self.margin = [], [], factor, margin
        print(f"{'work':34} {'engine':20} {'CPU ms':>10} {'wall ms':>10} {'/ duckdb':>9} {'goal':>9}")

    def row(self, work, engine, cpu_ms=None, wall_ms=None, ratio=None, goal=None, measured=None, unit="ms", more=False):
        """`goal` is what `measured` (CPU unless given) may be at most, or with `more` at least."""
        found = cpu_ms if measured is None else measured
        behind = goal is not None and found is not None and (found * self.margin < goal if more else found > goal * self.margin)
        if behind:
            self.late.append(f"{work} {engine}: {found:.3g} {unit}, goal {goal:.3g}")
        number = lambda x, width, digits=2: " " * width if x is None else f"{x:{width}.{digits}f}"
        print(f"{work:34} {engine:20} {number(cpu_ms, 10)} {number(wall_ms, 10)} {number(ratio, 9, 3)} {number(goal, 9)}"
              + ("" if measured is None else f"  {measured:.4g} {unit}") + ("  BEHIND" if behind else ""), flush=True)
        self.rows.append({"work": work, "engine": engine, "cpu_ms": cpu_ms, "wall_ms": wall_ms, "ratio": ratio, "goal": goal,
                          "measured": measured, "unit": unit, "behind": behind})


def least(engine, work, times):
    """The least CPU and wall of several runs, in ms: a busy machine only adds."""
    cpu, wall = math.inf, math.inf
    for _ in range(times):
        c, w = engine.cpu(), time.perf_counter()
        answer = work()
        cpu, wall = min(cpu, engine.cpu() - c), min(wall, time.perf_counter() - w)
    return answer, cpu * 1e3, wall * 1e3


class Writes:
    """L2, C1 and the running session: they change the data, so they come last."""

    def __init__(self, ours, table, url):
        self.ours, self.db, self.table, self.url = ours, ours.db, table, url
        self.id, = self.db.execute("SELECT id FROM market.instruments WHERE symbol = %s", [SYMBOLS_Q2]).fetchone()

    def trades(self, n, at, seq):
        """n rows of COPY BINARY from an instant on, a millisecond apart."""
        import numpy as np

        row = np.dtype([("fields", ">i2"), ("l1", ">i4"), ("ts", ">i8"), ("l2", ">i4"), ("seq", ">i8"), ("l3", ">i4"), ("price", ">f8"),
                        ("l4", ">i4"), ("size", ">f8"), ("l5", ">i4"), ("id", ">i4")])
        rows = np.zeros(n, row)
        rows["fields"], rows["l5"], rows["id"] = 5, 4, self.id
        for length in ("l1", "l2", "l3", "l4"):
            rows[length] = 8
        rows["ts"] = at + np.arange(n) * 1000
        rows["seq"] = seq + np.arange(n)
        rows["price"], rows["size"] = 6800 + np.arange(n) % 7 * 0.25, 1 + np.arange(n) % 5
        return b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"

    def copy(self, db, block):
        with db.cursor().copy("COPY market.live_trades (ts, seq, price, size, instrument_id) FROM STDIN (FORMAT binary)") as copy:
            copy.write(block)

    def micros(self, literal):
        return self.db.execute("SELECT ((EXTRACT(epoch FROM %s::timestamptz) - 946684800) * 1000000)::int8", [literal]).fetchone()[0]

    def small_batches(self, batches=400):
        """L2: 500 trades a batch, a durable commit each, on one connection."""
        at = self.micros("2025-12-01 15:00+00")
        blocks = [self.trades(500, at + k * 500_000, 10_000_000_000 + k * 500) for k in range(batches)]
        cpu, wall = self.ours.cpu(), time.perf_counter()
        for block in blocks:
            self.copy(self.db, block)
        cpu, wall = (self.ours.cpu() - cpu) * 1e3, time.perf_counter() - wall
        self.table.row("L2: 500 trades a commit", self.ours.name, cpu, wall * 1e3, None, 500_000, batches * 500 / wall, "trades/s", True)
        self.db.execute("TRUNCATE market.live_trades")

    def running_session(self):
        """Q2 of a session of which 50,000 trades are not sealed."""
        self.copy(self.db, self.trades(50_000, self.micros("2025-12-01 15:00+00"), 20_000_000_000))
        self.db.execute("ANALYZE market.live_trades")
        ask = lambda: self.db.execute(
            """SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1m',
               timestamptz '2025-12-01 00:00 America/Chicago', timestamptz '2025-12-02 00:00 America/Chicago', segments => 'ALL')""",
            [SYMBOLS_Q2]).fetchall()
        _, cpu, wall = least(self.ours, ask, 12)
        self.table.row("Q2 with 50,000 live rows", self.ours.name, cpu, wall, None, 3 * self.table.factor)
        self.db.execute("TRUNCATE market.live_trades")

    def late_trades(self):
        """C1: 10,000 trades that come late for one day, over all instruments: seen at once, and sealed again."""
        day = "2025-11-12"
        volume = lambda: self.db.execute(
            "SELECT sum(volume) FROM market.session_ohlc(%s::text[], '1d', %s::date, %s::date, segments => 'ALL')", [self.ours.symbols, day, day]).fetchone()[0]
        before, cpus, walls = volume(), [], []
        self.db.execute("CREATE TEMP TABLE late AS SELECT * FROM (SELECT ts, seq, price, size, instrument_id, row_number() OVER (ORDER BY ts) AS n, "
                        "count(*) OVER () AS total FROM market.trades WHERE trade_date = %s) AS t WHERE n %% (total / 10000) = 0 LIMIT 10000", [day])
        added, = self.db.execute("SELECT sum(size) FROM late").fetchone()
        for k in range(4):
            self.db.execute("INSERT INTO market.live_trades (ts, seq, price, size, instrument_id) SELECT ts, seq + %s, price, size, instrument_id FROM late",
                            [10_000_000_000 * (k + 1)])
            seen = volume()
            if seen != before + added * (k + 1):
                raise SystemExit(f"late trades are not seen at once: volume {seen}, expected {before + added * (k + 1)}")
            cpu, wall = self.ours.cpu(), time.perf_counter()
            for symbol in self.ours.symbols:
                self.db.execute("SELECT market.seal(%s, %s::date)", [symbol, day])
            cpus.append((self.ours.cpu() - cpu) * 1e3)
            walls.append((time.perf_counter() - wall) * 1e3)
            if volume() != seen:
                raise SystemExit("sealing late trades changed the bars")
            self.db.execute("VACUUM market.live_trades")
        self.table.row("C1: re-seal of 10,000 late trades", self.ours.name, min(cpus), min(walls), None, 100 * self.table.factor)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--db", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--peers", default="duckdb,polars,clickhouse")
    p.add_argument("--json")
    p.add_argument("--margin", type=float, default=1.25, help="how far behind a goal fails the run")
    p.add_argument("--no-goals", action="store_true", help="print goals, never fail on them (small data)")
    p.add_argument("--writes", action="store_true", help="also L2, the running session and C1, which change the data")
    a = p.parse_args()

    engines, missing = [Bellwether(a.db, "trades"), Bellwether(a.db, "auto")], []
    for name in filter(None, a.peers.split(",")):
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
    factor = min(cpu["q1", base]) * 1e3 / REFERENCE_MS if base else 1.0
    table = Table(factor, a.margin)
    for q in QUERIES:
        for e in engines:
            c, w = (min(m[q, e.name]) * 1e3 for m in (cpu, wall))
            ratio = c / (min(cpu[q, base]) * 1e3) if base else None
            source = e.source if isinstance(e, Bellwether) else None
            goal = GOAL_MS.get((q, source))
            if goal is not None:
                goal *= factor
                if source == "auto" and q in REFERENCE_BARS:
                    goal *= max(1.0, answers[q, ours][0] / REFERENCE_BARS[q])
            table.row(q.upper(), e.name, c, w, ratio, goal)
    trades, auto = engines[0], engines[1]
    _, direct, _ = least(trades, trades.q5, max(2, a.rounds))
    plain, c, w = least(auto, auto.plain, max(2, a.rounds))
    print(f"plain SQL: {plain[0]} bars, session_ohlc: {answers['q5', ours][0]}")
    table.row("Q5 in plain SQL", auto.name, c, w, None, 2 * direct)
    if a.writes:
        writes = Writes(auto, table, a.db)
        writes.running_session()
        writes.late_trades()
        writes.small_batches()
    for m in missing:
        print(f"missing peer: {m}")
    for d in differ:
        print(f"DIFFERENT BARS {d}", file=sys.stderr)
    print("bars: " + ("equal on every engine" if not differ else "DIFFERENT, see above"))
    if base:
        print(f"goals are scaled by {factor:.2f}: DuckDB's Q1 in this run against its {REFERENCE_MS:.0f} ms on the machine of the goals")
    else:
        print("goals are not scaled to this machine: DuckDB was not asked")
    for late in table.late:
        print(f"behind: {late}")
    if a.json:
        with open(a.json, "w") as f:
            json.dump({"rows": table.rows, "missing": missing, "differ": differ, "cores": os.cpu_count(), "factor": factor,
                       "load_average": os.getloadavg()[0]}, f, indent=1)
    if differ:
        return 1
    return 2 if table.late and not a.no_goals else 0


if __name__ == "__main__":
    sys.exit(main())
