-- Thousands of instruments and ten years: what Q2 and Q3 of bench/README.md cost when the store is full of others' sessions.
--
--   psql -v instruments=1000 -v sessions=252 -v years=10 -v parts=1 -v rounds=20 -f bench/scale.sql
--
-- Eight instruments get trades and are sealed as in production; the others get copies of their blocks, which hold no
-- instrument. `cargo xtask bench --scale` runs this in a database of its own and compares with the goals. CPU is the backend's
-- own, the least of the rounds; it needs a superuser (pg_read_file) and Linux.
\set ON_ERROR_STOP 1
\set QUIET 1
SET client_min_messages = warning;
SET timezone = 'UTC';
SET max_parallel_workers_per_gather = 0;
SELECT set_config('scale.instruments', :'instruments', false), set_config('scale.rounds', :'rounds', false) \g /dev/null
SELECT market.set_policy('partitions', r, options => jsonb_build_object('hash', :parts)) FROM (VALUES ('trades'), ('minute_bars')) AS v(r) \g /dev/null

SELECT market.add_instrument(format('S%s', lpad(n::text, 5, '0')), calendar => 'XNYS') FROM generate_series(1, :instruments) AS n \g /dev/null
SELECT market.add_instrument('TEN', calendar => 'XNYS') AS ten \gset
CREATE TEMP TABLE days AS
  SELECT trade_date, opens_at, closes_at, row_number() OVER (ORDER BY trade_date DESC) AS back
  FROM market.sessions('XNYS', date '2025-11-26' - :years * 366, date '2025-11-26', 'RTH') WHERE trade_date > date '2025-11-26' - :years * 365;

-- Sixty trades a session: in one minute of each six.
INSERT INTO market.live_trades (instrument_id, ts, seq, price, size)
SELECT i, d.opens_at + (n * 6 + i % 6) * interval '1 minute' + n * interval '170 ms', n, 100 + ((n * 7 + i + d.back) % 23) * 0.25, 1 + n % 9
FROM (SELECT generate_series(1, least(8, :instruments)) AS i UNION ALL SELECT :ten) AS who, days AS d, generate_series(0, 59) AS n
WHERE (i = :ten OR d.back <= :sessions) AND d.opens_at + (n * 6 + i % 6 + 1) * interval '1 minute' < d.closes_at
ORDER BY d.trade_date;
CALL market.maintain('seal');
DO $$
BEGIN
  IF EXISTS (SELECT FROM market.live_trades) THEN
    RAISE EXCEPTION 'not sealed: %', (SELECT string_agg(last_error, '; ') FROM market.job_status);
  END IF;
END
$$;
CREATE TEMP TABLE copies AS SELECT c AS id, 1 + (c - 1) % 8 AS template FROM generate_series(9, :instruments) AS c;
DO $$
DECLARE
  relation text;
  columns text;
BEGIN
  FOREACH relation IN ARRAY ARRAY['trade_blocks', 'bar_blocks', 'session_bars'] LOOP
    SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
    WHERE attrelid = ('market.' || relation)::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'instrument_id';
    EXECUTE format('INSERT INTO market.%1$I (instrument_id, %2$s) SELECT c.id, %3$s FROM market.%1$I AS b JOIN copies AS c ON c.template = b.instrument_id
      ORDER BY b.trade_date, c.id', relation, columns, 'b.' || replace(columns, ', ', ', b.'));
  END LOOP;
END
$$;
VACUUM (ANALYZE);

\pset tuples_only on
\pset format unaligned
SELECT format('stored|%s instruments|%s session bars|%s blocks|%s', (SELECT count(*) FROM market.instruments), (SELECT count(*) FROM market.session_bars),
  (SELECT count(*) FROM market.trade_blocks), pg_size_pretty((SELECT sum(bytes) FROM market.partition_status)));
-- The copies are as good as what was sealed.
SELECT format('verified|%s|%s differences', symbol, (SELECT count(*) FROM market.verify_bars(symbol, '2000-01-01', '2025-12-31')))
FROM market.instruments WHERE id IN (1, :instruments, :ten) ORDER BY id;

-- The kernel counts a process's time when it stops running, so it sleeps a moment first.
CREATE FUNCTION pg_temp.cpu_ms() RETURNS float8 LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(0.0002);
  RETURN split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::int8 / 1e6;
END
$$;
CREATE FUNCTION pg_temp.measure(name text, goal float8, query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  many CONSTANT int := 10;
  since float8;
  wall timestamptz;
  least_cpu float8 := 'infinity';
  least_wall float8 := 'infinity';
  bars int8;
BEGIN
  query := 'SELECT count(*) FROM (' || query || ' OFFSET 0) AS q';
  FOR round IN 0..current_setting('scale.rounds')::int LOOP
    since := pg_temp.cpu_ms();
    wall := clock_timestamp();
    FOR again IN 1..many LOOP
      EXECUTE query INTO bars;
    END LOOP;
    -- the first round warms up
    IF round > 0 THEN
      least_wall := least(least_wall, EXTRACT(epoch FROM clock_timestamp() - wall) * 1e3 / many);
      least_cpu := least(least_cpu, (pg_temp.cpu_ms() - since) / many);
    END IF;
  END LOOP;
  RETURN format('query|%s|%s|%s|%s|%s|%s', name, bars, round(least_cpu::numeric, 3), round(least_wall::numeric, 3), goal,
    (SELECT count(*) FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
     WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname ~ '^(trade|bar)_blocks_'));
END
$$;
-- Each is a transaction of its own, so the partitions it holds locks on are counted: those it looked into.
SELECT pg_temp.measure('Q2: one instrument, one day, 1m', 2.0,
  $$SELECT * FROM market.session_ohlc('S00003', '1m', date '2025-11-12', date '2025-11-12', segments => 'ALL')$$);
SELECT pg_temp.measure('Q2 from trades', NULL,
  $$SELECT * FROM market.session_ohlc('S00003', '30s', date '2025-11-12', date '2025-11-12', segments => 'ALL')$$);
SELECT pg_temp.measure('Q3: one bar a session, a month', 0.3,
  $$SELECT * FROM market.session_ohlc('S00003', '1d', date '2025-10-27', date '2025-11-26', segments => 'ETH')$$);
SELECT pg_temp.measure('Q3, a year', NULL,
  $$SELECT * FROM market.session_ohlc('S00003', '1d', date '2024-11-27', date '2025-11-26', segments => 'ETH')$$);
SELECT pg_temp.measure('Q2 of the one with the years', 2.0,
  $$SELECT * FROM market.session_ohlc('TEN', '1m', date '2025-11-12', date '2025-11-12', segments => 'ALL')$$);
SELECT pg_temp.measure('Q3 of it, a month', 0.3,
  $$SELECT * FROM market.session_ohlc('TEN', '1d', date '2025-10-27', date '2025-11-26', segments => 'ETH')$$);
SELECT pg_temp.measure('Q3 of it, all its years', NULL,
  $$SELECT * FROM market.session_ohlc('TEN', '1d', date '2015-11-27', date '2025-11-26', segments => 'ETH')$$);
SELECT pg_temp.measure('trades of a day', NULL,
  $$SELECT * FROM market.trades WHERE symbol = 'S00003' AND trade_date = '2025-11-12'$$);
