-- no-transaction
DROP INDEX CONCURRENTLY entries_engagement;
