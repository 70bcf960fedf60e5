-- What people did with posts. Nothing reads it but the views, and whoever builds one anew. `post_at` is when the post was
-- made, and `author` its author, so that no view needs a join.
CREATE TABLE IF NOT EXISTS events (
    at      DateTime64(3, 'UTC'),
    -- The kinds of entries that they come from; a view is none, and is not durable.
    kind    Enum8('view' = 1, 'post' = 48, 'unpost' = 49, 'like' = 50, 'unlike' = 51, 'comment' = 52, 'share' = 53),
    actor   UUID,
    post    UUID,
    author  UUID,
    post_at DateTime64(3, 'UTC')
) ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (author, post, at)
TTL toDateTime(at) + INTERVAL 90 DAY
-- Batches whose tokens are remembered, views of all nodes among them: fifty nodes fill it in half an hour. Every table that a
-- view fills has its own memory.
SETTINGS non_replicated_deduplication_window = 100000;
