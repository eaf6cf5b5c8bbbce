-- Backfill: bars of trades that are there already, newest sessions first, in short transactions that hold up no reader.

CREATE FUNCTION market.rebuild_session(instrument int4, trade_date date, eligibility text DEFAULT NULL) RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE COST 100000 AS 'MODULE_PATHNAME', 'rebuild_session';
COMMENT ON FUNCTION market.rebuild_session(int4, date, text) IS 'Makes minute bars and session bars of a sealed session anew of its trades, under the calendar in force; with a table of eligibility (such as lean-us-equity) the trades'' flags first, of their raw conditions. Says rebuilt, locked (somebody is at work there), dropped (retention dropped its trades) or empty.';

CREATE TABLE market.backfills (
  id             int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  what           text NOT NULL,
  symbol         text,
  first_date     date,
  last_date      date,
  eligibility    text,
  pid            int4 NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
  by_user        text NOT NULL DEFAULT session_user,
  started_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at    timestamptz,
  total          int8,
  done           int8 NOT NULL DEFAULT 0,
  outcomes       jsonb NOT NULL DEFAULT '{}',
  at_instrument  int4,
  at_date        date,
  error          text
);
COMMENT ON TABLE market.backfills IS 'Every backfill and how far it came: market.backfill_progress shows it. One that was interrupted goes on where it was when it is called again.';
COMMENT ON COLUMN market.backfills.outcomes IS 'How many sessions ended how: rebuilt, sealed, locked (somebody was at work there), dropped, failed ...';
COMMENT ON COLUMN market.backfills.at_date IS 'The session done last; those of later dates are done.';
SELECT pg_catalog.pg_extension_config_dump('market.backfills', '');
SELECT pg_catalog.pg_extension_config_dump('market.backfills_id_seq', '');

CREATE VIEW market.backfill_progress WITH (security_invoker) AS
SELECT b.id, b.what, b.symbol, b.first_date, b.last_date, b.eligibility,
  CASE
    WHEN b.finished_at IS NOT NULL AND b.error IS NOT NULL THEN 'done with errors'
    WHEN b.finished_at IS NOT NULL THEN 'done'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = b.pid AND a.backend_start <= b.updated_at
      AND a.state IS DISTINCT FROM 'idle') THEN 'running'
    ELSE 'interrupted'
  END AS phase,
  b.total AS sessions_total, b.done AS sessions_done,
  CASE WHEN b.total > 0 THEN pg_catalog.round(100.0 * b.done / b.total, 1) END AS percent,
  (SELECT i.symbol FROM market.instruments AS i WHERE i.id = b.at_instrument) AS at_symbol, b.at_date, b.outcomes,
  b.started_at, b.updated_at, b.finished_at, b.pid, b.by_user, b.error
FROM market.backfills AS b ORDER BY b.id DESC;
COMMENT ON VIEW market.backfill_progress IS 'Backfills, the newest first: how many sessions of how many are done, where it is, whether it runs, was interrupted (call it again, it goes on) or is done.';

CREATE FUNCTION market.backfill_steps(what text, symbol text, first date, last date) RETURNS TABLE (instrument_id int4, trade_date date)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100 COST 100000 SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
    WITH asked AS (
      SELECT i.id, (SELECT max(c.version) FROM market.calendars AS c WHERE c.id = i.calendar) AS version FROM market.instruments AS i
      WHERE backfill_steps.symbol IS NULL OR i.id = market.instrument_id(backfill_steps.symbol)
    ), sealed AS (
      SELECT t.instrument_id, t.trade_date FROM market.trade_blocks AS t JOIN asked AS a ON a.id = t.instrument_id
      WHERE t.trade_date BETWEEN coalesce(first, '-infinity') AND coalesce(last, 'infinity')
      GROUP BY t.instrument_id, t.trade_date
    )
    SELECT s.instrument_id, s.trade_date FROM sealed AS s JOIN asked AS a ON a.id = s.instrument_id
    WHERE backfill_steps.what <> 'bars'
      OR NOT EXISTS (SELECT FROM market.session_bars AS b WHERE b.instrument_id = s.instrument_id AND b.trade_date = s.trade_date)
      OR NOT EXISTS (SELECT FROM market.bar_blocks AS m WHERE m.instrument_id = s.instrument_id AND m.trade_date = s.trade_date)
      OR EXISTS (SELECT FROM market.session_bars AS b WHERE b.instrument_id = s.instrument_id AND b.trade_date = s.trade_date
        AND (b.calendar_version < a.version OR b.first_known_at IS NULL OR b.differences > 0))
    UNION
    SELECT l.instrument_id, l.trade_date FROM market.live_sessions() AS l JOIN asked AS a ON a.id = l.instrument_id
    WHERE l.state = 'over' AND l.trade_date BETWEEN coalesce(first, '-infinity') AND coalesce(last, 'infinity')
    ORDER BY 2 DESC, 1 DESC;
END
$$;
COMMENT ON FUNCTION market.backfill_steps(text, text, date, date) IS 'The sessions that a backfill would do, newest first.';

CREATE FUNCTION market.begin_backfill(what text, symbol text, first date, last date, eligibility text, again boolean) RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found market.backfills;
  run int8;
BEGIN
  IF begin_backfill.what IS NULL OR begin_backfill.what NOT IN ('bars', 'all', 'flags') THEN
    RAISE EXCEPTION 'unknown backfill "%"', coalesce(begin_backfill.what, 'NULL')
      USING ERRCODE = '22023', HINT = 'use bars (sessions whose bars are missing or old), all, or flags with a table of eligibility';
  END IF;
  IF (begin_backfill.what = 'flags') <> (begin_backfill.eligibility IS NOT NULL) THEN
    RAISE EXCEPTION 'a backfill of flags, and no other, needs a table of eligibility'
      USING ERRCODE = '22023', HINT = 'say what => ''flags'', eligibility => ''lean-us-equity''';
  END IF;
  IF begin_backfill.symbol IS NOT NULL THEN
    -- raises for an unknown one
    PERFORM market.instrument_id(begin_backfill.symbol);
  END IF;
  PERFORM pg_advisory_xact_lock(hashtextextended('market.begin_backfill', 0));
  SELECT b.* INTO found FROM market.backfills AS b
  WHERE b.finished_at IS NULL AND b.what = begin_backfill.what AND b.symbol IS NOT DISTINCT FROM begin_backfill.symbol
    AND b.first_date IS NOT DISTINCT FROM begin_backfill.first AND b.last_date IS NOT DISTINCT FROM begin_backfill.last
    AND b.eligibility IS NOT DISTINCT FROM begin_backfill.eligibility
  ORDER BY b.id DESC LIMIT 1;
  IF found.id IS NOT NULL AND found.pid <> pg_backend_pid()
     AND EXISTS (SELECT FROM pg_stat_get_activity(found.pid) AS a WHERE a.pid = found.pid AND a.backend_start <= found.updated_at) THEN
    RAISE EXCEPTION 'this backfill runs already, in process %', found.pid
      USING ERRCODE = '55006', HINT = 'look at market.backfill_progress; pg_cancel_backend() stops it';
  END IF;
  IF found.id IS NOT NULL AND NOT coalesce(again, false) THEN
    UPDATE market.backfills AS b SET pid = pg_backend_pid(), updated_at = clock_timestamp() WHERE b.id = found.id;
    RETURN found.id;
  END IF;
  UPDATE market.backfills AS b SET finished_at = clock_timestamp(), error = 'begun again' WHERE b.id = found.id;
  INSERT INTO market.backfills (what, symbol, first_date, last_date, eligibility)
  VALUES (begin_backfill.what, begin_backfill.symbol, begin_backfill.first, begin_backfill.last, begin_backfill.eligibility)
  RETURNING id INTO run;
  RETURN run;
END
$$;
COMMENT ON FUNCTION market.begin_backfill(text, text, date, date, text, boolean) IS 'Writes down that a backfill begins, or takes up the same one that was interrupted.';

CREATE FUNCTION market.backfill_step(run int8, instrument int4, trade_date date) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
  job market.backfills;
  ending text;
  name text;
BEGIN
  SELECT b.* INTO job FROM market.backfills AS b WHERE b.id = run;
  SELECT i.symbol INTO name FROM market.instruments AS i WHERE i.id = instrument;
  IF name IS NULL OR NOT market.try_lock_session(instrument, trade_date) THEN
    ending := 'locked';
  ELSE
    IF market.live_rows(instrument, trade_date) > 0 THEN
      PERFORM market.seal(name, backfill_step.trade_date);
      ending := 'sealed';
    END IF;
    IF ending IS NULL OR job.what <> 'bars' THEN
      ending := market.rebuild_session(instrument, backfill_step.trade_date, job.eligibility);
    END IF;
  END IF;
  RETURN ending;
END
$$;
COMMENT ON FUNCTION market.backfill_step(int8, int4, date) IS 'Does one session of a backfill and says in a word how it went.';

CREATE FUNCTION market.note_backfill(run int8, total int8, instrument int4, trade_date date, ending text, error text, finished boolean) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  UPDATE market.backfills AS b SET updated_at = clock_timestamp(), pid = pg_backend_pid(),
    total = coalesce(b.done + note_backfill.total, b.total),
    done = b.done + CASE WHEN ending IS NULL THEN 0 ELSE 1 END,
    at_instrument = coalesce(instrument, b.at_instrument), at_date = coalesce(note_backfill.trade_date, b.at_date),
    outcomes = CASE WHEN ending IS NULL THEN b.outcomes
      ELSE b.outcomes || jsonb_build_object(ending, coalesce((b.outcomes ->> ending)::int8, 0) + 1) END,
    error = coalesce(b.error, note_backfill.error),
    finished_at = CASE WHEN finished THEN clock_timestamp() END
  WHERE b.id = run;
END;
COMMENT ON FUNCTION market.note_backfill(int8, int8, int4, date, text, text, boolean) IS 'Writes down how far a backfill came.';

CREATE PROCEDURE market.backfill(what text DEFAULT 'bars', symbol text DEFAULT NULL, first date DEFAULT NULL, last date DEFAULT NULL,
  eligibility text DEFAULT NULL, again boolean DEFAULT false, most int8 DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  run int8;
  at_date date;
  at_instrument int4;
  ids int4[];
  days date[];
  ending text;
  message text;
BEGIN
  IF most < 1 THEN
    RAISE EXCEPTION 'most is %', most USING ERRCODE = '22023', HINT = 'say how many sessions this call may do, or NULL for all';
  END IF;
  run := market.begin_backfill(what, symbol, first, last, eligibility, again);
  SELECT b.at_date, b.at_instrument INTO at_date, at_instrument FROM market.backfills AS b WHERE b.id = run;
  SELECT pg_catalog.array_agg(s.instrument_id ORDER BY s.trade_date DESC, s.instrument_id DESC),
    pg_catalog.array_agg(s.trade_date ORDER BY s.trade_date DESC, s.instrument_id DESC) INTO ids, days
  FROM market.backfill_steps(what, symbol, first, last) AS s
  WHERE at_date IS NULL OR (s.trade_date, s.instrument_id) < (at_date, at_instrument);
  PERFORM market.note_backfill(run, coalesce(pg_catalog.cardinality(ids), 0), NULL, NULL, NULL, NULL, false);
  COMMIT;
  FOR i IN 1 .. coalesce(pg_catalog.cardinality(ids), 0) LOOP
    -- the rest is for the next call
    IF i > most THEN
      RETURN;
    END IF;
    message := NULL;
    -- one session that fails stops no other; a cancel is not caught here and stops all
    BEGIN
      ending := market.backfill_step(run, ids[i], days[i]);
    EXCEPTION
      WHEN lock_not_available THEN
        ending := 'locked';
      WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
        ending := 'failed';
        message := pg_catalog.format('instrument %s on %s: %s', ids[i], days[i], message);
    END;
    PERFORM market.note_backfill(run, NULL, ids[i], days[i], ending, message, false);
    COMMIT;
  END LOOP;
  PERFORM market.note_backfill(run, NULL, NULL, NULL, NULL, NULL, true);
  COMMIT;
END
$$;
COMMENT ON PROCEDURE market.backfill(text, text, date, date, text, boolean, int8) IS
  'Makes bars of trades that are there already, newest sessions first: bars (sessions whose bars are missing, of an older calendar version, or differ; unsealed ones that are over are sealed), all, or flags (eligibility of the raw conditions by a table). Commits after each session, so not inside a transaction; can be cancelled, and goes on where it was when called again (again => true begins anew); most: so many sessions in this call. market.backfill_progress tells.';

DO $$
DECLARE f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['market.rebuild_session(int4, date, text)', 'market.backfill_steps(text, text, date, date)',
    'market.begin_backfill(text, text, date, date, text, boolean)', 'market.backfill_step(int8, int4, date)',
    'market.note_backfill(int8, int8, int4, date, text, text, boolean)',
    'market.backfill(text, text, date, date, text, boolean, int8)']::regprocedure[] LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
    EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO market_admin', f);
  END LOOP;
END
$$;
GRANT SELECT ON market.backfills, market.backfill_progress TO market_reader;
