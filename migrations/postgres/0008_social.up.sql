-- Posts, people and who follows whom. All of it is written by `append` alone, each command under the lock of its actor's
-- user log, where it is an entry. Times are whole milliseconds: clients page by them.

ALTER TABLE users ADD COLUMN avatar_url text NOT NULL DEFAULT '', ADD COLUMN bio text NOT NULL DEFAULT '';

CREATE TABLE posts (
    id         uuid        PRIMARY KEY,
    author_id  uuid        NOT NULL,
    -- Of the `posted` entry in the author's log.
    seq        bigint      NOT NULL,
    -- Empty once it was deleted, and attrs NULL.
    body       text        NOT NULL,
    attrs      jsonb,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
-- An author's posts, newest first, as a range of the index: no sort, nothing that is not shown.
CREATE INDEX posts_author ON posts (author_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;

CREATE TABLE post_likes (
    post_id    uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (post_id, user_id)
);
CREATE TABLE post_shares (
    post_id    uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (post_id, user_id)
);
CREATE TABLE comments (
    id         uuid        PRIMARY KEY,
    post_id    uuid        NOT NULL,
    author_id  uuid        NOT NULL,
    body       text        NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX comments_post ON comments (post_id, created_at DESC, id DESC);

CREATE TABLE follows (
    follower_id uuid        NOT NULL,
    followee_id uuid        NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (follower_id, followee_id)
);
CREATE INDEX follows_followees ON follows (follower_id, created_at DESC, followee_id DESC);
CREATE INDEX follows_followers ON follows (followee_id, created_at DESC, follower_id DESC);

CREATE TABLE mutes (
    user_id    uuid        NOT NULL,
    target_id  uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, target_id)
);
CREATE INDEX mutes_newest ON mutes (user_id, created_at DESC, target_id DESC);

-- Counts are sums over slots. Each connection adds to a slot of its own, so that those who like one post at the same time
-- do not wait for each other; a slot may be negative, a sum is exact.
CREATE TABLE post_counts (
    post_id  uuid     NOT NULL,
    slot     smallint NOT NULL CHECK (slot BETWEEN 0 AND 15),
    likes    bigint   NOT NULL,
    comments bigint   NOT NULL,
    shares   bigint   NOT NULL,
    PRIMARY KEY (post_id, slot)
) WITH (fillfactor = 50);
CREATE TABLE user_counts (
    user_id   uuid     NOT NULL,
    slot      smallint NOT NULL CHECK (slot BETWEEN 0 AND 15),
    followers bigint   NOT NULL,
    followees bigint   NOT NULL,
    posts     bigint   NOT NULL,
    PRIMARY KEY (user_id, slot)
) WITH (fillfactor = 50);

-- One command of kind 48 and above, decided and done; what waits for its seq (the post itself, the counts) is left to
-- `append`, which alone calls this. `d` comes back with the author of the post, and with `counted` exactly when
-- something changed. `target` is the entry that a deletion empties. `ended` are those whose following a block ended, with
-- the attrs of the entry that tells each of them.
--
-- Who follows whom is changed under the lock of the follower's log, by a block too, which holds both logs: so nobody
-- follows one who blocks him in the same moment.
CREATE FUNCTION append_social(
    what smallint, actor uuid, INOUT d jsonb, body text, at timestamptz,
    OUT verdict smallint, OUT target bigint, OUT ended uuid[], OUT ended_attrs jsonb[])
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    now_at  timestamptz := date_trunc('milliseconds', at);
    other   uuid := (d ->> 'user')::uuid;
    post    posts;
    person  users;
    changed boolean := true;
BEGIN
    verdict := 0;
    ended := '{}';
    ended_attrs := '{}';

    IF what = 48 THEN
        d := d || jsonb_build_object('author', actor);
    ELSIF what BETWEEN 49 AND 53 THEN
        SELECT * INTO post FROM posts p WHERE p.id = (d ->> 'post')::uuid;
        IF post.id IS NULL OR what <> 49 AND apart(actor, post.author_id) THEN
            verdict := 3;
        ELSIF what = 49 AND post.author_id <> actor THEN
            verdict := 4;
        ELSIF what IN (50, 52, 53) AND post.deleted_at IS NOT NULL THEN
            verdict := 7;
        END IF;
        IF verdict <> 0 THEN
            RETURN;
        END IF;
        d := d || jsonb_build_object('author', post.author_id);
        IF what = 49 THEN
            UPDATE posts p SET deleted_at = now_at, body = '', attrs = NULL WHERE p.id = post.id AND p.deleted_at IS NULL;
            changed := FOUND;
            IF changed THEN
                target := post.seq;
                d := d || jsonb_build_object('posted_seq', post.seq);
            END IF;
        ELSIF what = 50 THEN
            INSERT INTO post_likes (post_id, user_id, created_at) VALUES (post.id, actor, now_at) ON CONFLICT DO NOTHING;
            changed := FOUND;
        ELSIF what = 51 THEN
            DELETE FROM post_likes l WHERE l.post_id = post.id AND l.user_id = actor;
            changed := FOUND;
        ELSIF what = 52 THEN
            INSERT INTO comments (id, post_id, author_id, body, created_at)
            VALUES ((d ->> 'comment')::uuid, post.id, actor, append_social.body, now_at);
        ELSE
            INSERT INTO post_shares (post_id, user_id, created_at) VALUES (post.id, actor, now_at) ON CONFLICT DO NOTHING;
            changed := FOUND;
        END IF;
    ELSIF what = 62 THEN
        UPDATE users u SET display_name = coalesce(d ->> 'display_name', u.display_name),
                           avatar_url = coalesce(d ->> 'avatar_url', u.avatar_url), bio = coalesce(d ->> 'bio', u.bio)
        WHERE u.id = actor RETURNING * INTO person;
        d := jsonb_build_object('display_name', person.display_name, 'avatar_url', person.avatar_url, 'bio', person.bio);
    ELSE
        IF NOT EXISTS (SELECT FROM users u WHERE u.id = other) THEN
            verdict := 3;
        ELSIF what = 56 AND apart(actor, other) THEN
            verdict := 4;
        END IF;
        IF verdict <> 0 THEN
            RETURN;
        END IF;
        IF what = 56 THEN
            INSERT INTO follows (follower_id, followee_id, created_at) VALUES (actor, other, now_at) ON CONFLICT DO NOTHING;
        ELSIF what = 57 THEN
            DELETE FROM follows f WHERE f.follower_id = actor AND f.followee_id = other;
        ELSIF what = 58 THEN
            INSERT INTO blocks (user_id, target_id, created_at) VALUES (actor, other, now_at) ON CONFLICT DO NOTHING;
        ELSIF what = 59 THEN
            DELETE FROM blocks b WHERE b.user_id = actor AND b.target_id = other;
        ELSIF what = 60 THEN
            INSERT INTO mutes (user_id, target_id, created_at) VALUES (actor, other, now_at) ON CONFLICT DO NOTHING;
        ELSE
            DELETE FROM mutes m WHERE m.user_id = actor AND m.target_id = other;
        END IF;
        changed := FOUND;
        IF changed AND what IN (58, 59) THEN
            UPDATE membership m SET blocked = apart(actor, other)
            WHERE m.conversation_id = (SELECT c.id FROM conversations c WHERE c.direct_key = direct_key(actor, other));
        END IF;
        IF changed AND what = 58 THEN
            WITH gone AS (
                DELETE FROM follows f USING (VALUES (actor, other), (other, actor)) AS pair (one, two)
                WHERE f.follower_id = pair.one AND f.followee_id = pair.two RETURNING f.follower_id, f.followee_id)
            SELECT coalesce(array_agg(g.follower_id), '{}'),
                   coalesce(array_agg(jsonb_build_object('user', g.followee_id, 'counted', true)), '{}')
            INTO ended, ended_attrs FROM gone g;
        END IF;
    END IF;
    IF changed THEN
        d := d || '{"counted": true}';
    END IF;
END $$;

-- Adds what a batch stored to the counts: the commands, and the followings that its blocks ended. In the order of the
-- rows, so that two batches never wait for each other.
CREATE FUNCTION append_counts(
    kinds smallint[], actors uuid[], details jsonb[], seqs bigint[], c_logs uuid[], c_kinds smallint[], c_attrs jsonb[])
RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO post_counts AS c (post_id, slot, likes, comments, shares)
    SELECT x.post, pg_backend_pid() & 15, sum((x.kind = 50)::int - (x.kind = 51)::int), sum((x.kind = 52)::int),
           sum((x.kind = 53)::int)
    FROM (SELECT x.kind, (x.d ->> 'post')::uuid AS post FROM unnest(kinds, details, seqs) AS x (kind, d, seq)
          WHERE x.kind BETWEEN 50 AND 53 AND x.seq IS NOT NULL AND x.d ? 'counted') x
    GROUP BY x.post ORDER BY x.post
    ON CONFLICT (post_id, slot) DO UPDATE
    SET likes = c.likes + excluded.likes, comments = c.comments + excluded.comments, shares = c.shares + excluded.shares;

    INSERT INTO user_counts AS c (user_id, slot, followers, followees, posts)
    SELECT n.id, pg_backend_pid() & 15, sum(n.followers), sum(n.followees), sum(n.posts)
    FROM (SELECT x.kind, x.actor, (x.d ->> 'user')::uuid AS other
          FROM unnest(kinds, actors, details, seqs) AS x (kind, actor, d, seq)
          WHERE x.kind IN (48, 49, 56, 57) AND x.seq IS NOT NULL AND x.d ? 'counted'
          UNION ALL
          SELECT x.kind, x.actor, (x.d ->> 'user')::uuid FROM unnest(c_kinds, c_logs, c_attrs) AS x (kind, actor, d)
          WHERE x.kind = 57) x
    CROSS JOIN LATERAL (
        SELECT x.actor, 0, (x.kind = 56)::int - (x.kind = 57)::int, (x.kind = 48)::int - (x.kind = 49)::int
        UNION ALL
        SELECT x.other, (x.kind = 56)::int - (x.kind = 57)::int, 0, 0 WHERE x.other IS NOT NULL) AS n (id, followers, followees, posts)
    GROUP BY n.id ORDER BY n.id
    ON CONFLICT (user_id, slot) DO UPDATE
    SET followers = c.followers + excluded.followers, followees = c.followees + excluded.followees,
        posts = c.posts + excluded.posts;
END $$;

-- The reads, as functions so that they carry the planner's settings: an index in its order, never a sort or a scan of a table,
-- whether or not it was ever analysed. A page is what stands behind a place, by time and id.

-- Posts as everybody sees them, deleted ones too (without their text).
CREATE FUNCTION read_posts(ids uuid[])
RETURNS TABLE (
    id uuid, author_id uuid, display_name text, avatar_url text, body text, attrs jsonb, created_at timestamptz,
    likes bigint, comments bigint, shares bigint, deleted boolean)
LANGUAGE sql STABLE ROWS 50
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id, p.author_id, u.display_name, u.avatar_url, p.body, p.attrs, p.created_at,
           c.likes, c.comments, c.shares, p.deleted_at IS NOT NULL
    FROM unnest(ids) AS x (id)
    CROSS JOIN LATERAL (SELECT * FROM posts p WHERE p.id = x.id LIMIT 1) p
    CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.author_id LIMIT 1) u
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.likes), 0)::bigint AS likes, coalesce(sum(c.comments), 0)::bigint AS comments,
               coalesce(sum(c.shares), 0)::bigint AS shares
        FROM post_counts c WHERE c.post_id = p.id) c;
$$;

-- What each of these posts has to do with the reader beside it, by its place in the lists; no row for what is no post. One
-- probe a question: as joins they could walk all that a reader blocks, for each post.
CREATE FUNCTION read_regards(readers uuid[], ids uuid[])
RETURNS TABLE (place bigint, author_id uuid, apart boolean, muted boolean, liked boolean)
LANGUAGE sql STABLE ROWS 50
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT x.place, p.author_id,
           coalesce((SELECT true FROM blocks b WHERE b.user_id = x.reader AND b.target_id = p.author_id LIMIT 1),
                    (SELECT true FROM blocks b WHERE b.user_id = p.author_id AND b.target_id = x.reader LIMIT 1), false),
           (SELECT true FROM mutes m WHERE m.user_id = x.reader AND m.target_id = p.author_id LIMIT 1) IS NOT NULL,
           (SELECT true FROM post_likes l WHERE l.post_id = p.id AND l.user_id = x.reader LIMIT 1) IS NOT NULL
    FROM unnest(readers, ids) WITH ORDINALITY AS x (reader, id, place)
    CROSS JOIN LATERAL (SELECT p.id, p.author_id FROM posts p WHERE p.id = x.id LIMIT 1) p;
$$;

CREATE FUNCTION read_posts_by(reader uuid, author uuid, before_at timestamptz, before_id uuid, most bigint)
RETURNS TABLE (
    id uuid, author_id uuid, display_name text, avatar_url text, body text, attrs jsonb, created_at timestamptz,
    likes bigint, comments bigint, shares bigint, liked boolean)
LANGUAGE sql STABLE ROWS 50
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT p.id, p.author_id, u.display_name, u.avatar_url, p.body, p.attrs, p.created_at,
           c.likes, c.comments, c.shares, EXISTS (SELECT FROM post_likes l WHERE l.post_id = p.id AND l.user_id = reader)
    FROM (SELECT * FROM posts p
          WHERE p.author_id = author AND p.deleted_at IS NULL AND (p.created_at, p.id) < (before_at, before_id)
          ORDER BY p.created_at DESC, p.id DESC LIMIT most) p
    CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.author_id LIMIT 1) u
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(c.likes), 0)::bigint AS likes, coalesce(sum(c.comments), 0)::bigint AS comments,
               coalesce(sum(c.shares), 0)::bigint AS shares
        FROM post_counts c WHERE c.post_id = p.id) c
    ORDER BY p.created_at DESC, p.id DESC;
$$;

CREATE FUNCTION read_comments(reader uuid, post uuid, before_at timestamptz, before_id uuid, most bigint)
RETURNS TABLE (id uuid, author_id uuid, display_name text, avatar_url text, body text, created_at timestamptz)
LANGUAGE sql STABLE ROWS 50
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
    SELECT c.id, c.author_id, u.display_name, u.avatar_url, c.body, c.created_at
    FROM (SELECT * FROM comments c
          WHERE c.post_id = post AND (c.created_at, c.id) < (before_at, before_id)
            -- One probe a comment: as a join it could walk all that the reader blocks, for each.
            AND (SELECT true FROM blocks b WHERE b.user_id = reader AND b.target_id = c.author_id LIMIT 1) IS NULL
            AND (SELECT true FROM blocks b WHERE b.user_id = c.author_id AND b.target_id = reader LIMIT 1) IS NULL
          ORDER BY c.created_at DESC, c.id DESC LIMIT most) c
    CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = c.author_id LIMIT 1) u
    ORDER BY c.created_at DESC, c.id DESC;
$$;

-- `which` as PeopleKind on the wire: 0 followers, 1 followees, 2 blocked, 3 muted.
CREATE FUNCTION read_people(which smallint, whose uuid, before_at timestamptz, before_id uuid, most bigint)
RETURNS TABLE (id uuid, display_name text, avatar_url text, since timestamptz)
LANGUAGE plpgsql STABLE ROWS 50
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off AS $$
#variable_conflict use_column
BEGIN
    IF which = 0 THEN
        RETURN QUERY SELECT u.id, u.display_name, u.avatar_url, p.created_at FROM (
            SELECT * FROM follows f WHERE f.followee_id = whose AND (f.created_at, f.follower_id) < (before_at, before_id)
            ORDER BY f.created_at DESC, f.follower_id DESC LIMIT most) p
            CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.follower_id LIMIT 1) u
            ORDER BY p.created_at DESC, p.follower_id DESC;
    ELSIF which = 1 THEN
        RETURN QUERY SELECT u.id, u.display_name, u.avatar_url, p.created_at FROM (
            SELECT * FROM follows f WHERE f.follower_id = whose AND (f.created_at, f.followee_id) < (before_at, before_id)
            ORDER BY f.created_at DESC, f.followee_id DESC LIMIT most) p
            CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.followee_id LIMIT 1) u
            ORDER BY p.created_at DESC, p.followee_id DESC;
    ELSIF which = 2 THEN
        RETURN QUERY SELECT u.id, u.display_name, u.avatar_url, p.created_at FROM (
            SELECT * FROM blocks b WHERE b.user_id = whose AND (b.created_at, b.target_id) < (before_at, before_id)
            ORDER BY b.created_at DESC, b.target_id DESC LIMIT most) p
            CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.target_id LIMIT 1) u
            ORDER BY p.created_at DESC, p.target_id DESC;
    ELSE
        RETURN QUERY SELECT u.id, u.display_name, u.avatar_url, p.created_at FROM (
            SELECT * FROM mutes m WHERE m.user_id = whose AND (m.created_at, m.target_id) < (before_at, before_id)
            ORDER BY m.created_at DESC, m.target_id DESC LIMIT most) p
            CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.id = p.target_id LIMIT 1) u
            ORDER BY p.created_at DESC, p.target_id DESC;
    END IF;
END $$;
