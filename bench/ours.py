"""Our side of the six queries: the extension as users ask it in SQL, and querycli over the archive."""

import csv
import glob
import json
import math
import subprocess

import psycopg

import peers


class Bellwether:
    """One backend. `source` is what session_ohlc may answer from: trades alone, or whatever is cheapest."""

    def __init__(self, url, source, workers=0):
        self.db = psycopg.connect(url, autocommit=True, prepare_threshold=2)
        self.pid = self.db.info.backend_pid
        self.db.execute("SET timezone = 'UTC'")
        self.db.execute("SELECT set_config('max_parallel_workers_per_gather', %s, false)", [str(workers)])
        self.db.execute("SELECT set_config('bellwether.source', %s, false)", [source])
        self.symbols = [r[0] for r in self.db.execute("SELECT symbol FROM market.instruments ORDER BY symbol")]
        self.first, self.last = self.db.execute("SELECT min(trade_date), max(trade_date) FROM market.session_bars").fetchone()
        self.name, self.source = f"bellwether ({source})", source

    def cpu(self):
        with open(f"/proc/{self.pid}/schedstat") as f:
            return int(f.read().split()[0]) / 1e9

    def peak_mb(self):
        """The most memory this backend has had of its own: without what all backends share."""
        fields = dict(line.split(":", 1) for line in open(f"/proc/{self.pid}/status"))
        return int(fields["RssAnon"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024

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
            """SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1m', %s::timestamptz, %s::timestamptz, segments => 'ALL')""",
            [peers.SYMBOL_Q2, *peers.Q2]).fetchall()
        return peers.checksum(rows)

    def q3(self):
        return peers.checksum(self.db.execute(
            "SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1d', %s::date, %s::date, segments => 'ETH')",
            [peers.SYMBOL_Q2, self.first, self.last]).fetchall())

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


class QueryCli:
    """querycli as a process that answers a statement a line (querycli/examples/ask.rs)."""

    def __init__(self, program, name, source, data):
        self.name = name
        self.process = subprocess.Popen([program, *source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        with open(f"{data}/sessions.csv", newline="") as f:
            sessions = list(csv.DictReader(f))
        self.symbols = sorted({s["symbol"] for s in sessions})
        self.first, self.last = (of(s["trade_date"] for s in sessions) for of in (min, max))

    def cpu(self):
        ns = 0
        for path in glob.glob(f"/proc/{self.process.pid}/task/*/schedstat"):
            try:
                with open(path) as f:
                    ns += int(f.read().split()[0])
            except (OSError, IndexError):
                pass  # a thread that has ended since
        return ns / 1e9

    def ask(self, sql):
        self.process.stdin.write(" ".join(sql.split()) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "error" in answer:
            raise SystemExit(f"{self.name}: {answer['error']}: {sql}")
        return answer["rows"]

    def pull(self, columns="symbol, ts, price, size"):
        """All trades into Arrow; their number."""
        return int(self.ask(f"pull SELECT {columns} FROM trades")[0][0])

    def bars(self, sql):
        """The checksum of rows (anything, o, h, l, c, v)."""
        return peers.checksum([(r[0], *map(float, r[1:])) for r in self.ask(sql)])

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class QueryCliBars(QueryCli):
    """session_ohlc of querycli: from minute bars and manifests where they tile the request."""

    def ohlc(self, symbols, timeframe, first, last, segments, columns="bar_at, open, high, low, close, volume"):
        return f"SELECT {columns} FROM session_ohlc({symbols}, '{timeframe}', {first}, {last}, segments => '{segments}')"

    def every(self, timeframe, segments, columns="bar_at, open, high, low, close, volume"):
        symbols = "ARRAY[" + ", ".join(f"'{s}'" for s in self.symbols) + "]"
        return self.ohlc(symbols, timeframe, f"date '{self.first}'", f"date '{self.last}'", segments, columns)

    def sums(self, timeframe, segments):
        row, = self.ask(
            """SELECT count(*), sum(round(open * 100))::BIGINT, sum(round(high * 100))::BIGINT, sum(round(low * 100))::BIGINT,
                      sum(round(close * 100))::BIGINT, sum(volume)::BIGINT FROM (""" + self.every(timeframe, segments) + ") AS b WHERE open IS NOT NULL")
        return tuple(map(int, row))

    def q1(self):
        return self.sums("1m", "ALL")

    def q2(self):
        first, last = (f"timestamptz '{t.isoformat()}'" for t in peers.Q2)
        return self.bars(self.ohlc(f"'{peers.SYMBOL_Q2}'", "1m", first, last, "ALL"))

    def q3(self):
        return self.bars(self.ohlc(f"'{peers.SYMBOL_Q2}'", "1d", f"date '{self.first}'", f"date '{self.last}'", "ETH"))

    def q4(self):
        return self.bars(self.every("1d", "RTH"))

    def q5(self):
        return self.sums("5m", "ETH")

    def q6(self):
        rows = self.ask(self.every("1d", "ETH", "symbol, trade_date, vwap"))
        return peers.vwap_checksum([(float(r[2]),) for r in rows])


class QueryCliSql(QueryCli):
    """The same six in plain SQL over the trades: session_bucket, ohlc, vwap, GROUP BY. `seq` is the column that orders equal instants."""

    def __init__(self, program, name, source, data, seq="seq"):
        super().__init__(program, name, source, data)
        self.seq = seq

    BAR = "ohlc(price, size, ts, seq) AS b"
    PARTS = "(b).open, (b).high, (b).low, (b).close, (b).volume"

    def sums(self, key, condition="true"):
        row, = self.ask(
            f"""SELECT count(*), sum(round((b).open * 100))::BIGINT, sum(round((b).high * 100))::BIGINT, sum(round((b).low * 100))::BIGINT,
                       sum(round((b).close * 100))::BIGINT, sum((b).volume)::BIGINT
                FROM (SELECT symbol, {key} AS at, {self.BAR} FROM trades GROUP BY 1, 2) AS bars WHERE {condition}""")
        return tuple(int(float(x)) for x in row)

    def grouped(self, key, condition):
        return self.bars(f"SELECT at, {self.PARTS} FROM (SELECT {key} AS at, {self.BAR} FROM trades WHERE {condition} GROUP BY {key}) AS bars")

    def q1(self):
        return self.sums("date_trunc('minute', ts)")

    def q2(self):
        first, last = (f"timestamptz '{t.isoformat()}'" for t in peers.Q2)
        return self.grouped("date_trunc('minute', ts)", f"symbol = '{peers.SYMBOL_Q2}' AND ts >= {first} AND ts < {last}")

    def q3(self):
        return self.grouped("trade_date", f"symbol = '{peers.SYMBOL_Q2}' AND segment <> 'OFF'")

    def q4(self):
        return self.bars(f"SELECT at, {self.PARTS} FROM (SELECT symbol, trade_date AS at, {self.BAR} FROM trades WHERE segment = 'RTH' GROUP BY 1, 2) AS bars")

    def q5(self):
        return self.sums("session_bucket('5m', ts, calendar, 'ETH')", "at IS NOT NULL")

    def q6(self):
        rows = self.ask("SELECT symbol, trade_date, vwap(price, size) FROM trades WHERE segment <> 'OFF' GROUP BY 1, 2")
        return peers.vwap_checksum([(float(r[2]),) for r in rows])

    # A key that is computed: what the plan cannot fold into the scan, so that the aggregate itself is fed row by row.
    def aggregate(self):
        """ohlc() of all trades by symbol; their number."""
        row, = self.ask(
            f"""SELECT sum((b).trades)::BIGINT FROM (SELECT symbol || '' AS s, ohlc(price, size, ts, {self.seq}) AS b
                FROM trades GROUP BY 1) AS bars""")
        return int(float(row[0]))

    def four_max(self):
        """The same columns through four max(); the number of symbols."""
        row, = self.ask(
            f"""SELECT count(*) FROM (SELECT symbol || '' AS s, max(price) AS a, max(size) AS b, max(ts) AS c, max({self.seq}) AS d
                FROM trades GROUP BY 1) AS x WHERE a IS NOT NULL AND b IS NOT NULL AND c IS NOT NULL AND d IS NOT NULL""")
        return int(row[0])

    def asof(self):
        """To each trade the highest price of its symbol in the last five seconds that traded; the number and the sum of the differences in cents."""
        row, = self.ask(
            """SELECT count(*), sum(round((t.price - q.high) * 100))::BIGINT FROM trades AS t
               ASOF JOIN (SELECT symbol, date_bin(INTERVAL '5 seconds', ts) AS ts, max(price) AS high FROM trades GROUP BY 1, 2) AS q
               MATCH_CONDITION (t.ts > q.ts) ON t.symbol = q.symbol""")
        return tuple(int(float(x)) for x in row)
