-- The states of sessions, now or as they were known.

CREATE FUNCTION market.session_states(symbol text, first date, last date, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, state text, calendar_version int4, digest int8, sealed_at timestamptz, reason text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 100 COST 1000 AS 'MODULE_PATHNAME', 'session_states';
COMMENT ON FUNCTION market.session_states(text, date, date, timestamptz) IS
  'State of each session with trades, both dates included, now or as it was known: provisional (reason says why), final or revised(n); with the version of the calendar and the digest of the trades it was sealed with.';
