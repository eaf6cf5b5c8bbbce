-- The archive: which sessions lie in one with their trades as they are stored here, and which do not.
--
-- Who writes an archive asks archive_pending(), writes a session, reads it back, and tells mark_archived(). A session that is
-- sealed again with other trades has another digest, and is pending again by itself; so is one of which halts were noted, ended or
-- removed since, also when retention dropped its trades: its halts are archived anew without them.

CREATE FUNCTION market.archive_pending(symbol text DEFAULT NULL, first date DEFAULT NULL, last date DEFAULT NULL, location text DEFAULT NULL)
RETURNS TABLE (symbol text, trade_date date, digest int8, n int8, revision int4, state text)
LANGUAGE sql STABLE ROWS 100
BEGIN ATOMIC
  SELECT i.symbol, s.trade_date, s.digest, t.n, s.revision,
    CASE WHEN EXISTS (SELECT FROM market.archived_sessions AS a WHERE a.instrument_id = i.id AND a.trade_date = s.trade_date
        AND a.digest = s.digest AND a.system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)
        AND (archive_pending.location IS NULL OR a.location = archive_pending.location)) THEN 'halts'
      WHEN EXISTS (SELECT FROM market.archived_sessions AS a WHERE a.instrument_id = i.id AND a.trade_date = s.trade_date
        AND (archive_pending.location IS NULL OR a.location = archive_pending.location)) THEN 'changed' ELSE 'new' END
  FROM market.instruments AS i
  CROSS JOIN LATERAL (SELECT b.trade_date, min(b.digest) AS digest, max(b.revision) AS revision, bool_or(b.trades_dropped_at IS NOT NULL) AS dropped
    FROM market.session_bars AS b
    WHERE b.instrument_id = i.id AND b.trade_date >= coalesce(archive_pending.first, '-infinity') AND b.trade_date <= coalesce(archive_pending.last, 'infinity')
    GROUP BY b.trade_date HAVING bool_and(b.state <> 'provisional')) AS s
  CROSS JOIN LATERAL (SELECT CASE WHEN s.dropped
      THEN (SELECT max(a.n) FROM market.archived_sessions AS a WHERE a.instrument_id = i.id AND a.trade_date = s.trade_date AND a.digest = s.digest)
      ELSE (SELECT coalesce(sum(b.n), 0)::int8 FROM market.trade_blocks AS b WHERE b.instrument_id = i.id AND b.trade_date = s.trade_date)
    END AS n) AS t
  WHERE (archive_pending.symbol IS NULL OR i.id = market.instrument_id(archive_pending.symbol, archive_pending.last))
    AND NOT EXISTS (SELECT FROM market.archived_sessions AS a WHERE a.instrument_id = i.id AND a.trade_date = s.trade_date
      AND a.digest = s.digest AND a.system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)
      AND (archive_pending.location IS NULL OR a.location = archive_pending.location)
      AND coalesce(a.halts, '') = market.halts_digest(i.id, s.trade_date))
    AND (NOT s.dropped OR EXISTS (SELECT FROM market.archived_sessions AS a WHERE a.instrument_id = i.id AND a.trade_date = s.trade_date
      AND a.digest = s.digest AND a.system_identifier = (SELECT c.system_identifier FROM pg_catalog.pg_control_system() AS c)
      AND (archive_pending.location IS NULL OR a.location = archive_pending.location)))
  ORDER BY s.trade_date, i.symbol;
END;
COMMENT ON FUNCTION market.archive_pending(text, date, date, text) IS
  'Sealed sessions, of a symbol or all, that lie in no archive (or not at the location named) with the trades stored here: their digest and number of trades, the session''s revision, and whether an older state of it is archived (changed), the same with other halts (halts), or none (new). Provisional sessions wait; one whose trades retention dropped cannot be archived, but its halts can.';

CREATE FUNCTION market.mark_archived(symbol text, trade_date date, digest int8, location text, n int8 DEFAULT NULL, halts text DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  instrument int4 := market.instrument_id(mark_archived.symbol, mark_archived.trade_date);
  stored record;
  blocks int8;
BEGIN
  IF mark_archived.trade_date IS NULL OR mark_archived.digest IS NULL OR instrument IS NULL OR coalesce(btrim(mark_archived.location), '') = '' THEN
    RAISE EXCEPTION 'mark_archived needs a symbol, a trade date, a digest and a location' USING ERRCODE = '22023', HINT = 'see market.archive_pending()';
  END IF;
  SELECT b.digest, b.revision, b.state, b.trades_dropped_at INTO stored FROM market.session_bars AS b
  WHERE b.instrument_id = instrument AND b.trade_date = mark_archived.trade_date ORDER BY b.state = 'provisional' DESC LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION '% has no sealed session on %', mark_archived.symbol, mark_archived.trade_date
      USING ERRCODE = '55000', HINT = 'see market.archive_pending()';
  END IF;
  IF stored.digest <> mark_archived.digest THEN
    RAISE EXCEPTION 'the session % of % has digest % (revision %), not %', mark_archived.trade_date, mark_archived.symbol, stored.digest,
        stored.revision, mark_archived.digest
      USING ERRCODE = '55000', HINT = 'it was sealed again meanwhile: archive it again, see market.archive_pending()';
  END IF;
  IF stored.state = 'provisional' THEN
    RAISE EXCEPTION 'the session % of % is provisional', mark_archived.trade_date, mark_archived.symbol
      USING ERRCODE = '55000', HINT = 'archive it when it is final';
  END IF;
  IF mark_archived.n IS NOT NULL AND stored.trades_dropped_at IS NULL THEN
    SELECT coalesce(sum(t.n), 0) INTO blocks FROM market.trade_blocks AS t WHERE t.instrument_id = instrument AND t.trade_date = mark_archived.trade_date;
    IF blocks <> mark_archived.n THEN
      RAISE EXCEPTION 'the session % of % has % trades, not %', mark_archived.trade_date, mark_archived.symbol, blocks, mark_archived.n
        USING ERRCODE = '55000', HINT = 'archive it again, see market.archive_pending()';
    END IF;
  END IF;
  -- told again, nothing changes
  IF EXISTS (SELECT FROM market.archived_sessions AS a WHERE a.instrument_id = instrument AND a.trade_date = mark_archived.trade_date
      AND a.location = mark_archived.location AND a.digest = mark_archived.digest AND a.halts IS NOT DISTINCT FROM mark_archived.halts
      AND a.system_identifier = (pg_control_system()).system_identifier) THEN
    RETURN false;
  END IF;
  INSERT INTO market.archived_sessions AS a (instrument_id, trade_date, digest, location, n, revision, halts)
  VALUES (instrument, mark_archived.trade_date, mark_archived.digest, mark_archived.location, mark_archived.n, stored.revision, mark_archived.halts)
  ON CONFLICT (instrument_id, trade_date, location) DO UPDATE SET digest = excluded.digest, n = excluded.n, revision = excluded.revision, halts = excluded.halts,
    archived_at = excluded.archived_at, system_identifier = excluded.system_identifier, timeline = excluded.timeline;
  RETURN true;
END
$$;
COMMENT ON FUNCTION market.mark_archived(text, date, int8, text, int8, text) IS
  'Says that a session lies at a location, written and read back, with this digest and (where told) so many trades and the halts of market.halts_digest(); 55000 if that is not what is stored here. True if that is news.';

CREATE FUNCTION market.unmark_archived(symbol text, trade_date date, location text) RETURNS boolean
LANGUAGE plpgsql VOLATILE STRICT SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  instrument int4 := market.instrument_id(unmark_archived.symbol, unmark_archived.trade_date);
BEGIN
  DELETE FROM market.archived_sessions AS a WHERE a.instrument_id = instrument AND a.trade_date = unmark_archived.trade_date
    AND a.location = unmark_archived.location;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION market.unmark_archived(text, date, text) IS
  'Says that a session lies at a location no more; false if nobody said it did. Before the files are deleted, so that retention never counts on them.';

DO $$
DECLARE f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['market.mark_archived(text, date, int8, text, int8, text)', 'market.unmark_archived(text, date, text)']::regprocedure[] LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO market_writer', f);
  END LOOP;
END
$$;
