"""L2, C1 and the running session: what changes the data, so it comes last."""

import socket
import subprocess
import threading
import time

import numpy as np
import psycopg

import peers

SYMBOL = peers.SYMBOL_Q2


def least(engine, work, times):
    """The answer, and the least CPU and wall of several runs, in ms: other work on the machine only adds."""
    cpu, wall = [], []
    for _ in range(times):
        c, w = engine.cpu(), time.perf_counter()
        answer = work()
        cpu.append((engine.cpu() - c) * 1e3)
        wall.append((time.perf_counter() - w) * 1e3)
    return answer, min(cpu), min(wall)


class Writes:
    def __init__(self, ours, table, url):
        self.ours, self.db, self.table, self.url = ours, ours.db, table, url
        self.id, = self.db.execute("SELECT id FROM market.instruments WHERE symbol = %s", [SYMBOL]).fetchone()

    def trades(self, n, at, seq):
        """n rows of COPY BINARY from an instant on, a millisecond apart."""
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

    def copy(self, block, db=None):
        with (db or self.db).cursor().copy("COPY market.live_trades (ts, seq, price, size, instrument_id) FROM STDIN (FORMAT binary)") as copy:
            copy.write(block)

    def micros(self, literal):
        return self.db.execute("SELECT ((EXTRACT(epoch FROM %s::timestamptz) - 946684800) * 1000000)::int8", [literal]).fetchone()[0]

    def small_batches(self, connections, batches=400):
        """L2: 500 trades a batch, a durable commit each."""
        at = self.micros("2025-12-01 15:00+00")
        blocks = [self.trades(500, at + k * 500_000, 10_000_000_000 + k * 500) for k in range(batches)]
        others = [self.db] + [psycopg.connect(self.url, autocommit=True) for _ in range(connections - 1)]
        rates = []
        for _ in range(3):
            self.db.execute("CHECKPOINT")

            def feed(k):
                for block in blocks[k::connections]:
                    self.copy(block, others[k])

            threads = [threading.Thread(target=feed, args=(k,)) for k in range(connections)]
            cpu, wall = self.ours.cpu(), time.perf_counter()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            cpu, wall = (self.ours.cpu() - cpu) * 1e3, time.perf_counter() - wall
            rates.append((batches * 500 / wall, cpu, wall * 1e3))
            stored, = self.db.execute("SELECT count(*) FROM market.live_trades").fetchone()
            if stored != batches * 500:
                raise SystemExit(f"{stored} of {batches * 500} trades are there")
            self.db.execute("TRUNCATE market.live_trades")
        rate, cpu, wall = max(rates)
        name = "L2: 500 trades a commit" + ("" if connections == 1 else f", {connections} connections")
        self.table.row(name, self.ours.name, cpu, wall, None, 500_000 / self.table.factor if connections == 1 else None, rate, "trades/s", True)

    def through_ingest(self, ingest, trades=600_000):
        """L2 through `ingest live`: a venue's messages by WebSocket, 500 trades a batch, checkpoint and commit each."""
        venue = Venue(Venue.messages(trades))
        with subprocess.Popen(
                [ingest, "live", "--db", self.url, "--venue", "binance", "--symbols", "benchusdt", "--url", f"ws://127.0.0.1:{venue.port}"],
                stderr=subprocess.PIPE, text=True) as process:
            venue.connected.wait(30)
            begun, cpu = time.perf_counter(), Cpu(process.pid)
            count = "SELECT coalesce(max(last_seq), 0) FROM market.ingest_checkpoints WHERE feed = 'binance.spot.trade'"
            while self.db.execute(count).fetchone()[0] < trades:
                if process.poll() is not None:
                    raise SystemExit(f"ingest live ended: {process.stderr.read()}")
                time.sleep(0.01)
            wall, cpu = time.perf_counter() - begun, cpu.passed()
            process.terminate()
            venue.close()
            process.communicate()
        stored, = self.db.execute("SELECT count(*) FROM market.live_trades").fetchone()
        if stored != trades:
            raise SystemExit(f"ingest live stored {stored} of {trades} trades")
        self.table.row("L2: through ingest live", "ingest", cpu * 1e3, wall * 1e3, None, 300_000 / self.table.factor, trades / wall, "trades/s", True)
        self.db.execute("TRUNCATE market.live_trades")

    def running_session(self):
        """Q2 of a session of which 50,000 trades are not sealed."""
        self.copy(self.trades(50_000, self.micros("2025-12-01 15:00+00"), 20_000_000_000))
        self.db.execute("ANALYZE market.live_trades")
        ask = lambda: self.db.execute(
            """SELECT bar_at, open, high, low, close, volume FROM market.session_ohlc(%s, '1m',
               timestamptz '2025-12-01 00:00 America/Chicago', timestamptz '2025-12-02 00:00 America/Chicago', segments => 'ALL')""",
            [SYMBOL]).fetchall()
        _, cpu, wall = least(self.ours, ask, 12)
        self.table.row("Q2 with 50,000 live rows", self.ours.name, cpu, wall, None, 3 * self.table.factor)
        self.db.execute("TRUNCATE market.live_trades")

    def build(self, trades):
        """C1: all bars again, from sealed trades."""
        cpu, wall = self.ours.cpu(), time.perf_counter()
        self.db.execute("CALL market.backfill('all', again => true)")
        cpu, wall = (self.ours.cpu() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
        self.table.row("C1: all bars from sealed trades", self.ours.name, cpu, wall, None, None, cpu * 1e3 / trades, "us a trade")

    def new_trades(self):
        """C1: 10,000 new trades of a session without others: seen at once, then sealed."""
        day, walls, cpus = "2025-12-01", [], []
        for k in range(3):
            self.copy(self.trades(10_000, self.micros("2025-12-01 15:00+00") + k * 100_000_000, 30_000_000_000 + k * 10_000))
            cpu, wall = self.ours.cpu(), time.perf_counter()
            seen, = self.db.execute("SELECT sum(trades) FROM market.session_ohlc(%s, '1d', %s::date, %s::date)", [SYMBOL, day, day]).fetchone()
            cpus.append((self.ours.cpu() - cpu) * 1e3)
            walls.append((time.perf_counter() - wall) * 1e3)
            if seen != 10_000 * (k + 1):
                raise SystemExit(f"new trades are not seen at once: {seen} of {10_000 * (k + 1)}")
            self.table.row(f"C1: bar over {10_000} new trades", self.ours.name, cpus[-1], walls[-1]) if k == 0 else None
            cpu, wall = self.ours.cpu(), time.perf_counter()
            self.db.execute("SELECT market.seal(%s, %s::date)", [SYMBOL, day])
            cpus[-1], walls[-1] = (self.ours.cpu() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
        self.table.row("C1: seal of 10,000 new trades", self.ours.name, min(cpus), min(walls))

    def late_trades(self):
        """C1: 10,000 trades that come late for one day, over all instruments: seen at once, and sealed again."""
        day = "2025-11-12"
        volume = lambda: self.db.execute(
            "SELECT sum(volume) FROM market.session_ohlc(%s::text[], '1d', %s::date, %s::date, segments => 'ALL')", [self.ours.symbols, day, day]).fetchone()[0]
        before, cpus, walls = volume(), [], []
        self.db.execute("CREATE TEMP TABLE late AS SELECT * FROM (SELECT ts, seq, price, size, instrument_id, row_number() OVER (ORDER BY ts) AS n, "
                        "count(*) OVER () AS total FROM market.trades WHERE trade_date = %s) AS t WHERE n %% greatest(total / 10000, 1) = 0 LIMIT 10000", [day])
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


class Cpu:
    """CPU seconds of another process from now on."""

    def __init__(self, pid):
        self.pid = pid
        self.before = self.total()

    def total(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    def passed(self):
        return self.total() - self.before


class Venue:
    """A venue that sends what it has, all at once, to the first who connects: RFC 6455 as far as a server of texts needs it."""

    def __init__(self, frames):
        self.frames, self.connected = frames, threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def messages(n):
        """Trades of one symbol, a tenth of a millisecond apart, as frames of text."""
        frames = []
        for k in range(1, n + 1):
            ms = 1_764_600_000_000 + k // 10
            text = (f'{{"stream":"benchusdt@trade","data":{{"e":"trade","E":{ms},"s":"BENCHUSDT","t":{k},"p":"{90000 + k % 700 * 0.01:.2f}",'
                    f'"q":"0.{1 + k % 999:05d}","T":{ms},"m":{"true" if k % 3 else "false"},"M":true}}}}').encode()
            frames.append(b"\x81" + (bytes([len(text)]) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2, "big")) + text)
        return b"".join(frames)

    def serve(self):
        import base64
        import hashlib

        peer, _ = self.socket.accept()
        asked = b""
        while not asked.endswith(b"\r\n\r\n"):
            asked += peer.recv(4096)
        key = next(line.split(b":", 1)[1].strip() for line in asked.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        peer.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        self.connected.set()
        try:
            peer.sendall(self.frames)
            peer.recv(1)  # until the other side hangs up
        except OSError:
            pass

    def close(self):
        self.socket.close()
