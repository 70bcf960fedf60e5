-- How far engagement (kinds 48 to 53 of user logs) was handed to ClickHouse. One row; whoever holds it exports, until a
-- lease that is not renewed ends.
CREATE TABLE feed_export (
    one         boolean     PRIMARY KEY DEFAULT true CHECK (one),
    holder      uuid,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    -- All that is visible in this snapshot is exported.
    done        pg_snapshot NOT NULL DEFAULT '1:1:',
    -- The round under way: what is visible in `upto` and not in `done`, in order of (txid, log_id, seq). NULL: none.
    upto        pg_snapshot,
    -- Where the batches of the round that are stored end.
    after_txid  bigint      NOT NULL DEFAULT 0,
    after_log   uuid        NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    after_seq   bigint      NOT NULL DEFAULT 0,
    -- Where the batch in flight ends. While it is set, nobody knows whether that batch was stored, and whoever goes on sends
    -- exactly this one again. NULL: none.
    to_txid     bigint,
    to_log      uuid,
    to_seq      bigint
);
INSERT INTO feed_export DEFAULT VALUES;

-- Takes or renews the lease, and begins a round if none is under way. No row: another node holds it. The row is locked
-- before the snapshot is taken, so that a round never begins before the one that another node has just ended.
CREATE FUNCTION hold_feed_export(node uuid, lease_ms double precision) RETURNS SETOF feed_export LANGUAGE plpgsql AS $$
DECLARE
    state feed_export;
    now_s pg_snapshot;
BEGIN
    IF NOT EXISTS (SELECT FROM feed_export f WHERE f.holder = node OR f.lease_until < clock_timestamp()) THEN
        RETURN;
    END IF;
    SELECT * INTO state FROM feed_export FOR UPDATE;
    IF state.holder IS DISTINCT FROM node AND state.lease_until >= clock_timestamp() THEN
        RETURN;
    END IF;
    now_s := pg_current_snapshot();
    IF pg_snapshot_xmax(coalesce(state.upto, state.done)) > pg_snapshot_xmax(now_s) THEN
        -- Of another cluster, after a restore: it would hide what this one commits. All goes on from here.
        UPDATE feed_export SET done = now_s, upto = NULL, to_txid = NULL, to_log = NULL, to_seq = NULL;
        state.upto := NULL;
    END IF;
    IF state.upto IS NULL THEN
        UPDATE feed_export SET upto = now_s, after_txid = DEFAULT, after_log = DEFAULT, after_seq = DEFAULT;
    END IF;
    RETURN QUERY UPDATE feed_export SET holder = node, lease_until = clock_timestamp() + lease_ms * interval '1 ms'
                 RETURNING feed_export.*;
END $$;

-- The engagement of a round that took effect: after one place, up to another or as many as asked for. `done_open` and
-- `upto_open` are the transactions that were in progress in the two snapshots. Two reads of the index, each in its order.
CREATE FUNCTION engagement(
    done_xmax bigint, done_open bigint[], upto_xmax bigint, upto_open bigint[],
    after_txid bigint, after_log uuid, after_seq bigint, to_txid bigint, to_log uuid, to_seq bigint, at_most integer)
RETURNS TABLE (
    txid bigint, log_id uuid, seq bigint, kind smallint, actor uuid, created_at timestamptz, post text, author text)
LANGUAGE sql STABLE ROWS 1000
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off AS $$
    SELECT f.* FROM (
        (SELECT e.txid, e.log_id, e.seq, e.kind, e.sender_id, e.created_at, e.attrs ->> 'post', e.attrs ->> 'author'
         FROM entries e
         WHERE e.kind BETWEEN 48 AND 53 AND e.attrs @> '{"counted": true}'
           AND e.txid >= done_xmax AND e.txid < upto_xmax AND NOT e.txid = ANY (upto_open)
           AND (e.txid, e.log_id, e.seq) > (after_txid, after_log, after_seq)
           AND (e.txid, e.log_id, e.seq) <= (to_txid, to_log, to_seq)
         ORDER BY e.txid, e.log_id, e.seq LIMIT at_most)
        UNION ALL
        (SELECT e.* FROM unnest(done_open) AS x (id)
         CROSS JOIN LATERAL (
             SELECT e.txid, e.log_id, e.seq, e.kind, e.sender_id, e.created_at, e.attrs ->> 'post', e.attrs ->> 'author'
             FROM entries e
             WHERE e.kind BETWEEN 48 AND 53 AND e.attrs @> '{"counted": true}'
               AND e.txid = x.id AND NOT e.txid = ANY (upto_open)
               AND (e.txid, e.log_id, e.seq) > (after_txid, after_log, after_seq)
               AND (e.txid, e.log_id, e.seq) <= (to_txid, to_log, to_seq)
             ORDER BY e.txid, e.log_id, e.seq LIMIT at_most) e)) f
    ORDER BY 1, 2, 3 LIMIT at_most;
$$;
