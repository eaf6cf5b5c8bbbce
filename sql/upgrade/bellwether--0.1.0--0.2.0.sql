-- From 0.1.0 to 0.2.0: what the program that writes the rest of this script cannot know (xtask/src/upgrade.rs). New tables, views
-- and functions, changed functions, comments and grants need nothing here. What does: a column added to a table of 0.1.0 (at the
-- end of its CREATE TABLE, and here in the same order), its constraints and indexes, and objects that are no more.

-- The view that guards sealed trades, where there is one; it is no member of the extension, before and after.
DO $$
BEGIN
  IF pg_catalog.to_regclass('market.sealed_parts') IS NOT NULL THEN
    DROP VIEW market.sealed_parts;
    CREATE VIEW market.sealed_parts WITH (security_invoker) AS
      SELECT instrument_id, trade_date, part, n, first_ts, last_ts, pg_catalog.octet_length(payload) AS bytes FROM market.trade_blocks AS b
      WHERE EXISTS (SELECT FROM market.instruments AS i WHERE i.id = b.instrument_id);
    COMMENT ON VIEW market.sealed_parts IS
      'Sealed parts and their sizes. Not a member of the extension, so that DROP EXTENSION asks for CASCADE while trades are stored.';
    GRANT SELECT ON market.sealed_parts TO market_reader;
    ALTER EXTENSION bellwether DROP VIEW market.sealed_parts;
  END IF;
END
$$;

ALTER FOREIGN TABLE market.trades_scan ADD COLUMN calendar text NOT NULL;

ALTER TABLE market.session_bars ADD COLUMN minutes_dropped_at timestamptz;

ALTER TABLE market.archived_sessions ADD COLUMN n int8, ADD COLUMN timeline int4, ADD COLUMN revision int4, ADD COLUMN halts text;
ALTER TABLE market.archived_sessions ALTER COLUMN timeline SET DEFAULT (pg_catalog.pg_control_checkpoint()).timeline_id;

ALTER TABLE market.policies DROP CONSTRAINT policies_action_check,
  ADD CONSTRAINT policies_action_check CHECK (action IN ('seal', 'retention', 'verify', 'partitions'));
ALTER TABLE market.policies DROP CONSTRAINT policies_relation_check,
  ADD CONSTRAINT policies_relation_check CHECK (relation IN ('trades', 'minute_bars'));
