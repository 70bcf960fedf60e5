-- The log. `log_id` is a conversation's or a user's id, and stands first in every key, so that all of it can be
-- partitioned by log. No foreign keys: what they would check, `append` holds under the lock of the head.

-- Where each log ends. A log without a row here does not exist. Narrow, with room in its pages and no index but the key,
-- so that every send's update stays on its page.
CREATE TABLE heads (
    log_id           uuid        PRIMARY KEY,
    last_seq         bigint      NOT NULL DEFAULT 0,
    last_message_no  bigint      NOT NULL DEFAULT 0,
    last_message_seq bigint      NOT NULL DEFAULT 0,
    -- Entries before this one are no longer kept.
    first_seq        bigint      NOT NULL DEFAULT 1,
    last_at          timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

CREATE TABLE conversations (
    id              uuid        PRIMARY KEY,
    -- As ConversationKind on the wire: 0 group, 1 direct, 2 channel.
    kind            smallint    NOT NULL CHECK (kind BETWEEN 0 AND 2),
    -- Members see what was said before they joined.
    history_visible boolean     NOT NULL DEFAULT false,
    title           text,
    -- A direct conversation's two users, `least:greatest`: one pair, one conversation.
    direct_key      text        UNIQUE,
    creator_id      uuid        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 1) = (direct_key IS NOT NULL))
);

-- Spans: one who leaves and comes back has two rows. A member sees joined_seq <= seq <= left_seq.
CREATE TABLE membership (
    conversation_id uuid     NOT NULL,
    user_id         uuid     NOT NULL,
    joined_seq      bigint   NOT NULL,
    left_seq        bigint,
    -- The seq, in the member's user log, of the `joined` entry that began the span.
    user_seq        bigint   NOT NULL,
    -- As Role on the wire: 0 member, 1 admin, 2 owner.
    role            smallint NOT NULL DEFAULT 0 CHECK (role BETWEEN 0 AND 2),
    muted           boolean  NOT NULL DEFAULT false,
    -- Of a direct conversation: one of the two has blocked the other. Kept here so that a send need not ask.
    blocked         boolean  NOT NULL DEFAULT false,
    PRIMARY KEY (conversation_id, user_id, joined_seq)
);
CREATE INDEX membership_user ON membership (user_id, conversation_id);

-- Who wants nothing to do with whom.
CREATE TABLE blocks (
    user_id    uuid        NOT NULL,
    target_id  uuid        NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (user_id, target_id)
);
CREATE INDEX blocks_newest ON blocks (user_id, created_at DESC, target_id DESC);

-- How far each member has read. Unread = heads.last_message_no - message_no. State, not history: it only moves forward.
CREATE TABLE read_positions (
    user_id         uuid   NOT NULL,
    conversation_id uuid   NOT NULL,
    seq             bigint NOT NULL,
    message_no      bigint NOT NULL,
    PRIMARY KEY (user_id, conversation_id)
) WITH (fillfactor = 70);

-- Everything durable that a client can see. A message is its row; facts about it (edited, deleted, reacted) are rows of
-- their own that name it in target_seq, and its text lives in the message's row alone.
CREATE TABLE entries (
    log_id      uuid        NOT NULL,
    seq         bigint      NOT NULL,
    -- The number of the last message at or before this entry.
    message_no  bigint      NOT NULL,
    -- The seq of the last fact that changed the message; its own at first.
    version     bigint      NOT NULL,
    target_seq  bigint,
    -- Of the transaction that stored it: what the change feed follows.
    txid        bigint      NOT NULL,
    created_at  timestamptz NOT NULL,
    sender_id   uuid        NOT NULL,
    client_id   uuid        NOT NULL,
    -- CRC-32C of the command as the client sent it, its bits as a signed number. NULL (erased) equals everything.
    payload_crc integer,
    -- The tag of its content in the wire's Entry: 16 message, 17 edited, ...
    kind        smallint    NOT NULL,
    -- As SenderKind on the wire.
    sender_kind smallint    NOT NULL,
    -- NULL in a message: deleted.
    body        text,
    attrs       jsonb,
    CONSTRAINT entries_pkey PRIMARY KEY (log_id, seq),
    CONSTRAINT entries_client_id UNIQUE (log_id, sender_id, client_id)
);
CREATE INDEX entries_txid ON entries (txid);
CREATE INDEX entries_target ON entries (log_id, target_seq, seq) WHERE target_seq IS NOT NULL;
