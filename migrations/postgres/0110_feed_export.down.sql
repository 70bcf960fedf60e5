DROP FUNCTION engagement(bigint, bigint[], bigint, bigint[], bigint, uuid, bigint, bigint, uuid, bigint, integer);
DROP FUNCTION hold_feed_export(uuid, double precision);
DROP TABLE feed_export;
