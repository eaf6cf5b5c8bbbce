-- The halts of a session: what an archive keeps of them, and by which it is noticed that they changed.
--
-- A session has the halts since the end of the instrument's session before it, so that days on which nothing could be traded have
-- theirs in the next session that is stored.

CREATE FUNCTION market.instrument_halts(instrument int4)
RETURNS TABLE (calendar text, trade_date date, whole_market boolean, kind text, from_ts timestamptz, till_ts timestamptz, note text, source text,
  first_date date, last_date date)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 10 COST 1000 AS 'MODULE_PATHNAME', 'instrument_halts';
COMMENT ON FUNCTION market.instrument_halts(int4) IS
  'The halts and outages noted in market.calendar_exceptions of an instrument and of its whole market, with the trade dates they begin and end on (infinity while one lasts).';

CREATE FUNCTION market.session_halts(instrument int4, trade_date date)
RETURNS TABLE (calendar text, trade_date date, whole_market boolean, kind text, from_ts timestamptz, till_ts timestamptz, note text, source text)
LANGUAGE sql STABLE STRICT PARALLEL SAFE ROWS 10 COST 1100
BEGIN ATOMIC
  SELECT h.calendar, h.trade_date, h.whole_market, h.kind, h.from_ts, h.till_ts, h.note, h.source
  FROM market.instrument_halts(session_halts.instrument) AS h
  WHERE h.first_date <= session_halts.trade_date
    AND h.last_date > coalesce((SELECT max(b.trade_date) FROM market.session_bars AS b
      WHERE b.instrument_id = session_halts.instrument AND b.trade_date < session_halts.trade_date), '-infinity')
  ORDER BY h.from_ts, h.till_ts, h.whole_market, h.kind, h.note, h.calendar;
END;
COMMENT ON FUNCTION market.session_halts(int4, date) IS
  'The halts and outages that fall on a session of an instrument, or between it and the sealed one before it: those an archive keeps with the session.';

CREATE FUNCTION market.halts_digest(instrument int4, trade_date date) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE COST 1200
BEGIN ATOMIC
  SELECT coalesce(md5(string_agg(jsonb_build_array(h.calendar, h.trade_date - date '2000-01-01', h.whole_market, h.kind,
      extract(epoch FROM h.from_ts)::text, extract(epoch FROM h.till_ts)::text, h.note, h.source)::text, ' ')), '')
  FROM market.session_halts(halts_digest.instrument, halts_digest.trade_date) AS h;
END;
COMMENT ON FUNCTION market.halts_digest(int4, date) IS
  'A digest of market.session_halts(), empty where there are none: what market.archived_sessions has of those that were archived.';
