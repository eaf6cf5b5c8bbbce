-- Least privilege: readers read, writers also write trades, admins also define instruments. Children of partitioned
-- tables get no grants of their own: a granted child would bypass the parent's row-level security.

REVOKE ALL ON SCHEMA market FROM PUBLIC;
GRANT USAGE ON SCHEMA market TO market_reader;

GRANT SELECT ON market.calendars, market.instruments, market.instrument_symbols, market.instrument_terms, market.calendar_exceptions,
  market.trade_blocks, market.bar_blocks, market.session_bars, market.trade_corrections,
  market.feeds, market.feed_gaps TO market_reader;
-- Nobody reads or changes live_trades itself: a policy would refuse COPY, and without one every instrument's rows lie open.
-- market.trades reads them, market.unsealed_trades() as they lie there.
GRANT INSERT ON market.live_trades TO market_writer;
REVOKE SELECT ON market.live_trades FROM market_reader;
REVOKE SELECT, UPDATE, DELETE ON market.live_trades FROM market_writer;
GRANT SELECT, INSERT, UPDATE, DELETE ON market.trade_blocks, market.bar_blocks, market.session_bars,
  market.feeds, market.feed_gaps, market.ingest_checkpoints TO market_writer;
GRANT SELECT, INSERT ON market.trade_corrections, market.dead_letters TO market_writer;
GRANT INSERT ON market.audit_log TO market_writer;
REVOKE SELECT ON market.audit_log FROM market_writer;
GRANT SELECT ON market.audit_log TO market_admin;
-- what went wrong names instruments and prices; market.job_status shows it to who may see all of them
REVOKE SELECT ON market.job_runs FROM market_reader;
GRANT SELECT ON market.job_runs TO market_admin;
GRANT INSERT, UPDATE, DELETE ON market.instruments, market.instrument_symbols, market.instrument_terms,
  market.calendar_exceptions TO market_admin;
GRANT DELETE ON market.dead_letters TO market_admin;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA market TO market_writer;
