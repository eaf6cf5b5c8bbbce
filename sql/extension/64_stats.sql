-- What venues publish beside trades: the writer and the reader of market.session_stats.

CREATE FUNCTION market.put_stats(symbol text, trade_date date, kind text, value numeric, ts timestamptz DEFAULT NULL,
  known_at timestamptz DEFAULT NULL, status text DEFAULT NULL, source text DEFAULT 'manual')
RETURNS boolean
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  id int4 := market.instrument_id(symbol, trade_date);
  known timestamptz := coalesce(known_at, now());
  before record;
BEGIN
  IF symbol IS NULL OR trade_date IS NULL OR kind IS NULL OR value IS NULL OR source IS NULL THEN
    RAISE EXCEPTION 'put_stats: symbol, trade_date, kind, value and source must not be NULL' USING ERRCODE = '22023',
      HINT = 'name them; leave out what is not known of ts, known_at and status';
  END IF;
  IF value IN ('NaN', 'Infinity', '-Infinity') THEN
    RAISE EXCEPTION 'invalid value "%"', value USING ERRCODE = '22023', HINT = 'use a finite number';
  END IF;
  -- two writers of one statistic would both find that it is new
  PERFORM pg_advisory_xact_lock(hashtextextended('market.put_stats', id));
  SELECT s.value, s.ts, s.status INTO before FROM market.session_stats AS s
  WHERE s.instrument_id = id AND s.trade_date = trade_date AND s.kind = kind AND s.known_at <= known
  ORDER BY s.known_at DESC LIMIT 1;
  IF FOUND AND before.value = value AND before.status IS NOT DISTINCT FROM status
     AND (ts IS NULL OR before.ts IS NOT DISTINCT FROM ts) THEN
    RETURN false;
  END IF;
  -- what is said twice at one instant is known one after the other
  LOOP
    INSERT INTO market.session_stats (instrument_id, trade_date, kind, value, ts, known_at, status, source)
    VALUES (id, trade_date, kind, value, ts, known, status, source)
    ON CONFLICT DO NOTHING;
    EXIT WHEN FOUND;
    known := known + interval '1 microsecond';
  END LOOP;
  RETURN true;
EXCEPTION WHEN check_violation THEN
  RAISE EXCEPTION 'unknown kind of statistic "%"', kind USING ERRCODE = '42704',
    HINT = 'use settlement, preliminary_settlement, official_open, official_close, open_interest, cleared_volume, block_volume, limit_up or limit_down';
END
$$;
COMMENT ON FUNCTION market.put_stats(text, date, text, numeric, timestamptz, timestamptz, text, text) IS 'Notes what a venue published about a session: settlement, preliminary_settlement, official_open, official_close, open_interest, cleared_volume, block_volume, limit_up or limit_down. ts: when it was published; known_at: when it was known here (default: now). True if it is new; saying again what is known already changes nothing, and a correction is a new row.';
REVOKE ALL ON FUNCTION market.put_stats(text, date, text, numeric, timestamptz, timestamptz, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION market.put_stats(text, date, text, numeric, timestamptz, timestamptz, text, text) TO market_writer;

CREATE FUNCTION market.session_stat(symbol text, first date, last date, kind text DEFAULT NULL, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, stat text, value float8, ts timestamptz, known_since timestamptz, status text, source text)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10 AS $$
  SELECT DISTINCT ON (s.trade_date, s.kind) s.trade_date, s.kind, s.value::pg_catalog.float8, s.ts, s.known_at, s.status, s.source
  FROM market.session_stats AS s
  WHERE s.instrument_id OPERATOR(pg_catalog.=) market.instrument_id($1, $3)
    AND s.trade_date OPERATOR(pg_catalog.>=) $2 AND s.trade_date OPERATOR(pg_catalog.<=) $3
    AND ($4 IS NULL OR s.kind OPERATOR(pg_catalog.=) $4)
    AND ($5 IS NULL OR s.known_at OPERATOR(pg_catalog.<=) $5)
  ORDER BY s.trade_date, s.kind, s.known_at DESC
$$;
COMMENT ON FUNCTION market.session_stat(text, date, date, text, timestamptz) IS 'What venues published about the sessions between two trade dates, both included: the newest value of each kind, or of one kind, or as it was known at an instant.';
