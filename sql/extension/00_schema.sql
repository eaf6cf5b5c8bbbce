-- Who may do what. The install script creates the schema itself (control file: schema = market).
\echo Use "CREATE EXTENSION bellwether" to load this file. \quit

COMMENT ON SCHEMA market IS 'Bellwether: trades, sessions and bars. Start with market.instruments, market.trades and market.session_ohlc().';

DO $$
BEGIN
  -- Roles belong to the whole cluster: two databases that get the extension at once must not both make them.
  IF (SELECT count(*) FROM pg_catalog.pg_roles WHERE rolname IN ('market_reader', 'market_writer', 'market_admin')) < 3 THEN
    LOCK TABLE pg_catalog.pg_authid IN SHARE ROW EXCLUSIVE MODE;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'market_reader') THEN
    CREATE ROLE market_reader NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'market_writer') THEN
    CREATE ROLE market_writer NOLOGIN IN ROLE market_reader;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'market_admin') THEN
    CREATE ROLE market_admin NOLOGIN IN ROLE market_writer;
  END IF;
END
$$;
