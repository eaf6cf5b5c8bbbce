-- ohlc, rollup and vwap: the same bits in any order and with any number of workers.
DO $$
DECLARE
  wrong text;
BEGIN
  SELECT string_agg(p.oid::regprocedure::text, ', ') INTO wrong
  FROM pg_catalog.pg_aggregate AS a JOIN pg_catalog.pg_proc AS p ON p.oid = a.aggfnoid
  WHERE p.pronamespace = 'market'::regnamespace
    AND (a.aggcombinefn = 0 OR a.aggserialfn = 0 OR a.aggdeserialfn = 0 OR a.aggtransspace = 0 OR p.proparallel <> 's' OR p.provolatile <> 'i');
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'aggregates that are not parallel or have no SSPACE: %', wrong;
  END IF;
END
$$;

CREATE TEMP TABLE trades AS
SELECT i % 7 AS g, timestamptz '2025-11-28 14:30+00' + (i / 3) * interval '1 ms' AS ts, (i % 3)::int8 AS seq,
  100 + (i * 7919::int8 % 1000) / 8.0::float8 AS price, (i % 100) / 1e8::float8 AS size
FROM generate_series(1, 60000) AS i;
ALTER TABLE trades SET (parallel_workers = 2);
ANALYZE trades;

-- temporary tables are never read by workers
CREATE TABLE trades_for_workers AS SELECT * FROM trades;
ALTER TABLE trades_for_workers SET (parallel_workers = 2);
ANALYZE trades_for_workers;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
CREATE TEMP TABLE with_workers AS SELECT g, market.ohlc(price, size, ts, seq) AS bar FROM trades_for_workers GROUP BY g;
SET max_parallel_workers_per_gather = 0;
CREATE TEMP TABLE shuffled AS
SELECT g, market.ohlc(price, size, ts, seq) AS bar FROM (SELECT * FROM trades ORDER BY md5(ts::text || seq)) AS t GROUP BY g;
DROP TABLE trades_for_workers;

DO $$
DECLARE
  wanted market.bar;
  found market.bar;
BEGIN
  IF EXISTS (SELECT FROM with_workers FULL JOIN shuffled USING (g) WHERE with_workers.bar IS DISTINCT FROM shuffled.bar) THEN
    RAISE EXCEPTION 'workers or order change a bar';
  END IF;
  wanted := (SELECT market.ohlc(price, size, ts, seq) FROM trades);
  found := (SELECT market.rollup(bar) FROM shuffled);
  IF found IS DISTINCT FROM wanted THEN
    RAISE EXCEPTION 'rollup_equals_direct: % is not %', found, wanted;
  END IF;
  IF wanted.volume <> (SELECT sum(size::numeric) FROM trades)
     OR wanted.notional <> (SELECT sum(size::numeric * price::numeric) FROM trades) THEN
    RAISE EXCEPTION 'volume or notional is not exact: %', wanted;
  END IF;
  IF (SELECT market.vwap(price, size) FROM trades) IS DISTINCT FROM market.vwap(wanted) THEN
    RAISE EXCEPTION 'vwap of trades is not vwap of their bar';
  END IF;
END
$$;
