-- Writing sealed sessions, and what outranks them.

CREATE FUNCTION market.put_trades(instrument int4, payload bytea, OUT trade_date date, OUT added int8, OUT known int8, OUT conflicts int8)
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'put_trades';
COMMENT ON FUNCTION market.put_trades(int4, bytea) IS 'Stores packed trades of one session of an instrument, made by ingest: verified, merged by identity (sending them again changes nothing), with minute bars and summaries. At most 64 MB and 4,194,304 trades a call, in READ COMMITTED.';

CREATE FUNCTION market.seal(symbol text, trade_date date) RETURNS int8
LANGUAGE c VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'seal';
COMMENT ON FUNCTION market.seal(text, date) IS 'Packs the live rows of a session into its blocks and returns how many there were. Changes no answer; sealing again does nothing.';

CREATE FUNCTION market.bust_trade(symbol text, ts timestamptz, seq int8, ns int2 DEFAULT NULL, sub int2 DEFAULT NULL, reason text DEFAULT NULL, known_at timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bust_trade';
COMMENT ON FUNCTION market.bust_trade(text, timestamptz, int8, int2, int2, text, timestamptz) IS 'Takes a trade away, at once and for good: it stays away when its file is loaded again. True if it was there; a bust of a trade that has not come yet waits for it. known_at: when the venue told, if that was not now; what became known last is the last word.';

CREATE FUNCTION market.correct_trade(symbol text, ts timestamptz, seq int8, price float8, size float8, ns int2 DEFAULT NULL, sub int2 DEFAULT NULL, flags int4 DEFAULT NULL, reason text DEFAULT NULL, known_at timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'correct_trade';
COMMENT ON FUNCTION market.correct_trade(text, timestamptz, int8, float8, float8, int2, int2, int4, text, timestamptz) IS 'Gives a trade new price, size and (where named) flags, at once and for good. True if it was there. known_at: when the venue told, if that was not now.';

CREATE FUNCTION market.bust_trade(symbol text, trade_id int8, trade_date date, reason text DEFAULT NULL, known_at timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'bust_trade_id';
COMMENT ON FUNCTION market.bust_trade(text, int8, date, text, timestamptz) IS 'As bust_trade() by ts and seq, by the venue''s id of the trade.';

CREATE FUNCTION market.correct_trade(symbol text, trade_id int8, trade_date date, price float8, size float8, flags int4 DEFAULT NULL, reason text DEFAULT NULL, known_at timestamptz DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'correct_trade_id';
COMMENT ON FUNCTION market.correct_trade(text, int8, date, float8, float8, int4, text, timestamptz) IS 'As correct_trade() by ts and seq, by the venue''s id of the trade.';

DO $$
DECLARE f regprocedure;
BEGIN
  FOREACH f IN ARRAY ARRAY['market.put_trades(int4, bytea)', 'market.seal(text, date)', 'market.bust_trade(text, timestamptz, int8, int2, int2, text, timestamptz)',
    'market.correct_trade(text, timestamptz, int8, float8, float8, int2, int2, int4, text, timestamptz)',
    'market.bust_trade(text, int8, date, text, timestamptz)', 'market.correct_trade(text, int8, date, float8, float8, int4, text, timestamptz)',
    'market.add_instrument(text, text, numeric, numeric, text, text, text)']::regprocedure[] LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO market_writer', f);
  END LOOP;
END
$$;
