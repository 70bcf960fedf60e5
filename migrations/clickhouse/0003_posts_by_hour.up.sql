-- What posts were given in each hour, for what is trending. Its key names the post as `posts_by_author` does, so that the
-- trending ones are found there by its key.
CREATE TABLE IF NOT EXISTS posts_by_hour (
    hour     DateTime('UTC'),
    author   UUID,
    post_at  DateTime64(3, 'UTC'),
    post     UUID,
    posted   Int64,
    deleted  Int64,
    views    Int64,
    likes    Int64,
    comments Int64,
    shares   Int64
) ENGINE = SummingMergeTree((posted, deleted, views, likes, comments, shares))
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, author, post_at, post)
TTL hour + INTERVAL 7 DAY
SETTINGS non_replicated_deduplication_window = 10000;

CREATE MATERIALIZED VIEW IF NOT EXISTS posts_by_hour_view TO posts_by_hour AS
SELECT toStartOfHour(toDateTime(at, 'UTC')) AS hour, author, post_at, post,
       toInt64(countIf(kind = 'post')) AS posted,
       toInt64(countIf(kind = 'unpost')) AS deleted,
       toInt64(countIf(kind = 'view')) AS views,
       toInt64(countIf(kind = 'like')) - toInt64(countIf(kind = 'unlike')) AS likes,
       toInt64(countIf(kind = 'comment')) AS comments,
       toInt64(countIf(kind = 'share')) AS shares
FROM events
GROUP BY hour, author, post_at, post;
