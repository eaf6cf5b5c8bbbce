#!/usr/bin/env bash
# What calendar questions cost inside PostgreSQL: bench/calendar.sh CONNECTION_URL [ROWS], as a superuser.
#
# CPU time of the backend as the kernel counts it (/proc/self/schedstat), least of nine runs, less what the same rows cost with a
# built-in function that does nothing (isfinite): what remains is ours. Instants are spread over the calendar's years, in order and
# shuffled. First uses are each in a backend of its own that has loaded the library with another calendar.
set -euo pipefail
url=${1:?usage: bench/calendar.sh CONNECTION_URL [ROWS]}
rows=${2:-1000000}
psql=${PSQL:-psql}
"$psql" -X -q -v ON_ERROR_STOP=1 -d "$url" -v rows="$rows" <<'SQL'
SET client_min_messages = notice;
SET jit = off;
SET max_parallel_workers_per_gather = 0;
SELECT set_config('bench.rows', :'rows', false) \g /dev/null
CREATE FUNCTION pg_temp.cpu() RETURNS int8 LANGUAGE sql VOLATILE AS
$$ SELECT split_part(pg_read_file('/proc/self/schedstat', 0, 60), ' ', 1)::int8 $$;
CREATE FUNCTION pg_temp.least(question text) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE before int8; best int8 := 9223372036854775807;
BEGIN
  FOR run IN 1..9 LOOP
    before := pg_temp.cpu();
    EXECUTE question;
    best := least(best, pg_temp.cpu() - before);
  END LOOP;
  RETURN best;
END $$;
DO $$
DECLARE
  asked int8 := current_setting('bench.rows');
  calendar text; form text; idle float8; cost float8; line text;
BEGIN
  FOREACH calendar IN ARRAY ARRAY['XNYS', 'CME_EQUITY', 'XSGE_GOLD', '24/7'] LOOP
    DROP TABLE IF EXISTS ordered, shuffled;
    EXECUTE format('CREATE TEMP TABLE ordered AS
      SELECT timestamptz (c.known_from + interval ''2 days'' + n * ((c.known_to - c.known_from - 4) * interval ''1 day'' / %s)) AS ts
      FROM market.calendars AS c, generate_series(0, %s - 1) AS n WHERE c.id = %L', asked, asked, calendar);
    CREATE TEMP TABLE shuffled AS SELECT ts FROM ordered ORDER BY hashint8((extract(epoch FROM ts) * 1000)::int8);
    ANALYZE ordered; ANALYZE shuffled;
    FOREACH form IN ARRAY ARRAY['ordered', 'shuffled'] LOOP
      idle := pg_temp.least(format('SELECT count(isfinite(ts)) FROM %s', form));
      line := format('%-11s %-9s executor %s ns,', calendar, form, round((idle / asked)::numeric, 1));
      cost := pg_temp.least(format('SELECT count(market.trade_date(ts, %L)) FROM %s', calendar, form));
      line := line || format(' trade_date %s,', round(((cost - idle) / asked)::numeric, 1));
      cost := pg_temp.least(format('SELECT count(market.segment(ts, %L)) FROM %s', calendar, form));
      line := line || format(' segment %s,', round(((cost - idle) / asked)::numeric, 1));
      cost := pg_temp.least(format('SELECT count(market.session_bucket(''5m'', ts, %L)) FROM %s', calendar, form));
      RAISE NOTICE '%', line || format(' session_bucket %s ns a call', round(((cost - idle) / asked)::numeric, 1));
    END LOOP;
  END LOOP;
END $$;
SQL
for calendar in XNYS CME_EQUITY CME_GRAINS XSGE_GOLD XHKG 24/7; do
  "$psql" -X -q -At -v ON_ERROR_STOP=1 -d "$url" -v calendar="$calendar" <<'SQL'
CREATE FUNCTION pg_temp.cpu() RETURNS int8 LANGUAGE sql VOLATILE AS
$$ SELECT split_part(pg_read_file('/proc/self/schedstat', 0, 60), ' ', 1)::int8 $$;
SELECT pg_temp.cpu() AS start \gset
SELECT market.trade_date(timestamptz '2024-03-01 15:00+00', 'FX') \g /dev/null
SELECT pg_temp.cpu() AS loaded \gset
SELECT pg_temp.cpu() AS before \gset
SELECT market.trade_date(timestamptz '2024-03-01 15:00+00', :'calendar') \g /dev/null
SELECT pg_temp.cpu() AS after \gset
SELECT pg_temp.cpu() AS idle \gset
SELECT format('first use %s %s ms (the library and FX before it: %s ms)', rpad(:'calendar', 11),
  round((:after - :before - (:idle - :after)) / 1e6, 2), round((:loaded - :start) / 1e6, 2));
SQL
done
