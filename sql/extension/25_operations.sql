-- Durable state of feeds, the ingester and the bot; what the maintenance worker will do.

CREATE TABLE market.feeds (
  feed        text PRIMARY KEY,
  venue       text NOT NULL,
  source      text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE market.feeds IS 'Sources that write trades continuously, such as a venue''s WebSocket.';

CREATE TABLE market.feed_gaps (
  id             int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  feed           text NOT NULL,
  instrument_id  int4 NOT NULL,
  first_missing  int8 NOT NULL,
  last_missing   int8 NOT NULL,
  from_ts        timestamptz,
  till_ts        timestamptz,
  noticed_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
  closed_at      timestamptz
);
CREATE INDEX feed_gaps_open ON market.feed_gaps (instrument_id) WHERE closed_at IS NULL;
COMMENT ON TABLE market.feed_gaps IS 'Sequence numbers a feed skipped; open while closed_at is NULL. A session with an open gap stays provisional.';

CREATE TABLE market.ingest_checkpoints (
  feed           text NOT NULL,
  instrument_id  int4 NOT NULL,
  last_ts        timestamptz NOT NULL,
  last_ns        int2 NOT NULL DEFAULT 0,
  last_seq       int8 NOT NULL,
  last_sub       int2 NOT NULL DEFAULT 0,
  updated_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
  PRIMARY KEY (feed, instrument_id)
);
COMMENT ON TABLE market.ingest_checkpoints IS 'Last trade a feed has committed per instrument, written in the same transaction as the trades.';

CREATE TABLE market.dead_letters (
  id             int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at             timestamptz NOT NULL DEFAULT pg_catalog.now(),
  source         text NOT NULL,
  line           int8,
  instrument_id  int4,
  reason         text NOT NULL,
  raw            text
);
COMMENT ON TABLE market.dead_letters IS 'Records that were not stored, with file, line and reason: unreadable lines, and identities that came again with other content.';

CREATE TABLE market.audit_log (
  id       int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT pg_catalog.now(),
  by_user  text NOT NULL DEFAULT session_user,
  action   text NOT NULL,
  detail   jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE market.audit_log IS 'Who asked or changed what, and when.';

SELECT pg_catalog.pg_extension_config_dump('market.feeds', '');
SELECT pg_catalog.pg_extension_config_dump('market.feed_gaps', '');
SELECT pg_catalog.pg_extension_config_dump('market.feed_gaps_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('market.ingest_checkpoints', '');
SELECT pg_catalog.pg_extension_config_dump('market.dead_letters', '');
SELECT pg_catalog.pg_extension_config_dump('market.dead_letters_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('market.audit_log', '');
SELECT pg_catalog.pg_extension_config_dump('market.audit_log_id_seq', '');
