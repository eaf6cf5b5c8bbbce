-- Calendar questions. They are STABLE: a calendar may be published anew.

CREATE FUNCTION market.calendars_known()
RETURNS TABLE (id text, name text, time_zone text, main_segments text, known_from date, known_to date, version int4, source text)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 60 COST 1000 AS 'MODULE_PATHNAME', 'calendars';
COMMENT ON FUNCTION market.calendars_known() IS 'The calendars in force: the user''s published ones over those that come with the library; ask market.calendars.';

CREATE VIEW market.calendars WITH (security_invoker) AS
SELECT id, name, time_zone, main_segments, known_from, known_to, version, source
FROM market.calendars_known();
COMMENT ON VIEW market.calendars IS 'Every calendar in force: its zone, default segments and the dates it vouches for. Beyond those, questions raise 22008. Old versions answer to ID@VERSION.';

CREATE FUNCTION market.sessions(calendar text, first date, last date, segments text DEFAULT 'ETH', hours text DEFAULT 'scheduled')
RETURNS TABLE (trade_date date, clearing_date date, segment text, opens_at timestamptz, closes_at timestamptz, irregular boolean, note text)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'sessions';
COMMENT ON FUNCTION market.sessions(text, date, date, text, text) IS 'The spans of the sessions of a calendar between two trade dates, both included, in time order. irregular: opens late or closes early. hours: scheduled, or actual: without what outages and halts of the whole market took away.';

CREATE FUNCTION market.session_of(ts timestamptz, calendar text)
RETURNS TABLE (trade_date date, segment text, opens_at timestamptz, closes_at timestamptz)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 1 COST 100 AS 'MODULE_PATHNAME', 'session_of';
COMMENT ON FUNCTION market.session_of(timestamptz, text) IS 'The span that holds an instant, or the OFF stretch between spans, with its trade date.';

CREATE FUNCTION market.trade_date(ts timestamptz, calendar text) RETURNS date
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'trade_date';
COMMENT ON FUNCTION market.trade_date(timestamptz, text) IS 'The trade date an instant belongs to; Sunday 17:00 Chicago is Monday''s. OFF instants go to the session before until its roll, then to the next.';

CREATE FUNCTION market.segment(ts timestamptz, calendar text) RETURNS text
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'segment';
COMMENT ON FUNCTION market.segment(timestamptz, text) IS 'ON, PRE, RTH, POST or OFF, by the clock.';

CREATE FUNCTION market.is_open(ts timestamptz, calendar text, segments text DEFAULT NULL) RETURNS boolean
LANGUAGE c STABLE PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'is_open';
COMMENT ON FUNCTION market.is_open(timestamptz, text, text) IS 'Whether the segments (the calendar''s main ones by default) trade at an instant.';

CREATE FUNCTION market.is_session(day date, calendar text) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'is_session';
COMMENT ON FUNCTION market.is_session(date, text) IS 'Whether a date is a trade date.';

CREATE FUNCTION market.next_session(day date, calendar text, n int4 DEFAULT 1) RETURNS date
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 20 AS 'MODULE_PATHNAME', 'next_session';
COMMENT ON FUNCTION market.next_session(date, text, int4) IS 'The trade date n sessions after a date, before it for negative n; n = 0 is the date itself or the next session.';

CREATE FUNCTION market.next_open(ts timestamptz, calendar text, segments text DEFAULT NULL) RETURNS timestamptz
LANGUAGE c STABLE PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'next_open';
COMMENT ON FUNCTION market.next_open(timestamptz, text, text) IS 'The first instant after ts at which trading of the segments begins; the end of a lunch break counts.';

CREATE FUNCTION market.next_close(ts timestamptz, calendar text, segments text DEFAULT NULL) RETURNS timestamptz
LANGUAGE c STABLE PARALLEL SAFE COST 50 AS 'MODULE_PATHNAME', 'next_close';
COMMENT ON FUNCTION market.next_close(timestamptz, text, text) IS 'The first instant after ts at which trading of the segments ends.';

CREATE FUNCTION market.session_bucket(timeframe text, ts timestamptz, calendar text, segments text DEFAULT NULL) RETURNS timestamptz
LANGUAGE c STABLE PARALLEL SAFE COST 5 AS 'MODULE_PATHNAME', 'session_bucket';
COMMENT ON FUNCTION market.session_bucket(text, timestamptz, text, text) IS 'The open of the bar an instant belongs to, NULL outside the segments. The grid is anchored at the open of each run of trading.';
