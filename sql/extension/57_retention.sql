-- Retention counts sessions, and drops nothing that is not sealed, verified and, where asked, archived.

CREATE FUNCTION market.retention_cutoff(calendar text, keep_sessions int4) RETURNS date
LANGUAGE plpgsql STABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN market.next_session(market.trade_date(now(), calendar), calendar, -keep_sessions);
EXCEPTION WHEN datetime_field_overflow THEN
  -- beyond what the calendar knows nothing can be counted
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION market.retention_cutoff(text, int4) IS 'The first trade date kept where so many sessions before the running one are; NULL where the calendar does not know that far.';

CREATE FUNCTION market.retention_plan(symbol text DEFAULT NULL, day date DEFAULT NULL)
RETURNS TABLE (symbol text, calendar text, relation text, keep_sessions int4, trade_date date, rows int8, bytes int8, held_back text)
LANGUAGE sql STABLE ROWS 100
BEGIN ATOMIC
  WITH asked AS (
    SELECT i.id, i.symbol, i.calendar, p.relation, p.keep_sessions, coalesce((p.options ->> 'archived')::boolean, false) AS archived,
      market.retention_cutoff(i.calendar, p.keep_sessions) AS cutoff
    FROM market.instruments AS i CROSS JOIN (VALUES ('trades'), ('minute_bars')) AS r(relation)
    CROSS JOIN LATERAL market.policy_of(i.id, 'retention', r.relation) AS p
    WHERE retention_plan.symbol IS NULL OR i.symbol = retention_plan.symbol
  ), stored AS (
    SELECT a.id, a.relation, b.trade_date, sum(b.n)::int8 AS rows, sum(pg_catalog.pg_column_size(b.payload))::int8 AS bytes
    FROM asked AS a CROSS JOIN LATERAL (
      SELECT t.trade_date, t.n, t.payload FROM market.trade_blocks AS t WHERE a.relation = 'trades' AND t.instrument_id = a.id AND t.trade_date < a.cutoff
        AND t.trade_date >= coalesce(retention_plan.day, '-infinity') AND t.trade_date <= coalesce(retention_plan.day, 'infinity')
      UNION ALL
      SELECT m.trade_date, m.n, m.payload FROM market.bar_blocks AS m WHERE a.relation = 'minute_bars' AND m.instrument_id = a.id AND m.trade_date < a.cutoff
        AND m.trade_date >= coalesce(retention_plan.day, '-infinity') AND m.trade_date <= coalesce(retention_plan.day, 'infinity')) AS b
    GROUP BY a.id, a.relation, b.trade_date
  )
  SELECT a.symbol, a.calendar, a.relation, a.keep_sessions, t.trade_date, t.rows, t.bytes,
    CASE
      WHEN s.bars = 0 THEN 'no session bars stand for its trades'
      WHEN s.provisional THEN 'not sealed: ' || coalesce(s.reason, 'provisional')
      WHEN u.trades + u.marks > 0 THEN pg_catalog.format('%s live rows are not sealed', u.trades + u.marks)
      WHEN s.unverified THEN 'not verified'
      WHEN s.differences > 0 THEN pg_catalog.format('verification found %s differences', s.differences)
      WHEN a.archived AND NOT EXISTS (SELECT FROM market.archived_sessions AS r WHERE r.instrument_id = a.id
        AND r.trade_date = t.trade_date AND r.digest = s.digest
        AND r.system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)) THEN 'not archived'
      WHEN a.relation = 'minute_bars' AND NOT s.dropped THEN 'its trades are still here'
    END
  FROM asked AS a
  JOIN stored AS t ON t.id = a.id AND t.relation = a.relation
  CROSS JOIN LATERAL (SELECT count(*) AS bars, bool_or(b.state = 'provisional') AS provisional, max(b.reason) AS reason,
      bool_or(b.verified_at IS NULL) AS unverified, max(b.differences) AS differences, min(b.digest) AS digest,
      bool_and(b.trades_dropped_at IS NOT NULL) AS dropped
    FROM market.session_bars AS b WHERE b.instrument_id = a.id AND b.trade_date = t.trade_date) AS s
  LEFT JOIN market.unsealed_sessions AS u ON u.instrument_id = a.id AND u.trade_date = t.trade_date
  UNION ALL
  SELECT a.symbol, a.calendar, a.relation, a.keep_sessions, NULL, NULL, NULL,
    pg_catalog.format('calendar %s does not know %s sessions before today', a.calendar, a.keep_sessions)
  FROM asked AS a WHERE a.cutoff IS NULL
  ORDER BY 1, 3 DESC, 5;
END;
COMMENT ON FUNCTION market.retention_plan(text, date) IS
  'What retention would drop now: the trades, and the minute bars, of each session older than its policy keeps, with their number and bytes. held_back says why they stay; NULL: they go with the next run. Session bars are never dropped.';

CREATE FUNCTION market.drop_trades(instrument int4, trade_date date) RETURNS text
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
  plan record;
BEGIN
  IF NOT market.try_lock_session(drop_trades.instrument, drop_trades.trade_date) THEN
    RETURN 'locked';
  END IF;
  -- asked again under the lock, with a new snapshot
  SELECT r.* INTO plan FROM market.instruments AS i, LATERAL market.retention_plan(i.symbol, drop_trades.trade_date) AS r
  WHERE i.id = drop_trades.instrument AND r.trade_date = drop_trades.trade_date AND r.relation = 'trades';
  IF plan IS NULL OR plan.trade_date IS NULL THEN
    RETURN 'kept';
  END IF;
  IF plan.held_back IS NOT NULL OR market.live_rows(drop_trades.instrument, drop_trades.trade_date) > 0 THEN
    RETURN 'held back';
  END IF;
  DELETE FROM market.trade_blocks AS b WHERE b.instrument_id = drop_trades.instrument AND b.trade_date = drop_trades.trade_date;
  UPDATE market.session_bars AS b SET trades_dropped_at = now() WHERE b.instrument_id = drop_trades.instrument AND b.trade_date = drop_trades.trade_date;
  INSERT INTO market.audit_log (action, detail) VALUES ('retention', jsonb_build_object('symbol', plan.symbol,
    'trade_date', plan.trade_date, 'trades', plan.rows, 'bytes', plan.bytes));
  RETURN 'dropped';
END
$$;
COMMENT ON FUNCTION market.drop_trades(int4, date) IS 'Drops the trades of a session that market.retention_plan() lets go, and keeps its bars; says dropped, or why not: locked, kept, held back.';

CREATE FUNCTION market.drop_minute_bars(instrument int4, trade_date date) RETURNS text
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
  plan record;
BEGIN
  IF NOT market.try_lock_session(drop_minute_bars.instrument, drop_minute_bars.trade_date) THEN
    RETURN 'locked';
  END IF;
  -- asked again under the lock, with a new snapshot
  SELECT r.* INTO plan FROM market.instruments AS i, LATERAL market.retention_plan(i.symbol, drop_minute_bars.trade_date) AS r
  WHERE i.id = drop_minute_bars.instrument AND r.trade_date = drop_minute_bars.trade_date AND r.relation = 'minute_bars';
  IF plan IS NULL OR plan.trade_date IS NULL THEN
    RETURN 'kept';
  END IF;
  IF plan.held_back IS NOT NULL OR market.live_rows(drop_minute_bars.instrument, drop_minute_bars.trade_date) > 0 THEN
    RETURN 'held back';
  END IF;
  DELETE FROM market.bar_blocks AS b WHERE b.instrument_id = drop_minute_bars.instrument AND b.trade_date = drop_minute_bars.trade_date;
  UPDATE market.session_bars AS b SET minutes_dropped_at = now() WHERE b.instrument_id = drop_minute_bars.instrument AND b.trade_date = drop_minute_bars.trade_date;
  INSERT INTO market.audit_log (action, detail) VALUES ('retention', jsonb_build_object('symbol', plan.symbol,
    'trade_date', plan.trade_date, 'minute_bars', plan.rows, 'bytes', plan.bytes));
  RETURN 'dropped';
END
$$;
COMMENT ON FUNCTION market.drop_minute_bars(int4, date) IS 'As market.drop_trades(), of the minute bars of a session whose trades are gone already; its session bars stay.';
