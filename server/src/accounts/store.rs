//! The SQL of accounts and sessions. Each function is one statement, and so all or nothing.

use bowline_protocol::{Code, Failure, SessionId, UserId};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

use super::refresh::{GRACE_S, RefreshToken, Stored};
use super::{Arrival, Profile, SessionInfo};
use crate::deadline::Deadline;
use crate::storage::{Fault, Pool};

/// Sessions that one user may have at once; a login beyond it ends the one that was unused for longest.
const SESSIONS_PER_USER: i64 = 100;

type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// A session about to be stored.
pub(super) struct NewSession<'a> {
    pub(super) token: &'a RefreshToken,
    pub(super) client_name: &'a str,
    pub(super) lifetime_s: i64,
}

/// A name that logs in.
pub(super) struct Login {
    pub(super) user: UserId,
    pub(super) password_hash: Option<String>,
}

/// Stores the user, its log's head and its first session; false if the name is taken.
pub(super) async fn register(
    pool: &Pool,
    profile: &Profile,
    password_hash: &str,
    session: &NewSession<'_>,
    deadline: Deadline,
) -> Result<bool, Failure> {
    let rows = write(
        pool,
        "WITH u AS (
             INSERT INTO users (id, name, password_hash, display_name) VALUES ($1, $2, $3, $4)
             ON CONFLICT (name) DO NOTHING RETURNING id),
         h AS (INSERT INTO heads (log_id) SELECT id FROM u),
         s AS (
             INSERT INTO sessions (id, user_id, client_name, family_hash, refresh_hash, expires_at)
             SELECT $5, id, $6, $7, $8, now() + $9 * interval '1 second' FROM u)
         SELECT id FROM u",
        &[
            (&profile.user.0, Type::UUID),
            (&profile.username, Type::TEXT),
            (&password_hash, Type::TEXT),
            (&profile.display_name, Type::TEXT),
            (&session.token.session.0, Type::UUID),
            (&session.client_name, Type::TEXT),
            (&session.token.family_hash().as_slice(), Type::BYTEA),
            (&session.token.hash().as_slice(), Type::BYTEA),
            (&(session.lifetime_s as f64), Type::FLOAT8),
        ],
        deadline,
    )
    .await?;
    Ok(!rows.is_empty())
}

pub(super) async fn find(pool: &Pool, username: &str, deadline: Deadline) -> Result<Option<Profile>, Failure> {
    let sql = "SELECT id, name, display_name FROM users WHERE name = $1";
    let rows = read(pool, sql, &[(&username, Type::TEXT)], deadline).await?;
    let profile = |row: &Row| -> Result<Profile, Failure> {
        Ok(Profile { user: UserId(get(row, 0)?), username: get(row, 1)?, display_name: get(row, 2)? })
    };
    rows.first().map(profile).transpose()
}

pub(super) async fn login(pool: &Pool, username: &str, deadline: Deadline) -> Result<Option<Login>, Failure> {
    let sql = "SELECT id, password_hash FROM users WHERE name = $1";
    let rows = read(pool, sql, &[(&username, Type::TEXT)], deadline).await?;
    let login =
        |row: &Row| -> Result<Login, Failure> { Ok(Login { user: UserId(get(row, 0)?), password_hash: get(row, 1)? }) };
    rows.first().map(login).transpose()
}

/// Stores a session, and the password's hash where it was made anew; clears the user's sessions that are over and those
/// beyond the bound.
pub(super) async fn add_session(
    pool: &Pool,
    user: UserId,
    session: &NewSession<'_>,
    rehashed: Option<&str>,
    deadline: Deadline,
) -> Result<(), Failure> {
    write(
        pool,
        "WITH ranked AS (
             SELECT id, expires_at < now() AS ended,
                    row_number() OVER (PARTITION BY revoked_at IS NULL ORDER BY last_used_at DESC) AS place
             FROM sessions WHERE user_id = $1),
         cleared AS (DELETE FROM sessions s USING ranked r WHERE s.id = r.id AND (r.ended OR r.place >= $2)),
         hashed AS (UPDATE users SET password_hash = $3 WHERE id = $1 AND $3 IS NOT NULL)
         INSERT INTO sessions (id, user_id, client_name, family_hash, refresh_hash, expires_at)
         VALUES ($4, $1, $5, $6, $7, now() + $8 * interval '1 second')",
        &[
            (&user.0, Type::UUID),
            (&SESSIONS_PER_USER, Type::INT8),
            (&rehashed, Type::TEXT),
            (&session.token.session.0, Type::UUID),
            (&session.client_name, Type::TEXT),
            (&session.token.family_hash().as_slice(), Type::BYTEA),
            (&session.token.hash().as_slice(), Type::BYTEA),
            (&(session.lifetime_s as f64), Type::FLOAT8),
        ],
        deadline,
    )
    .await
    .map(drop)
}

/// The session of a refresh token, if there is one of that id.
pub(super) async fn stored_tokens(
    pool: &Pool,
    session: SessionId,
    deadline: Deadline,
) -> Result<Option<(UserId, Stored)>, Failure> {
    let rows = read(
        pool,
        "SELECT s.user_id, s.family_hash, s.refresh_hash, s.previous_refresh_hash, s.refresh_salt,
                s.rotated_at > now() - $2 * interval '1 second',
                s.revoked_at IS NOT NULL OR coalesce(s.created_at <= u.sessions_revoked_before, false),
                s.expires_at <= now()
         FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = $1",
        &[(&session.0, Type::UUID), (&f64::from(GRACE_S), Type::FLOAT8)],
        deadline,
    )
    .await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let stored = Stored {
        family_hash: get::<Option<Vec<u8>>>(row, 1)?.unwrap_or_default(),
        current_hash: get(row, 2)?,
        previous_hash: get(row, 3)?,
        salt: get(row, 4)?,
        in_grace: get(row, 5)?,
        revoked: get(row, 6)?,
        expired: get(row, 7)?,
    };
    Ok(Some((UserId(get(row, 0)?), stored)))
}

/// Puts the next token in the place of the current one; false if another one did so meanwhile.
pub(super) async fn rotate(
    pool: &Pool,
    token: &RefreshToken,
    salt: &[u8],
    lifetime_s: i64,
    deadline: Deadline,
) -> Result<bool, Failure> {
    let rows = write(
        pool,
        "UPDATE sessions
         SET previous_refresh_hash = refresh_hash, refresh_hash = $3, refresh_salt = $4, rotated_at = now(),
             last_used_at = now(), expires_at = now() + $5 * interval '1 second'
         WHERE id = $1 AND refresh_hash = $2 AND revoked_at IS NULL RETURNING id",
        &[
            (&token.session.0, Type::UUID),
            (&token.hash().as_slice(), Type::BYTEA),
            (&token.next(salt).hash().as_slice(), Type::BYTEA),
            (&salt, Type::BYTEA),
            (&(lifetime_s as f64), Type::FLOAT8),
        ],
        deadline,
    )
    .await?;
    Ok(!rows.is_empty())
}

/// The user's sessions that are not over, the one used last first.
pub(super) async fn sessions(pool: &Pool, user: UserId, by: Deadline) -> Result<Vec<SessionInfo>, Failure> {
    let rows = read(
        pool,
        "SELECT s.id, s.client_name, (extract(epoch FROM s.created_at) * 1000)::bigint,
                (extract(epoch FROM s.last_used_at) * 1000)::bigint
         FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > now()
           AND s.created_at > coalesce(u.sessions_revoked_before, '-infinity')
         ORDER BY s.last_used_at DESC, s.id DESC LIMIT $2",
        &[(&user.0, Type::UUID), (&SESSIONS_PER_USER, Type::INT8)],
        by,
    )
    .await?;
    let info = |row: &Row| -> Result<SessionInfo, Failure> {
        Ok(SessionInfo {
            session: SessionId(get(row, 0)?),
            client_name: get(row, 1)?,
            created_at_ms: get(row, 2)?,
            last_used_at_ms: get(row, 3)?,
        })
    };
    rows.iter().map(info).collect()
}

/// Whether each may come in. Makes what the first sight of an outside issuer's token needs: the user, its log's head and
/// the session; what such a user's sessions left behind is cleared when another one begins.
pub(super) async fn admit(pool: &Pool, arrivals: &[&Arrival], deadline: Deadline) -> Result<Vec<bool>, Failure> {
    let users: Vec<Uuid> = arrivals.iter().map(|a| a.identity.user.0).collect();
    let sessions: Vec<Uuid> = arrivals.iter().map(|a| a.identity.session.0).collect();
    let issued_at_ms: Vec<i64> = arrivals.iter().map(|a| a.identity.issued_at_ms).collect();
    let expires_at_ms: Vec<i64> = arrivals.iter().map(|a| a.identity.expires_at_ms).collect();
    let names: Vec<&str> = arrivals.iter().map(|a| a.client_name.as_str()).collect();
    let rows = write(
        pool,
        "WITH judged AS MATERIALIZED (
             SELECT a.*, u.id IS NOT NULL AS user_known, s.id IS NOT NULL AS session_known,
                    s.client_name = '' AND a.client_name <> '' AS nameless,
                    CASE WHEN s.family_hash IS NULL AND to_timestamp(a.expires_at_ms / 1000.0) > s.expires_at
                         THEN to_timestamp(a.expires_at_ms / 1000.0) END AS outlives,
                    coalesce(s.revoked_at IS NOT NULL OR s.user_id <> a.user_id, false)
                    -- A session of ours is as old as its row, whatever a node's clock says; any other as its token.
                    OR coalesce(CASE WHEN s.family_hash IS NOT NULL THEN s.created_at
                                     ELSE to_timestamp(a.issued_at_ms / 1000.0) END <= u.sessions_revoked_before, false)
                    AS revoked
             FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[]) WITH ORDINALITY
                  AS a (user_id, session_id, issued_at_ms, expires_at_ms, client_name, ord)
             LEFT JOIN users u ON u.id = a.user_id
             LEFT JOIN sessions s ON s.id = a.session_id),
         -- In order of id, so that two batches with the same newcomers do not wait for each other in a ring.
         strangers AS (SELECT DISTINCT user_id FROM judged WHERE NOT user_known ORDER BY user_id),
         new_users AS (INSERT INTO users (id) SELECT user_id FROM strangers ON CONFLICT DO NOTHING),
         new_heads AS (INSERT INTO heads (log_id) SELECT user_id FROM strangers ON CONFLICT DO NOTHING),
         begun AS (
             SELECT DISTINCT ON (session_id) * FROM judged WHERE NOT session_known AND NOT revoked ORDER BY session_id),
         cleared AS (
             DELETE FROM sessions s USING begun b
             WHERE s.user_id = b.user_id AND s.expires_at < now() - interval '1 hour'
               -- An issuer that goes on using the session's id does not bring it back.
               AND (s.revoked_at IS NULL OR s.revoked_at < now() - interval '30 days')),
         new_sessions AS (
             INSERT INTO sessions (id, user_id, client_name, refresh_hash, expires_at)
             SELECT session_id, user_id, client_name, '', to_timestamp(expires_at_ms / 1000.0) FROM begun
             ON CONFLICT DO NOTHING),
         touched AS (
             UPDATE sessions s SET client_name = CASE WHEN j.nameless THEN j.client_name ELSE s.client_name END,
                    expires_at = greatest(s.expires_at, j.outlives)
             FROM judged j WHERE s.id = j.session_id AND NOT j.revoked AND (j.nameless OR j.outlives IS NOT NULL))
         SELECT NOT revoked FROM judged ORDER BY ord",
        &[
            (&users, Type::UUID_ARRAY),
            (&sessions, Type::UUID_ARRAY),
            (&issued_at_ms, Type::INT8_ARRAY),
            (&expires_at_ms, Type::INT8_ARRAY),
            (&names, Type::TEXT_ARRAY),
        ],
        deadline,
    )
    .await?;
    rows.iter().map(|row| get(row, 0)).collect()
}

async fn read(pool: &Pool, sql: &str, parameters: &[Parameter<'_>], by: Deadline) -> Result<Vec<Row>, Failure> {
    run(pool, sql, parameters, by, Fault::read).await
}

async fn write(pool: &Pool, sql: &str, parameters: &[Parameter<'_>], by: Deadline) -> Result<Vec<Row>, Failure> {
    run(pool, sql, parameters, by, Fault::write).await
}

async fn run(
    pool: &Pool,
    sql: &str,
    parameters: &[Parameter<'_>],
    deadline: Deadline,
    told: impl FnOnce(&Fault) -> Failure,
) -> Result<Vec<Row>, Failure> {
    let connection = pool.get(deadline).await?;
    connection.query(sql, parameters, deadline).await.map_err(|fault| {
        tracing::warn!(%fault, "a statement of accounts");
        told(&fault)
    })
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Failure> {
    row.try_get(column).map_err(|error| {
        tracing::error!(%error, column, "a column of accounts");
        Code::Internal.into()
    })
}
