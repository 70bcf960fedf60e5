-- 200,000 posts of a hundred authors, as they come when all write at once, with what people think of them. The planner is
-- never told: no statistics are gathered.
ALTER TABLE users SET (autovacuum_enabled = false);
ALTER TABLE heads SET (autovacuum_enabled = false);
ALTER TABLE entries SET (autovacuum_enabled = false);
ALTER TABLE posts SET (autovacuum_enabled = false);
ALTER TABLE post_likes SET (autovacuum_enabled = false);
ALTER TABLE post_shares SET (autovacuum_enabled = false);
ALTER TABLE post_counts SET (autovacuum_enabled = false);
ALTER TABLE user_counts SET (autovacuum_enabled = false);
ALTER TABLE comments SET (autovacuum_enabled = false);
ALTER TABLE follows SET (autovacuum_enabled = false);
ALTER TABLE blocks SET (autovacuum_enabled = false);
ALTER TABLE mutes SET (autovacuum_enabled = false);

INSERT INTO users (id) SELECT md5('user' || u)::uuid FROM generate_series(0, 4999) u;
INSERT INTO heads (log_id, last_seq) SELECT md5('user' || u)::uuid, 2000 FROM generate_series(0, 4999) u;
INSERT INTO posts (id, author_id, seq, body, created_at, deleted_at)
SELECT md5('post' || i)::uuid, md5('user' || i % 100)::uuid, i / 100 + 1, repeat('x', 128),
       timestamptz '2026-01-01' + i * interval '1 second', CASE WHEN i / 100 % 20 = 7 THEN now() END
FROM generate_series(0, 199999) i;
INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, payload_crc, kind, sender_kind, body, attrs)
SELECT p.author_id, p.seq, 0, p.seq, 1, p.created_at, p.author_id, gen_random_uuid(), 1, 48, 0, p.body,
       jsonb_build_object('post', p.id, 'author', p.author_id, 'counted', true)
FROM posts p;
INSERT INTO post_likes (post_id, user_id, created_at)
SELECT md5('post' || i * 2)::uuid, md5('user' || (i * 7 + n * 500) % 5000)::uuid, now()
FROM generate_series(0, 99999) i, generate_series(0, 1) n;
INSERT INTO post_shares (post_id, user_id, created_at)
SELECT md5('post' || i * 4)::uuid, md5('user' || i % 5000)::uuid, now() FROM generate_series(0, 49999) i;
INSERT INTO post_counts (post_id, slot, likes, comments, shares)
SELECT md5('post' || i * 2)::uuid, n, 1, 0, 0 FROM generate_series(0, 99999) i, generate_series(0, 3) n;
INSERT INTO comments (id, post_id, author_id, body, created_at)
SELECT md5('comment' || i)::uuid, md5('post' || i % 100)::uuid, md5('user' || i * 13 % 5000)::uuid, repeat('y', 64),
       timestamptz '2026-01-01' + i * interval '1 second'
FROM generate_series(0, 99999) i;
INSERT INTO follows (follower_id, followee_id, created_at)
SELECT md5('user' || u)::uuid, md5('user' || (u + 1 + n * n * 11) % 5000)::uuid, timestamptz '2026-01-01' + (u * 20 + n) * interval '1 second'
FROM generate_series(0, 4999) u, generate_series(0, 19) n ON CONFLICT DO NOTHING;
INSERT INTO follows (follower_id, followee_id, created_at)
SELECT md5('user' || u)::uuid, md5('user0')::uuid, timestamptz '2026-02-01' + u * interval '1 second'
FROM generate_series(1, 4999) u ON CONFLICT DO NOTHING;
INSERT INTO user_counts (user_id, slot, followers, followees, posts)
SELECT md5('user' || u)::uuid, n, 5, 5, 5 FROM generate_series(0, 4999) u, generate_series(0, 3) n;
-- Of users who do not occur in what is looked at.
INSERT INTO blocks (user_id, target_id, created_at)
SELECT md5('user' || 200 + u)::uuid, md5('user' || 201 + (u + n * 17) % 4700)::uuid, now() FROM generate_series(0, 4699) u, generate_series(0, 3) n
ON CONFLICT DO NOTHING;
INSERT INTO mutes (user_id, target_id, created_at) SELECT b.user_id, b.target_id, b.created_at FROM blocks b;
