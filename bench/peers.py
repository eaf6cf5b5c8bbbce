"""The peers: the same six queries on DuckDB, polars and ClickHouse (chdb), each over its own in-process columnar store.

Ties are broken by (ts, trade_id) on every engine. `sessions.csv` gives the sessions; a missing package raises
ImportError, and the caller names the peer as missing.
"""

import datetime as dt
import math
import os
import time
from zoneinfo import ZoneInfo

SYMBOL_Q2 = "ESZ25"
CHICAGO = ZoneInfo("America/Chicago")
Q2 = (dt.datetime(2025, 11, 12, tzinfo=CHICAGO), dt.datetime(2025, 11, 13, tzinfo=CHICAGO))


def checksum(rows):
    """Number of bars and the sums of o, h, l, c in cents and of v, of rows (at, o, h, l, c, v)."""
    cents = [sum(round(r[k] * 100) for r in rows) for k in range(1, 5)]
    return (len(rows), *cents, int(sum(r[5] for r in rows)))


def vwap_checksum(rows):
    return (len(rows), round(math.fsum(r[-1] for r in rows), 4))


class DuckDb:
    name = "duckdb"
    # a bar's sums, so that every engine ships one row for Q1 and Q5
    SUMS = "SELECT count(*), sum(round(o*100))::BIGINT, sum(round(h*100))::BIGINT, sum(round(l*100))::BIGINT, sum(round(c*100))::BIGINT, sum(v)::BIGINT"
    BAR = "arg_min(price, (ts, trade_id)) o, max(price) h, min(price) l, arg_max(price, (ts, trade_id)) c, sum(size) v"

    def __init__(self, data):
        import duckdb

        path = f"{data}/peer.duckdb"
        if os.path.exists(path):
            os.unlink(path)
        self.db = duckdb.connect(path)
        self.db.execute("SET threads = 2; SET TimeZone = 'UTC'")
        c, w = time.process_time(), time.perf_counter()
        self.db.execute(f"CREATE TABLE trades AS SELECT ts::TIMESTAMPTZ::TIMESTAMP ts, symbol, price, size, trade_id FROM '{data}/trades.parquet'")
        self.db.execute("CHECKPOINT")
        self.load = (time.process_time() - c, time.perf_counter() - w)
        self.bytes = os.path.getsize(path)
        self.spans(data)

    def spans(self, data):
        self.db.execute(f"""CREATE TABLE spans AS SELECT symbol, trade_date::DATE trade_date, segment,
            make_timestamp(opens_at) opens_at, make_timestamp(closes_at) closes_at FROM read_csv('{data}/sessions.csv')""")
        # contiguous runs of a session: the grids of 5-minute bars. Equities restart at each segment, futures only after a break.
        self.db.execute("""CREATE TABLE grids AS
            WITH s AS (SELECT *, CASE WHEN opens_at = lag(closes_at) OVER w AND symbol LIKE '%25' THEN 0 ELSE 1 END AS fresh FROM spans
                       WINDOW w AS (PARTITION BY symbol, trade_date ORDER BY opens_at)),
                 r AS (SELECT *, sum(fresh) OVER (PARTITION BY symbol, trade_date ORDER BY opens_at) AS run FROM s)
            SELECT symbol, trade_date, run, min(opens_at) opens_at, max(closes_at) closes_at FROM r GROUP BY ALL""")
        self.db.execute("CREATE TABLE days AS SELECT symbol, trade_date, min(opens_at) opens_at, max(closes_at) closes_at FROM spans GROUP BY ALL")

    def cpu(self):
        return time.process_time()

    def q1(self):
        return self.db.execute(f"{self.SUMS} FROM (SELECT symbol, date_trunc('minute', ts) b, {self.BAR} FROM trades GROUP BY ALL)").fetchone()

    def q2(self):
        a, z = (t.astimezone(dt.timezone.utc).replace(tzinfo=None) for t in Q2)
        return checksum(self.db.execute(f"SELECT date_trunc('minute', ts) b, {self.BAR} FROM trades WHERE symbol = ? AND ts >= ? AND ts < ? GROUP BY b ORDER BY b", [SYMBOL_Q2, a, z]).fetchall())

    def q3(self):
        return checksum(self.db.execute(f"""SELECT d.trade_date, {self.BAR} FROM trades t ASOF JOIN days d
            ON t.symbol = d.symbol AND t.ts >= d.opens_at WHERE t.symbol = ? AND t.ts < d.closes_at GROUP BY d.trade_date""", [SYMBOL_Q2]).fetchall())

    def q4(self):
        return checksum(self.db.execute(f"""SELECT any_value(s.trade_date), {self.BAR} FROM trades t ASOF JOIN (FROM spans WHERE segment = 'RTH') s
            ON t.symbol = s.symbol AND t.ts >= s.opens_at WHERE t.ts < s.closes_at GROUP BY t.symbol, s.trade_date""").fetchall())

    def q5(self):
        return self.db.execute(f"""{self.SUMS} FROM (SELECT t.symbol, g.opens_at, (epoch_us(t.ts) - epoch_us(g.opens_at)) // 300000000 b, {self.BAR}
            FROM trades t ASOF JOIN grids g ON t.symbol = g.symbol AND t.ts >= g.opens_at WHERE t.ts < g.closes_at GROUP BY ALL)""").fetchone()

    def q6(self):
        return vwap_checksum(self.db.execute("""SELECT t.symbol, d.trade_date, sum(price * size) / sum(size) FROM trades t ASOF JOIN grids d
            ON t.symbol = d.symbol AND t.ts >= d.opens_at WHERE t.ts < d.closes_at GROUP BY t.symbol, d.trade_date""").fetchall())

    def asof(self):
        return self.db.execute("""SELECT count(*), sum(round((t.price - q.high) * 100))::BIGINT FROM trades t
            ASOF LEFT JOIN (SELECT symbol, time_bucket(INTERVAL '5 seconds', ts) AS ts, max(price) AS high FROM trades GROUP BY ALL) q
            ON t.symbol = q.symbol AND t.ts > q.ts""").fetchone()


class DuckDbArchive(DuckDb):
    """DuckDB over the Parquet files that querycli archived, as any reader of Parquet sees them."""

    name = "duckdb (archive)"

    def __init__(self, data, archive):
        import duckdb

        self.db = duckdb.connect()
        self.db.execute("SET threads = 2; SET TimeZone = 'UTC'")
        self.db.execute(f"""CREATE VIEW trades AS SELECT ts::TIMESTAMP ts, symbol, price, size, seq AS trade_id
            FROM read_parquet('{archive}/trades/*/*/*.parquet', hive_partitioning = true)""")
        self.spans(data)


class Polars:
    name = "polars"

    def __init__(self, data):
        import polars as pl

        self.pl = pl
        us = pl.Datetime("us")
        self.t = pl.read_parquet(f"{data}/trades.parquet").with_columns(pl.col("ts").dt.replace_time_zone(None).cast(us)).sort("ts", "trade_id")
        s = pl.read_csv(f"{data}/sessions.csv").with_columns(pl.col("opens_at", "closes_at").cast(us))
        s = s.sort("symbol", "opens_at").with_columns(
            fresh=~((pl.col("opens_at") == pl.col("closes_at").shift(1).over("symbol", "trade_date")) & pl.col("symbol").str.ends_with("25")).fill_null(False))
        s = s.with_columns(run=pl.col("fresh").cast(pl.Int32).cum_sum().over("symbol", "trade_date"))
        edges = [pl.col("opens_at").min(), pl.col("closes_at").max()]
        self.rth = s.filter(pl.col("segment") == "RTH").select("symbol", "trade_date", "opens_at", "closes_at").sort("opens_at")
        self.days = s.group_by("symbol", "trade_date").agg(edges).sort("opens_at")
        self.grids = s.group_by("symbol", "trade_date", "run").agg(edges).sort("opens_at")

    def cpu(self):
        return time.process_time()

    def bars(self, frame, *keys):
        c = self.pl.col
        return frame.group_by(*keys).agg(o=c("price").first(), h=c("price").max(), l=c("price").min(), c=c("price").last(), v=c("size").sum())

    def sums(self, bars):
        c = self.pl.col
        row = bars.select(n=self.pl.len(), **{k: (c(k) * 100).round().cast(self.pl.Int64).sum() for k in "ohlc"}, v=c("v").sum().cast(self.pl.Int64)).row(0)
        return tuple(int(x) for x in row)

    def joined(self, spans, symbol=None):
        c = self.pl.col
        t = self.t if symbol is None else self.t.filter(c("symbol") == symbol)
        return t.lazy().join_asof(spans.lazy(), left_on="ts", right_on="opens_at", by="symbol", coalesce=False, check_sortedness=False).filter(c("ts") < c("closes_at"))

    def q1(self):
        return self.sums(self.bars(self.t.lazy().with_columns(b=self.pl.col("ts").dt.truncate("1m")), "symbol", "b").collect())

    def q2(self):
        c = self.pl.col
        a, z = (t.astimezone(dt.timezone.utc).replace(tzinfo=None) for t in Q2)
        t = self.t.lazy().filter((c("symbol") == SYMBOL_Q2) & (c("ts") >= a) & (c("ts") < z)).with_columns(b=c("ts").dt.truncate("1m"))
        return self.sums(self.bars(t, "b").collect())

    def q3(self):
        return self.sums(self.bars(self.joined(self.days, SYMBOL_Q2), "trade_date").collect())

    def q4(self):
        return self.sums(self.bars(self.joined(self.rth), "symbol", "trade_date").collect())

    def q5(self):
        c = self.pl.col
        t = self.joined(self.grids).with_columns(b=(c("ts") - c("opens_at")).dt.total_microseconds() // 300_000_000)
        return self.sums(self.bars(t, "symbol", "opens_at", "b").collect())

    def q6(self):
        c = self.pl.col
        b = self.joined(self.grids).group_by("symbol", "trade_date").agg(w=(c("price") * c("size")).sum() / c("size").sum()).collect()
        return vwap_checksum(b.rows())


class ClickHouse:
    name = "clickhouse"
    BAR = "argMin(price, (ts, trade_id)) o, max(price) h, min(price) l, argMax(price, (ts, trade_id)) c, sum(size) v"
    SUMS = "SELECT count(), sum(toInt64(round(o*100))), sum(toInt64(round(h*100))), sum(toInt64(round(l*100))), sum(toInt64(round(c*100))), toInt64(sum(v))"

    def __init__(self, data):
        from chdb import session

        self.s = session.Session()
        self.s.query("CREATE DATABASE IF NOT EXISTS bench")
        self.s.query("SET max_threads = 2")
        self.s.query(f"""CREATE TABLE bench.trades ENGINE = MergeTree ORDER BY (symbol, ts, trade_id) AS
            SELECT toDateTime64(assumeNotNull(ts), 6, 'UTC') ts, assumeNotNull(symbol) symbol, assumeNotNull(price) price, assumeNotNull(size) size, assumeNotNull(trade_id) trade_id
            FROM file('{data}/trades.parquet', Parquet)""")
        self.s.query(f"""CREATE TABLE bench.spans ENGINE = Memory AS SELECT assumeNotNull(symbol) symbol, assumeNotNull(trade_date) trade_date, assumeNotNull(segment) segment,
            fromUnixTimestamp64Micro(assumeNotNull(opens_at), 'UTC') opens_at, fromUnixTimestamp64Micro(assumeNotNull(closes_at), 'UTC') closes_at
            FROM file('{data}/sessions.csv', CSVWithNames)""")
        self.s.query("CREATE TABLE bench.days ENGINE = Memory AS SELECT symbol, trade_date, min(opens_at) opens_at, max(closes_at) closes_at FROM bench.spans s GROUP BY symbol, trade_date")
        self.s.query("""CREATE TABLE bench.grids ENGINE = Memory AS SELECT symbol, trade_date, run, min(opens_at) opens_at, max(closes_at) closes_at FROM (
            SELECT *, sum(fresh) OVER (PARTITION BY symbol, trade_date ORDER BY opens_at) run FROM (
            SELECT *, if(opens_at = lagInFrame(closes_at) OVER (PARTITION BY symbol, trade_date ORDER BY opens_at) AND symbol LIKE '%25', 0, 1) fresh FROM bench.spans)) x
            GROUP BY symbol, trade_date, run""")

    def cpu(self):
        return time.process_time()

    def rows(self, sql):
        import json

        return json.loads(str(self.s.query(sql, "JSONCompact")))["data"]

    def one(self, sql):
        return tuple(int(x) for x in self.rows(sql)[0])

    def q1(self):
        return self.one(f"{self.SUMS} FROM (SELECT symbol, toStartOfMinute(ts) b, {self.BAR} FROM bench.trades GROUP BY symbol, b)")

    def q2(self):
        a, z = (f"fromUnixTimestamp64Micro({int(t.timestamp())}000000, 'UTC')" for t in Q2)
        return checksum(self.rows(f"SELECT toStartOfMinute(ts) b, {self.BAR} FROM bench.trades WHERE symbol = '{SYMBOL_Q2}' AND ts >= {a} AND ts < {z} GROUP BY b ORDER BY b"))

    def joined(self, spans, keys, select):
        return f"""SELECT {select} FROM bench.trades t ASOF JOIN {spans} s ON t.symbol = s.symbol AND t.ts >= s.opens_at WHERE t.ts < s.closes_at GROUP BY {keys}"""

    def q3(self):
        return checksum(self.rows(f"""SELECT s.trade_date d, {self.BAR} FROM (SELECT * FROM bench.trades WHERE symbol = '{SYMBOL_Q2}') t
            ASOF JOIN bench.days s ON t.symbol = s.symbol AND t.ts >= s.opens_at WHERE t.ts < s.closes_at GROUP BY d"""))

    def q4(self):
        return checksum(self.rows(self.joined("(SELECT * FROM bench.spans WHERE segment = 'RTH')", "t.symbol, s.trade_date", f"s.trade_date, {self.BAR}")))

    def q5(self):
        bars = self.joined("bench.grids", "t.symbol, s.opens_at, b", "intDiv(dateDiff('microsecond', s.opens_at, t.ts), 300000000) b, " + self.BAR)
        return self.one(f"{self.SUMS} FROM ({bars})")

    def q6(self):
        return vwap_checksum(self.rows(self.joined("bench.grids", "t.symbol, s.trade_date", "t.symbol, s.trade_date, sum(price * size) / sum(size)")))


ENGINES = {"duckdb": DuckDb, "polars": Polars, "clickhouse": ClickHouse}
