-- What halts and outages took away.

CREATE FUNCTION market.halted_seconds(symbol text, from_ts timestamptz, till timestamptz, segments text DEFAULT 'ETH') RETURNS float8
LANGUAGE c STABLE PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'halted_seconds';
COMMENT ON FUNCTION market.halted_seconds(text, timestamptz, timestamptz, text) IS
  'How many seconds of from_ts <= t < till an instrument was to trade and could not: for an outage that the calendar file records, a halt of the whole market or one of the instrument in market.calendar_exceptions (market.note_halt). Overlapping ones count once, time outside the scheduled segments does not count, and a halt without an end lasts on. segments: those of the bars it is asked beside; by default the whole session. For each bar: SELECT *, market.halted_seconds(''SPY'', bar_at, bar_end) FROM market.session_ohlc(''SPY'', ...).';

-- asked once a bar, of few halts among many
CREATE INDEX calendar_exceptions_instrument ON market.calendar_exceptions (instrument_id, from_ts) WHERE kind <> 'schedule';
