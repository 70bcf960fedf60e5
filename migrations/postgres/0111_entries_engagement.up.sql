-- no-transaction
-- What the export to ClickHouse reads, without the messages between.
CREATE INDEX CONCURRENTLY entries_engagement ON entries (txid, log_id, seq) WHERE kind BETWEEN 48 AND 53;
