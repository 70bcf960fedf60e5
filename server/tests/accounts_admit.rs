//! Who comes in: revocation, and the first sight of an outside issuer's users, on a real PostgreSQL.

#![allow(clippy::unwrap_used)] // In a test an unwrap is an assertion.

#[path = "api_support/fixture.rs"]
mod fixture;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bowline::accounts::{Grant, Identity, Registration};
use bowline::deadline::Deadline;
use bowline_protocol::wire::entry::Content;
use bowline_protocol::{Code, SessionId, UserId};
use bowline_testkit::TestDatabase;
use fixture::{PASSWORD, Server};
use secrecy::ExposeSecret;

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// As a token of an outside issuer names its bearer.
fn stranger(issued_at_ms: i64) -> Identity {
    Identity { user: UserId::new(), session: SessionId::new(), issued_at_ms, expires_at_ms: now_ms() + 3_600_000 }
}

impl Server {
    /// All at once, so that they meet in one statement.
    async fn admit(&self, identities: &[&Identity]) -> Vec<Result<(), Code>> {
        let admitted = identities.iter().map(|identity| self.accounts.admit(identity, "test", soon()));
        let admitted = futures_util::future::join_all(admitted).await;
        admitted.into_iter().map(|result| result.map_err(|failure| failure.code)).collect()
    }

    async fn newcomer(&self, name: &str) -> (Identity, Grant) {
        let new = Registration {
            username: name.to_owned(),
            password: PASSWORD.into(),
            display_name: None,
            client_name: String::new(),
        };
        let (_, grant) = self.accounts.register(new, soon()).await.unwrap();
        (self.accounts.verify(grant.access.token.expose_secret()).unwrap(), grant)
    }
}

async fn count(database: &TestDatabase, sql: &str) -> i64 {
    database.connect().await.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn one_batch_tells_the_revoked_from_the_others_in_order() {
    let server = Server::start().await;
    let (ada, _) = server.newcomer("ada").await;
    let (bob, _) = server.newcomer("bob").await;
    let out = stranger(now_ms());
    let someone_elses = Identity { session: ada.session, ..bob.clone() };
    assert_eq!(server.admit(&[&ada, &out, &bob]).await, [Ok(()); 3]);
    server.accounts.end(bob.user, Some(bob.session), soon()).await.unwrap();
    server.accounts.end(out.user, Some(out.session), soon()).await.unwrap();
    let revoked = Err(Code::Revoked);
    let expected = [Ok(()), revoked, revoked, revoked, Ok(())];
    assert_eq!(server.admit(&[&ada, &out, &bob, &someone_elses, &ada]).await, expected);
}

#[tokio::test]
async fn a_session_ends_by_an_entry_in_its_users_log_so_that_its_sockets_hear_of_it() {
    let mut server = Server::start().await;
    let (ada, first) = server.newcomer("ada").await;
    server.accounts.refresh(&first.refresh, soon()).await.unwrap();
    let second = server.accounts.log_in("ada", PASSWORD.into(), "", soon()).await.unwrap();
    let third = server.accounts.refresh(&second.refresh, soon()).await.unwrap();
    server.accounts.refresh(&third.refresh, soon()).await.unwrap();
    // The oldest token of the second session comes again: that session is ended, then one by its user, then all.
    let stolen = server.accounts.refresh(&second.refresh, soon()).await.map(drop).map_err(|failure| failure.code);
    assert_eq!(stolen, Err(Code::Revoked));
    server.accounts.end(ada.user, Some(ada.session), soon()).await.unwrap();
    server.accounts.end(ada.user, None, soon()).await.unwrap();
    for (seq, expected) in [(1, Some(second.session)), (2, Some(ada.session)), (3, None)] {
        let committed = server.committed.recv().await.unwrap();
        let entry = &committed.entries[0];
        let Some(Content::SessionRevoked(revoked)) = &entry.content else { panic!("{entry:?}") };
        let session = revoked.session_id.as_deref().and_then(SessionId::from_wire);
        assert_eq!((committed.log, entry.seq, session), (ada.user.log(), seq, expected));
    }
}

#[tokio::test]
async fn at_first_sight_a_user_gets_a_log_and_a_session_once() {
    let server = Server::start().await;
    let out = stranger(now_ms());
    let same_user = Identity { session: SessionId::new(), ..out.clone() };
    for _ in 0..2 {
        assert_eq!(server.admit(&[&out, &out, &same_user]).await, [Ok(()); 3]);
    }
    for (sql, expected) in [
        ("SELECT count(*) FROM users", 1),
        ("SELECT count(*) FROM heads JOIN users ON id = log_id", 1),
        ("SELECT count(*) FROM sessions WHERE client_name = 'test'", 2),
    ] {
        assert_eq!(count(&server.database, sql).await, expected, "{sql}");
    }
    let listed = server.accounts.sessions(out.user, soon()).await.unwrap();
    assert_eq!(listed.len(), 2);
}

#[tokio::test]
async fn many_batches_with_the_same_newcomers_do_not_stop_each_other() {
    let server = Server::start().await;
    let newcomers: Vec<Identity> = (0..64).map(|_| stranger(now_ms())).collect();
    let forth: Vec<&Identity> = newcomers.iter().collect();
    let back: Vec<&Identity> = newcomers.iter().rev().collect();
    let batches = (0..8).map(|n| server.admit(if n % 2 == 0 { &forth } else { &back }));
    for admitted in futures_util::future::join_all(batches).await {
        assert_eq!(admitted, [Ok(()); 64]);
    }
    assert_eq!(count(&server.database, "SELECT count(*) FROM users").await, 64);
}

#[tokio::test]
async fn revoking_everything_voids_outside_tokens_by_their_date() {
    let server = Server::start().await;
    let before = stranger(now_ms() - 10_000);
    assert_eq!(server.admit(&[&before]).await, [Ok(())]);
    server.accounts.end(before.user, None, soon()).await.unwrap();
    let at = |session: SessionId, issued_at_ms: i64| Identity { session, issued_at_ms, ..before.clone() };
    let undated = at(SessionId::new(), 0);
    let old_unseen = at(SessionId::new(), now_ms() - 10_000);
    let fresh = at(SessionId::new(), now_ms() + 10_000);
    // The issuer gives the session that has come in after all a token again that it made long ago.
    let old_of_fresh = at(fresh.session, now_ms() - 10_000);
    let revoked = Err(Code::Revoked);
    assert_eq!(server.admit(&[&before, &undated, &old_unseen]).await, [revoked; 3]);
    assert_eq!(server.admit(&[&fresh]).await, [Ok(())]);
    assert_eq!(server.admit(&[&old_of_fresh, &fresh]).await, [revoked, Ok(())]);
}

#[tokio::test]
async fn a_session_of_ours_begun_after_a_revocation_stands_whatever_the_clocks_say() {
    let server = Server::start().await;
    let (ada, _) = server.newcomer("ada").await;
    server.accounts.end(ada.user, None, soon()).await.unwrap();
    let grant = server.accounts.log_in("ada", PASSWORD.into(), "", soon()).await.unwrap();
    let later = server.accounts.verify(grant.access.token.expose_secret()).unwrap();
    let by_a_slow_clock = Identity { issued_at_ms: later.issued_at_ms - 20_000, ..later };
    assert_eq!(server.admit(&[&ada, &by_a_slow_clock]).await, [Err(Code::Revoked), Ok(())]);
}

#[tokio::test]
async fn one_user_has_at_most_a_hundred_sessions() {
    let server = Server::start().await;
    let (ada, _) = server.newcomer("ada").await;
    let sql = format!(
        "INSERT INTO sessions (id, user_id, refresh_hash, expires_at, last_used_at)
         SELECT gen_random_uuid(), '{}', '', now() + CASE WHEN n > 150 THEN -1 ELSE 1 END * interval '1 day',
                now() - n * interval '1 minute' FROM generate_series(1, 200) AS n",
        ada.user
    );
    server.database.connect().await.batch_execute(&sql).await.unwrap();
    let grant = server.accounts.log_in("ada", PASSWORD.into(), "", soon()).await.unwrap();
    assert_eq!(count(&server.database, "SELECT count(*) FROM sessions").await, 100);
    let kept = server.accounts.sessions(ada.user, soon()).await.unwrap();
    assert!(kept.iter().any(|s| s.session == ada.session) && kept.iter().any(|s| s.session == grant.session));
}

#[tokio::test]
async fn a_statement_that_cannot_run_says_so_in_time_and_tells_nothing() {
    let server = Server::start().await;
    let (ada, _) = server.newcomer("ada").await;
    let holder = server.database.connect().await;
    holder.batch_execute("BEGIN; LOCK TABLE sessions").await.unwrap();
    let late = server.accounts.admit(&ada, "", Deadline::after(Duration::from_millis(200))).await;
    let Err(failure) = late else { panic!("it can't have been answered") };
    assert!(matches!(failure.code, Code::DeadlineExceeded | Code::OutcomeUnknown) && failure.message.is_none());
    holder.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(server.admit(&[&ada]).await, [Ok(())]);
}

#[tokio::test]
async fn a_request_is_let_in_without_asking_until_its_session_is_known_to_have_ended() {
    let server = Server::start().await;
    let (ada, _) = server.newcomer("ada").await;
    let ask = async |who: &Identity| server.accounts.admit_request(who, soon()).await.map_err(|failure| failure.code);
    assert_eq!(ask(&ada).await, Ok(()));
    // As another node would.
    let ended = "UPDATE sessions SET revoked_at = now()";
    server.database.connect().await.execute(ended, &[]).await.unwrap();
    assert_eq!(ask(&ada).await, Ok(()));
    server.accounts.changed(&[(ada.user.log(), 2)]);
    assert_eq!(ask(&ada).await, Err(Code::Revoked));
    let (bob, _) = server.newcomer("bob").await;
    assert_eq!(ask(&bob).await, Ok(()));
    server.accounts.end(bob.user, Some(bob.session), soon()).await.unwrap();
    assert_eq!(ask(&bob).await, Err(Code::Revoked), "this node knows at once");
}
