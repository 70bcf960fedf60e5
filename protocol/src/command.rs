//! A client's frame after it was checked: every field within its limit, every id of its own type.
//!
//! What passes here can be stored: text is free of U+0000, which is valid UTF-8 and valid JSON but which PostgreSQL
//! refuses, and `attrs` is one JSON object. Rights are not looked at; those are decided where the log is written.

mod check;
mod social;

use crate::wire::client_frame::Kind;
use crate::wire::{self, ConversationKind, Role};
use crate::{ClientId, Epoch, Failure, LogId, Seq, SessionId, UserId};

use crate::limits::Limits;
use check::Checker;
pub use social::{Draft, FeedQuery, Page, PeopleChange, PeopleQuery, PostChange, PostQuery, ProfileChange};

/// Where a client says that it stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub log: LogId,
    pub seq: Seq,
    pub epoch: Epoch,
}

/// A command that may be carried out as far as its form goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Connect {
        access_token: String,
        client_name: String,
        user_cursor: Option<Cursor>,
    },
    Resume {
        cursors: Vec<Cursor>,
        more: bool,
    },
    Refresh {
        access_token: String,
    },
    Ping,
    Sessions,
    Revoke {
        client_id: ClientId,
        session: Option<SessionId>,
    },
    Create(Create),
    Open {
        log: LogId,
        after_seq: Seq,
    },
    List {
        limit: u64,
        /// Last activity and id of the last item of the page before.
        after: Option<(i64, LogId)>,
    },
    Members {
        log: LogId,
        limit: u64,
        after: Option<UserId>,
    },
    History {
        log: LogId,
        limit: u64,
        place: Place,
    },
    MarkRead {
        log: LogId,
        seq: Seq,
    },
    Typing {
        log: LogId,
    },
    TopicSubscribe {
        topic: String,
    },
    TopicUnsubscribe {
        topic: String,
    },
    TopicPublish {
        topic: String,
        body: String,
    },
    /// A durable change of one log by one entry.
    Change {
        log: LogId,
        client_id: ClientId,
        change: Change,
    },
    /// Notification of one conversation off or on; kept in the user's own log.
    Mute {
        log: LogId,
        client_id: ClientId,
        muted: bool,
    },
    ChangePost {
        client_id: ClientId,
        change: PostChange,
    },
    ChangePeople {
        client_id: ClientId,
        change: PeopleChange,
    },
    Posts(PostQuery),
    People(PeopleQuery),
    Feed(FeedQuery),
    FeedSubscribe,
    FeedUnsubscribe,
}

/// A conversation to be made. The creator is not among `users`.
#[derive(Clone, Debug, PartialEq)]
pub struct Create {
    pub client_id: ClientId,
    pub kind: ConversationKind,
    pub title: Option<String>,
    pub users: Vec<UserId>,
    pub history_visible: bool,
}

/// What an entry of a conversation can be, from a client's side.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Send(wire::Message),
    Edit { target_seq: Seq, version: Seq, body: String },
    Delete { target_seq: Seq },
    React { target_seq: Seq, emoji: String },
    Unreact { target_seq: Seq, emoji: String },
    Rename { title: String },
    Add { users: Vec<UserId> },
    Remove { user: UserId },
    Leave,
    SetRole { user: UserId, role: Role },
}

/// The place that a page of history is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Newest,
    Before(Seq),
    After(Seq),
    Around(Seq),
    AroundTime { at_ms: i64 },
}

/// Items of a page when the client asks for none in particular.
const DEFAULT_PAGE: u64 = 50;
/// The longest list in one reply: of conversations, members, posts, comments, people.
pub const MAX_PAGE: u64 = 100;
/// Tokens of this service stay below 1 KiB; those of other issuers carry more claims, and must still fit into a frame
/// of a socket that is not let in yet.
pub const TOKEN_BYTES: u64 = 3 * 1024;

impl Command {
    /// Checks one frame. The failure names the field with the command before it, as it stands in JSON, and the limit.
    pub fn check(kind: Kind, limits: &Limits) -> Result<Self, Failure> {
        match kind {
            Kind::Connect(c) => {
                let check = Checker::new("connect", limits);
                let client = c.client.unwrap_or_default();
                Ok(Self::Connect {
                    access_token: check.text("access_token", c.access_token, TOKEN_BYTES)?,
                    client_name: check.text("client.name", client.name, limits.title_bytes)?,
                    user_cursor: c.user_cursor.map(|cursor| check.cursor("user_cursor", &cursor)).transpose()?,
                })
            }
            Kind::Resume(r) => {
                let check = Checker::new("resume", limits);
                check.count("cursors", r.cursors.len(), limits.cursors_per_resume)?;
                let cursors = r.cursors.iter().enumerate();
                let cursors = cursors.map(|(i, cursor)| check.cursor(&format!("cursors[{i}]"), cursor));
                Ok(Self::Resume { cursors: cursors.collect::<Result<_, _>>()?, more: r.more })
            }
            Kind::Refresh(r) => {
                let check = Checker::new("refresh", limits);
                Ok(Self::Refresh { access_token: check.text("access_token", r.access_token, TOKEN_BYTES)? })
            }
            Kind::Ping(_) => Ok(Self::Ping),
            Kind::SessionList(_) => Ok(Self::Sessions),
            Kind::SessionRevoke(r) => {
                let check = Checker::new("session_revoke", limits);
                Ok(Self::Revoke {
                    client_id: check.client_id(&r.client_id)?,
                    session: check.optional_id("session_id", r.session_id.as_deref(), SessionId::from_wire)?,
                })
            }
            Kind::ConversationCreate(c) => check_create(c, limits),
            Kind::ConversationOpen(o) => {
                let check = Checker::new("conversation_open", limits);
                Ok(Self::Open { log: check.log(&o.log_id)?, after_seq: o.after_seq })
            }
            Kind::ConversationList(l) => {
                let check = Checker::new("conversation_list", limits);
                Ok(Self::List {
                    limit: check.page("limit", l.limit, MAX_PAGE)?,
                    after: check.place("after_log_id", l.after_log_id.as_deref(), l.after_at_ms, LogId::from_wire)?,
                })
            }
            Kind::ConversationMembers(m) => {
                let check = Checker::new("conversation_members", limits);
                Ok(Self::Members {
                    log: check.log(&m.log_id)?,
                    limit: check.page("limit", m.limit, MAX_PAGE)?,
                    after: check.optional_id("after_user_id", m.after_user_id.as_deref(), UserId::from_wire)?,
                })
            }
            Kind::ConversationMute(m) => {
                let check = Checker::new("conversation_mute", limits);
                let (log, client_id) = (check.log(&m.log_id)?, check.client_id(&m.client_id)?);
                Ok(Self::Mute { log, client_id, muted: m.muted })
            }
            Kind::History(h) => check_history(&h, limits),
            Kind::MarkRead(m) => {
                Ok(Self::MarkRead { log: Checker::new("mark_read", limits).log(&m.log_id)?, seq: m.seq })
            }
            Kind::Typing(t) => Ok(Self::Typing { log: Checker::new("typing", limits).log(&t.log_id)? }),
            Kind::TopicSubscribe(t) => {
                Ok(Self::TopicSubscribe { topic: Checker::new("topic_subscribe", limits).topic(t.topic)? })
            }
            Kind::TopicUnsubscribe(t) => {
                Ok(Self::TopicUnsubscribe { topic: Checker::new("topic_unsubscribe", limits).topic(t.topic)? })
            }
            Kind::TopicPublish(p) => {
                let check = Checker::new("topic_publish", limits);
                Ok(Self::TopicPublish {
                    topic: check.topic(p.topic)?,
                    body: check.text("body", p.body, limits.body_bytes)?,
                })
            }
            other => check_change(other, limits),
        }
    }
}

fn check_create(create: wire::ConversationCreate, limits: &Limits) -> Result<Command, Failure> {
    let check = Checker::new("conversation_create", limits);
    let kind = check.known("kind", ConversationKind::try_from(create.kind))?;
    let users = check.users("user_ids", &create.user_ids, limits.members_per_command)?;
    if kind == ConversationKind::Direct && users.len() != 1 {
        return Err(check.invalid("user_ids", "a direct conversation names exactly one other user"));
    }
    Ok(Command::Create(Create {
        client_id: check.client_id(&create.client_id)?,
        kind,
        title: create.title.map(|t| check.text("title", t, limits.title_bytes)).transpose()?,
        users,
        history_visible: create.history_visible,
    }))
}

fn check_history(history: &wire::History, limits: &Limits) -> Result<Command, Failure> {
    let check = Checker::new("history", limits);
    let places = [
        history.before_seq.map(Place::Before),
        history.after_seq.map(Place::After),
        history.around_seq.map(Place::Around),
        history.around_at_ms.map(|at_ms| Place::AroundTime { at_ms }),
    ];
    let mut given = places.into_iter().flatten();
    let place = given.next().unwrap_or(Place::Newest);
    if given.next().is_some() {
        return Err(check.invalid("before_seq", "at most one of before_seq, after_seq, around_seq, around_at_ms"));
    }
    let limit = check.page("limit", history.limit, limits.history_entries)?;
    Ok(Command::History { log: check.log(&history.log_id)?, limit, place })
}

fn check_change(kind: Kind, limits: &Limits) -> Result<Command, Failure> {
    let (check, log, client_id, change) = match kind {
        Kind::Send(s) => {
            let check = Checker::new("send", limits);
            (
                check,
                s.log_id,
                s.client_id,
                Change::Send(check.message(MessageFields {
                    body: s.body,
                    reply_to_seq: s.reply_to_seq,
                    thread_root_seq: s.thread_root_seq,
                    mentions: s.mentions,
                    attachments: s.attachments,
                    attrs: s.attrs,
                })?),
            )
        }
        Kind::Edit(e) => {
            let check = Checker::new("edit", limits);
            let body = check.text("body", e.body, limits.body_bytes)?;
            let target_seq = check.target(e.target_seq)?;
            (check, e.log_id, e.client_id, Change::Edit { target_seq, version: e.version, body })
        }
        Kind::Delete(d) => {
            let check = Checker::new("delete", limits);
            (check, d.log_id, d.client_id, Change::Delete { target_seq: check.target(d.target_seq)? })
        }
        Kind::React(r) => {
            let check = Checker::new("react", limits);
            let (target_seq, emoji) = check.reaction(r.target_seq, r.emoji)?;
            (check, r.log_id, r.client_id, Change::React { target_seq, emoji })
        }
        Kind::Unreact(r) => {
            let check = Checker::new("unreact", limits);
            let (target_seq, emoji) = check.reaction(r.target_seq, r.emoji)?;
            (check, r.log_id, r.client_id, Change::Unreact { target_seq, emoji })
        }
        Kind::ConversationRename(r) => {
            let check = Checker::new("conversation_rename", limits);
            (check, r.log_id, r.client_id, Change::Rename { title: check.text("title", r.title, limits.title_bytes)? })
        }
        Kind::ConversationAdd(a) => {
            let check = Checker::new("conversation_add", limits);
            let users = check.users("user_ids", &a.user_ids, limits.members_per_command)?;
            if users.is_empty() {
                return Err(check.invalid("user_ids", "names nobody"));
            }
            (check, a.log_id, a.client_id, Change::Add { users })
        }
        Kind::ConversationRemove(r) => {
            let check = Checker::new("conversation_remove", limits);
            (check, r.log_id, r.client_id, Change::Remove { user: check.id("user_id", &r.user_id, UserId::from_wire)? })
        }
        Kind::ConversationLeave(l) => {
            (Checker::new("conversation_leave", limits), l.log_id, l.client_id, Change::Leave)
        }
        Kind::ConversationSetRole(s) => {
            let check = Checker::new("conversation_set_role", limits);
            let user = check.id("user_id", &s.user_id, UserId::from_wire)?;
            let role = check.known("role", Role::try_from(s.role))?;
            (check, s.log_id, s.client_id, Change::SetRole { user, role })
        }
        other => return social::check(other, limits),
    };
    Ok(Command::Change { log: check.log(&log)?, client_id: check.client_id(&client_id)?, change })
}

/// What a message is made of, before it was looked at.
struct MessageFields {
    body: String,
    reply_to_seq: Option<Seq>,
    thread_root_seq: Option<Seq>,
    mentions: Vec<Vec<u8>>,
    attachments: Vec<wire::Attachment>,
    attrs: Option<String>,
}
