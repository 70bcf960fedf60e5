-- What a feed is made of where no ClickHouse gives it, each source one bounded read of indexes in their order. As functions, so
-- that they carry the planner's settings, whether or not a table was ever analysed; what is sorted is what was read.

-- The newest posts of all.
CREATE INDEX posts_newest ON posts (created_at DESC, id DESC) WHERE deleted_at IS NULL;

-- What all nodes sign the cursors of feeds with.
CREATE TABLE feed_secret (
    one    boolean PRIMARY KEY DEFAULT true CHECK (one),
    secret bytea   NOT NULL DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
);
INSERT INTO feed_secret DEFAULT VALUES;

-- Whom a reader follows and has not muted, those whom he began to follow last first.
CREATE FUNCTION feed_follows(reader uuid, most bigint) RETURNS TABLE (followee_id uuid)
LANGUAGE sql STABLE ROWS 100
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT f.followee_id FROM follows f
    WHERE f.follower_id = reader
      AND (SELECT true FROM mutes m WHERE m.user_id = reader AND m.target_id = f.followee_id LIMIT 1) IS NULL
    ORDER BY f.created_at DESC, f.followee_id DESC LIMIT most;
$$;

-- The newest posts of these authors, `apiece` of each at the most.
CREATE FUNCTION feed_followees(authors uuid[], apiece bigint, most bigint)
RETURNS TABLE (post uuid, author uuid, created_at timestamptz, likes bigint, comments bigint, shares bigint)
LANGUAGE sql STABLE ROWS 500
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id, p.author_id, p.created_at, c.likes, c.comments, c.shares
    FROM (SELECT p.* FROM unnest(authors) AS a (id)
          CROSS JOIN LATERAL (
              SELECT p.id, p.author_id, p.created_at FROM posts p
              WHERE p.author_id = a.id AND p.deleted_at IS NULL
              ORDER BY p.created_at DESC, p.id DESC LIMIT apiece) p
          ORDER BY p.created_at DESC, p.id DESC LIMIT most) p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.likes), 0)::bigint AS likes, coalesce(sum(c.comments), 0)::bigint AS comments,
               coalesce(sum(c.shares), 0)::bigint AS shares
        FROM post_counts c WHERE c.post_id = p.id) c;
$$;

-- What was given most lately: of the newest `looked_at` that people did within a day.
CREATE FUNCTION feed_trending(looked_at bigint, most bigint)
RETURNS TABLE (post uuid, author uuid, created_at timestamptz, likes bigint, comments bigint, shares bigint)
LANGUAGE sql STABLE ROWS 200
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id, p.author_id, p.created_at, c.likes, c.comments, c.shares
    FROM (SELECT (e.attrs ->> 'post')::uuid AS post,
                 sum(CASE e.kind WHEN 50 THEN 1 WHEN 51 THEN -1 WHEN 52 THEN 2 WHEN 53 THEN 3 ELSE 0 END) AS given
          FROM (SELECT e.kind, e.attrs, e.created_at FROM entries e WHERE e.kind BETWEEN 48 AND 53
                ORDER BY e.txid DESC, e.log_id DESC, e.seq DESC LIMIT looked_at) e
          WHERE e.attrs @> '{"counted": true}' AND e.created_at > now() - interval '25 hours'
          GROUP BY 1 ORDER BY 2 DESC, 1 DESC LIMIT most) t
    CROSS JOIN LATERAL (SELECT * FROM posts p WHERE p.id = t.post AND p.deleted_at IS NULL LIMIT 1) p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.likes), 0)::bigint AS likes, coalesce(sum(c.comments), 0)::bigint AS comments,
               coalesce(sum(c.shares), 0)::bigint AS shares
        FROM post_counts c WHERE c.post_id = p.id) c;
$$;

-- The newest posts of those with whom the reader engages most, by the newest `looked_at` entries of his log.
CREATE FUNCTION feed_affinity(reader uuid, looked_at bigint, authors bigint, apiece bigint, most bigint)
RETURNS TABLE (
    post uuid, author uuid, created_at timestamptz, likes bigint, comments bigint, shares bigint, weight double precision)
LANGUAGE sql STABLE ROWS 300
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id, p.author_id, p.created_at, c.likes, c.comments, c.shares, p.weight
    FROM (SELECT p.*, a.weight
          FROM (SELECT (e.attrs ->> 'author')::uuid AS id,
                       sum(CASE e.kind WHEN 50 THEN 1 WHEN 51 THEN -1 WHEN 52 THEN 2 ELSE 3 END)::double precision AS weight
                FROM (SELECT e.kind, e.attrs FROM entries e WHERE e.log_id = reader ORDER BY e.seq DESC LIMIT looked_at) e
                WHERE e.kind BETWEEN 50 AND 53 AND e.attrs @> '{"counted": true}' AND (e.attrs ->> 'author')::uuid <> reader
                GROUP BY 1 HAVING sum(CASE e.kind WHEN 50 THEN 1 WHEN 51 THEN -1 WHEN 52 THEN 2 ELSE 3 END) > 0
                ORDER BY 2 DESC, 1 LIMIT authors) a
          CROSS JOIN LATERAL (
              SELECT p.id, p.author_id, p.created_at FROM posts p
              WHERE p.author_id = a.id AND p.deleted_at IS NULL
              ORDER BY p.created_at DESC, p.id DESC LIMIT apiece) p
          ORDER BY p.created_at DESC, p.id DESC LIMIT most) p
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.likes), 0)::bigint AS likes, coalesce(sum(c.comments), 0)::bigint AS comments,
               coalesce(sum(c.shares), 0)::bigint AS shares
        FROM post_counts c WHERE c.post_id = p.id) c;
$$;

-- The newest posts that a reader may see, his own too. It goes on until it has found as many, whatever lies between.
CREATE FUNCTION feed_newest(reader uuid, most bigint) RETURNS TABLE (post uuid)
LANGUAGE sql STABLE ROWS 50
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id FROM posts p
    WHERE p.deleted_at IS NULL
      AND (SELECT true FROM blocks b WHERE b.user_id = reader AND b.target_id = p.author_id LIMIT 1) IS NULL
      AND (SELECT true FROM blocks b WHERE b.user_id = p.author_id AND b.target_id = reader LIMIT 1) IS NULL
      AND (SELECT true FROM mutes m WHERE m.user_id = reader AND m.target_id = p.author_id LIMIT 1) IS NULL
    ORDER BY p.created_at DESC, p.id DESC LIMIT most;
$$;
