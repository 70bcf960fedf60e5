-- Whose posts a reader engages with, by day, so that what is long ago goes. What one does with one's own posts says nothing.
CREATE TABLE IF NOT EXISTS affinity (
    reader   UUID,
    author   UUID,
    day      Date,
    views    Int64,
    likes    Int64,
    comments Int64,
    shares   Int64
) ENGINE = SummingMergeTree((views, likes, comments, shares))
PARTITION BY toYYYYMM(day)
ORDER BY (reader, author, day)
TTL day + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 100000, index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS affinity_view TO affinity AS
SELECT actor AS reader, author, toDate(at, 'UTC') AS day,
       toInt64(countIf(kind = 'view')) AS views,
       toInt64(countIf(kind = 'like')) - toInt64(countIf(kind = 'unlike')) AS likes,
       toInt64(countIf(kind = 'comment')) AS comments,
       toInt64(countIf(kind = 'share')) AS shares
FROM events
WHERE actor != author AND kind NOT IN ('post', 'unpost')
GROUP BY reader, author, day;
