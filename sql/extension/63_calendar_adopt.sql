-- A library may ship other sessions than those that are in force: what was in force stays until somebody adopts them.

CREATE FUNCTION market.calendar_adopt(calendar text, note text DEFAULT NULL) RETURNS int4
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  shipped text := market.calendar_toml(calendar_adopt.calendar || '@shipped');
  draft record;
BEGIN
  SELECT * INTO STRICT draft FROM market.calendar_define(shipped, coalesce(note, 'as the library ships it'));
  IF NOT EXISTS (SELECT FROM market.calendar_versions AS v WHERE v.calendar = draft.calendar AND v.state = 'published') THEN
    RAISE EXCEPTION 'calendar % is in force as the library ships it', draft.calendar
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'market.calendar_updates shows the calendars with something to adopt';
  END IF;
  RETURN draft.version;
END
$$;
COMMENT ON FUNCTION market.calendar_adopt(text, text) IS 'Makes the file of the library the draft of a calendar, in place of an earlier draft, and returns its version; market.calendar_preview() shows what market.calendar_publish() will then change. Corrections of single days stay.';
REVOKE ALL ON FUNCTION market.calendar_adopt(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION market.calendar_adopt(text, text) TO market_admin;

CREATE FUNCTION market.shipped_calendars() RETURNS TABLE (id text, version int4)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 120 COST 1000 AS 'MODULE_PATHNAME', 'shipped_calendars';
COMMENT ON FUNCTION market.shipped_calendars() IS 'The calendars that come with the library and the version in each file; what is in force is in market.calendars.';

CREATE VIEW market.calendar_updates WITH (security_invoker) AS
SELECT v.calendar, v.version AS in_force, s.version AS shipped, d.sessions, d.first_date, d.last_date
FROM (SELECT DISTINCT ON (calendar) calendar, version, toml FROM market.calendar_versions WHERE state = 'published'
      ORDER BY calendar, version DESC) AS v
JOIN market.shipped_calendars() AS s ON s.id = v.calendar
  AND s.version > coalesce(pg_catalog.substring(v.toml, '(?n)^version\s*=\s*(\d{1,9})')::int4, 1),
LATERAL (SELECT count(*) AS sessions, min(trade_date) AS first_date, max(trade_date) AS last_date
         FROM market.calendar_diff(v.calendar, v.calendar || '@shipped')) AS d;
COMMENT ON VIEW market.calendar_updates IS 'Calendars of which the library ships a newer file than the one in force: how many sessions differ, and from when to when. market.calendar_adopt() takes one over.';
COMMENT ON COLUMN market.calendar_updates.in_force IS 'The version in force.';
COMMENT ON COLUMN market.calendar_updates.shipped IS 'The version number in the library''s file; ask for it as ID@shipped.';
COMMENT ON COLUMN market.calendar_updates.sessions IS 'Sessions that differ between the two; corrections of single days count too.';
GRANT SELECT ON market.calendar_updates TO market_reader;
