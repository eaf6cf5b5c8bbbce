-- Calendars as data: define, compare, preview, publish.

CREATE FUNCTION market.calendar_toml(calendar text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'calendar_toml';
COMMENT ON FUNCTION market.calendar_toml(text) IS 'The file of a calendar, to be changed and given to market.calendar_define(): XNYS, an old version XNYS@1, XNYS@draft, or XNYS@shipped: as the library has it. Without the rows of market.calendar_exceptions, which are added when it is published.';

CREATE FUNCTION market.calendar_define(toml text, note text DEFAULT NULL, OUT calendar text, OUT version int4)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'calendar_define';
COMMENT ON FUNCTION market.calendar_define(text, text) IS 'Stores a calendar file as the draft of the next version of its id, in place of an earlier draft; 22023 with the line of a mistake. Nothing changes until market.calendar_publish().';

CREATE FUNCTION market.calendar_except(calendar text, trade_date date, toml text, note text DEFAULT NULL) RETURNS int4
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'calendar_except';
COMMENT ON FUNCTION market.calendar_except(text, date, text, text) IS 'Corrects one day of a calendar: closed = true, open_day = true, or hours such as RTH = "09:30-13:00"; NULL takes a correction back. Returns the version the next market.calendar_publish() will make.';

CREATE FUNCTION market.calendar_diff(a text, b text)
RETURNS TABLE (trade_date date, change text, old_spans text, new_spans text)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 100 COST 10000 AS 'MODULE_PATHNAME', 'calendar_diff';
COMMENT ON FUNCTION market.calendar_diff(text, text) IS 'Sessions that differ between two calendars or versions (XNYS, XNYS@1, XNYS@draft, XNYS@shipped): appeared, vanished, moved (other hours) or rewindowed (only trades outside the hours change their trade date). Spans are on each calendar''s wall clock.';

CREATE FUNCTION market.calendar_preview(calendar text)
RETURNS TABLE (symbol text, trade_date date, change text, trades int8, leaving int8, arriving int8)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 100 COST 100000 AS 'MODULE_PATHNAME', 'calendar_preview';
COMMENT ON FUNCTION market.calendar_preview(text) IS 'The sealed sessions that market.calendar_publish() would build anew: how many trades each has, how many of them would go to other sessions, how many would come. Changes nothing.';

CREATE FUNCTION market.calendar_publish(calendar text, note text DEFAULT NULL,
  OUT version int4, OUT sessions_changed int4, OUT sessions_rebuilt int8, OUT trades_moved int8)
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'calendar_publish';
COMMENT ON FUNCTION market.calendar_publish(text, text) IS 'Puts the draft of a calendar in force, with its exceptions: in one transaction the trades of changed sessions get their new trade dates, and exactly those sessions are built anew. Writers of the calendar''s instruments wait. READ COMMITTED only.';

CREATE FUNCTION market.callers_instrument(symbol text, at date) RETURNS int4
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 100 AS 'MODULE_PATHNAME', 'callers_instrument';
COMMENT ON FUNCTION market.callers_instrument(text, date) IS 'As market.instrument_id(), inside a SECURITY DEFINER function too as the role sees it that called from outside.';

CREATE FUNCTION market.note_halt(symbol text, from_ts timestamptz, till_ts timestamptz DEFAULT NULL, note text DEFAULT NULL, source text DEFAULT 'feed') RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- the owner sees what row-level security hides from the caller
  asked int4 := market.callers_instrument(note_halt.symbol, note_halt.from_ts::date);
  instrument market.instruments;
  found int8;
BEGIN
  SELECT * INTO STRICT instrument FROM market.instruments AS i WHERE i.id = asked;
  UPDATE market.calendar_exceptions AS e SET till_ts = note_halt.till_ts, note = coalesce(note_halt.note, e.note)
  WHERE e.kind = 'halt' AND e.calendar = instrument.calendar AND e.instrument_id = instrument.id AND e.from_ts = note_halt.from_ts
  RETURNING e.id INTO found;
  IF found IS NULL THEN
    INSERT INTO market.calendar_exceptions (calendar, trade_date, kind, instrument_id, from_ts, till_ts, note, source, created_by)
    VALUES (instrument.calendar, market.trade_date(note_halt.from_ts, instrument.calendar), 'halt', instrument.id,
            note_halt.from_ts, note_halt.till_ts, note_halt.note, note_halt.source, session_user)
    RETURNING id INTO found;
  END IF;
  RETURN found;
END
$$;
COMMENT ON FUNCTION market.note_halt(text, timestamptz, timestamptz, text, text) IS 'Records that trading of an instrument halted; called again with the same begin, it says when the halt ended. The schedule and the bars'' grid stay.';

DO $$
DECLARE f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['market.calendar_define(text, text)', 'market.calendar_except(text, date, text, text)',
    'market.calendar_publish(text, text)', 'market.calendar_preview(text)']::regprocedure[] LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO market_admin', f);
  END LOOP;
END
$$;
REVOKE ALL ON FUNCTION market.note_halt(text, timestamptz, timestamptz, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION market.note_halt(text, timestamptz, timestamptz, text, text) TO market_writer;
