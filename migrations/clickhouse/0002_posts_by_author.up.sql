-- An author's posts, newest last, with what they have been given. `live` is 0 once a post was deleted. A sum that is not
-- merged yet is in several rows: readers add them up. Granules are small, since a feed looks at a few posts of many authors.
CREATE TABLE IF NOT EXISTS posts_by_author (
    author   UUID,
    post_at  DateTime64(3, 'UTC'),
    post     UUID,
    live     Int64,
    views    Int64,
    likes    Int64,
    comments Int64,
    shares   Int64
) ENGINE = SummingMergeTree((live, views, likes, comments, shares))
PARTITION BY toYYYYMM(post_at)
ORDER BY (author, post_at, post)
TTL toDateTime(post_at) + INTERVAL 90 DAY
SETTINGS non_replicated_deduplication_window = 100000, index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS posts_by_author_view TO posts_by_author AS
SELECT author, post_at, post,
       toInt64(countIf(kind = 'post')) - toInt64(countIf(kind = 'unpost')) AS live,
       toInt64(countIf(kind = 'view')) AS views,
       toInt64(countIf(kind = 'like')) - toInt64(countIf(kind = 'unlike')) AS likes,
       toInt64(countIf(kind = 'comment')) AS comments,
       toInt64(countIf(kind = 'share')) AS shares
FROM events
GROUP BY author, post_at, post;
