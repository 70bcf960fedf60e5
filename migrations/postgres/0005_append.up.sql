-- The one way into the log, and the one place where rights to a log are decided.

-- Makes users that are not known yet, each with the head of its own log. Sorted, so that two callers never wait for
-- each other.
CREATE FUNCTION ensure_users(ids uuid[]) RETURNS void LANGUAGE sql AS $$
    INSERT INTO users (id)
    SELECT DISTINCT i.id FROM unnest(ids) AS i (id)
    WHERE NOT EXISTS (SELECT FROM users u WHERE u.id = i.id)
    ORDER BY i.id ON CONFLICT DO NOTHING;
    INSERT INTO heads (log_id)
    SELECT DISTINCT i.id FROM unnest(ids) AS i (id)
    WHERE NOT EXISTS (SELECT FROM heads h WHERE h.log_id = i.id)
    ORDER BY i.id ON CONFLICT DO NOTHING;
$$;

-- What two people's conversation is found by, whoever of them asks.
CREATE FUNCTION direct_key(one uuid, other uuid) RETURNS text LANGUAGE sql IMMUTABLE
RETURN least(one, other)::text || ':' || greatest(one, other)::text;

-- Whether one of two people has blocked the other.
CREATE FUNCTION apart(one uuid, other uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM blocks b WHERE b.user_id = one AND b.target_id = other)
        OR EXISTS (SELECT FROM blocks b WHERE b.user_id = other AND b.target_id = one);
END $$;

-- Why a command on membership, roles, the conversation or a session is refused: an outcome of `append`, 0 for not at all.
-- `rank` is the actor's role in the conversation, NULL in a user log.
--
-- Owners and admins add, remove and rename; an admin removes plain members only, an owner everybody. Only an owner sets
-- roles. The last owner neither steps down nor leaves while others are there, so that a conversation is never without
-- one who can mend it. A direct conversation is its two people for good: none of this happens in it. Two of whom one has
-- blocked the other begin none.
CREATE FUNCTION append_refusal(what smallint, conversation uuid, actor uuid, rank smallint, d jsonb)
RETURNS smallint LANGUAGE plpgsql AS $$
DECLARE
    other      uuid := (d ->> 'user')::uuid;
    other_rank smallint;
    last_owner boolean;
BEGIN
    IF what = 36 THEN
        RETURN CASE WHEN d ->> 'session' IS NULL
                      OR EXISTS (SELECT FROM sessions s WHERE s.id = (d ->> 'session')::uuid AND s.user_id = actor)
                    THEN 0 ELSE 3 END;
    END IF;
    IF what = 37 THEN
        RETURN CASE WHEN EXISTS (SELECT FROM membership m WHERE m.conversation_id = (d ->> 'conversation')::uuid
                                   AND m.user_id = actor AND m.left_seq IS NULL)
                    THEN 0 ELSE 3 END;
    END IF;
    IF what = 22 THEN
        RETURN CASE WHEN (d ->> 'kind')::smallint = 1 AND apart(actor, (d -> 'members' ->> 0)::uuid) THEN 4 ELSE 0 END;
    END IF;

    IF (SELECT c.kind FROM conversations c WHERE c.id = conversation) = 1 THEN
        RETURN 4;
    END IF;
    IF what IN (23, 26) THEN
        RETURN CASE WHEN rank >= 1 THEN 0 ELSE 4 END;
    END IF;

    IF what = 25 AND rank < 2 OR what = 24 AND rank < 1 AND other <> actor THEN
        RETURN 4;
    END IF;
    SELECT m.role INTO other_rank FROM membership m
    WHERE m.conversation_id = conversation AND m.user_id = other AND m.left_seq IS NULL;
    IF other_rank IS NULL THEN
        RETURN 3;
    END IF;
    last_owner := other_rank = 2 AND NOT EXISTS (
        SELECT FROM membership m WHERE m.conversation_id = conversation AND m.left_seq IS NULL AND m.role = 2
                                   AND m.user_id <> other);
    IF what = 25 THEN
        RETURN CASE WHEN last_owner AND (d ->> 'role')::smallint < 2 THEN 4 ELSE 0 END;
    END IF;
    IF other <> actor THEN
        RETURN CASE WHEN rank = 2 OR other_rank < rank THEN 0 ELSE 4 END;
    END IF;
    RETURN CASE WHEN last_owner AND EXISTS (
        SELECT FROM membership m WHERE m.conversation_id = conversation AND m.left_seq IS NULL AND m.user_id <> other)
    THEN 4 ELSE 0 END;
END $$;

-- Stores a batch of commands. Every array but `logs` has one element for each command, in the order in which they came:
--   logs      all logs that the batch may touch, the users' that are named in it too: distinct, ascending, so that all
--             callers lock in one order; `log_at` says which of them (from 1) a command is for
--   kinds     the tag of the entry that the command makes on the wire (22 create, 24 remove or leave)
--   details   what becomes the entry's attrs
-- A batch holds, for each log, at most one command a target message, and a command of kinds 22 to 37 only as the last.
-- Kinds 48 and above (posts and people) are decided and done by `append_social`, one after the other.
--
-- Outcomes: 0 stored, 1 repeat, 2 id_reused, 3 not_found, 4 forbidden, 5 conflict, 6 too_late, 7 target_gone,
-- 8 epoch_changed. Exactly one row for each command whatever happens, in order, with `caused` false; before them one for
-- each entry that they caused in other logs, with `caused` true and the `ord` of the command that caused it.
--   version      at a conflict the target's current one
--   attrs, kind  as stored, for commands of kind 22 and above and for caused entries
-- It is meant to be called in autocommit: what it returns counts when the statement has ended without an error.
CREATE FUNCTION append(
    believed_epoch bigint, logs uuid[], log_at integer[], senders uuid[], sender_kinds smallint[], clients uuid[],
    crcs integer[], kinds smallint[], targets bigint[], versions bigint[], bodies text[], details jsonb[])
RETURNS TABLE (
    ord integer, outcome smallint, caused boolean, log_id uuid, seq bigint, message_no bigint, version bigint,
    created_at timestamptz, kind smallint, client_id uuid, attrs jsonb)
LANGUAGE plpgsql
SET lock_timeout = '2s'
-- Index probes from arrays and nothing else, so one plan fits all sizes: it is made once a session, perhaps while the table is
-- empty and one index as good as another. So that each probe of `entries` can use no other index than its own, it asks for
-- the order of that index (BETWEEN and ORDER BY), and sorting is too dear.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    now_at   timestamptz;
    xid      bigint;
    rare     boolean := 22 <= ANY (kinds);
    -- One for each of `logs`; NULL where there is no such log.
    bases    bigint[];
    numbers  bigint[];
    ats      timestamptz[];
    -- One for each command.
    olds     bigint[];
    firsts   integer[];
    ranks    smallint[];
    verdicts smallint[];
    seqs     bigint[];
    nos      bigint[];
    -- One for each entry that is caused in another log.
    c_ords   integer[] := '{}';
    c_logs   uuid[]    := '{}';
    c_kinds  smallint[] := '{}';
    c_attrs  jsonb[]   := '{}';
    i        integer;
    talk     conversations;
    deed     record;
BEGIN
    -- People who are named for the first time. A stranger to the conversation makes none.
    IF kinds && '{22,23}' THEN
        PERFORM ensure_users(ARRAY(
            SELECT m.id::uuid
            FROM unnest(log_at, senders, kinds, details) AS x (l, sender, kind, d),
                 jsonb_array_elements_text(x.d -> 'members') AS m (id)
            WHERE x.kind = 22 OR x.kind = 23 AND EXISTS (
                SELECT FROM membership m WHERE m.conversation_id = logs[x.l] AND m.user_id = x.sender
                                           AND m.left_seq IS NULL AND m.role >= 1)));
    END IF;

    -- 1. Lock, in one order for all writers. What follows are statements of their own, whose snapshots are younger.
    SELECT array_agg(h.last_seq), array_agg(h.last_message_no), array_agg(h.last_at) INTO bases, numbers, ats
    FROM unnest(logs) AS x (id)
    LEFT JOIN LATERAL (SELECT * FROM heads h WHERE h.log_id = x.id FOR UPDATE) h ON true;
    now_at := clock_timestamp();
    xid := pg_current_xact_id()::text::bigint;
    IF (SELECT max(e.epoch) FROM epochs e) IS DISTINCT FROM believed_epoch THEN
        RETURN QUERY SELECT x.o::integer, 8::smallint, false, NULL::uuid, NULL::bigint, NULL::bigint, NULL::bigint,
                            NULL::timestamptz, NULL::smallint, NULL::uuid, NULL::jsonb
                     FROM unnest(kinds) WITH ORDINALITY AS x (kind, o);
        RETURN;
    END IF;

    -- 2. Repeats: of what is stored, and of an earlier one of this batch. And what the sender is here.
    SELECT array_agg(q.old ORDER BY q.o), array_agg(q.first ORDER BY q.o), array_agg(q.rank ORDER BY q.o)
    INTO olds, firsts, ranks
    FROM (SELECT x.o,
                 min(x.o) OVER (PARTITION BY x.l, x.client, x.sender)::integer AS first,
                 (SELECT e.seq FROM entries e
                  WHERE e.log_id = logs[x.l] AND e.sender_id = x.sender AND e.client_id BETWEEN x.client AND x.client
                  ORDER BY e.client_id LIMIT 1) AS old,
                 (SELECT CASE WHEN m.blocked AND x.kind IN (16, 17, 19) THEN -1 ELSE m.role END::smallint FROM membership m
                  WHERE m.conversation_id = logs[x.l] AND m.user_id = x.sender AND m.left_seq IS NULL) AS rank
          FROM unnest(log_at, senders, clients, kinds) WITH ORDINALITY AS x (l, sender, client, kind, o)) q;

    -- 3. Rights. A user log is its user's alone. A log that was never the sender's is as good as none: nobody is told
    -- whether it exists. Nothing is said (a rank below 0) between two of whom one has blocked the other.
    SELECT array_agg(CASE WHEN bases[x.l] IS NULL THEN 3
                          WHEN x.kind IN (22, 36, 37) OR x.kind >= 48 THEN CASE WHEN logs[x.l] = x.sender THEN 0 ELSE 3 END
                          WHEN x.rank IS NULL THEN CASE WHEN EXISTS (
                              SELECT FROM membership m WHERE m.conversation_id = logs[x.l] AND m.user_id = x.sender)
                              THEN 4 ELSE 3 END
                          WHEN x.rank < 0 THEN 4
                          ELSE 0 END::smallint)
    INTO verdicts
    FROM unnest(log_at, senders, kinds, ranks) AS x (l, sender, kind, rank);

    IF 0 < ANY (targets) THEN
        SELECT array_agg(CASE WHEN x.verdict <> 0 OR x.target IS NULL THEN x.verdict ELSE coalesce((
            SELECT CASE WHEN x.kind = 17 AND t.sender_id <> x.sender THEN 4
                        WHEN x.kind = 18 AND t.sender_id <> x.sender AND x.rank = 0 THEN 4
                        -- Nobody reacts to what he can't see.
                        WHEN x.kind IN (19, 20) AND NOT EXISTS (
                            SELECT FROM membership m WHERE m.conversation_id = logs[x.l] AND m.user_id = x.sender
                               AND x.target BETWEEN m.joined_seq AND coalesce(m.left_seq, x.target))
                          AND NOT (SELECT c.history_visible FROM conversations c WHERE c.id = logs[x.l]) THEN 3
                        WHEN t.body IS NULL THEN 7
                        WHEN x.kind = 17 AND t.created_at < now_at - interval '24 hours' THEN 6
                        WHEN x.kind = 17 AND t.version <> x.version THEN 5
                        ELSE 0 END
            FROM entries t WHERE t.log_id = logs[x.l] AND t.seq BETWEEN x.target AND x.target AND t.kind = 16
            ORDER BY t.seq LIMIT 1), 3) END::smallint)
        INTO verdicts
        FROM unnest(log_at, senders, kinds, ranks, targets, versions, verdicts)
             AS x (l, sender, kind, rank, target, version, verdict);
    END IF;

    IF rare THEN
        FOR i IN SELECT x.o FROM unnest(kinds, olds, firsts, verdicts) WITH ORDINALITY AS x (kind, old, first, verdict, o)
                 WHERE x.kind >= 22 AND x.old IS NULL AND x.first = x.o AND x.verdict = 0 ORDER BY x.o
        LOOP
            IF kinds[i] >= 48 THEN
                deed := append_social(kinds[i], senders[i], details[i], bodies[i], greatest(ats[log_at[i]], now_at));
                verdicts[i] := deed.verdict;
                details[i] := deed.d;
                targets[i] := deed.target;
                c_ords := c_ords || array_fill(i, ARRAY[cardinality(deed.ended)]);
                c_logs := c_logs || deed.ended;
                c_kinds := c_kinds || array_fill(57::smallint, ARRAY[cardinality(deed.ended)]);
                c_attrs := c_attrs || deed.ended_attrs;
                CONTINUE;
            END IF;
            verdicts[i] := append_refusal(kinds[i], logs[log_at[i]], senders[i], ranks[i], details[i]);
            CONTINUE WHEN verdicts[i] <> 0 OR kinds[i] NOT IN (22, 23);
            -- Those who come: each once, none who is there.
            details[i] := details[i] || jsonb_build_object('members', (
                SELECT coalesce(jsonb_agg(DISTINCT m.id), '[]') FROM jsonb_array_elements_text(details[i] -> 'members') AS m (id)
                WHERE m.id::uuid <> senders[i] AND NOT EXISTS (
                    SELECT FROM membership p WHERE p.conversation_id = logs[log_at[i]] AND p.user_id = m.id::uuid
                                               AND p.left_seq IS NULL)));
            IF EXISTS (SELECT FROM jsonb_array_elements_text(details[i] -> 'members') AS m (id)
                       WHERE bases[array_position(logs, m.id::uuid)] IS NULL) THEN
                verdicts[i] := 3;
            ELSIF kinds[i] = 23 THEN
                verdicts[i] := CASE WHEN details[i] -> 'members' = '[]' THEN 5 ELSE 0 END;
            ELSIF (details[i] ->> 'kind')::smallint = 1 AND jsonb_array_length(details[i] -> 'members') <> 1 THEN
                verdicts[i] := 4;
            ELSE
                -- Both people's heads are locked, so nobody else makes this pair's conversation in between.
                INSERT INTO conversations (id, kind, history_visible, title, direct_key, creator_id, created_at)
                SELECT (d ->> 'conversation')::uuid, (d ->> 'kind')::smallint, (d ->> 'history_visible')::boolean, d ->> 'title',
                       CASE WHEN (d ->> 'kind')::smallint = 1 THEN direct_key(senders[i], (d -> 'members' ->> 0)::uuid) END,
                       senders[i], now_at
                FROM (SELECT details[i]) AS x (d)
                ON CONFLICT (direct_key) DO NOTHING;
                IF NOT FOUND THEN
                    verdicts[i] := 1;
                END IF;
            END IF;
        END LOOP;
    END IF;

    -- 4. Number what is stored, dense within its log.
    SELECT array_agg(CASE WHEN q.fresh THEN bases[q.l] + q.n END ORDER BY q.o),
           array_agg(CASE WHEN q.fresh THEN numbers[q.l] + q.m END ORDER BY q.o)
    INTO seqs, nos
    FROM (SELECT w.o, w.l, w.fresh,
                 count(*) FILTER (WHERE w.fresh) OVER before AS n,
                 count(*) FILTER (WHERE w.fresh AND w.kind = 16) OVER before AS m
          FROM (SELECT x.o, x.l, x.kind, x.old IS NULL AND x.first = x.o AND x.verdict = 0 AS fresh
                FROM unnest(log_at, kinds, olds, firsts, verdicts) WITH ORDINALITY AS x (l, kind, old, first, verdict, o)) w
          WINDOW before AS (PARTITION BY w.l ORDER BY w.o ROWS UNBOUNDED PRECEDING)) q;

    -- 5. Store.
    UPDATE heads h
    SET last_seq = t.top, last_message_no = t.no, last_message_seq = coalesce(t.message, h.last_message_seq), last_at = t.at
    FROM (SELECT x.l, max(x.seq) AS top, max(x.no) AS no, max(x.seq) FILTER (WHERE x.kind = 16) AS message,
                 greatest(ats[x.l], now_at) AS at
          FROM unnest(log_at, seqs, nos, kinds) AS x (l, seq, no, kind) WHERE x.seq IS NOT NULL GROUP BY x.l) t
    WHERE h.log_id = logs[t.l];

    IF rare THEN
        FOR i IN SELECT x.o FROM unnest(kinds, seqs) WITH ORDINALITY AS x (kind, seq, o)
                 WHERE x.kind >= 22 AND x.seq IS NOT NULL ORDER BY x.o
        LOOP
            IF kinds[i] = 22 THEN
                SELECT * INTO talk FROM conversations c WHERE c.id = (details[i] ->> 'conversation')::uuid;
                INSERT INTO heads (log_id, last_at) VALUES (talk.id, now_at);
                INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq, role)
                VALUES (talk.id, senders[i], 1, seqs[i], CASE WHEN talk.kind = 1 THEN 0 ELSE 2 END);
                INSERT INTO read_positions (user_id, conversation_id, seq, message_no) VALUES (senders[i], talk.id, 1, 0);
                c_ords := c_ords || i;
                c_logs := c_logs || talk.id;
                c_kinds := c_kinds || 22::smallint;
                c_attrs := c_attrs || jsonb_strip_nulls(jsonb_build_object(
                    'kind', talk.kind, 'title', talk.title, 'members', details[i] -> 'members'));
            ELSIF kinds[i] = 23 THEN
                SELECT * INTO talk FROM conversations c WHERE c.id = logs[log_at[i]];
            ELSIF kinds[i] = 24 THEN
                UPDATE membership m SET left_seq = seqs[i]
                WHERE m.conversation_id = logs[log_at[i]] AND m.user_id = (details[i] ->> 'user')::uuid AND m.left_seq IS NULL;
                c_ords := c_ords || i;
                c_logs := c_logs || (details[i] ->> 'user')::uuid;
                c_kinds := c_kinds || 33::smallint;
                c_attrs := c_attrs || jsonb_build_object('conversation', logs[log_at[i]], 'conversation_seq', seqs[i]);
            ELSIF kinds[i] = 25 THEN
                UPDATE membership m SET role = (details[i] ->> 'role')::smallint
                WHERE m.conversation_id = logs[log_at[i]] AND m.user_id = (details[i] ->> 'user')::uuid AND m.left_seq IS NULL;
                c_ords := c_ords || i;
                c_logs := c_logs || (details[i] ->> 'user')::uuid;
                c_kinds := c_kinds || 34::smallint;
                c_attrs := c_attrs || jsonb_build_object('conversation', logs[log_at[i]], 'role', details[i] -> 'role');
            ELSIF kinds[i] = 26 THEN
                UPDATE conversations c SET title = details[i] ->> 'title' WHERE c.id = logs[log_at[i]];
            ELSIF kinds[i] = 36 THEN
                UPDATE sessions s SET revoked_at = now_at
                WHERE s.user_id = senders[i] AND s.revoked_at IS NULL
                  AND (details[i] ->> 'session' IS NULL OR s.id = (details[i] ->> 'session')::uuid);
                UPDATE users u SET sessions_revoked_before = now_at
                WHERE u.id = senders[i] AND details[i] ->> 'session' IS NULL;
            ELSIF kinds[i] = 48 THEN
                INSERT INTO posts (id, author_id, seq, body, attrs, created_at)
                VALUES ((details[i] ->> 'post')::uuid, senders[i], seqs[i], bodies[i],
                        nullif(details[i] - '{post,author,counted}'::text[], '{}'),
                        date_trunc('milliseconds', greatest(ats[log_at[i]], now_at)));
            ELSIF kinds[i] = 37 THEN
                UPDATE membership m SET muted = (details[i] ->> 'muted')::boolean
                WHERE m.conversation_id = (details[i] ->> 'conversation')::uuid AND m.user_id = senders[i] AND m.left_seq IS NULL;
            END IF;
            IF kinds[i] IN (22, 23) THEN
                SELECT c_ords || array_agg(i), c_logs || array_agg(m.id::uuid), c_kinds || array_agg(32::smallint),
                       c_attrs || array_agg(jsonb_strip_nulls(jsonb_build_object(
                           'conversation', talk.id, 'kind', talk.kind, 'title', talk.title,
                           'conversation_seq', CASE WHEN kinds[i] = 22 THEN 1 ELSE seqs[i] END)))
                INTO c_ords, c_logs, c_kinds, c_attrs
                FROM jsonb_array_elements_text(details[i] -> 'members') AS m (id);
            END IF;
            IF kinds[i] = 22 THEN
                -- In the creator's own log this is a `joined` like everyone's, under the client_id of the command.
                kinds[i] := 32;
                details[i] := jsonb_strip_nulls(jsonb_build_object(
                    'conversation', talk.id, 'kind', talk.kind, 'title', talk.title, 'conversation_seq', 1));
            END IF;
        END LOOP;
    END IF;

    IF 48 <= ANY (kinds) THEN
        PERFORM append_counts(kinds, senders, details, seqs, c_logs, c_kinds, c_attrs);
    END IF;

    INSERT INTO entries (log_id, seq, message_no, version, target_seq, txid, created_at, sender_id, client_id, payload_crc,
                         kind, sender_kind, body, attrs)
    SELECT logs[x.l], x.seq, x.no, x.seq, x.target, xid, greatest(ats[x.l], now_at), x.sender, x.client, x.crc,
           x.kind, x.sender_kind, CASE WHEN x.kind IN (16, 48, 52) THEN x.body END, x.d
    FROM unnest(log_at, seqs, nos, targets, senders, clients, crcs, kinds, sender_kinds, bodies, details)
         AS x (l, seq, no, target, sender, client, crc, kind, sender_kind, body, d)
    WHERE x.seq IS NOT NULL;

    IF 0 < ANY (targets) THEN
        UPDATE entries t
        SET version = x.seq, body = CASE WHEN x.kind = 17 THEN x.body END,
            attrs = CASE WHEN x.kind = 17 THEN t.attrs ELSE t.attrs - '{mentions,attachments,app}'::text[] END
        FROM (SELECT w.seq, w.kind, w.body, (SELECT e.ctid FROM entries e
                                             WHERE e.log_id = logs[w.l] AND e.seq BETWEEN w.target AND w.target
                                             ORDER BY e.seq LIMIT 1) AS place
              FROM unnest(log_at, seqs, targets, kinds, bodies) AS w (l, seq, target, kind, body)
              WHERE w.kind IN (17, 18, 49) AND w.seq IS NOT NULL OFFSET 0) x
        WHERE t.ctid = x.place;
    END IF;

    -- Who is mentioned and is here; a list too long to be meant for each names nobody.
    IF EXISTS (SELECT FROM unnest(details) AS x (d) WHERE x.d ? 'mentions') THEN
        SELECT c_ords || array_agg(q.o), c_logs || array_agg(q.id), c_kinds || array_agg(35::smallint), c_attrs || array_agg(q.a)
        INTO c_ords, c_logs, c_kinds, c_attrs
        FROM (SELECT DISTINCT x.o::integer, m.id::uuid, jsonb_build_object('conversation', logs[x.l], 'conversation_seq', x.seq) AS a
              FROM unnest(log_at, senders, kinds, seqs, details) WITH ORDINALITY AS x (l, sender, kind, seq, d, o),
                   jsonb_array_elements_text(x.d -> 'mentions') AS m (id)
              WHERE x.kind = 16 AND x.seq IS NOT NULL AND jsonb_array_length(x.d -> 'mentions') <= 32 AND m.id::uuid <> x.sender
                AND EXISTS (SELECT FROM membership p WHERE p.conversation_id = logs[x.l] AND p.user_id = m.id::uuid
                                                       AND p.left_seq IS NULL)
                AND bases[array_position(logs, m.id::uuid)] IS NOT NULL) AS q (o, id, a);
    END IF;

    IF cardinality(c_ords) > 0 THEN
        RETURN QUERY
        WITH numbered AS (
            SELECT c.o, c.log, c.kind, c.a, h.last_message_no, greatest(h.last_at, now_at) AS at, gen_random_uuid() AS client,
                   h.last_seq + row_number() OVER (PARTITION BY c.log ORDER BY c.n) AS seq
            FROM unnest(c_ords, c_logs, c_kinds, c_attrs) WITH ORDINALITY AS c (o, log, kind, a, n)
            -- A plain join may walk all heads in the order of the window, to spare a sort.
            CROSS JOIN LATERAL (SELECT * FROM heads h WHERE h.log_id = c.log OFFSET 0) h),
        moved AS (
            UPDATE heads h SET last_seq = t.top, last_at = t.at
            FROM (SELECT n.log, max(n.seq) AS top, max(n.at) AS at FROM numbered n GROUP BY n.log) t
            WHERE h.log_id = t.log),
        written AS (
            INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, kind, sender_kind, attrs)
            SELECT n.log, n.seq, n.last_message_no, n.seq, xid, n.at, senders[n.o], n.client, n.kind, sender_kinds[n.o], n.a
            FROM numbered n),
        come AS (
            INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq)
            SELECT (n.a ->> 'conversation')::uuid, n.log, (n.a ->> 'conversation_seq')::bigint, n.seq
            FROM numbered n WHERE n.kind = 32),
        read_so_far AS (
            INSERT INTO read_positions AS r (user_id, conversation_id, seq, message_no)
            SELECT n.log, (n.a ->> 'conversation')::uuid, (n.a ->> 'conversation_seq')::bigint, nos[n.o]
            FROM numbered n WHERE n.kind = 32
            ON CONFLICT (user_id, conversation_id)
            DO UPDATE SET seq = greatest(r.seq, excluded.seq), message_no = greatest(r.message_no, excluded.message_no))
        SELECT n.o, 0::smallint, true, n.log, n.seq, n.last_message_no, NULL::bigint, n.at, n.kind, n.client, n.a
        FROM numbered n ORDER BY n.log, n.seq;
    END IF;

    IF rare THEN
        -- A direct conversation that was there, made perhaps in this batch: the answer is its creator's `joined` of then.
        FOR i IN SELECT x.o FROM unnest(kinds, verdicts) WITH ORDINALITY AS x (kind, verdict, o) WHERE x.kind = 22 AND x.verdict = 1
        LOOP
            olds[i] := (SELECT m.user_seq FROM conversations c JOIN membership m ON m.conversation_id = c.id
                        WHERE m.user_id = senders[i] AND c.direct_key = direct_key(senders[i], (details[i] -> 'members' ->> 0)::uuid));
        END LOOP;
    END IF;

    RETURN QUERY
    SELECT x.o::integer, x.result::smallint, false, NULL::uuid, coalesce(x.seq, x.old, seqs[x.first]),
           coalesce(x.no, x.old_no, nos[x.first]),
           CASE WHEN x.result = 5 THEN (SELECT t.version FROM entries t
                                    WHERE t.log_id = logs[x.l] AND t.seq BETWEEN x.target AND x.target
                                    ORDER BY t.seq LIMIT 1) END,
           CASE WHEN x.result < 2 THEN coalesce(x.old_at, greatest(ats[x.l], now_at)) END,
           CASE WHEN x.kind >= 22 THEN coalesce(x.old_kind, x.kind) END, NULL::uuid,
           CASE WHEN x.result < 2 AND x.kind >= 22 THEN
               CASE WHEN x.old_kind = 32 THEN
                   -- Whoever creates what is there follows it from its end.
                   x.old_attrs || jsonb_build_object('conversation_seq', (
                       SELECT h.last_seq FROM heads h WHERE h.log_id = (x.old_attrs ->> 'conversation')::uuid))
               ELSE coalesce(x.old_attrs, details[x.first]) END
           END
    FROM (SELECT w.*, e.message_no AS old_no, e.created_at AS old_at, e.kind AS old_kind, e.attrs AS old_attrs,
                 CASE WHEN w.seq IS NOT NULL THEN 0
                      WHEN w.old IS NOT NULL THEN
                          CASE WHEN w.verdict = 1 OR e.payload_crc IS NULL OR e.payload_crc = w.crc THEN 1 ELSE 2 END
                      WHEN w.first = w.o THEN w.verdict
                      WHEN crcs[w.first] <> w.crc THEN 2
                      ELSE greatest(verdicts[w.first], 1) END AS result
          FROM unnest(log_at, kinds, crcs, targets, olds, firsts, verdicts, seqs, nos, details)
               WITH ORDINALITY AS w (l, kind, crc, target, old, first, verdict, seq, no, d, o)
          LEFT JOIN LATERAL (SELECT * FROM entries e WHERE e.log_id = logs[w.l] AND e.seq BETWEEN w.old AND w.old
                             ORDER BY e.seq LIMIT 1) e ON w.old IS NOT NULL) AS x
    ORDER BY x.o;
END $$;
