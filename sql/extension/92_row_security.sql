-- Whoever may not see an instrument sees nothing of it in any table: policies that follow those of market.instruments.
--
-- They are made with the first instrument and not by this script: pg_dump writes down the policies of every table, also of an
-- extension's, and a restore into what the script had made would fail.

CREATE FUNCTION market.may_see(instrument int4) RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'may_see';
COMMENT ON FUNCTION market.may_see(int4) IS 'Whether the policies of market.instruments, if there are any, show an instrument to the current role: what the policies of all other tables ask.';

CREATE FUNCTION market.secure_tables() RETURNS int4
-- shorter than a deadlock takes: others hold some of these tables and wait for more
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '200ms'
AS $$
DECLARE
  secured record;
  made int4 := 0;
BEGIN
  FOR secured IN
    SELECT x.name, format('market.%I', x.name)::regclass AS relation, x.condition FROM (VALUES
      ('instrument_symbols', 'market.may_see(instrument_id)'), ('instrument_terms', 'market.may_see(instrument_id)'),
      ('trade_blocks', 'market.may_see(instrument_id)'), ('bar_blocks', 'market.may_see(instrument_id)'),
      ('session_bars', 'market.may_see(instrument_id)'), ('trade_corrections', 'market.may_see(instrument_id)'),
      ('reported_trades', 'market.may_see(instrument_id)'), ('session_revisions', 'market.may_see(instrument_id)'),
      ('session_stats', 'market.may_see(instrument_id)'), ('feed_gaps', 'market.may_see(instrument_id)'),
      ('ingest_checkpoints', 'market.may_see(instrument_id)'), ('unsealed_sessions', 'market.may_see(instrument_id)'),
      ('archived_sessions', 'market.may_see(instrument_id)'),
      ('calendar_exceptions', 'instrument_id IS NULL OR market.may_see(instrument_id)'),
      ('dead_letters', 'instrument_id IS NULL OR market.may_see(instrument_id)'),
      ('policies', 'symbol IS NULL OR EXISTS (SELECT FROM market.instruments AS i WHERE i.symbol = policies.symbol)'),
      ('backfills', 'NOT pg_catalog.row_security_active(''market.instruments'') OR (error IS NULL
         AND (at_instrument IS NULL OR market.may_see(at_instrument))
         AND (symbol IS NULL OR EXISTS (SELECT FROM market.instruments AS i WHERE i.symbol = backfills.symbol)))')
      ) AS x(name, condition)
  LOOP
    -- a policy of the user's own says what holds
    CONTINUE WHEN EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = secured.relation);
    EXECUTE format('CREATE POLICY as_instruments ON market.%I USING (%s)', secured.name, secured.condition);
    EXECUTE format('ALTER TABLE market.%I ENABLE ROW LEVEL SECURITY', secured.name);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$$;
COMMENT ON FUNCTION market.secure_tables() IS
  'Gives every table with instruments'' data that readers may read, and that has no policy yet, one that follows those of market.instruments; returns how many it made. Called with the first instrument, by maintenance and by upgrades.';

CREATE FUNCTION market.secure_with_instruments() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- a restore brings the policies itself, behind the rows
  IF NOT EXISTS (SELECT FROM pg_policy AS p WHERE p.polrelid = 'market.trade_blocks'::regclass)
     AND current_setting('row_security')::boolean THEN
    FOR attempt IN 1..25 LOOP
      -- what it locked is free again where it did not get all
      BEGIN
        PERFORM market.secure_tables();
        RETURN NULL;
      EXCEPTION WHEN lock_not_available THEN
        NULL;
      END;
    END LOOP;
    -- as long as all see every instrument there is nothing to hide, and maintenance makes them in a quiet moment
    IF (SELECT c.relrowsecurity FROM pg_class AS c WHERE c.oid = 'market.instruments'::regclass) THEN
      RAISE EXCEPTION 'the tables of market are in use, and the first instrument gives them their policies'
        USING ERRCODE = 'lock_not_available', HINT = 'add it again when nobody works on them';
    END IF;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION market.secure_with_instruments() IS 'Trigger: with the first instrument comes the row security of the other tables.';
CREATE TRIGGER secure AFTER INSERT ON market.instruments FOR EACH ROW EXECUTE FUNCTION market.secure_with_instruments();
-- also where logical replication applies the changes
ALTER TABLE market.instruments ENABLE ALWAYS TRIGGER secure;

CREATE FUNCTION market.unsealed_trades(instrument int4, first timestamptz DEFAULT NULL, last timestamptz DEFAULT NULL)
RETURNS TABLE (ts timestamptz, ns int2, seq int8, sub int2, price float8, size float8, flags int4, cond int4, ts_recv timestamptz,
  trade_id int8, op "char", known_at timestamptz)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'unsealed_trades';
COMMENT ON FUNCTION market.unsealed_trades(int4, timestamptz, timestamptz) IS
  'The rows of live_trades of an instrument as they lie there, both instants included: trades not sealed yet in any order, also busted ones and their marks. For programs that merge them themselves; market.trades shows what holds.';

DO $$
BEGIN
  REVOKE ALL ON FUNCTION market.secure_tables() FROM PUBLIC;
  GRANT EXECUTE ON FUNCTION market.secure_tables() TO market_admin;
  -- an upgraded store has instruments already
  IF EXISTS (SELECT FROM market.instruments) THEN
    PERFORM market.secure_tables();
  END IF;
END
$$;
