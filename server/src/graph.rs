//! People: who follows, blocks and mutes whom, and what of each is shown.
//!
//! May use `log` (every change is an entry of the actor's user log) and `storage` (through `store`, the only place here with
//! SQL). What is allowed is decided by the log's `append`, not here.
//!
//! What always holds:
//! - one who was blocked is told nothing of who blocked him, not even that there is such a user;
//! - whom somebody blocks or mutes is told to himself alone;
//! - a list is read by the place of its last item, never by counting.

mod store;

use bowline_protocol::command::{Page, PeopleChange, PeopleQuery};
use bowline_protocol::wire::{self, PeopleKind, SenderKind, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Code, Failure, UserId};

use crate::deadline::Deadline;
use crate::log::{Action, Command, Log, Social, Stored};
use crate::storage::Pool;

/// The operations on people. Cheap to clone.
#[derive(Clone)]
pub struct Graph {
    pool: Pool,
    log: Log,
}

impl Graph {
    pub fn new(pool: Pool, log: Log) -> Self {
        Self { pool, log }
    }

    /// A durable change, under an id of the client's. Never waits; `done` is called exactly once. Changes of one user are
    /// stored in the order of these calls.
    pub fn change(
        &self,
        user: UserId,
        client_id: ClientId,
        change: PeopleChange,
        deadline: Deadline,
        done: impl FnOnce(Result<Stored, Failure>) + Send + 'static,
    ) {
        let action = Action::Social(social(change));
        let command = Command { log: user.log(), sender: user, sender_kind: SenderKind::User, client_id, action };
        self.log.append(command, deadline, Box::new(done));
    }

    /// What a reader asks for, as the frame that answers it.
    pub async fn read(&self, reader: UserId, query: PeopleQuery, deadline: Deadline) -> Result<Push, Failure> {
        match query {
            PeopleQuery::Profile(user) => self.profile(reader, user, deadline).await.map(Push::Profile),
            PeopleQuery::List { kind, of, page } => {
                self.people(reader, kind, of, page, deadline).await.map(Push::People)
            }
        }
    }

    /// A person as this reader sees him. `not_found` also for one whom he blocked.
    pub async fn profile(&self, reader: UserId, user: UserId, deadline: Deadline) -> Result<wire::Profile, Failure> {
        let connection = self.pool.get(deadline).await?;
        let profile = store::profile(&connection, reader, user, deadline).await.map_err(store::failed("profile"))?;
        profile.ok_or_else(no_such_user)
    }

    /// Followers, followees, or whom the reader himself blocks or mutes; the newest first.
    ///
    /// # Errors
    /// `forbidden` for what is for another alone; `not_found` as [`Self::profile`].
    pub async fn people(
        &self,
        reader: UserId,
        kind: PeopleKind,
        of: UserId,
        page: Page<UserId>,
        deadline: Deadline,
    ) -> Result<wire::People, Failure> {
        if matches!(kind, PeopleKind::Blocked | PeopleKind::Muted) && of != reader {
            return Err(Failure { field: Some("user_id".to_owned()), ..Failure::new(Code::Forbidden) });
        }
        let connection = self.pool.get(deadline).await?;
        // One more than is shown tells whether there is a next page.
        let asked = Page { limit: page.limit + 1, ..page };
        let people = store::people(&connection, reader, kind, of, asked, deadline).await;
        let mut items = people.map_err(store::failed("people"))?.ok_or_else(no_such_user)?;
        let more = items.len() as u64 > page.limit;
        items.truncate(page.limit as usize);
        Ok(wire::People { items, more })
    }
}

fn social(change: PeopleChange) -> Social {
    match change {
        PeopleChange::Follow(user) => Social::Follow(user),
        PeopleChange::Unfollow(user) => Social::Unfollow(user),
        PeopleChange::Block(user) => Social::Block(user),
        PeopleChange::Unblock(user) => Social::Unblock(user),
        PeopleChange::Mute(user) => Social::Mute(user),
        PeopleChange::Unmute(user) => Social::Unmute(user),
        PeopleChange::Profile(change) => Social::Profile(change),
    }
}

fn no_such_user() -> Failure {
    Failure { field: Some("user_id".to_owned()), ..Failure::new(Code::NotFound) }
}
