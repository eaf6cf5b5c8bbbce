-- Where trades and bars lie.

-- The running slot: an hour of receipt time in a ring of 24, so that emptied slots can be truncated one by one.
CREATE FUNCTION market.current_slot() RETURNS int2
LANGUAGE sql STABLE PARALLEL SAFE
RETURN (EXTRACT(epoch FROM pg_catalog.now())::int8 / 3600 % 24)::int2;
COMMENT ON FUNCTION market.current_slot() IS 'Slot of live_trades that rows received now belong to: the hour since the epoch, modulo 24.';

CREATE TABLE market.live_trades (
  ts             timestamptz NOT NULL,
  seq            int8 NOT NULL DEFAULT 0,
  price          float8 NOT NULL,
  size           float8 NOT NULL,
  instrument_id  int4 NOT NULL,
  ns             int2 NOT NULL DEFAULT 0,
  sub            int2 NOT NULL DEFAULT 0,
  flags          int4 NOT NULL DEFAULT 0,
  cond           int4 NOT NULL DEFAULT 0,
  ts_recv        timestamptz,
  trade_id       int8,
  op             "char" NOT NULL DEFAULT 't',
  slot           int2 NOT NULL DEFAULT market.current_slot(),
  -- NaN is above every number; one row beyond fixed point's range would fail every reader of its instrument
  CONSTRAINT price_is_a_number_in_range CHECK (price > -9.2e9 AND price < 9.2e9),
  CONSTRAINT size_is_a_number_in_range CHECK (size >= 0 AND size < 9.2e9),
  CONSTRAINT ns_is_within_a_microsecond CHECK (ns BETWEEN 0 AND 999),
  CONSTRAINT sub_is_not_negative CHECK (sub >= 0),
  CONSTRAINT ts_is_in_range CHECK (ts >= '1678-01-01 00:00:00+00' AND ts < '2262-01-01 00:00:00+00'),
  CONSTRAINT op_is_known CHECK (op IN ('t', 'b', 'c'))
) PARTITION BY LIST (slot);
COMMENT ON TABLE market.live_trades IS 'Trades not yet sealed: the running session, late trades, tombstones of busted ones. Writers COPY into it; readers use market.trades.';
COMMENT ON COLUMN market.live_trades.ts IS 'Event time of the venue, whole microseconds; ns holds the rest.';
COMMENT ON COLUMN market.live_trades.ns IS 'Nanoseconds beyond ts, 0 to 999.';
COMMENT ON COLUMN market.live_trades.seq IS 'Sequence of the venue or source. (ts, ns, seq, sub) is a trade''s identity and order within its instrument.';
COMMENT ON COLUMN market.live_trades.sub IS 'Ordinal among the records of one message that share (ts, seq).';
COMMENT ON COLUMN market.live_trades.flags IS 'Eligibility bits; 0 is an ordinary trade. docs/semantics.md lists them.';
COMMENT ON COLUMN market.live_trades.cond IS 'The venue''s raw sale condition.';
COMMENT ON COLUMN market.live_trades.ts_recv IS 'When the trade was received, where known.';
COMMENT ON COLUMN market.live_trades.op IS 't a trade, b the tombstone of a busted trade, c the new content of a corrected one.';
COMMENT ON COLUMN market.live_trades.slot IS 'Part of the ring the row lies in, by receipt time.';

-- Logical replication publishes deletes of sealed rows only with a replica identity, and there is no key to use.
ALTER TABLE market.live_trades REPLICA IDENTITY FULL;

DO $$
BEGIN
  FOR slot IN 0..23 LOOP
    EXECUTE pg_catalog.format('CREATE TABLE market.live_trades_%s PARTITION OF market.live_trades FOR VALUES IN (%s)
      WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.2)', slot, slot);
    EXECUTE pg_catalog.format('ALTER TABLE market.live_trades_%s REPLICA IDENTITY FULL', slot);
    -- BRIN, no btree: an index on (instrument, ts) costs four fifths of COPY
    EXECUTE pg_catalog.format('CREATE INDEX live_trades_%s_ts ON market.live_trades_%s USING brin (ts) WITH (pages_per_range = 16)', slot, slot);
    EXECUTE pg_catalog.format('COMMENT ON TABLE market.live_trades_%s IS %L', slot, 'A slot of market.live_trades.');
    EXECUTE pg_catalog.format('SELECT pg_catalog.pg_extension_config_dump(%L, '''')', 'market.live_trades_' || slot);
  END LOOP;
END
$$;

-- Parents of partitions made later carry no key: a restored dump would define it twice. Each partition gets its own.
CREATE TABLE market.trade_blocks (
  instrument_id  int4 NOT NULL,
  trade_date     date NOT NULL,
  part           int4 NOT NULL,
  n              int4 NOT NULL,
  first_ts       timestamptz NOT NULL,
  first_ns       int2 NOT NULL,
  first_seq      int8 NOT NULL,
  first_sub      int2 NOT NULL,
  last_ts        timestamptz NOT NULL,
  last_ns        int2 NOT NULL,
  last_seq       int8 NOT NULL,
  last_sub       int2 NOT NULL,
  payload        bytea NOT NULL
) PARTITION BY RANGE (trade_date);
-- compressed already, and readers fetch slices
ALTER TABLE market.trade_blocks ALTER payload SET STORAGE EXTERNAL;
COMMENT ON TABLE market.trade_blocks IS 'Sealed trades: compressed, checksummed column blocks of at most 65,536 trades, by month of trade date.';
COMMENT ON COLUMN market.trade_blocks.part IS 'Number within the session; parts are disjoint ranges of identities and are ordered by their first one.';
COMMENT ON COLUMN market.trade_blocks.n IS 'Trades in the block.';
COMMENT ON COLUMN market.trade_blocks.payload IS 'Block format of the market crate; read it with market.trades or market.session_ohlc().';

CREATE TABLE market.bar_blocks (
  instrument_id  int4 NOT NULL,
  trade_date     date NOT NULL,
  n              int4 NOT NULL,
  payload        bytea NOT NULL
) PARTITION BY RANGE (trade_date);
ALTER TABLE market.bar_blocks ALTER payload SET STORAGE EXTERNAL;
COMMENT ON TABLE market.bar_blocks IS 'Minute bars of sealed sessions, one compressed block a session, by year of trade date.';

CREATE TABLE market.session_bars (
  instrument_id     int4 NOT NULL,
  trade_date        date NOT NULL,
  segment           text NOT NULL CHECK (segment IN ('ON', 'PRE', 'RTH', 'POST', 'OFF')),
  opens_at          timestamptz,
  closes_at         timestamptz,
  open              float8,
  high              float8,
  low               float8,
  close             float8,
  volume            numeric NOT NULL,
  notional          numeric NOT NULL,
  trades            int8 NOT NULL,
  priced            int8 NOT NULL,
  state             text NOT NULL CHECK (state IN ('provisional', 'final', 'revised')),
  revision          int4 NOT NULL DEFAULT 0,
  calendar_version  int4 NOT NULL,
  digest            int8 NOT NULL,
  mergeable         boolean NOT NULL,
  sealed_at         timestamptz NOT NULL DEFAULT pg_catalog.now(),
  reason            text,
  verified_at       timestamptz,
  differences       int4,
  trades_dropped_at timestamptz,
  minutes_dropped_at timestamptz,
  PRIMARY KEY (instrument_id, trade_date, segment)
);
-- what maintenance looks for; both stay small
CREATE INDEX session_bars_unverified ON market.session_bars (trade_date) WHERE verified_at IS NULL;
CREATE INDEX session_bars_provisional ON market.session_bars (trade_date) WHERE state = 'provisional';
COMMENT ON TABLE market.session_bars IS 'One bar per sealed session and segment, for ever. RTH includes the auctions. Live rows are not in it: ask market.session_ohlc().';
COMMENT ON COLUMN market.session_bars.notional IS 'Exact sum of price times size.';
COMMENT ON COLUMN market.session_bars.trades IS 'Trades that count for volume.';
COMMENT ON COLUMN market.session_bars.priced IS 'Trades that count for prices; 0 means open, high, low and close are NULL.';
COMMENT ON COLUMN market.session_bars.state IS 'provisional, final, or revised (sealed again after it was final).';
COMMENT ON COLUMN market.session_bars.reason IS 'Why a provisional bar is not final: the session runs, or its feed has an open gap.';
COMMENT ON COLUMN market.session_bars.verified_at IS 'When maintenance last made it again of its trades; NULL since it was last sealed.';
COMMENT ON COLUMN market.session_bars.differences IS 'How many differences that found.';
COMMENT ON COLUMN market.session_bars.trades_dropped_at IS 'When retention dropped the session''s trades. The bars stay; the trades come back when exactly they are loaded again.';
COMMENT ON COLUMN market.session_bars.minutes_dropped_at IS 'When retention dropped the session''s minute bars, after its trades: what is left are these bars.';
COMMENT ON COLUMN market.session_bars.mergeable IS 'Whether bars of several segments or sessions may be made of this one; else they are made of minute bars.';
COMMENT ON COLUMN market.session_bars.digest IS 'Hash of the session''s trades, the same on each of its rows.';
SELECT pg_catalog.pg_extension_config_dump('market.session_bars', '');

CREATE TABLE market.trade_corrections (
  id             int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  instrument_id  int4 NOT NULL,
  ts             timestamptz NOT NULL,
  ns             int2 NOT NULL DEFAULT 0,
  seq            int8 NOT NULL,
  sub            int2 NOT NULL DEFAULT 0,
  action         text NOT NULL CHECK (action IN ('bust', 'correct')),
  old_price      float8,
  old_size       float8,
  new_price      float8,
  new_size       float8,
  new_flags      int4,
  known_at       timestamptz NOT NULL DEFAULT pg_catalog.now(),
  by_user        text NOT NULL DEFAULT session_user,
  reason         text
);
CREATE INDEX trade_corrections_identity ON market.trade_corrections (instrument_id, ts, seq);
COMMENT ON TABLE market.trade_corrections IS 'Append-only log of busts and corrections. It outranks data: a busted trade stays busted when its file is loaded again.';
SELECT pg_catalog.pg_extension_config_dump('market.trade_corrections', '');
SELECT pg_catalog.pg_extension_config_dump('market.trade_corrections_id_seq', '');

-- Partitions are made when a session first needs one: blocks by month, minute bars by year, where a policy says so with parts
-- by instrument below.
CREATE FUNCTION market.make_partition(parent text, partition text, from_date date, till_date date, key text, says text) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parts int4;
  leaf text;
BEGIN
  SELECT (p.options ->> 'hash')::int4 INTO parts FROM market.policies AS p
  WHERE p.action = 'partitions' AND p.relation = CASE parent WHEN 'trade_blocks' THEN 'trades' ELSE 'minute_bars' END;
  -- made apart and attached: CREATE ... PARTITION OF would wait for every reader of the parent, and stop the next ones
  IF coalesce(parts, 1) > 1 THEN
    EXECUTE format('CREATE TABLE market.%I (LIKE market.%I INCLUDING STORAGE) PARTITION BY HASH (instrument_id)', partition, parent);
    EXECUTE format('COMMENT ON TABLE market.%I IS %L', partition, says || ', in parts by instrument.');
  END IF;
  FOR part IN 0..coalesce(parts, 1) - 1 LOOP
    leaf := CASE WHEN coalesce(parts, 1) > 1 THEN format('%s_%s', partition, part) ELSE partition END;
    EXECUTE format('CREATE TABLE market.%I (LIKE market.%I INCLUDING STORAGE) WITH (toast.autovacuum_vacuum_scale_factor = 0.02)', leaf, parent);
    EXECUTE format('ALTER TABLE market.%I ADD PRIMARY KEY (%s)', leaf, key);
    EXECUTE format('COMMENT ON TABLE market.%I IS %L', leaf, says || '.');
    IF parts > 1 THEN
      EXECUTE format('ALTER TABLE market.%I ATTACH PARTITION market.%I FOR VALUES WITH (MODULUS %s, REMAINDER %s)', partition, leaf, parts, part);
    END IF;
  END LOOP;
  EXECUTE format('ALTER TABLE market.%I ATTACH PARTITION market.%I FOR VALUES FROM (%L) TO (%L)', parent, partition, from_date, till_date);
END
$$;
COMMENT ON FUNCTION market.make_partition(text, text, date, date, text, text) IS
  'Makes one partition of trade_blocks or bar_blocks, with parts by hash of the instrument where market.set_policy(''partitions'') says so.';
REVOKE ALL ON FUNCTION market.make_partition(text, text, date, date, text, text) FROM PUBLIC;

CREATE FUNCTION market.ensure_partitions(day date) RETURNS void
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  month date := pg_catalog.date_trunc('month', day)::date;
  year date := pg_catalog.date_trunc('year', day)::date;
  blocks text := pg_catalog.format('trade_blocks_%s', pg_catalog.to_char(month, 'YYYYMM'));
  bars text := pg_catalog.format('bar_blocks_%s', pg_catalog.to_char(year, 'YYYY'));
BEGIN
  IF pg_catalog.to_regclass(pg_catalog.format('market.%I', blocks)) IS NOT NULL
     AND pg_catalog.to_regclass(pg_catalog.format('market.%I', bars)) IS NOT NULL THEN
    RETURN;
  END IF;
  -- one maker at a time; the lock is released at the end of the transaction
  PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('market.ensure_partitions', 0));
  -- An advisory lock lets no invalidations in, a table lock does: without it the names below come from a stale cache
  -- and what another session has just made is made again.
  LOCK TABLE market.feeds IN ACCESS SHARE MODE;
  IF pg_catalog.to_regclass(pg_catalog.format('market.%I', blocks)) IS NULL THEN
    PERFORM market.make_partition('trade_blocks', blocks, month, (month + interval '1 month')::date, 'instrument_id, trade_date, part',
      'Sealed trades of a month');
  END IF;
  IF pg_catalog.to_regclass(pg_catalog.format('market.%I', bars)) IS NULL THEN
    PERFORM market.make_partition('bar_blocks', bars, year, (year + interval '1 year')::date, 'instrument_id, trade_date',
      'Minute bars of a year');
  END IF;
  -- a view that is no member of the extension: DROP EXTENSION then demands CASCADE instead of deleting trades silently
  IF pg_catalog.to_regclass('market.sealed_parts') IS NULL THEN
    EXECUTE 'CREATE VIEW market.sealed_parts WITH (security_invoker) AS
      SELECT instrument_id, trade_date, part, n, first_ts, last_ts, pg_catalog.octet_length(payload) AS bytes FROM market.trade_blocks AS b
      WHERE EXISTS (SELECT FROM market.instruments AS i WHERE i.id = b.instrument_id)';
    EXECUTE pg_catalog.format('COMMENT ON VIEW market.sealed_parts IS %L',
      'Sealed parts and their sizes. Not a member of the extension, so that DROP EXTENSION asks for CASCADE while trades are stored.');
    EXECUTE 'GRANT SELECT ON market.sealed_parts TO market_reader';
  END IF;
END
$$;
COMMENT ON FUNCTION market.ensure_partitions(date) IS 'Makes the partitions of trade_blocks and bar_blocks that a trade date needs.';
REVOKE ALL ON FUNCTION market.ensure_partitions(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION market.ensure_partitions(date) TO market_writer;
