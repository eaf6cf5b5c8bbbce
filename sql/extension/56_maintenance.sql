-- Maintenance: what a session's life asks for, in steps that are short transactions. market.maintain() commits after each;
-- the background worker calls it, and so can cron.

CREATE FUNCTION market.live_sessions()
RETURNS TABLE (instrument_id int4, trade_date date, trades int8, marks int8, first_ts timestamptz, last_ts timestamptz,
  ends_at timestamptz, slot_age int4, state text)
LANGUAGE c STABLE STRICT PARALLEL UNSAFE ROWS 100 COST 100000 AS 'MODULE_PATHNAME', 'live_sessions';
COMMENT ON FUNCTION market.live_sessions() IS 'Sessions with live rows now: how many, since when, and whether the session runs, is over, or cannot be sealed (projected: beyond the calendar''s known range; no instrument). slot_age: hours since its oldest row came, modulo 24.';

CREATE FUNCTION market.live_rows(instrument int4, trade_date date) RETURNS int8
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000 AS 'MODULE_PATHNAME', 'live_rows';
COMMENT ON FUNCTION market.live_rows(int4, date) IS 'Live rows of a session, as they are now.';

CREATE FUNCTION market.try_lock_session(instrument int4, trade_date date) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'try_lock_session_sql';
COMMENT ON FUNCTION market.try_lock_session(int4, date) IS 'Takes the session''s lock, which sealing and correcting hold, to the end of the transaction; false at once if somebody has it.';

CREATE FUNCTION market.all_dead(relation regclass) RETURNS boolean
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE COST 10000 AS 'MODULE_PATHNAME', 'all_dead';
COMMENT ON FUNCTION market.all_dead(regclass) IS 'Whether no row of a table is visible to any snapshot, not even to the oldest one still open: only then may a partition be truncated or dropped.';

-- Policies.

CREATE FUNCTION market.set_policy(action text, relation text DEFAULT 'trades', keep_sessions int4 DEFAULT NULL, symbol text DEFAULT NULL,
  calendar text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS int4
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  known text[] := CASE set_policy.action WHEN 'retention' THEN '{archived}' WHEN 'verify' THEN '{again}'
                    WHEN 'seal' THEN '{quiet,late_rows,part_rows}' WHEN 'partitions' THEN '{hash}' END;
  wrong text;
  id int4;
BEGIN
  IF known IS NULL THEN
    RAISE EXCEPTION 'unknown policy "%"', set_policy.action USING ERRCODE = '22023', HINT = 'use retention, seal, verify or partitions';
  END IF;
  IF set_policy.relation IS DISTINCT FROM 'trades' AND NOT (set_policy.relation = 'minute_bars' AND set_policy.action IN ('retention', 'partitions')) THEN
    RAISE EXCEPTION 'no % policy for "%"', set_policy.action, coalesce(set_policy.relation, 'NULL')
      USING ERRCODE = '22023', HINT = 'retention and partitions are for trades or minute_bars, the others for trades; session bars are kept for ever';
  END IF;
  IF set_policy.action = 'partitions' THEN
    IF set_policy.symbol IS NOT NULL OR set_policy.calendar IS NOT NULL OR keep_sessions IS NOT NULL THEN
      RAISE EXCEPTION 'a partitions policy is for all instruments' USING ERRCODE = '22023', HINT = 'say options => ''{"hash": 8}''';
    END IF;
    IF NOT coalesce((options ->> 'hash')::int4, 0) BETWEEN 1 AND 64 THEN
      RAISE EXCEPTION 'hash is %', coalesce(options ->> 'hash', 'NULL') USING ERRCODE = '22023', HINT = 'use 1 (no parts by instrument) to 64';
    END IF;
  END IF;
  IF set_policy.action = 'retention' AND coalesce(keep_sessions, 0) < 1 THEN
    RAISE EXCEPTION 'retention of % sessions', coalesce(keep_sessions::text, 'NULL')
      USING ERRCODE = '22023', HINT = 'say keep_sessions => 30, or take the policy away with market.drop_policy()';
  END IF;
  IF keep_sessions < 1 THEN
    RAISE EXCEPTION 'keep_sessions is %', keep_sessions USING ERRCODE = '22023', HINT = 'use 1 or more';
  END IF;
  SELECT key INTO wrong FROM jsonb_object_keys(options) AS key WHERE NOT key = ANY (known) LIMIT 1;
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION 'unknown option "%" of a % policy', wrong, set_policy.action
      USING ERRCODE = '22023', HINT = 'its options are ' || array_to_string(known, ', ');
  END IF;
  IF set_policy.symbol IS NOT NULL AND set_policy.calendar IS NOT NULL THEN
    RAISE EXCEPTION 'a policy is for a symbol or for a calendar' USING ERRCODE = '22023', HINT = 'name one of them, or none for all';
  END IF;
  IF set_policy.symbol IS NOT NULL THEN
    -- the name the instrument has itself; raises for an unknown one
    SELECT i.symbol INTO STRICT set_policy.symbol FROM market.instruments AS i WHERE i.id = market.instrument_id(set_policy.symbol);
  ELSIF set_policy.calendar IS NOT NULL THEN
    PERFORM market.next_session(current_date, set_policy.calendar, 0);
  END IF;
  -- read once now, so that a bad value is refused here and not by the worker at night
  PERFORM (options ->> 'quiet')::interval, (options ->> 'again')::interval, (options ->> 'late_rows')::int8,
    (options ->> 'part_rows')::int8, (options ->> 'archived')::boolean;
  INSERT INTO market.policies AS p (action, relation, keep_sessions, symbol, calendar, options)
  VALUES (set_policy.action, set_policy.relation, set_policy.keep_sessions, set_policy.symbol, set_policy.calendar, set_policy.options)
  ON CONFLICT (action, relation, (coalesce(calendar, '')), (coalesce(symbol, '')))
  DO UPDATE SET keep_sessions = excluded.keep_sessions, options = excluded.options, created_at = now(), created_by = session_user
  RETURNING p.id INTO id;
  RETURN id;
END
$$;
COMMENT ON FUNCTION market.set_policy(text, text, int4, text, text, jsonb) IS
  'Says what maintenance shall do, for a symbol, a calendar or (neither named) all; the narrower policy wins. retention: keep so many sessions before the running one (options: archived true drops only what is archived). Retention of minute_bars lets them go after their trades; session bars stay. verify: make bars of sealed sessions again, options: again (7 days). seal: options quiet (1 minute without a late row before a session is sealed again), late_rows (10000: no longer wait), part_rows (16384: seal a part of the running session). partitions: options hash (so many parts by instrument below each new month of trades or year of minute_bars).';

CREATE FUNCTION market.drop_policy(action text, relation text DEFAULT 'trades', symbol text DEFAULT NULL, calendar text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM market.policies AS p WHERE p.action = drop_policy.action AND p.relation = drop_policy.relation
    AND p.symbol IS NOT DISTINCT FROM drop_policy.symbol AND p.calendar IS NOT DISTINCT FROM drop_policy.calendar;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION market.drop_policy(text, text, text, text) IS 'Takes a policy away; false if there was none.';

CREATE FUNCTION market.policy_of(instrument int4, action text, relation text DEFAULT 'trades') RETURNS SETOF market.policies
LANGUAGE sql STABLE ROWS 1
BEGIN ATOMIC
  SELECT p.* FROM market.policies AS p JOIN market.instruments AS i ON i.id = policy_of.instrument
  WHERE p.action = policy_of.action AND p.relation = policy_of.relation
    AND (p.symbol IS NULL OR p.symbol = i.symbol) AND (p.calendar IS NULL OR p.calendar = i.calendar)
  ORDER BY p.symbol IS NULL, p.calendar IS NULL LIMIT 1;
END;
COMMENT ON FUNCTION market.policy_of(int4, text, text) IS 'The policy that holds for an instrument: of its symbol, else of its calendar, else of all.';

-- Jobs and their steps.

CREATE FUNCTION market.maintenance_jobs() RETURNS TABLE (place int4, job text, every interval, what text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 6
BEGIN ATOMIC
  VALUES (1, 'seal', interval '1 minute', 'seals sessions that are over, late rows and corrections, and long tails of running sessions'),
    (2, 'verify', interval '10 minutes', 'makes the bars of sealed sessions again and compares'),
    (3, 'retention', interval '1 hour', 'drops the trades and minute bars that policies let go'),
    (4, 'slots', interval '10 minutes', 'moves stragglers of live_trades and truncates emptied slots'),
    (5, 'partitions', interval '1 hour', 'makes the partitions of the coming months and drops emptied old ones'),
    (6, 'history', interval '1 day', 'forgets old runs');
END;
COMMENT ON FUNCTION market.maintenance_jobs() IS 'The jobs of maintenance in their order, and how often the worker runs each unless market.jobs says otherwise.';

CREATE TYPE market.maintenance_step AS (instrument_id int4, trade_date date, relation text);
COMMENT ON TYPE market.maintenance_step IS 'One step of a maintenance job: a session, a month (trade_date alone), or a relation.';

CREATE FUNCTION market.note_unsealed() RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
  -- two at once would only do the same
  IF NOT pg_try_advisory_xact_lock(hashtextextended('market.note_unsealed', 0)) THEN
    RETURN;
  END IF;
  INSERT INTO market.unsealed_sessions AS u
    (instrument_id, trade_date, trades, marks, first_ts, last_ts, ends_at, slot_age, state, changed_at, seen_at)
  SELECT instrument_id, trade_date, trades, marks, first_ts, last_ts, ends_at, slot_age, state, clock_timestamp(), now()
  FROM market.live_sessions()
  ON CONFLICT (instrument_id, trade_date) DO UPDATE SET
    trades = excluded.trades, marks = excluded.marks, first_ts = excluded.first_ts, last_ts = excluded.last_ts,
    ends_at = excluded.ends_at, slot_age = excluded.slot_age, state = excluded.state, seen_at = excluded.seen_at,
    changed_at = CASE WHEN (u.trades, u.marks, u.first_ts, u.last_ts) IS DISTINCT FROM
      (excluded.trades, excluded.marks, excluded.first_ts, excluded.last_ts) THEN excluded.changed_at ELSE u.changed_at END;
  DELETE FROM market.unsealed_sessions WHERE seen_at < now();
END
$$;
COMMENT ON FUNCTION market.note_unsealed() IS 'Brings market.unsealed_sessions up to date: the first thing the job seal does.';

CREATE FUNCTION market.maintenance_steps(job text) RETURNS SETOF market.maintenance_step
LANGUAGE plpgsql VOLATILE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
BEGIN
  CASE job
  WHEN 'seal' THEN
    PERFORM market.note_unsealed();
    RETURN QUERY
      SELECT u.instrument_id, u.trade_date, NULL::text FROM market.unsealed_sessions AS u
      LEFT JOIN LATERAL market.policy_of(u.instrument_id, 'seal') AS p ON true
      CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM market.session_bars AS b WHERE b.instrument_id = u.instrument_id
        AND b.trade_date = u.trade_date AND b.state <> 'provisional') AS sealed) AS s
      WHERE CASE u.state
        WHEN 'over' THEN NOT s.sealed
          OR clock_timestamp() - u.changed_at >= coalesce((p.options ->> 'quiet')::interval, interval '1 minute')
          OR u.trades + u.marks >= coalesce((p.options ->> 'late_rows')::int8, 10000)
        -- rows of an old slot are sealed before the ring comes round
        WHEN 'running' THEN u.trades + u.marks >= coalesce((p.options ->> 'part_rows')::int8, 16384) OR u.slot_age >= 4
        ELSE false END
      ORDER BY s.sealed, u.ends_at DESC, u.instrument_id;
    -- sealed while it ran, and nothing came since; or held back by a gap that may be closed now
    RETURN QUERY
      SELECT b.instrument_id, b.trade_date, NULL::text FROM market.session_bars AS b
      WHERE b.state = 'provisional' AND NOT EXISTS (SELECT FROM market.unsealed_sessions AS u
        WHERE u.instrument_id = b.instrument_id AND u.trade_date = b.trade_date)
      GROUP BY b.instrument_id, b.trade_date HAVING max(b.closes_at) FILTER (WHERE b.segment <> 'OFF') < now() OR bool_and(b.segment = 'OFF');
  WHEN 'verify' THEN
    RETURN QUERY
      SELECT b.instrument_id, b.trade_date, NULL::text FROM market.session_bars AS b
      WHERE b.verified_at IS NULL AND b.state <> 'provisional'
      GROUP BY b.instrument_id, b.trade_date ORDER BY b.trade_date DESC, b.instrument_id LIMIT 1000;
    RETURN QUERY
      SELECT b.instrument_id, b.trade_date, NULL::text FROM market.instruments AS i
      CROSS JOIN LATERAL market.policy_of(i.id, 'verify') AS p
      JOIN market.session_bars AS b ON b.instrument_id = i.id
        AND (p.keep_sessions IS NULL OR b.trade_date >= market.retention_cutoff(i.calendar, p.keep_sessions))
        AND b.verified_at < now() - coalesce((p.options ->> 'again')::interval, interval '7 days')
      GROUP BY b.instrument_id, b.trade_date ORDER BY min(b.verified_at) LIMIT 1000;
  WHEN 'retention' THEN
    RETURN QUERY
      WITH plan AS MATERIALIZED (SELECT i.id, r.* FROM market.retention_plan() AS r JOIN market.instruments AS i ON i.symbol = r.symbol)
      SELECT r.id, r.trade_date, r.relation FROM plan AS r
      -- minute bars that wait for their trades alone go in the run that lets those go
      WHERE r.held_back IS NULL OR (r.held_back = 'its trades are still here' AND EXISTS (SELECT FROM plan AS t
        WHERE t.id = r.id AND t.trade_date = r.trade_date AND t.relation = 'trades' AND t.held_back IS NULL))
      ORDER BY r.trade_date, r.id, r.relation DESC;
  WHEN 'slots' THEN
    PERFORM market.note_unsealed();
    RETURN QUERY
      SELECT u.instrument_id, u.trade_date, 'live_trades'::text FROM market.unsealed_sessions AS u
      WHERE u.slot_age >= 6 AND u.state <> 'running' ORDER BY u.instrument_id, u.trade_date;
    RETURN QUERY
      SELECT NULL::int4, NULL::date, c.relname::text FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
      WHERE h.inhparent = 'market.live_trades'::regclass AND pg_relation_size(c.oid) > 0
        AND c.relname <> format('live_trades_%s', market.current_slot()) AND market.all_dead(c.oid);
  WHEN 'partitions' THEN
    -- after a restore of data alone, or where the first instrument came while others worked; at the next run if they still do
    IF EXISTS (SELECT FROM market.instruments) THEN
      BEGIN
        PERFORM market.secure_tables();
      EXCEPTION WHEN lock_not_available THEN
        NULL;
      END;
    END IF;
    RETURN QUERY
      SELECT NULL::int4, m::date, NULL::text FROM market.partition_plan() AS p, LATERAL (SELECT p.from_date AS m) AS x
      WHERE p.action = 'make' GROUP BY m;
    RETURN QUERY
      SELECT NULL::int4, NULL::date, p.partition FROM market.partition_plan() AS p WHERE p.action = 'drop';
  WHEN 'history' THEN
    RETURN NEXT ROW(NULL, NULL, 'job_runs')::market.maintenance_step;
  ELSE
    RAISE EXCEPTION 'unknown job "%"', job USING ERRCODE = '22023',
      HINT = (SELECT 'the jobs are ' || string_agg(j.job, ', ' ORDER BY j.place) FROM market.maintenance_jobs() AS j);
  END CASE;
END
$$;
COMMENT ON FUNCTION market.maintenance_steps(text) IS 'What a job has to do now, step by step; market.maintain() does it.';

CREATE FUNCTION market.run_step(job text, step market.maintenance_step) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
  n int8;
  name text;
  found_differences text;
BEGIN
  IF (step).instrument_id IS NOT NULL THEN
    IF NOT EXISTS (SELECT FROM market.instruments WHERE id = (step).instrument_id)
       OR NOT market.try_lock_session((step).instrument_id, (step).trade_date) THEN
      RETURN 'locked';
    END IF;
    SELECT symbol INTO name FROM market.instruments WHERE id = (step).instrument_id;
  END IF;
  CASE job
  WHEN 'seal' THEN
    n := market.seal(name, (step).trade_date);
    DELETE FROM market.unsealed_sessions AS u WHERE u.instrument_id = (step).instrument_id AND u.trade_date = (step).trade_date;
    IF n = 0 AND EXISTS (SELECT FROM market.session_bars AS b WHERE b.instrument_id = (step).instrument_id
        AND b.trade_date = (step).trade_date AND b.state = 'provisional') THEN
      RETURN 'still provisional';
    END IF;
    RETURN 'sealed';
  WHEN 'verify' THEN
    SELECT count(*), min(format('%s: stored is %s, its trades say %s', v.what, v.found, v.expected)) INTO n, found_differences
      FROM market.verify_bars(name, (step).trade_date, (step).trade_date) AS v;
    UPDATE market.session_bars SET verified_at = clock_timestamp(), differences = n
      WHERE instrument_id = (step).instrument_id AND trade_date = (step).trade_date;
    IF n = 0 THEN
      RETURN 'verified';
    END IF;
    INSERT INTO market.audit_log (action, detail) VALUES ('verify',
      jsonb_build_object('symbol', name, 'trade_date', (step).trade_date, 'differences', n, 'first', found_differences));
    RETURN 'differs';
  WHEN 'retention' THEN
    RETURN CASE (step).relation WHEN 'minute_bars' THEN market.drop_minute_bars((step).instrument_id, (step).trade_date)
      ELSE market.drop_trades((step).instrument_id, (step).trade_date) END;
  WHEN 'slots' THEN
    IF (step).instrument_id IS NULL THEN
      RETURN CASE WHEN market.truncate_slot((step).relation) THEN 'truncated' ELSE 'still seen' END;
    END IF;
    -- under the session's lock: a row on its way to another slot fails who deletes it
    UPDATE market.live_trades AS l SET slot = market.current_slot() FROM market.unsealed_sessions AS u
      WHERE u.instrument_id = (step).instrument_id AND u.trade_date = (step).trade_date
        AND l.instrument_id = u.instrument_id AND l.ts BETWEEN u.first_ts AND u.last_ts
        AND ((market.current_slot() - l.slot + 24) % 24) >= 6;
    RETURN 'moved';
  WHEN 'partitions' THEN
    IF (step).relation IS NULL THEN
      PERFORM market.ensure_partitions((step).trade_date);
      RETURN 'made';
    END IF;
    RETURN CASE WHEN market.drop_partition((step).relation) THEN 'dropped' ELSE 'still seen' END;
  WHEN 'history' THEN
    DELETE FROM market.job_runs WHERE started_at < now() - interval '30 days'
      OR (detail = '{}' AND outcome = 'done' AND started_at < now() - interval '1 day');
    RETURN 'done';
  END CASE;
END
$$;
COMMENT ON FUNCTION market.run_step(text, market.maintenance_step) IS 'Does one step of a job and says in a word how it went; locked: somebody else is at work there.';

CREATE FUNCTION market.truncate_slot(slot text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
      WHERE h.inhparent = 'market.live_trades'::regclass AND c.relname = truncate_slot.slot) THEN
    RAISE EXCEPTION '"%" is no slot of market.live_trades', truncate_slot.slot
      USING ERRCODE = '22023', HINT = 'see market.partition_status';
  END IF;
  -- first without a lock that anybody notices
  IF NOT market.all_dead(format('market.%I', slot)::regclass) THEN
    RETURN false;
  END IF;
  EXECUTE format('LOCK TABLE ONLY market.%I IN ACCESS EXCLUSIVE MODE', slot);
  -- nobody writes now, so this answer holds until the commit
  IF NOT market.all_dead(format('market.%I', slot)::regclass) THEN
    RETURN false;
  END IF;
  EXECUTE format('TRUNCATE ONLY market.%I', slot);
  RETURN true;
END
$$;
COMMENT ON FUNCTION market.truncate_slot(text) IS 'Truncates an emptied slot of live_trades if no snapshot, however old, sees a row of it.';

CREATE FUNCTION market.partition_dead(partition text) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NOT EXISTS (SELECT FROM pg_partition_tree(format('market.%I', partition)::regclass) AS t
    WHERE t.isleaf AND NOT market.all_dead(t.relid));
END
$$;
COMMENT ON FUNCTION market.partition_dead(text) IS 'As market.all_dead(), of a partition with all its parts.';

CREATE FUNCTION market.drop_partition(partition text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
  parent regclass;
BEGIN
  SELECT h.inhparent INTO parent FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
  WHERE h.inhparent IN ('market.trade_blocks'::regclass, 'market.bar_blocks'::regclass) AND c.relname = drop_partition.partition;
  IF parent IS NULL THEN
    RAISE EXCEPTION '"%" is no partition of market.trade_blocks or market.bar_blocks', drop_partition.partition
      USING ERRCODE = '22023', HINT = 'see market.partition_status';
  END IF;
  IF NOT market.partition_dead(partition) THEN
    RETURN false;
  END IF;
  EXECUTE format('LOCK TABLE ONLY %s, market.%I IN ACCESS EXCLUSIVE MODE', parent, partition);
  IF NOT market.partition_dead(partition) THEN
    RETURN false;
  END IF;
  EXECUTE format('DROP TABLE market.%I', partition);
  RETURN true;
END
$$;
COMMENT ON FUNCTION market.drop_partition(text) IS 'Drops an emptied month of trade_blocks or year of bar_blocks if no snapshot, however old, sees a row of it.';

CREATE FUNCTION market.begin_job(job text) RETURNS int8
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run int8;
BEGIN
  INSERT INTO market.jobs (name, every) SELECT j.job, j.every FROM market.maintenance_jobs() AS j WHERE j.job = begin_job.job
  ON CONFLICT (name) DO NOTHING;
  UPDATE market.job_runs AS r SET finished_at = clock_timestamp(), outcome = 'failed', error = 'interrupted: its process ended'
  WHERE r.job = begin_job.job AND r.finished_at IS NULL
    AND NOT EXISTS (SELECT FROM pg_stat_get_activity(r.pid) AS a WHERE a.pid = r.pid AND a.backend_start <= r.started_at AND a.pid <> pg_backend_pid());
  INSERT INTO market.job_runs (job) VALUES (begin_job.job) RETURNING id INTO run;
  RETURN run;
END
$$;
COMMENT ON FUNCTION market.begin_job(text) IS 'Writes down that a job begins, and that earlier runs whose process is gone were interrupted.';

CREATE FUNCTION market.end_job(run int8, detail jsonb, error text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  -- a job that left work, or did all it takes on at once, goes on as soon as the others have had their turn
  UPDATE market.jobs AS j SET next_run_at = clock_timestamp() + CASE
      WHEN end_job.detail ? 'left for the next run'
        OR coalesce((end_job.detail ->> 'verified')::int8, 0) + coalesce((end_job.detail ->> 'differs')::int8, 0) >= 1000 THEN interval '0'
      ELSE j.every END
  FROM market.job_runs AS r WHERE r.id = end_job.run AND j.name = r.job;
  UPDATE market.job_runs AS r SET finished_at = clock_timestamp(), outcome = CASE WHEN end_job.error IS NULL THEN 'done' ELSE 'failed' END,
    detail = end_job.detail, error = end_job.error WHERE r.id = end_job.run;
END;
COMMENT ON FUNCTION market.end_job(int8, jsonb, text) IS 'Writes down how a run of a job ended, and when the next one is due: at once if this one left work.';

CREATE FUNCTION market.jobs_to_run(what text, due boolean) RETURNS TABLE (job text)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 6 SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF jobs_to_run.what IS NOT NULL AND NOT EXISTS (SELECT FROM market.maintenance_jobs() AS j WHERE j.job = jobs_to_run.what) THEN
    RAISE EXCEPTION 'unknown job "%"', jobs_to_run.what USING ERRCODE = '22023',
      HINT = (SELECT 'the jobs are ' || string_agg(j.job, ', ' ORDER BY j.place) FROM market.maintenance_jobs() AS j);
  END IF;
  RETURN QUERY SELECT j.job FROM market.maintenance_jobs() AS j LEFT JOIN market.jobs AS k ON k.name = j.job
    WHERE CASE WHEN jobs_to_run.what IS NULL THEN coalesce(k.enabled, true) ELSE j.job = jobs_to_run.what END
      AND (NOT coalesce(due, false) OR coalesce(k.next_run_at <= clock_timestamp(), true))
    ORDER BY j.place;
END
$$;
COMMENT ON FUNCTION market.jobs_to_run(text, boolean) IS 'The jobs that a call of market.maintain() runs: the one named, or all that are enabled; only those that are due where asked.';

CREATE PROCEDURE market.maintain(what text DEFAULT NULL, budget interval DEFAULT NULL, due boolean DEFAULT false)
LANGUAGE plpgsql
AS $$
DECLARE
  since timestamptz := pg_catalog.clock_timestamp();
  jobs text[];
  job text;
  run int8;
  steps market.maintenance_step[];
  step market.maintenance_step;
  ending text;
  counts jsonb;
  problem text;
  message text;
BEGIN
  IF budget <= interval '0' THEN
    RAISE EXCEPTION 'budget is %', budget USING ERRCODE = '22023', HINT = 'use a positive interval, or NULL for no limit';
  END IF;
  jobs := ARRAY(SELECT j.job FROM market.jobs_to_run(what, due) AS j);
  FOREACH job IN ARRAY jobs LOOP
    EXIT WHEN pg_catalog.clock_timestamp() - since >= budget;
    run := market.begin_job(job);
    COMMIT;
    counts := '{}';
    problem := NULL;
    steps := '{}';
    -- a failing job stops no other; a cancel is not caught here and stops all
    BEGIN
      steps := ARRAY(SELECT s FROM market.maintenance_steps(job) AS s);
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
      problem := message;
    END;
    COMMIT;
    FOREACH step IN ARRAY steps LOOP
      IF pg_catalog.clock_timestamp() - since >= budget THEN
        ending := 'left for the next run';
      ELSE
        BEGIN
          ending := market.run_step(job, step);
          IF ending = 'differs' THEN
            problem := coalesce(problem, pg_catalog.format('the bars of instrument %s on %s are not what its trades say: see market.verify_bars()',
              (step).instrument_id, (step).trade_date));
          END IF;
        EXCEPTION
          WHEN lock_not_available THEN
            ending := 'locked';
          WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
            ending := 'failed';
            problem := coalesce(problem, pg_catalog.format('%s: %s', pg_catalog.concat_ws(' ', 'instrument ' || (step).instrument_id,
              (step).trade_date, (step).relation), message));
        END;
        COMMIT;
      END IF;
      counts := counts || pg_catalog.jsonb_build_object(ending, coalesce((counts ->> ending)::int8, 0) + 1);
    END LOOP;
    PERFORM market.end_job(run, counts, problem);
    COMMIT;
  END LOOP;
END
$$;
COMMENT ON PROCEDURE market.maintain(text, interval, boolean) IS
  'Runs maintenance: all enabled jobs or the one named (seal, verify, retention, slots, partitions, history), for no longer than the budget, where asked only what is due. Commits after each step, so not inside a transaction; skips what somebody else has locked, and goes on after an error: market.job_status tells. For cron where the background worker does not run.';
