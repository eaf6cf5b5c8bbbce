-- Bars: sealed blocks with live rows over them.
--
-- The range is trade dates or instants. Literals without a type resolve to the overload with text, which reads
-- '2025-11-28' as a trade date; without it PostgreSQL would take them for instants.

CREATE FUNCTION market.session_ohlc_support(internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'session_ohlc_support';
COMMENT ON FUNCTION market.session_ohlc_support(internal) IS
  'Tells the planner how many bars a call of session_ohlc will return. Called by the planner alone.';

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first date, last date, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_dates';
COMMENT ON FUNCTION market.session_ohlc(text, text, date, date, text, text, timestamptz, text, text) IS
  'Session-aware bars between trade dates, both included. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first timestamptz, last timestamptz, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_instants';
COMMENT ON FUNCTION market.session_ohlc(text, text, timestamptz, timestamptz, text, text, timestamptz, text, text) IS
  'Session-aware bars between instants, half-open: bars whose open lies in the range. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first text, last text, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_texts';
COMMENT ON FUNCTION market.session_ohlc(text, text, text, text, text, text, timestamptz, text, text) IS
  'Session-aware bars between two literals: dates are trade dates, both included; other literals are instants, half-open. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first date, last date, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_symbols_dates';
COMMENT ON FUNCTION market.session_ohlc(text[], text, date, date, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between trade dates, both included. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first timestamptz, last timestamptz, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_symbols_instants';
COMMENT ON FUNCTION market.session_ohlc(text[], text, timestamptz, timestamptz, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between instants, half-open: bars whose open lies in the range. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first text, last text, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 SUPPORT market.session_ohlc_support AS 'MODULE_PATHNAME', 'session_ohlc_symbols_texts';
COMMENT ON FUNCTION market.session_ohlc(text[], text, text, text, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between two literals: dates are trade dates, both included; other literals are instants, half-open. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null; day: trade, or clearing (a holiday session is part of the business day it clears with). known_at: as they were known at that instant (a trade from its receipt on, a bust or correction since the venue told); clock: event, or recv for bars by receipt time. A late row shows at once.';

CREATE FUNCTION market.trades_between(symbol text, first timestamptz, last timestamptz, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (ts timestamptz, ns int2, seq int8, sub int2, price float8, size float8, flags int4, cond int4,
  ts_recv timestamptz, trade_id int8, segment text, trade_date date)
LANGUAGE c STABLE PARALLEL SAFE ROWS 100000 COST 10000 AS 'MODULE_PATHNAME', 'trades_between';
COMMENT ON FUNCTION market.trades_between(text, timestamptz, timestamptz, timestamptz) IS 'Trades of a symbol with first <= ts < last, in order, wherever they lie, without the busted ones. known_at: as they were known at that instant.';

CREATE FUNCTION market.verify_bars(symbol text, first date, last date)
RETURNS TABLE (trade_date date, what text, expected text, found text)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 1 COST 100000 AS 'MODULE_PATHNAME', 'verify_bars';
COMMENT ON FUNCTION market.verify_bars(text, date, date) IS 'Makes minute bars, session bars and digests of the sealed trades again: one row for each difference from what is stored, none if all is well.';

CREATE FUNCTION market.explain_bar(symbol text, timeframe text, at timestamptz, segments text DEFAULT NULL, known_at timestamptz DEFAULT NULL)
RETURNS TABLE (item text, value text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 30 COST 10000 AS 'MODULE_PATHNAME', 'explain_bar';
COMMENT ON FUNCTION market.explain_bar(text, text, timestamptz, text, timestamptz) IS 'Why the bar that holds an instant is what it is, now or as it was known: calendar, grid, segment, the trades that made open, high, low and close, state and how its sessions were sealed, trades that came late, busts and corrections with who wrote them and why.';
