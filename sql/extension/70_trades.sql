-- Every trade wherever it lies: a view to read and to insert into.

CREATE FUNCTION market.trades_wrapper() RETURNS fdw_handler
LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'trades_wrapper';
COMMENT ON FUNCTION market.trades_wrapper() IS 'Handler of the foreign data wrapper market_trades.';

CREATE FOREIGN DATA WRAPPER market_trades HANDLER market.trades_wrapper;
COMMENT ON FOREIGN DATA WRAPPER market_trades IS 'Reads sealed blocks with live rows over them; what WHERE and joins say about symbol, instrument, trade date and time decides which blocks.';
CREATE SERVER market_trades FOREIGN DATA WRAPPER market_trades;
COMMENT ON SERVER market_trades IS 'This database itself.';

-- A foreign table, because PostgreSQL tells it the conditions of a query; a function in a view would decode every block.
CREATE FOREIGN TABLE market.trades_scan (
  symbol         text NOT NULL,
  ts             timestamptz NOT NULL,
  ns             int2 NOT NULL,
  seq            int8 NOT NULL,
  sub            int2 NOT NULL,
  price          float8 NOT NULL,
  size           float8 NOT NULL,
  flags          int4 NOT NULL,
  cond           int4 NOT NULL,
  ts_recv        timestamptz,
  trade_id       int8,
  trade_date     date NOT NULL,
  segment        text NOT NULL,
  instrument_id  int4 NOT NULL,
  calendar       text NOT NULL
) SERVER market_trades;
COMMENT ON FOREIGN TABLE market.trades_scan IS 'What market.trades reads; ask that view.';

CREATE VIEW market.trades WITH (security_invoker) AS
SELECT symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, trade_date, segment, instrument_id, calendar
FROM market.trades_scan;
COMMENT ON VIEW market.trades IS 'Every trade, sealed or not, each once, without busted ones. Name a symbol and dates: they decide what is read. INSERT needs symbol, ts, seq, price and size.';
COMMENT ON COLUMN market.trades.symbol IS 'Symbol of the instrument as in market.instruments; INSERT also takes ESZ5 and other names of it.';
COMMENT ON COLUMN market.trades.ts IS 'Event time of the venue, whole microseconds; ns holds the rest.';
COMMENT ON COLUMN market.trades.seq IS 'Sequence of the venue or source. (ts, ns, seq, sub) is a trade''s identity and order within its instrument.';
COMMENT ON COLUMN market.trades.sub IS 'Ordinal among the records of one message that share (ts, seq).';
COMMENT ON COLUMN market.trades.flags IS 'Eligibility bits; 0 is an ordinary trade. docs/semantics.md lists them.';
COMMENT ON COLUMN market.trades.cond IS 'The venue''s raw sale condition.';
COMMENT ON COLUMN market.trades.ts_recv IS 'When the trade was received, where known.';
COMMENT ON COLUMN market.trades.trade_date IS 'Session the trade belongs to. Beyond the calendar''s known range, where it is filed for now.';
COMMENT ON COLUMN market.trades.calendar IS 'Calendar of the instrument, for market.session_bucket(). INSERT does not look at it.';
COMMENT ON COLUMN market.trades.segment IS 'ON, PRE, RTH, POST or OFF; auction prints belong to RTH. OFF beyond the calendar''s known range.';

CREATE FUNCTION market.insert_trade() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'insert_trade';
COMMENT ON FUNCTION market.insert_trade() IS 'Trigger of market.trades: stores an inserted trade in market.live_trades, refuses UPDATE and DELETE.';
CREATE TRIGGER insert_trade INSTEAD OF INSERT OR UPDATE OR DELETE ON market.trades
  FOR EACH ROW EXECUTE FUNCTION market.insert_trade();

GRANT SELECT ON market.trades_scan, market.trades TO market_reader;
GRANT INSERT ON market.trades TO market_writer;
