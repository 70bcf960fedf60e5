DROP FUNCTION changed_logs;
DROP FUNCTION read_entries;
