-- The auctions of a calendar.

CREATE FUNCTION market.auctions(calendar text, first date, last date)
RETURNS TABLE (trade_date date, auction text, opens_at timestamptz, closes_at timestamptz)
LANGUAGE c STABLE STRICT PARALLEL SAFE ROWS 500 COST 1000 AS 'MODULE_PATHNAME', 'auctions';
COMMENT ON FUNCTION market.auctions(text, date, date) IS 'The declared auction windows of a calendar between two trade dates, both included, in time order: open, intraday, break (ends the morning) or close. An auction whose prints are known by their flags alone, as in New York, has no window and no row.';
