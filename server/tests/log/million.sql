-- A million messages in a thousand conversations of five members each, as they come when all talk at once; one in a
-- hundred was edited. The planner is never told: no statistics are gathered.
ALTER TABLE entries SET (autovacuum_enabled = false);
ALTER TABLE heads SET (autovacuum_enabled = false);
ALTER TABLE membership SET (autovacuum_enabled = false);
ALTER TABLE read_positions SET (autovacuum_enabled = false);

INSERT INTO heads (log_id, last_seq, last_message_no, last_message_seq)
SELECT md5('log' || l)::uuid, 1010, 1000, 1000 FROM generate_series(0, 999) l;
INSERT INTO heads (log_id) SELECT md5('user' || u)::uuid FROM generate_series(0, 4999) u;
INSERT INTO users (id) SELECT md5('user' || u)::uuid FROM generate_series(0, 4999) u;
INSERT INTO conversations (id, kind, creator_id)
SELECT md5('log' || l)::uuid, 0, md5('user' || l * 5)::uuid FROM generate_series(0, 999) l;
INSERT INTO membership (conversation_id, user_id, joined_seq, user_seq, role)
SELECT md5('log' || u / 5)::uuid, md5('user' || u)::uuid, 1, 1, CASE u % 5 WHEN 0 THEN 2 ELSE 0 END
FROM generate_series(0, 4999) u;
INSERT INTO read_positions (user_id, conversation_id, seq, message_no)
SELECT md5('user' || u)::uuid, md5('log' || u / 5)::uuid, 900, 900 FROM generate_series(0, 4999) u;

INSERT INTO entries (log_id, seq, message_no, version, txid, created_at, sender_id, client_id, payload_crc, kind, sender_kind, body)
SELECT md5('log' || i % 1000)::uuid, i / 1000 + 1, i / 1000 + 1, CASE WHEN i / 1000 % 100 = 50 THEN 1001 + i / 100000 ELSE i / 1000 + 1 END,
       1000 + i / 250, clock_timestamp(), md5('user' || i % 1000 * 5 + i / 1000 % 5)::uuid, md5('client' || i)::uuid, i, 16, 0,
       repeat('x', 128)
FROM generate_series(0, 999999) i;
INSERT INTO entries (log_id, seq, message_no, version, target_seq, txid, created_at, sender_id, client_id, payload_crc, kind, sender_kind)
SELECT md5('log' || l)::uuid, 1001 + n, 1000, 1001 + n, n * 100 + 51, 1000000 + n, clock_timestamp(),
       md5('user' || l * 5)::uuid, gen_random_uuid(), 1, 17, 0
FROM generate_series(0, 999) l, generate_series(0, 9) n;
