-- The hot reads, as functions so that they carry the planner's settings: the key in its order, never a sort or a scan,
-- whether or not the table was ever analysed. (With default costs a range of a hundred rows is read as a bitmap and
-- sorted, and an open range of transactions is taken for a third of the table.)

-- The entries in (after, upto], at most 1,024, rendered as they are now: an edit has the text only while it is the
-- message's newest fact.
CREATE FUNCTION read_entries(log uuid, after bigint, upto bigint)
RETURNS TABLE (
    seq bigint, message_no bigint, version bigint, created_at timestamptz, sender_id uuid, sender_kind smallint,
    client_id uuid, kind smallint, target_seq bigint, body text, attrs jsonb)
LANGUAGE sql STABLE ROWS 128
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off AS $$
    SELECT e.seq, e.message_no, e.version, e.created_at, e.sender_id, e.sender_kind, e.client_id, e.kind, e.target_seq,
           CASE WHEN e.kind = 17
               THEN (SELECT t.body FROM entries t WHERE t.log_id = log AND t.seq = e.target_seq AND t.version = e.seq)
               ELSE e.body END,
           e.attrs
    FROM entries e WHERE e.log_id = log AND e.seq > after AND e.seq <= upto ORDER BY e.seq LIMIT 1024;
$$;

-- The highest seq of each log that has entries of transactions which a snapshot did not show: its xmax, and its
-- transactions in progress.
CREATE FUNCTION changed_logs(since bigint, still_open bigint[])
RETURNS TABLE (log_id uuid, seq bigint)
LANGUAGE sql STABLE
SET enable_seqscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
    SELECT f.log_id, max(f.seq) FROM (
        SELECT e.log_id, e.seq FROM entries e WHERE e.txid >= since
        UNION ALL
        SELECT e.log_id, e.seq FROM unnest(still_open) AS x (id) JOIN entries e ON e.txid = x.id) f
    GROUP BY f.log_id;
$$;
