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
RETURNS TABLE (symbol text, calendar text, relation text, keep_sessions int4, trade_date date, trades int8, bytes int8, held_back text)
LANGUAGE sql STABLE ROWS 100
BEGIN ATOMIC
  WITH asked AS (
    SELECT i.id, i.symbol, i.calendar, p.relation, p.keep_sessions, coalesce((p.options ->> 'archived')::boolean, false) AS archived,
      market.retention_cutoff(i.calendar, p.keep_sessions) AS cutoff
    FROM market.instruments AS i CROSS JOIN LATERAL market.policy_of(i.id, 'retention') AS p
    WHERE retention_plan.symbol IS NULL OR i.symbol = retention_plan.symbol
  )
  SELECT a.symbol, a.calendar, a.relation, a.keep_sessions, t.trade_date, t.trades, t.bytes,
    CASE
      WHEN s.bars = 0 THEN 'no session bars stand for its trades'
      WHEN s.provisional THEN 'not sealed: ' || coalesce(s.reason, 'provisional')
      WHEN u.trades + u.marks > 0 THEN pg_catalog.format('%s live rows are not sealed', u.trades + u.marks)
      WHEN s.unverified THEN 'not verified'
      WHEN s.differences > 0 THEN pg_catalog.format('verification found %s differences', s.differences)
      WHEN a.archived AND NOT EXISTS (SELECT FROM market.archived_sessions AS r WHERE r.instrument_id = a.id
        AND r.trade_date = t.trade_date AND r.digest = s.digest
        AND r.system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)) THEN 'not archived'
    END
  FROM asked AS a
  CROSS JOIN LATERAL (SELECT b.trade_date, sum(b.n)::int8 AS trades, sum(pg_catalog.pg_column_size(b.payload))::int8 AS bytes
    FROM market.trade_blocks AS b WHERE b.instrument_id = a.id AND b.trade_date < a.cutoff
      AND b.trade_date >= coalesce(retention_plan.day, '-infinity') AND b.trade_date <= coalesce(retention_plan.day, 'infinity')
    GROUP BY b.trade_date) AS t
  CROSS JOIN LATERAL (SELECT count(*) AS bars, bool_or(b.state = 'provisional') AS provisional, max(b.reason) AS reason,
      bool_or(b.verified_at IS NULL) AS unverified, max(b.differences) AS differences, min(b.digest) AS digest
    FROM market.session_bars AS b WHERE b.instrument_id = a.id AND b.trade_date = t.trade_date) AS s
  LEFT JOIN market.unsealed_sessions AS u ON u.instrument_id = a.id AND u.trade_date = t.trade_date
  UNION ALL
  SELECT a.symbol, a.calendar, a.relation, a.keep_sessions, NULL, NULL, NULL,
    pg_catalog.format('calendar %s does not know %s sessions before today', a.calendar, a.keep_sessions)
  FROM asked AS a WHERE a.cutoff IS NULL
  ORDER BY 1, 5;
END;
COMMENT ON FUNCTION market.retention_plan(text, date) IS
  'What retention would drop now: the trades of each session older than its policy keeps, with their number and bytes. held_back says why a session stays; NULL: it goes with the next run. Bars are never dropped.';

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
  WHERE i.id = drop_trades.instrument AND r.trade_date = drop_trades.trade_date;
  IF plan IS NULL OR plan.trade_date IS NULL THEN
    RETURN 'kept';
  END IF;
  IF plan.held_back IS NOT NULL OR market.live_rows(drop_trades.instrument, drop_trades.trade_date) > 0 THEN
    RETURN 'held back';
  END IF;
  DELETE FROM market.trade_blocks AS b WHERE b.instrument_id = drop_trades.instrument AND b.trade_date = drop_trades.trade_date;
  UPDATE market.session_bars AS b SET trades_dropped_at = now() WHERE b.instrument_id = drop_trades.instrument AND b.trade_date = drop_trades.trade_date;
  INSERT INTO market.audit_log (action, detail) VALUES ('retention', jsonb_build_object('symbol', plan.symbol,
    'trade_date', plan.trade_date, 'trades', plan.trades, 'bytes', plan.bytes));
  RETURN 'dropped';
END
$$;
COMMENT ON FUNCTION market.drop_trades(int4, date) IS 'Drops the trades of a session that market.retention_plan() lets go, and keeps its bars; says dropped, or why not: locked, kept, held back.';
