-- Copies made by logical replication: whoever applies the changes there fires no trigger but those that are declared so, and
-- no statement trigger at all. Without these, backends of the copy would keep old instruments and calendars in memory.
CREATE TRIGGER invalidate_copies AFTER INSERT OR UPDATE OR DELETE ON market.instruments
  FOR EACH ROW EXECUTE FUNCTION market.reference_changed();
ALTER TABLE market.instruments ENABLE REPLICA TRIGGER invalidate_copies;
CREATE TRIGGER invalidate_copies AFTER INSERT OR UPDATE OR DELETE ON market.instrument_symbols
  FOR EACH ROW EXECUTE FUNCTION market.reference_changed();
ALTER TABLE market.instrument_symbols ENABLE REPLICA TRIGGER invalidate_copies;
CREATE TRIGGER invalidate_copies AFTER INSERT OR UPDATE OR DELETE ON market.calendar_versions
  FOR EACH ROW EXECUTE FUNCTION market.reference_changed();
ALTER TABLE market.calendar_versions ENABLE REPLICA TRIGGER invalidate_copies;
CREATE TRIGGER invalidate_copies AFTER INSERT OR UPDATE OR DELETE ON market.calendar_exceptions
  FOR EACH ROW EXECUTE FUNCTION market.reference_changed();
ALTER TABLE market.calendar_exceptions ENABLE REPLICA TRIGGER invalidate_copies;
