//! What a session follows, and from where.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bowline_protocol::command::Cursor;
use bowline_protocol::{Code, Epoch, Failure, LogId, Seq, SessionId, UserId};

use super::{Named, store};
use crate::accounts::Identity;
use crate::batcher::{Batcher, Job, latest};
use crate::deadline::Deadline;
use crate::storage::Pool;
use crate::tail::Span;

/// What a session asks to follow.
pub(super) struct Attach {
    user: UserId,
    session: Option<Issued>,
    user_cursor: Option<Cursor>,
    /// None for one log alone.
    named: Option<Arc<Named>>,
    only: Option<LogId>,
}

/// A session, and when the token was made that it shows.
#[derive(Clone, Copy)]
pub(super) struct Issued {
    pub(super) id: SessionId,
    pub(super) issued_at_ms: i64,
}

/// All that a session needs to follow its logs, of one snapshot.
#[derive(Debug, PartialEq)]
pub struct Attachment {
    /// The head of the user log when it was read.
    pub user_as_of_seq: Seq,
    /// How the user log is replayed; none if the client has no cursor on it, so that it gets `heads`.
    pub user_replay: Option<AttachedLog>,
    /// Conversations, newest activity first: those that the user is a member of, and those that the client named and the
    /// user was a member of. At most `limits.conversations`; those without a name and with the oldest activity go first.
    pub logs: Vec<AttachedLog>,
    /// Named by the client, but not there for this user.
    pub unknown: Vec<LogId>,
    /// All of this is at least as new as then.
    pub read_at: Instant,
}

/// One log as its user may read it.
#[derive(Debug, PartialEq)]
pub struct AttachedLog {
    pub log: LogId,
    /// The client gave a cursor for it: its end of replay is announced.
    pub named: bool,
    /// Where the client stands; never above `as_of_seq`.
    pub after_seq: Seq,
    /// The head when it was read.
    pub as_of_seq: Seq,
    /// The oldest entry that is kept.
    pub first_seq: Seq,
    /// Oldest first, at least one.
    pub spans: Vec<Span>,
    /// The client's cursor is of another history of the database: the first seq that it can't trust, and the epoch that
    /// is in force.
    pub reset: Option<(Seq, Epoch)>,
    pub read_seq: Seq,
    pub unread: u64,
    /// All of this is at least as new as then.
    pub read_at: Instant,
}

impl Attach {
    pub(super) fn all(identity: &Identity, user_cursor: Option<Cursor>, named: Arc<Named>) -> Self {
        let session = Issued { id: identity.session, issued_at_ms: identity.issued_at_ms };
        Self { user: identity.user, session: Some(session), user_cursor, named: Some(named), only: None }
    }

    /// Of a session that was looked at already.
    pub(super) fn one(user: UserId, log: LogId) -> Self {
        Self { user, session: None, user_cursor: None, named: None, only: Some(log) }
    }

    fn named(&self) -> &[Cursor] {
        self.named.as_deref().map_or(&[], |named| named)
    }
}

impl AttachedLog {
    pub(super) fn from(self, after_seq: Seq) -> Self {
        Self { after_seq: after_seq.min(self.as_of_seq), ..self }
    }
}

pub(super) fn start(pool: Pool, most_logs: u64) -> Batcher<Attach, Attachment> {
    let weight = |attach: &Attach| 1 + attach.named().len();
    Batcher::start(weight, move |jobs| run(pool.clone(), jobs, most_logs as usize))
}

async fn run(pool: Pool, jobs: Vec<Job<Attach, Attachment>>, most_logs: usize) {
    let Some(deadline) = latest(&jobs) else { return };
    let asked: Vec<Asked> = jobs.iter().map(|job| Asked::new(&job.asked)).collect();
    let mut waiting = jobs.into_iter().map(Some).collect::<Vec<_>>();
    let mut answer = |of: usize, result| {
        if let Some(job) = waiting.get_mut(of).and_then(Option::take) {
            job.answer(result);
        }
    };
    let outcome = read(&pool, &asked, most_logs, deadline, &mut answer).await;
    // What the statement gave before it failed has been answered; the rest hears why.
    let failure = outcome.err().unwrap_or(Code::Internal.into());
    waiting.into_iter().flatten().for_each(|job| job.answer(Err(failure.clone())));
}

/// Answers each user as soon as his last row is there, so that no more than one of them is held at a time.
async fn read(
    pool: &Pool,
    asked: &[Asked],
    most_logs: usize,
    deadline: Deadline,
    answer: &mut (dyn FnMut(usize, Result<Attachment, Failure>) + Send),
) -> Result<(), Failure> {
    let connection = pool.get(deadline).await?;
    let read_at = Instant::now();
    let mut gathering: Option<(usize, Gathering<'_>)> = None;
    let mut each = |row| match row {
        store::AttachRow::User { of, user } => {
            if let Some((before, gathered)) = gathering.take() {
                answer(before, gathered.finish());
            }
            gathering = asked.get(of).map(|asked| (of, Gathering::new(asked, user, most_logs, read_at)));
        }
        store::AttachRow::Log { log, .. } => {
            if let Some((_, gathering)) = &mut gathering {
                gathering.log(log);
            }
        }
    };
    store::attach(&connection, asked, deadline, &mut each).await.map_err(store::failed("attach"))?;
    if let Some((last, gathered)) = gathering {
        answer(last, gathered.finish());
    }
    Ok(())
}

/// What is asked for, as the statement takes it.
pub(super) struct Asked {
    pub(super) user: UserId,
    pub(super) session: Option<Issued>,
    pub(super) only: Option<LogId>,
    /// Of the user's own log.
    pub(super) user_cursor: Option<Cursor>,
    /// One for each log, none of the user's own.
    pub(super) named: HashMap<LogId, Cursor>,
}

impl Asked {
    fn new(attach: &Attach) -> Self {
        let own = attach.user.log();
        let named = attach.named().iter().filter(|cursor| cursor.log != own);
        Self {
            user: attach.user,
            session: attach.session,
            only: attach.only,
            user_cursor: attach.user_cursor.filter(|cursor| cursor.log == own),
            named: named.map(|cursor| (cursor.log, *cursor)).collect(),
        }
    }
}

/// A user as the statement found him.
pub(super) struct UserRow {
    /// Revoked, or there is no such user.
    pub(super) revoked: bool,
    pub(super) epoch: Epoch,
    pub(super) last_seq: Seq,
    pub(super) first_seq: Seq,
    /// The cursor is of another epoch: what is unsure from there on.
    pub(super) first_unsure_seq: Option<Seq>,
}

/// A conversation of a user as the statement found it; the newest activity comes first.
pub(super) struct LogRow {
    pub(super) log: LogId,
    pub(super) last_seq: Seq,
    pub(super) first_seq: Seq,
    pub(super) first_unsure_seq: Option<Seq>,
    pub(super) history_visible: bool,
    pub(super) stays: Vec<Stay>,
    /// Where the newest `joined` of this conversation stands in the user log.
    pub(super) joined_user_seq: Seq,
    pub(super) read_seq: Seq,
    /// The number of the last message that he has read, and of the last one that is for him.
    pub(super) read_no: u64,
    pub(super) message_no: u64,
}

/// One row of membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stay {
    pub(super) joined_seq: Seq,
    pub(super) left_seq: Option<Seq>,
}

/// An attachment while its rows come in.
struct Gathering<'a> {
    asked: &'a Asked,
    user: UserRow,
    read_at: Instant,
    user_replay: Option<AttachedLog>,
    logs: Vec<AttachedLog>,
    /// Named logs that were seen.
    seen: usize,
    /// Logs without a name that still have room.
    room: usize,
}

impl<'a> Gathering<'a> {
    fn new(asked: &'a Asked, user: UserRow, most_logs: usize, read_at: Instant) -> Self {
        let room = most_logs.saturating_sub(asked.named.len());
        let mut this = Self { asked, user, read_at, user_replay: None, logs: Vec::new(), seen: 0, room };
        this.user_replay = asked.user_cursor.map(|cursor| this.own(cursor.seq));
        if asked.only == Some(asked.user.log()) {
            this.logs.push(this.own(this.user.last_seq));
        }
        this
    }

    /// The user's own log, for a client that stands at this seq.
    fn own(&self, seq: Seq) -> AttachedLog {
        let stand = Stand::of(seq, self.user.last_seq, self.user.first_unsure_seq);
        AttachedLog {
            log: self.asked.user.log(),
            named: true,
            after_seq: stand.after_seq,
            as_of_seq: self.user.last_seq,
            first_seq: self.user.first_seq,
            spans: vec![Span { visible_from: 1, left_seq: None }],
            reset: stand.first_unsure_seq.map(|seq| (seq, self.user.epoch)),
            read_seq: 0,
            unread: 0,
            read_at: self.read_at,
        }
    }

    fn log(&mut self, row: LogRow) {
        let named = self.asked.named.get(&row.log);
        let stand = match named {
            Some(cursor) => {
                self.seen += 1;
                Stand::of(cursor.seq, row.last_seq, row.first_unsure_seq)
            }
            None if self.room == 0 => return,
            None => {
                self.room -= 1;
                Stand { after_seq: self.start_of_unnamed(&row), first_unsure_seq: None }
            }
        };
        self.logs.push(AttachedLog {
            log: row.log,
            named: named.is_some(),
            after_seq: stand.after_seq,
            as_of_seq: row.last_seq,
            first_seq: row.first_seq,
            spans: spans(&row.stays, row.history_visible),
            reset: stand.first_unsure_seq.map(|seq| (seq, self.user.epoch)),
            read_seq: row.read_seq,
            unread: row.message_no.saturating_sub(row.read_no),
            read_at: self.read_at,
        });
    }

    /// At its head; but one that the client will learn of from its replay of the user log starts with the joining, as it
    /// would have, had the client been here.
    fn start_of_unnamed(&self, row: &LogRow) -> Seq {
        let joined_seq = row.stays.last().map_or(0, |stay| stay.joined_seq);
        match &self.user_replay {
            Some(replay) if row.joined_user_seq > replay.sure_seq() => joined_seq.saturating_sub(1).min(row.last_seq),
            _ => row.last_seq,
        }
    }

    fn finish(self) -> Result<Attachment, Failure> {
        if self.user.revoked {
            return Err(Code::Revoked.into());
        }
        let mut unknown = Vec::new();
        if self.seen < self.asked.named.len() {
            let found: HashSet<LogId> = self.logs.iter().map(|log| log.log).collect();
            unknown.extend(self.asked.named.keys().filter(|log| !found.contains(log)));
            unknown.sort_unstable();
        }
        let Self { user, user_replay, logs, read_at, .. } = self;
        Ok(Attachment { user_as_of_seq: user.last_seq, user_replay, logs, unknown, read_at })
    }
}

impl AttachedLog {
    /// The last seq that the client has and can trust.
    fn sure_seq(&self) -> Seq {
        self.reset
            .map_or(self.after_seq, |(first_unsure_seq, _)| self.after_seq.min(first_unsure_seq.saturating_sub(1)))
    }
}

/// Where a cursor stands in the log that is there.
struct Stand {
    after_seq: Seq,
    first_unsure_seq: Option<Seq>,
}

impl Stand {
    /// A cursor of another epoch is reset to where the histories part. One above the head is of a history that this
    /// database does not know (restored, and nobody raised the epoch; or made up): all above the head is unsure.
    fn of(seq: Seq, last_seq: Seq, first_unsure_seq: Option<Seq>) -> Self {
        let above = (seq > last_seq).then_some(last_seq + 1);
        let first_unsure_seq = first_unsure_seq.map(|seq| seq.min(last_seq + 1)).or(above);
        Self { after_seq: seq.min(last_seq), first_unsure_seq }
    }
}

/// What stays show. Where the history is visible, all before the last joining is, times of absence included.
pub(super) fn spans(stays: &[Stay], history_visible: bool) -> Vec<Span> {
    match stays.last() {
        Some(last) if history_visible => vec![Span { visible_from: 0, left_seq: last.left_seq }],
        _ => stays.iter().map(|stay| Span { visible_from: stay.joined_seq, left_seq: stay.left_seq }).collect(),
    }
}
