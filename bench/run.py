"""Runs the benchmark's queries on Bellwether and its peers, interleaved, and checks that the bars are equal.

    run.py --db URL --data DIR [--archive DIR --ask PROGRAM] [--ingest PROGRAM] [--rounds 5] [--json FILE] [--peers duckdb,polars,clickhouse]

`cargo xtask bench` calls it after it has made and loaded the data; bench/README.md says what each query is. CPU is the engine's
own: the backend's /proc/PID/schedstat for Bellwether, all threads of querycli, this process for the peers, which run inside it.
Goals are milliseconds of CPU on the machine of the peers' first figures, where DuckDB needed 720 ms for Q1; here they are
scaled by what DuckDB needs for it in this run, and those of bars by the number of bars. Over the archive the goal is what DuckDB
needs for the same files. Judged is the least of all rounds, as other work on the machine only adds; medians are printed beside.
Exit code 1 when an engine's bars differ from Bellwether's, 2 when a figure is behind its goal by more than --margin.
"""

import argparse
import json
import os
import statistics
import sys

import ours
import peers
import writes

# goals are of 10 M trades; with fewer than this the fixed cost of a query is most of it, and they are not shown
LEAST = 1_000_000
QUERIES = ["q1", "q2", "q3", "q4", "q5", "q6"]
# what the goals were measured against: DuckDB's CPU for Q1 of 10 M trades, and the bars of Q1 and Q5
REFERENCE_TRADES, REFERENCE_MS, REFERENCE_BARS = 10_000_000, 720.0, {"q1": 141_581, "q5": 28_132}
# (query, source) -> CPU ms; bench/README.md says where they come from
GOAL_MS = {
    ("q1", "trades"): 120, ("q1", "auto"): 30, ("q2", "trades"): 2, ("q2", "auto"): 1,
    ("q3", "auto"): 0.3, ("q4", "auto"): 0.3, ("q5", "auto"): 15, ("q6", "auto"): 0.3,
}
# what a trade may cost in ohlc() where the plan does not fold it into the scan
AGGREGATE_NS = 10


class Table:
    """What was measured, as printed and as recorded."""

    def __init__(self, factor, margin, goals):
        self.rows, self.late, self.factor, self.margin, self.goals = [], [], factor, margin, goals
        print(f"{'':34} {'':24} {'CPU ms':>21} {'wall ms':>21} {'CPU / that':>10}")
        print(f"{'work':34} {'engine':24} {'least':>10} {'median':>10} {'least':>10} {'median':>10} {'of duckdb':>10} {'goal':>9}")

    def row(self, work, engine, cpu_ms=None, wall_ms=None, ratio=None, goal=None, measured=None, unit="CPU ms", more=False, medians=(None, None)):
        """`goal` is what `measured` (the least CPU unless given) may be at most, or with `more` at least."""
        goal = goal if self.goals else None
        found = cpu_ms if measured is None else measured
        behind = goal is not None and found is not None and (found * self.margin < goal if more else found > goal * self.margin)
        if behind:
            self.late.append(f"{work}, {engine}: {found:.4g} {unit}, goal {goal:.4g}")
        number = lambda x, width, digits=2: " " * width if x is None else f"{x:{width}.{digits}f}"
        said = "" if measured is None else f"  {measured:.4g} {unit}"
        print(f"{work:34} {engine:24} {number(cpu_ms, 10)} {number(medians[0], 10)} {number(wall_ms, 10)} {number(medians[1], 10)}"
              f" {number(ratio, 10, 3)} {number(goal, 9)}{said}{'  BEHIND' if behind else ''}", flush=True)
        self.rows.append({"work": work, "engine": engine, "cpu_ms": cpu_ms, "wall_ms": wall_ms, "cpu_median_ms": medians[0], "wall_median_ms": medians[1],
                          "ratio": ratio, "goal": goal, "measured": measured, "unit": unit, "behind": behind})


def engines_of(a):
    """Who answers, and who is missing."""
    found, missing = [ours.Bellwether(a.db, "trades"), ours.Bellwether(a.db, "auto")], []
    if a.archive:
        found.append(ours.QueryCliBars(a.ask, "querycli (archive)", ["--archive", a.archive], a.data))
        found.append(ours.QueryCliSql(a.ask, "querycli (archive, SQL)", ["--archive", a.archive], a.data))
    for name in filter(None, a.peers.split(",")):
        try:
            found.append(peers.ENGINES[name](a.data))
            if name == "duckdb" and a.archive:
                found.append(peers.DuckDbArchive(a.data, a.archive))
        except ImportError as e:
            missing.append(f"{name} ({e})")
    return found, missing


def ask_all(engines, rounds):
    """Every query on every engine, round after round: (query, engine) -> answer, CPU ms, wall ms of each round."""
    answers, cpu, wall = {}, {}, {}
    for round_ in range(rounds + 1):  # the first of several rounds warms up and is not counted
        for q in QUERIES:
            for e in engines:
                # of a query of a millisecond the least of several, as other work only adds
                short = isinstance(e, ours.Bellwether) and e.source == "auto" and q in ("q2", "q3", "q4", "q6")
                answer, c, w = writes.least(e, getattr(e, q), 8 if short and round_ else 1)
                answers.setdefault((q, e.name), answer)
                if round_ or not rounds:
                    cpu.setdefault((q, e.name), []).append(c)
                    wall.setdefault((q, e.name), []).append(w)
    return answers, cpu, wall


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--db", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--archive", help="the same trades as querycli archived them")
    p.add_argument("--ask", help="querycli's example `ask`")
    p.add_argument("--ingest", help="the program, for small batches through it")
    p.add_argument("--loads", type=json.loads, default=[], help="what `ingest load` cost, as `cargo xtask bench` measured it")
    p.add_argument("--bytes", type=float, help="bytes a trade on disk")
    p.add_argument("--trades", type=int, default=10_000_000)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--peers", default="duckdb,polars,clickhouse")
    p.add_argument("--json")
    p.add_argument("--margin", type=float, default=1.25, help="how far behind a goal fails the run")
    p.add_argument("--no-goals", action="store_true", help="print goals, never fail on them (small data)")
    p.add_argument("--writes", action="store_true", help="also L2, the running session and C1, which change the data")
    a = p.parse_args()

    engines, missing = engines_of(a)
    answers, cpu, wall = ask_all(engines, a.rounds)
    by_name = {e.name: e for e in engines}
    trades, auto = engines[0], engines[1]
    differ = [f"{q}: {e.name} {answers[q, e.name]}, {trades.name} {answers[q, trades.name]}"
              for q in QUERIES for e in engines[1:] if answers[q, e.name] != answers[q, trades.name]]
    size = a.trades / REFERENCE_TRADES
    factor = min(cpu["q1", "duckdb"]) / (REFERENCE_MS * size) if "duckdb" in by_name else 1.0
    table = Table(factor, a.margin, a.trades >= LEAST)
    for load in a.loads:
        rate, name = {"csv": 2e6}.get(load["format"], 6e6) / factor, f"L1: {load['format']}"
        table.row(name, "ingest and server", (load["client_cpu_s"] + load["server_cpu_s"]) * 1e3, load["wall_s"] * 1e3, None, rate, load["trades_per_s"], "trades/s", True)
        table.row(f"{name}, server's CPU", "server", load["server_cpu_s"] * 1e3, None, None, 0.06 * factor, load["server_cpu_s"] * 1e6 / a.trades, "us a trade")
    if "duckdb" in by_name:
        c, w = by_name["duckdb"].load
        table.row("L1: parquet, no order and no bars", "duckdb", c * 1e3, w * 1e3, 1.0, None, a.trades / w, "trades/s")
        table.row("S", "duckdb", measured=by_name["duckdb"].bytes / a.trades, unit="bytes a trade")
    if a.bytes:
        table.row("S: ids, flags, bars, indexes", auto.name, goal=4.5, measured=a.bytes, unit="bytes a trade")
    for q in QUERIES:
        for e in engines:
            c, w = cpu[q, e.name], wall[q, e.name]
            archived = "archive" in e.name
            base = cpu.get((q, "duckdb (archive)" if archived else "duckdb"))
            goal = GOAL_MS.get((q, e.source)) if isinstance(e, ours.Bellwether) else None
            if goal is not None:
                goal *= factor
                if e.source == "trades" and q == "q1":
                    goal *= size
                elif e.source == "auto" and q in REFERENCE_BARS:
                    goal *= answers[q, trades.name][0] / REFERENCE_BARS[q]
            elif isinstance(e, ours.QueryCli):
                goal = base and min(base)
            table.row(q.upper(), e.name, min(c), min(w), base and min(c) / min(base), goal, medians=(statistics.median(c), statistics.median(w)))

    often = max(1, a.rounds)
    _, direct, _ = writes.least(trades, trades.q5, often)
    plain, c, w = writes.least(auto, auto.plain, often)
    if plain != answers["q5", trades.name]:
        differ.append(f"q5: plain SQL {plain}, {trades.name} {answers['q5', trades.name]}")
    table.row("Q5 in plain SQL", auto.name, c, w, None, 2 * direct)
    two = ours.Bellwether(a.db, "trades", workers=2)
    answer, c, w = writes.least(two, two.q1, often)
    if answer != answers["q1", trades.name]:
        differ.append(f"q1: two workers {answer}, {trades.name} {answers['q1', trades.name]}")
    table.row("Q1 with two workers", two.name, c, w, None, 65 * factor * size, w, "ms wall")
    if a.ask:
        db = ours.QueryCliBars(a.ask, "querycli (database)", ["--db", a.db], a.data)
        for what, columns, goal in (("pull: symbol, ts, price, size", "symbol, ts, price, size", 30e6), ("pull: every column", "*", None)):
            for engine in [db] + [e for e in engines if e.name == "querycli (archive, SQL)"]:
                n, c, w = writes.least(engine, lambda: engine.pull(columns), often)
                if n != a.trades:
                    differ.append(f"{what}: {engine.name} has {n} trades of {a.trades}")
                table.row(what, engine.name, c, w, None, goal if engine is db else None, n / w * 1e3, "trades/s", True)
        db.close()
        file = ours.QueryCliSql(a.ask, "querycli (Parquet file)", ["--data", f"{a.data}/trades.parquet"], a.data, seq="trade_id")
        for engine in [file] + [e for e in engines if e.name == "querycli (archive, SQL)"]:
            n, c, w = writes.least(engine, engine.aggregate, often)
            if n != a.trades:
                differ.append(f"ohlc() of rows: {engine.name} has {n} trades of {a.trades}")
            _, least, _ = writes.least(engine, engine.four_max, often)
            table.row("ohlc() of rows, above four max()", engine.name, c, w, goal=AGGREGATE_NS * factor, measured=(c - least) * 1e6 / a.trades, unit="ns a trade")
        pair = [by_name[name] for name in ("duckdb (archive)", "querycli (archive, SQL)") if name in by_name]
        asof = {e.name: writes.least(e, e.asof, often) for e in pair}
        if len({found for found, _, _ in asof.values()}) > 1:
            differ.append(f"ASOF JOIN: {asof}")
        for name, (_, c, w) in asof.items():
            least = asof.get("duckdb (archive)", (None, None, None))[1]
            goal = least if name != "duckdb (archive)" else None
            table.row("ASOF JOIN to highs of 5 seconds", name, c, w, least and c / least, goal)
        file.close()
    anon, peak = trades.peak_mb()
    table.row("memory of the backend", trades.name, measured=peak, unit=f"MB at most, shared buffers too; {anon:.0f} MB its own now")
    if a.writes:
        changes = writes.Writes(auto, table, a.db)
        changes.running_session()
        changes.small_batches(1)
        changes.small_batches(2)
        if a.ingest:
            changes.through_ingest(a.ingest)
        changes.build(a.trades)
        changes.new_trades()
        changes.late_trades()
    for m in missing:
        print(f"missing peer: {m}")
    for d in differ:
        print(f"DIFFERENT BARS {d}", file=sys.stderr)
    print("bars: " + ("equal on every engine" if not differ else "DIFFERENT, see above"))
    if not table.goals:
        print(f"goals are not shown: they are of 10 M trades, and {a.trades} are too few")
    elif "duckdb" in by_name:
        print(f"goals are scaled by {factor:.2f}: DuckDB's Q1 in this run against its {REFERENCE_MS:.0f} ms for 10 M trades on the machine of the goals")
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
