-- Bars of any table, in any plan, with any number of workers: the same bits.

CREATE TYPE market.bar AS (
  open       float8,
  high       float8,
  low        float8,
  close      float8,
  volume     numeric,
  notional   numeric,
  trades     int8,
  priced     int8,
  first_ts   timestamptz,
  first_seq  int8,
  last_ts    timestamptz,
  last_seq   int8
);
COMMENT ON TYPE market.bar IS 'What a stretch of trades comes to. Sums are exact, so bars can be rolled up without loss.';
COMMENT ON COLUMN market.bar.open IS 'Price of the first trade by (ts, seq); NULL if no trade had a price.';
COMMENT ON COLUMN market.bar.close IS 'Price of the last trade by (ts, seq); NULL if no trade had a price.';
COMMENT ON COLUMN market.bar.volume IS 'Exact sum of the sizes.';
COMMENT ON COLUMN market.bar.notional IS 'Exact sum of price times size.';
COMMENT ON COLUMN market.bar.trades IS 'Number of trades.';
COMMENT ON COLUMN market.bar.priced IS 'Number of trades with a price.';
COMMENT ON COLUMN market.bar.first_ts IS 'Time of the open; first_seq is its sequence.';
COMMENT ON COLUMN market.bar.last_ts IS 'Time of the close; last_seq is its sequence.';

CREATE FUNCTION market.ohlc_push(internal, price float8, size float8, ts timestamptz, seq int8) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'ohlc_push';
CREATE FUNCTION market.rollup_push(internal, bar market.bar) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'rollup_push';
CREATE FUNCTION market.vwap_push(internal, price float8, size float8) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'vwap_push';
CREATE FUNCTION market.bar_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'bar_combine';
CREATE FUNCTION market.bar_serialize(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'bar_serialize';
CREATE FUNCTION market.bar_deserialize(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'bar_deserialize';
CREATE FUNCTION market.bar_finish(internal) RETURNS market.bar
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'bar_finish';
CREATE FUNCTION market.vwap_finish(internal) RETURNS float8
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'vwap_finish';
COMMENT ON FUNCTION market.ohlc_push(internal, float8, float8, timestamptz, int8) IS 'Support function of market.ohlc(): adds a trade.';
COMMENT ON FUNCTION market.rollup_push(internal, market.bar) IS 'Support function of market.rollup(): adds a bar.';
COMMENT ON FUNCTION market.vwap_push(internal, float8, float8) IS 'Support function of market.vwap(price, size): adds a trade.';
COMMENT ON FUNCTION market.bar_combine(internal, internal) IS 'Support function of the aggregates: two workers'' states become one.';
COMMENT ON FUNCTION market.bar_serialize(internal) IS 'Support function of the aggregates: a state as bytes.';
COMMENT ON FUNCTION market.bar_deserialize(bytea, internal) IS 'Support function of the aggregates: bytes as a state.';
COMMENT ON FUNCTION market.bar_finish(internal) IS 'Support function of market.ohlc() and market.rollup(): the bar.';
COMMENT ON FUNCTION market.vwap_finish(internal) IS 'Support function of market.vwap(price, size): the price.';

-- Without SSPACE the planner takes each state for 8 kB and spills hash tables that fit in memory.
CREATE AGGREGATE market.ohlc(price float8, size float8, ts timestamptz, seq int8) (
  SFUNC = market.ohlc_push, STYPE = internal, SSPACE = 176, FINALFUNC = market.bar_finish,
  COMBINEFUNC = market.bar_combine, SERIALFUNC = market.bar_serialize, DESERIALFUNC = market.bar_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE market.ohlc(float8, float8, timestamptz, int8) IS 'The bar of the trades of a group, in whatever order they come; NULL for none. Ties of (ts, seq) are broken by price. A NULL price or size leaves the other one counting; a NULL ts leaves the row out; a NULL seq is 0.';

CREATE AGGREGATE market.rollup(bar market.bar) (
  SFUNC = market.rollup_push, STYPE = internal, SSPACE = 176, FINALFUNC = market.bar_finish,
  COMBINEFUNC = market.bar_combine, SERIALFUNC = market.bar_serialize, DESERIALFUNC = market.bar_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE market.rollup(market.bar) IS 'One bar of several, the same as from their trades.';

CREATE AGGREGATE market.vwap(price float8, size float8) (
  SFUNC = market.vwap_push, STYPE = internal, SSPACE = 176, FINALFUNC = market.vwap_finish,
  COMBINEFUNC = market.bar_combine, SERIALFUNC = market.bar_serialize, DESERIALFUNC = market.bar_deserialize,
  PARALLEL = SAFE
);
COMMENT ON AGGREGATE market.vwap(float8, float8) IS 'Volume-weighted average price of the trades of a group; NULL without volume.';

CREATE FUNCTION market.vwap(bar market.bar) RETURNS float8
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'bar_vwap';
COMMENT ON FUNCTION market.vwap(market.bar) IS 'Volume-weighted average price of a bar; NULL without volume.';
