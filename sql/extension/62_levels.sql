-- What a session is made into beside bars: levels, profile, flow, bars of activity.

CREATE FUNCTION market.activity_ohlc(symbol text, kind text, threshold float8, first date, last date, segments text DEFAULT NULL,
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar int4, first_at timestamptz, last_at timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, complete boolean, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'activity_ohlc_dates';
COMMENT ON FUNCTION market.activity_ohlc(text, text, float8, date, date, text, timestamptz) IS
  'Bars that end when enough was traded, between trade dates, both included. kind: ticks (trades), volume, or notional (price times size); threshold: how much fills a bar. Bars begin anew with each session; the trade that reaches the threshold belongs whole to the bar it fills, and nothing is carried over. first_at and last_at: the times of the first and the last trade; complete: false for what is left at the end of a session. known_at: as it was known at that instant.';

CREATE FUNCTION market.activity_ohlc(symbol text, kind text, threshold float8, first timestamptz, last timestamptz, segments text DEFAULT NULL,
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar int4, first_at timestamptz, last_at timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, complete boolean, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'activity_ohlc_instants';
COMMENT ON FUNCTION market.activity_ohlc(text, text, float8, timestamptz, timestamptz, text, timestamptz) IS
  'Bars that end when enough was traded, between instants, half-open. kind: ticks (trades), volume, or notional (price times size); threshold: how much fills a bar. Bars begin anew with each session; the trade that reaches the threshold belongs whole to the bar it fills, and nothing is carried over. first_at and last_at: the times of the first and the last trade; complete: false for what is left at the end of a session. A bar is in the answer, whole, if its first trade is in the range. known_at: as it was known at that instant.';

CREATE FUNCTION market.activity_ohlc(symbol text, kind text, threshold float8, first text, last text, segments text DEFAULT NULL,
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar int4, first_at timestamptz, last_at timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, complete boolean, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'activity_ohlc_texts';
COMMENT ON FUNCTION market.activity_ohlc(text, text, float8, text, text, text, timestamptz) IS
  'Bars that end when enough was traded, between two literals: dates are trade dates, both included; other literals are instants, half-open. kind: ticks (trades), volume, or notional (price times size); threshold: how much fills a bar. Bars begin anew with each session; the trade that reaches the threshold belongs whole to the bar it fills, and nothing is carried over. first_at and last_at: the times of the first and the last trade; complete: false for what is left at the end of a session. known_at: as it was known at that instant.';

CREATE FUNCTION market.session_flow(symbol text, timeframe text, first date, last date, segments text DEFAULT NULL, day text DEFAULT 'trade',
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, volume float8, buy_volume float8, sell_volume float8,
  unknown_volume float8, delta float8, session_delta float8, trades int8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'session_flow_dates';
COMMENT ON FUNCTION market.session_flow(text, text, date, date, text, text, timestamptz) IS
  'The volume of each bar of session_ohlc by the aggressor''s side, between trade dates, both included: bought, sold, and of trades whose side the venue does not say; delta is bought less sold, session_delta its sum since the session began. Bars without volume are left out. known_at: as it was known at that instant.';

CREATE FUNCTION market.session_flow(symbol text, timeframe text, first timestamptz, last timestamptz, segments text DEFAULT NULL, day text DEFAULT 'trade',
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, volume float8, buy_volume float8, sell_volume float8,
  unknown_volume float8, delta float8, session_delta float8, trades int8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'session_flow_instants';
COMMENT ON FUNCTION market.session_flow(text, text, timestamptz, timestamptz, text, text, timestamptz) IS
  'The volume of each bar of session_ohlc by the aggressor''s side, between instants, half-open: bought, sold, and of trades whose side the venue does not say; delta is bought less sold, session_delta its sum since the session began. Bars without volume are left out. known_at: as it was known at that instant.';

CREATE FUNCTION market.session_flow(symbol text, timeframe text, first text, last text, segments text DEFAULT NULL, day text DEFAULT 'trade',
  known_at timestamptz DEFAULT NULL)
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, volume float8, buy_volume float8, sell_volume float8,
  unknown_volume float8, delta float8, session_delta float8, trades int8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 10000 AS 'MODULE_PATHNAME', 'session_flow_texts';
COMMENT ON FUNCTION market.session_flow(text, text, text, text, text, text, timestamptz) IS
  'The volume of each bar of session_ohlc by the aggressor''s side, between two literals: dates are trade dates, both included; other literals are instants, half-open: bought, sold, and of trades whose side the venue does not say; delta is bought less sold, session_delta its sum since the session began. Bars without volume are left out. known_at: as it was known at that instant.';

CREATE FUNCTION market.session_levels(symbol text, day date, segments text DEFAULT NULL, opening_minutes int4 DEFAULT 30,
  close text DEFAULT NULL, skip_shortened boolean DEFAULT false, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (level text, value float8, at timestamptz, kind text, trade_date date, from_at timestamptz, till_at timestamptz, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 16 COST 100000 AS 'MODULE_PATHNAME', 'session_levels';
COMMENT ON FUNCTION market.session_levels(text, date, text, int4, text, boolean, timestamptz) IS
  'The levels of a day, one row each: high, low and close of the prior session, overnight high and low (ON and PRE), open, high, low, last and vwap of the day, opening range from the scheduled open of RTH, initial balance (the first 60 minutes of RTH), gap (open less prior close). segments (default: the calendar''s main ones) says what a session is made of; close: settlement, official close or last trade (default: the first of them that is known; kind says which); skip_shortened: the prior session is not one that closed early. at: when the price was made; from_at to till_at: the stretch the level is of. known_at: as it was known at that instant.';

CREATE FUNCTION market.session_profile(symbol text, day date, segments text DEFAULT NULL, bin float8 DEFAULT NULL,
  period text DEFAULT '30m', value_area float8 DEFAULT 0.7, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (price float8, volume float8, buy_volume float8, sell_volume float8, unknown_volume float8, trades int8,
  is_poc boolean, in_value_area boolean, tpo int4, periods text, is_tpo_poc boolean, in_tpo_value_area boolean, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 200 COST 100000 AS 'MODULE_PATHNAME', 'session_profile';
COMMENT ON FUNCTION market.session_profile(text, date, text, float8, text, float8, timestamptz) IS
  'How much was traded at each price of a day (volume, by side) and in how many periods of 30 minutes each price was reached (tpo, with their letters). A row is the prices from price up to, not including, price + bin; bin defaults to the tick size, segments to RTH. is_poc marks the row of the most volume and in_value_area the rows around it that hold value_area of it, by two-row expansion; is_tpo_poc and in_tpo_value_area do so for the periods. Ties go to the row nearest to the middle of the range. known_at: as it was known at that instant.';
