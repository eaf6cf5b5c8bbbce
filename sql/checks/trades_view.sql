-- market.trades answers the same as trades_between however it is asked, before and after sealing, and reads only what is asked for.
SELECT market.add_instrument('SPY', calendar => 'XNYS'), market.add_instrument('ESZ25'), market.add_instrument('BTC-USD', calendar => '24/7');
INSERT INTO market.trades (symbol, ts, seq, price, size)
SELECT s, timestamptz '2025-11-24 14:30+00' + d * interval '1 day' + n * interval '37 seconds', d * 1000 + n, 100 + (n * 7 % 13) / 4.0, 1 + n % 5
FROM (VALUES ('SPY'), ('ESZ25'), ('BTC-USD')) AS v(s), generate_series(0, 4) AS d, generate_series(0, 300) AS n;

CREATE FUNCTION pg_temp.differences() RETURNS bigint LANGUAGE sql AS $$
  SELECT count(*) FROM (
    (SELECT 'SPY' AS symbol, * FROM market.trades_between('SPY', '2025-11-25 15:00+00', '2025-11-27 20:00+00')
     EXCEPT ALL
     SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date FROM market.trades
     WHERE symbol = 'SPY' AND ts >= '2025-11-25 15:00+00' AND ts < '2025-11-27 20:00+00')
    UNION ALL
    (SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date FROM market.trades
     WHERE symbol = 'SPY' AND ts >= '2025-11-25 15:00+00' AND ts < '2025-11-27 20:00+00'
     EXCEPT ALL
     SELECT 'SPY', * FROM market.trades_between('SPY', '2025-11-25 15:00+00', '2025-11-27 20:00+00'))
    UNION ALL
    -- every way to narrow a scan leaves what a filter on all trades leaves
    (SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date FROM market.trades
     WHERE symbol IN ('SPY', 'ESZ25', 'none') AND trade_date BETWEEN '2025-11-25' AND '2025-11-26' AND ts <> '2025-11-25 14:30+00'
     EXCEPT ALL
     SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date
     FROM (SELECT * FROM market.trades OFFSET 0) AS t
     WHERE symbol IN ('SPY', 'ESZ25', 'none') AND trade_date BETWEEN '2025-11-25' AND '2025-11-26' AND ts <> '2025-11-25 14:30+00')
    UNION ALL
    (SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date FROM (SELECT * FROM market.trades OFFSET 0) AS t
     WHERE instrument_id = ANY (ARRAY(SELECT id FROM market.instruments WHERE kind = 'pair')) AND trade_date > '2025-11-25'
     EXCEPT ALL
     SELECT t.symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, segment, trade_date
     FROM market.trades AS t JOIN market.instruments AS i ON t.instrument_id = i.id AND i.kind = 'pair' WHERE date '2025-11-25' < trade_date)
  ) AS d
$$;
CREATE FUNCTION pg_temp.plan(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE line text; plan text := '';
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) ' || query LOOP plan := plan || line || E'\n'; END LOOP;
  RETURN plan;
END
$$;

DO $$
DECLARE
  plan text;
BEGIN
  FOR turn IN 1..3 LOOP
    IF pg_temp.differences() <> 0 THEN
      RAISE EXCEPTION 'turn %: % differences', turn, pg_temp.differences();
    END IF;
    IF (SELECT count(*) FROM market.trades) <> (CASE turn WHEN 3 THEN 4514 ELSE 4515 END) THEN
      RAISE EXCEPTION 'turn %: % trades', turn, (SELECT count(*) FROM market.trades);
    END IF;
    IF turn = 1 THEN
      PERFORM market.seal('SPY', date '2025-11-25'), market.seal('SPY', date '2025-11-26'), market.seal('ESZ25', date '2025-11-25');
    ELSIF turn = 2 THEN
      PERFORM market.bust_trade('SPY', timestamptz '2025-11-25 14:30:37+00', 1001);
    END IF;
  END LOOP;
  plan := pg_temp.plan('SELECT count(*) FROM market.trades WHERE symbol = ''SPY'' AND trade_date = ''2025-11-25''');
  IF plan NOT LIKE '%Narrowed by: symbol =, trade_date =%Blocks Read: 1%' THEN
    RAISE EXCEPTION E'a day of one symbol reads more than its block:\n%', plan;
  END IF;
  plan := pg_temp.plan('SELECT count(*) FROM market.trades AS t JOIN market.instruments AS i ON i.id = t.instrument_id WHERE i.symbol = ''ESZ25''');
  IF plan NOT LIKE '%Narrowed by: instrument_id =%Blocks Read: 1%' THEN
    RAISE EXCEPTION E'a join reads more than its instrument:\n%', plan;
  END IF;
END
$$;
