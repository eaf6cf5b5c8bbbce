-- Least privilege: readers read, writers also write trades, admins also define instruments. Children of partitioned
-- tables get no grants of their own: a granted child would bypass the parent's row-level security.

REVOKE ALL ON SCHEMA market FROM PUBLIC;
GRANT USAGE ON SCHEMA market TO market_reader;

GRANT SELECT ON market.calendars, market.instruments, market.instrument_symbols, market.instrument_terms, market.calendar_exceptions,
  market.live_trades, market.trade_blocks, market.bar_blocks, market.session_bars, market.trade_corrections,
  market.feeds, market.feed_gaps TO market_reader;
GRANT SELECT, INSERT, UPDATE, DELETE ON market.live_trades, market.trade_blocks, market.bar_blocks, market.session_bars,
  market.feeds, market.feed_gaps, market.ingest_checkpoints TO market_writer;
GRANT SELECT, INSERT ON market.trade_corrections, market.dead_letters, market.audit_log TO market_writer;
GRANT INSERT, UPDATE, DELETE ON market.instruments, market.instrument_symbols, market.instrument_terms,
  market.calendar_exceptions TO market_admin;
GRANT DELETE ON market.dead_letters TO market_admin;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA market TO market_writer;
