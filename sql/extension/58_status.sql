-- What maintenance does and what is stored, for people and their monitoring.

CREATE FUNCTION market.partition_plan() RETURNS TABLE (action text, parent text, partition text, from_date date, till_date date)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100 SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  this_month date := date_trunc('month', now() AT TIME ZONE 'UTC')::date;
BEGIN
  -- a store without instruments needs none, and an extension without data can be dropped without a trace
  RETURN QUERY
    SELECT 'make', w.parent, w.partition, w.from_date, w.till_date
    FROM (
      SELECT 'trade_blocks' AS parent, format('trade_blocks_%s', to_char(m, 'YYYYMM')) AS partition, m::date AS from_date, (m + interval '1 month')::date AS till_date
      FROM generate_series(this_month, this_month + interval '2 months', interval '1 month') AS m
      UNION ALL
      SELECT DISTINCT 'bar_blocks', format('bar_blocks_%s', to_char(m, 'YYYY')), date_trunc('year', m)::date, (date_trunc('year', m) + interval '1 year')::date
      FROM generate_series(this_month, this_month + interval '2 months', interval '1 month') AS m
    ) AS w
    WHERE EXISTS (SELECT FROM market.instruments) AND to_regclass(format('market.%I', w.partition)) IS NULL
    ORDER BY w.from_date, w.parent DESC;
  RETURN QUERY
    SELECT 'drop', s.parent, s.partition, s.from_date, s.till_date FROM market.partition_status AS s
    WHERE s.till_date <= this_month AND s.parent IN ('trade_blocks', 'bar_blocks') AND market.partition_dead(s.partition)
    ORDER BY s.from_date, s.parent DESC;
END
$$;
COMMENT ON FUNCTION market.partition_plan() IS 'Partitions that maintenance would make (this month and the next two) and drop (past ones of which no snapshot sees a row).';

CREATE VIEW market.partition_status WITH (security_invoker) AS
SELECT p.relname::text AS parent, c.relname::text AS partition,
  (pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([-0-9]+)''\)'))[1]::date AS from_date,
  (pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid), 'TO \(''([-0-9]+)''\)'))[1]::date AS till_date,
  (pg_catalog.regexp_match(pg_catalog.pg_get_expr(c.relpartbound, c.oid), 'IN \(''?([0-9]+)''?\)'))[1]::int4 AS slot,
  t.rows_estimate, t.bytes,
  CASE
    WHEN c.relname = 'live_trades_' || market.current_slot() THEN 'current'
    WHEN t.heap = 0 THEN 'empty'
    ELSE 'in use'
  END AS state,
  CASE WHEN c.relkind = 'p' THEN t.parts END AS hash_parts
FROM pg_catalog.pg_inherits AS h
JOIN pg_catalog.pg_class AS c ON c.oid = h.inhrelid
JOIN pg_catalog.pg_class AS p ON p.oid = h.inhparent
CROSS JOIN LATERAL (SELECT sum(greatest(l.reltuples, 0))::int8 AS rows_estimate, sum(pg_catalog.pg_total_relation_size(l.oid))::int8 AS bytes,
    sum(pg_catalog.pg_relation_size(l.oid)) AS heap, count(*)::int4 AS parts
  FROM pg_catalog.pg_partition_tree(c.oid) AS x JOIN pg_catalog.pg_class AS l ON l.oid = x.relid WHERE x.isleaf) AS t
WHERE h.inhparent IN ('market.live_trades'::pg_catalog.regclass, 'market.trade_blocks'::pg_catalog.regclass, 'market.bar_blocks'::pg_catalog.regclass);
COMMENT ON VIEW market.partition_status IS 'Every partition: its dates or slot, size and state (current: the slot that rows go to now; empty; in use). hash_parts: how many parts by instrument it has, NULL for none.';

CREATE FUNCTION market.worker_refused_at() RETURNS timestamptz
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'worker_refused_at';
COMMENT ON FUNCTION market.worker_refused_at() IS 'Since when the background worker finds no free slot; -infinity if it does, NULL where the library is not preloaded.';

CREATE FUNCTION market.worker_status() RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- loads the library, and with it the settings
  refused timestamptz := market.worker_refused_at();
BEGIN
  RETURN CASE
    WHEN refused IS NULL THEN 'none: bellwether is not in shared_preload_libraries, so CALL market.maintain() from cron'
    WHEN NOT current_setting('bellwether.maintenance')::boolean THEN 'off: bellwether.maintenance'
    WHEN btrim(current_setting('bellwether.maintenance_databases')) <> ''
      AND NOT current_database() = ANY (regexp_split_to_array(btrim(current_setting('bellwether.maintenance_databases')), '\s*,\s*'))
      THEN 'off: not in bellwether.maintenance_databases'
    WHEN pg_is_in_recovery() THEN 'waits: the server is in recovery'
    WHEN refused > '-infinity' THEN format('no free slot since %s: raise max_worker_processes', date_trunc('second', refused))
    ELSE format('looks every %s', current_setting('bellwether.maintenance_interval'))
  END;
END
$$;
COMMENT ON FUNCTION market.worker_status() IS 'Whether the background worker maintains this database, or why not.';

-- as its owner: market.job_runs names instruments that a policy may hide, and so do its errors
CREATE VIEW market.job_status AS
SELECT j.place, j.job, j.what, coalesce(k.enabled, true) AS enabled, coalesce(k.every, j.every) AS every,
  r.started_at AS last_started_at, r.finished_at - r.started_at AS last_duration,
  CASE
    WHEN r.id IS NULL THEN 'never ran'
    WHEN r.outcome IS NOT NULL THEN r.outcome
    WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = r.pid) THEN 'running'
    ELSE 'interrupted'
  END AS last_outcome,
  r.detail AS last_detail,
  CASE WHEN pg_catalog.row_security_active('market.instruments') AND e.error IS NOT NULL
    THEN 'hidden: it may name instruments that you may not see' ELSE e.error END AS last_error, e.started_at AS last_error_at, k.next_run_at, market.worker_status() AS worker
FROM market.maintenance_jobs() AS j
LEFT JOIN market.jobs AS k ON k.name = j.job
LEFT JOIN LATERAL (SELECT x.* FROM market.job_runs AS x WHERE x.job = j.job ORDER BY x.started_at DESC, x.id DESC LIMIT 1) AS r ON true
LEFT JOIN LATERAL (SELECT x.error, x.started_at FROM market.job_runs AS x WHERE x.job = j.job AND x.error IS NOT NULL
  ORDER BY x.started_at DESC, x.id DESC LIMIT 1) AS e ON true
ORDER BY j.place;
COMMENT ON VIEW market.job_status IS 'Each maintenance job: when it last ran, how long and with what result, its last error, when it is due next, and whether the background worker runs it.';

CREATE VIEW market.storage_status WITH (security_invoker) AS
SELECT i.symbol, i.calendar, s.relation, s.rows, s.sessions, s.provisional_sessions, s.unverified_sessions, s.bytes, s.oldest, s.newest
FROM market.instruments AS i
JOIN (
  SELECT 'trades' AS relation, b.instrument_id, sum(b.n)::int8 AS rows, count(DISTINCT b.trade_date) AS sessions,
    NULL::int8 AS provisional_sessions, NULL::int8 AS unverified_sessions,
    sum(pg_catalog.pg_column_size(b.payload))::int8 AS bytes, min(b.trade_date) AS oldest, max(b.trade_date) AS newest
  FROM market.trade_blocks AS b GROUP BY b.instrument_id
  UNION ALL
  SELECT 'minute_bars', b.instrument_id, sum(b.n)::int8, count(*), NULL, NULL, sum(pg_catalog.pg_column_size(b.payload))::int8, min(b.trade_date), max(b.trade_date)
  FROM market.bar_blocks AS b GROUP BY b.instrument_id
  UNION ALL
  SELECT 'session_bars', b.instrument_id, count(*), count(DISTINCT b.trade_date),
    count(DISTINCT b.trade_date) FILTER (WHERE b.state = 'provisional'),
    count(DISTINCT b.trade_date) FILTER (WHERE b.verified_at IS NULL OR b.differences > 0),
    sum(pg_catalog.pg_column_size(b.*))::int8, min(b.trade_date), max(b.trade_date)
  FROM market.session_bars AS b GROUP BY b.instrument_id
  UNION ALL
  SELECT 'live_trades', l.instrument_id, sum(l.trades + l.marks)::int8, count(*), count(*), NULL, NULL, min(l.trade_date), max(l.trade_date)
  FROM market.live_sessions() AS l GROUP BY l.instrument_id
) AS s ON s.instrument_id = i.id;
COMMENT ON VIEW market.storage_status IS 'What is stored of each instrument: sealed trades, minute bars, session bars, and the tail that is not sealed yet (live_trades), in rows, sessions, compressed bytes and trade dates.';
COMMENT ON COLUMN market.storage_status.unverified_sessions IS 'Not verified since they were sealed, or with differences.';

DO $$
DECLARE f regprocedure;
BEGIN
  -- who may run maintenance; what it does runs as the owner
  FOREACH f IN ARRAY ARRAY['market.maintain(text, interval, boolean)', 'market.jobs_to_run(text, boolean)', 'market.begin_job(text)',
    'market.end_job(int8, jsonb, text)', 'market.maintenance_steps(text)', 'market.run_step(text, market.maintenance_step)',
    'market.note_unsealed()', 'market.truncate_slot(text)', 'market.drop_partition(text)', 'market.drop_trades(int4, date)',
    'market.drop_minute_bars(int4, date)', 'market.partition_dead(text)',
    'market.all_dead(regclass)', 'market.try_lock_session(int4, date)', 'market.live_rows(int4, date)',
    'market.set_policy(text, text, int4, text, text, jsonb)', 'market.drop_policy(text, text, text, text)']::regprocedure[] LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f);
    EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO market_admin', f);
  END LOOP;
END
$$;
GRANT SELECT ON market.partition_status, market.job_status, market.storage_status TO market_reader;
