SELECT 'bars', s.symbol, t.timeframe, b.* FROM (VALUES ('SPY'), ('ESZ25'), ('BTC-USD')) AS s(symbol), (VALUES ('1h'), ('1d'), ('1w')) AS t(timeframe),
  LATERAL market.session_ohlc(s.symbol, t.timeframe, date '2025-11-24', date '2025-11-28', segments => 'ALL') AS b ORDER BY 2, 3, 5;
SELECT 'short bars', s.symbol, t.timeframe, count(*), md5(string_agg(b::text, ';' ORDER BY b.bar_at)) FROM (VALUES ('SPY'), ('ESZ25'), ('BTC-USD')) AS s(symbol), (VALUES ('30s'), ('1m'), ('7m')) AS t(timeframe),
  LATERAL market.session_ohlc(s.symbol, t.timeframe, date '2025-11-24', date '2025-11-28', segments => 'ALL') AS b GROUP BY 2, 3 ORDER BY 2, 3;
SELECT 'trades', symbol, count(*), sum(size), min(price), max(price), md5(string_agg(concat_ws(',', ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, trade_date, segment), ';' ORDER BY ts, ns, seq, sub)) FROM market.trades GROUP BY 2 ORDER BY 2;
SELECT 'sealed', instrument_id, trade_date, segment, state, revision, digest, verified_at IS NOT NULL, differences FROM market.session_bars ORDER BY 2, 3, 4;
SELECT 'corrections', instrument_id, ts, seq, action, new_price, reason FROM market.trade_corrections ORDER BY id;
SELECT 'policies', action, relation, calendar, symbol, keep_sessions, options FROM market.policies ORDER BY id;
SELECT 'terms', market.instrument_id('SPDR', '2025-11-24'), t.* FROM market.instrument_terms_at('ESZ25', '2025-11-24') AS t;
SELECT 'calendar', market.is_session('2026-03-03', 'XNYS'), market.is_session('2026-03-04', 'XNYS');
