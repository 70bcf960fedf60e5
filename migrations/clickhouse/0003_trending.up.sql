-- The posts that were given most in each hour: one sketch an hour, whatever happened in it, since a day's counts of every post
-- are too many to add up for a page. It finds the few hundred that matter; what they were given is in `posts_by_author`. A
-- new post weighs a little, so that where little happens the newest are found. What was taken back is not subtracted.
CREATE TABLE IF NOT EXISTS trending (
    hour DateTime('UTC'),
    top  AggregateFunction(topKWeighted(300, 2, 'counts'), Tuple(UUID, DateTime64(3, 'UTC'), UUID), UInt64)
) ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY hour
TTL hour + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 100000, index_granularity = 16;

CREATE MATERIALIZED VIEW IF NOT EXISTS trending_view TO trending AS
SELECT toStartOfHour(toDateTime(at, 'UTC')) AS hour,
       topKWeightedState(300, 2, 'counts')((author, post_at, post),
                              transform(kind, ['like', 'comment', 'share'], [toUInt64(10), 20, 30], toUInt64(1))) AS top
FROM events
WHERE kind NOT IN ('unpost', 'unlike')
GROUP BY hour;
