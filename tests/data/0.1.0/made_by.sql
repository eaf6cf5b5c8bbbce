-- What a user of 0.1.0 has: sealed, revised, live, busted, corrected trades; policies, jobs, gaps, a calendar of their own.
SELECT market.add_instrument('SPY', calendar => 'XNYS', tick_size => 0.01), market.add_instrument('ESZ25'), market.add_instrument('BTC-USD', calendar => '24/7');
INSERT INTO market.instrument_symbols VALUES (1, 'SPDR', '2020-01-01');
INSERT INTO market.trades (symbol, ts, seq, price, size)
SELECT s, timestamptz '2025-11-24 14:30+00' + d * interval '1 day' + n * interval '37 seconds', d * 1000 + n, 670 + ((n * 7 + length(s)) % 13) / 4.0, 1 + n % 5
FROM (VALUES ('SPY'), ('ESZ25'), ('BTC-USD')) AS v(s), generate_series(0, 4) AS d, generate_series(0, 90) AS n;
INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id)
SELECT 1, timestamptz '2025-11-25 09:00+00' + n * interval '11 minutes', n, 5000 + n, n % 2, 660 + n, 2.5, (1 << (n % 8)), n, timestamptz '2025-11-25 09:00:01+00' + n * interval '11 minutes', 100 + n FROM generate_series(1, 40) AS n;
SELECT market.seal(s, d) FROM (VALUES ('SPY'), ('ESZ25'), ('BTC-USD')) AS v(s), (VALUES (date '2025-11-24'), ('2025-11-25'), ('2025-11-26')) AS w(d);
-- two revised: a late trade, a bust and a correction, sealed again; and a bust that waits
INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-25 15:00+00', 9001, 699, 5);
SELECT market.bust_trade('SPY', '2025-11-25 14:30:37+00', 1001, reason => 'erroneous'), market.correct_trade('SPY', '2025-11-25 14:31:14+00', 1002, 671.5, 9);
SELECT market.seal('SPY', '2025-11-25');
SELECT market.bust_trade('SPY', '2025-11-26 14:30:37+00', 2001);
INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('ESZ25', '2025-11-25 15:00+00', 9002, 690, 5);
SELECT market.set_policy('retention', keep_sessions => 100000), market.set_policy('seal', calendar => 'XNYS', options => '{"quiet": "2 minutes"}'), market.set_policy('verify');
INSERT INTO market.feeds VALUES ('sip', 'XNYS', 'test'); INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing, from_ts) VALUES ('sip', 1, 1, 2, '2025-11-27 12:00+00');
INSERT INTO market.session_stats (instrument_id, trade_date, kind, value, source) VALUES (2, '2025-11-24', 'settlement', 6700.25, 'test'), (2, '2025-11-24', 'open_interest', 12345, 'test');
INSERT INTO market.archived_sessions (instrument_id, trade_date, digest, location) SELECT DISTINCT instrument_id, trade_date, digest, 's3://archive' FROM market.session_bars WHERE instrument_id = 3 AND trade_date = '2025-11-24';
INSERT INTO market.audit_log (action, detail) VALUES ('test', '{"a": 1}');
SELECT market.calendar_except('XNYS', '2026-03-03', 'closed = true', 'a storm'), market.calendar_publish('XNYS');
CALL market.maintain('verify');
