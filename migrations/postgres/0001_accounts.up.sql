-- People and bots. One that an outside issuer vouches for has neither name nor password: its row is made at first sight.
-- Every user has a row in `heads` too, for its own log, made in the same transaction.
CREATE TABLE users (
    id                      uuid        PRIMARY KEY,
    name                    text        UNIQUE,
    password_hash           text,
    display_name            text        NOT NULL DEFAULT '',
    -- Tokens issued before this are void, those of outside issuers too.
    sessions_revoked_before timestamptz,
    created_at              timestamptz NOT NULL DEFAULT now()
);

-- One login. It is also the family of its refresh tokens: a token names its session, only the hash of the current one
-- and of the one before are kept, and one that matches the latter too late is a stolen one and ends the session.
CREATE TABLE sessions (
    id                    uuid        PRIMARY KEY,
    user_id               uuid        NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    client_name           text        NOT NULL DEFAULT '',
    refresh_hash          bytea       NOT NULL,
    previous_refresh_hash bytea,
    rotated_at            timestamptz NOT NULL DEFAULT now(),
    created_at            timestamptz NOT NULL DEFAULT now(),
    last_used_at          timestamptz NOT NULL DEFAULT now(),
    expires_at            timestamptz NOT NULL,
    revoked_at            timestamptz
);
CREATE INDEX sessions_user ON sessions (user_id, created_at);
