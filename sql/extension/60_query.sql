-- Bars: sealed blocks with live rows over them.
--
-- The range is trade dates or instants. Literals without a type resolve to the overload with text, which reads
-- '2025-11-28' as a trade date; without it PostgreSQL would take them for instants.

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first date, last date, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_dates';
COMMENT ON FUNCTION market.session_ohlc(text, text, date, date, text, text, timestamptz, text, text) IS
  'Session-aware bars between trade dates, both included. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first timestamptz, last timestamptz, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_instants';
COMMENT ON FUNCTION market.session_ohlc(text, text, timestamptz, timestamptz, text, text, timestamptz, text, text) IS
  'Session-aware bars between instants, half-open: bars whose open lies in the range. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbol text, timeframe text, first text, last text, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 1000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_texts';
COMMENT ON FUNCTION market.session_ohlc(text, text, text, text, text, text, timestamptz, text, text) IS
  'Session-aware bars between two literals: dates are trade dates, both included; other literals are instants, half-open. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first date, last date, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_symbols_dates';
COMMENT ON FUNCTION market.session_ohlc(text[], text, date, date, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between trade dates, both included. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first timestamptz, last timestamptz, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_symbols_instants';
COMMENT ON FUNCTION market.session_ohlc(text[], text, timestamptz, timestamptz, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between instants, half-open: bars whose open lies in the range. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';

CREATE FUNCTION market.session_ohlc(
  symbols text[], timeframe text, first text, last text, segments text DEFAULT NULL, fill text DEFAULT 'none',
  known_at timestamptz DEFAULT NULL, clock text DEFAULT 'event', day text DEFAULT 'trade')
RETURNS TABLE (symbol text, trade_date date, bar_at timestamptz, bar_end timestamptz, open float8, high float8, low float8, close float8,
  volume float8, trades int8, vwap float8, state text)
LANGUAGE c STABLE PARALLEL SAFE ROWS 10000 COST 1000 AS 'MODULE_PATHNAME', 'session_ohlc_symbols_texts';
COMMENT ON FUNCTION market.session_ohlc(text[], text, text, text, text, text, timestamptz, text, text) IS
  'Session-aware bars of many symbols between two literals: dates are trade dates, both included; other literals are instants, half-open. timeframe: 30s, 5m, 1h, 1d, 1w, 1mo ...; segments: RTH, PRE+RTH, ETH, ALL (default: the calendar''s main ones); fill: none, previous, null. A late row shows at once.';
