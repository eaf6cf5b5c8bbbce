-- A policy holds in every reader: on instruments for all they have, on the sealed tables for what lies there; one on live_trades is refused.
BEGIN;
SELECT market.add_instrument('SPY', calendar => 'XNYS'), market.add_instrument('QQQ', calendar => 'XNYS');
INSERT INTO market.trades (symbol, ts, seq, price, size)
SELECT s, timestamptz '2025-11-28 14:30+00' + n * interval '1 second', n, 100 + n, 1
FROM (VALUES ('SPY'), ('QQQ')) AS v(s), generate_series(1, 10) AS n;
COMMIT;
SELECT market.seal('SPY', date '2025-11-28'), market.seal('QQQ', date '2025-11-28');
INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-28 15:00+00', 11, 111, 1);

BEGIN;
CREATE POLICY only_spy ON market.trade_blocks AS RESTRICTIVE TO market_reader USING (instrument_id = market.instrument_id('SPY'));
CREATE POLICY only_spy ON market.bar_blocks AS RESTRICTIVE TO market_reader USING (instrument_id = market.instrument_id('SPY'));
CREATE POLICY only_spy ON market.session_bars AS RESTRICTIVE TO market_reader USING (instrument_id = market.instrument_id('SPY'));
CREATE POLICY only_spy ON market.session_stats AS RESTRICTIVE TO market_reader USING (instrument_id = market.instrument_id('SPY'));
SELECT market.put_stats(s, date '2025-11-26', 'official_close', 100) FROM (VALUES ('SPY'), ('QQQ')) AS v(s);

DO $$
BEGIN
  -- the same statements twice, first unrestricted, so that cached plans meet both roles
  FOR turn IN 1..2 LOOP
    IF (SELECT count(*) FROM market.trades) <> (CASE turn WHEN 1 THEN 21 ELSE 11 END) THEN
      RAISE EXCEPTION 'turn %: % trades in market.trades', turn, (SELECT count(*) FROM market.trades);
    END IF;
    IF (SELECT count(*) FROM market.trades_between('QQQ', '2025-11-28', '2025-11-29')) <> (CASE turn WHEN 1 THEN 10 ELSE 0 END) THEN
      RAISE EXCEPTION 'turn %: trades_between sees past the policy', turn;
    END IF;
    IF (SELECT count(*) FROM market.session_ohlc('QQQ', '1d', date '2025-11-28', date '2025-11-28')) <> (CASE turn WHEN 1 THEN 1 ELSE 0 END) THEN
      RAISE EXCEPTION 'turn %: session_ohlc sees past the policy', turn;
    END IF;
    IF (SELECT count(*) FROM market.session_levels('QQQ', date '2025-11-28') WHERE value IS NOT NULL) <> (CASE turn WHEN 1 THEN 11 ELSE 0 END) THEN
      RAISE EXCEPTION 'turn %: session_levels sees past the policy: %', turn,
        (SELECT array_agg(level || ' ' || value) FROM market.session_levels('QQQ', date '2025-11-28') WHERE value IS NOT NULL);
    END IF;
    IF (EXISTS (SELECT FROM market.session_profile('QQQ', date '2025-11-28', bin => 1)))::int4
       + (EXISTS (SELECT FROM market.session_flow('QQQ', '1d', date '2025-11-28', date '2025-11-28')))::int4
       + (EXISTS (SELECT FROM market.activity_ohlc('QQQ', 'ticks', 1000, date '2025-11-28', date '2025-11-28')))::int4
       + (EXISTS (SELECT FROM market.session_stat('QQQ', date '2025-11-26', date '2025-11-26')))::int4
       <> (CASE turn WHEN 1 THEN 4 ELSE 0 END) THEN
      RAISE EXCEPTION 'turn %: a function beside session_ohlc sees past the policy', turn;
    END IF;
    IF turn = 1 THEN
      SET LOCAL ROLE market_reader;
    END IF;
  END LOOP;
END
$$;
RESET ROLE;
ROLLBACK;

BEGIN;
ALTER TABLE market.instruments ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_qqq ON market.instruments TO market_reader USING (symbol = 'QQQ');
DO $$
BEGIN
  SET LOCAL ROLE market_reader;
  IF (SELECT count(*) FROM market.trades) <> 10 OR (SELECT count(*) FROM market.session_bars) <> (SELECT count(*) FROM market.session_bars
      WHERE instrument_id = market.instrument_id('QQQ')) THEN
    RAISE EXCEPTION 'a policy of instruments does not hide sealed or live trades';
  END IF;
  BEGIN
    PERFORM FROM market.trades_between('SPY', '2025-11-28', '2025-11-29');
    RAISE EXCEPTION 'trades_between knows a hidden symbol';
  EXCEPTION WHEN undefined_object THEN NULL;
  END;
END
$$;
RESET ROLE;
ROLLBACK;

BEGIN;
ALTER TABLE market.live_trades ENABLE ROW LEVEL SECURITY;
CREATE POLICY only_spy ON market.live_trades TO market_reader USING (instrument_id = market.instrument_id('SPY'));
DO $$
BEGIN
  SET LOCAL ROLE market_reader;
  PERFORM count(*) FROM market.trades;
  RAISE EXCEPTION 'a policy of live_trades is passed over in silence';
EXCEPTION WHEN feature_not_supported THEN NULL;
END
$$;
ROLLBACK;

-- readers do not write
DO $$
BEGIN
  SET LOCAL ROLE market_reader;
  INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-28 15:00+00', 12, 111, 1);
  RAISE EXCEPTION 'market_reader could insert a trade';
EXCEPTION WHEN insufficient_privilege THEN NULL;
END
$$;
DO $$
BEGIN
  SET LOCAL ROLE market_writer;
  INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-28 15:00+00', 12, 111, 1);
  RESET ROLE;
END
$$;
