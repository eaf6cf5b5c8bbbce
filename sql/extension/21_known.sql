-- Knowledge time: what blocks no longer hold of the past, so that bars can be had as they were known at any instant.

-- A trade without ts_recv is known from the transaction on that brought it; a mark from when the venue told.
-- Rows of before are known as files of history are, from their event time on.
ALTER TABLE market.live_trades ADD COLUMN known_at timestamptz;
ALTER TABLE market.live_trades ALTER COLUMN known_at SET DEFAULT pg_catalog.now();
COMMENT ON COLUMN market.live_trades.known_at IS 'When the row came. A trade without ts_recv is known since then, and readers show it as its ts_recv; of tombstones and corrections, when the venue told.';

ALTER TABLE market.session_bars ADD COLUMN first_known_at timestamptz, ADD COLUMN last_known_at timestamptz;
COMMENT ON COLUMN market.session_bars.first_known_at IS 'When the first of the session''s sealed trades became known: its receipt, or its event time where a historical load did not say.';
COMMENT ON COLUMN market.session_bars.last_known_at IS 'When the last of the session''s sealed trades became known: bars as known at any later instant are these, unless a correction came after it.';

CREATE TABLE market.reported_trades (
  instrument_id  int4 NOT NULL,
  ts             timestamptz NOT NULL,
  ns             int2 NOT NULL,
  seq            int8 NOT NULL,
  sub            int2 NOT NULL,
  price          float8 NOT NULL,
  size           float8 NOT NULL,
  flags          int4 NOT NULL,
  cond           int4 NOT NULL,
  ts_recv        timestamptz,
  trade_id       int8,
  known_at       timestamptz NOT NULL,
  PRIMARY KEY (instrument_id, ts, ns, seq, sub)
);
COMMENT ON TABLE market.reported_trades IS 'Busted and corrected trades as they were first reported; blocks hold what they are now. market.trade_corrections says what became of them.';
COMMENT ON COLUMN market.reported_trades.known_at IS 'Since when the report was known.';
SELECT pg_catalog.pg_extension_config_dump('market.reported_trades', '');

CREATE TABLE market.session_revisions (
  instrument_id     int4 NOT NULL,
  trade_date        date NOT NULL,
  revision          int4 NOT NULL,
  calendar_version  int4 NOT NULL,
  digest            int8 NOT NULL,
  known_from        timestamptz NOT NULL,
  sealed_at         timestamptz NOT NULL DEFAULT pg_catalog.now(),
  PRIMARY KEY (instrument_id, trade_date, revision)
);
COMMENT ON TABLE market.session_revisions IS 'Every time a session became final (revision 0) or was revised, for ever: with which trades (digest) and which version of its calendar.';
COMMENT ON COLUMN market.session_revisions.known_from IS 'When the first of the changes that made the revision became known; of revision 0, -infinity.';
SELECT pg_catalog.pg_extension_config_dump('market.session_revisions', '');

GRANT SELECT ON market.reported_trades, market.session_revisions TO market_reader;
GRANT SELECT, INSERT ON market.reported_trades TO market_writer;
GRANT SELECT, INSERT, DELETE ON market.session_revisions TO market_writer;
