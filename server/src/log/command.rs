use bowline_protocol::wire::{self, ConversationKind, Role, SenderKind};
use bowline_protocol::{ClientId, Code, Failure, LogId, Seq, SessionId, UserId};
use prost::Message as _;
use uuid::Uuid;

use super::content::{Attrs, kind};
use super::social::Social;

/// Users named by one command: what `append` locks at once.
pub const MEMBERS: usize = 1_000;

/// Something durable that a user does. Its log is where `client_id` counts: sent twice, it is stored once.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// A conversation's log for what happens in it, else the sender's own.
    pub log: LogId,
    pub sender: UserId,
    pub sender_kind: SenderKind,
    pub client_id: ClientId,
    pub action: Action,
}

/// What is done. `CreateConversation` and those after it are for the sender's own log, all others for a conversation's.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Message(wire::Message),
    /// `version` is the one that was edited; another one in the log is a conflict.
    Edit {
        target_seq: Seq,
        version: Seq,
        body: String,
    },
    Delete {
        target_seq: Seq,
    },
    React {
        target_seq: Seq,
        emoji: String,
    },
    Unreact {
        target_seq: Seq,
        emoji: String,
    },
    /// At most [`MEMBERS`]; who is there already is passed over, and if all are it is a conflict.
    AddMembers(Vec<UserId>),
    RemoveMember(UserId),
    Leave,
    SetRole {
        user: UserId,
        role: Role,
    },
    Rename(String),
    /// `conversation` is the id that it gets, if it is not there yet. `members` without the creator, at most [`MEMBERS`].
    CreateConversation {
        conversation: LogId,
        kind: ConversationKind,
        title: Option<String>,
        members: Vec<UserId>,
        history_visible: bool,
    },
    Mute {
        conversation: LogId,
        muted: bool,
    },
    /// Without an id: every session of the sender, also those of outside issuers.
    RevokeSession(Option<SessionId>),
    /// What he does with posts and people.
    Social(Social),
}

/// The proof that a command is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub log: LogId,
    pub seq: Seq,
    pub message_no: u64,
    /// The version that the message has by this command, for edits and deletions; else the entry's own.
    pub version: Seq,
    pub created_at_ms: i64,
    /// It had been stored before, under the same client_id; or the direct conversation was there.
    pub repeat: bool,
    /// After `CreateConversation` the one that is, perhaps an older one, and where its log ends.
    pub conversation: Option<(LogId, Seq)>,
    /// The post or comment that was made, by this command or by the one that it repeats.
    pub made: Option<Uuid>,
}

impl Stored {
    /// As the reply to its command.
    pub fn to_wire(&self) -> wire::Stored {
        wire::Stored {
            log_id: self.log.to_wire(),
            seq: self.seq,
            message_no: self.message_no,
            version: self.version,
            created_at_ms: self.created_at_ms,
            repeat: self.repeat,
            made_id: self.made.map(|id| id.as_bytes().to_vec()),
        }
    }
}

/// Called exactly once, on any thread, and must not wait.
pub type Done = Box<dyn FnOnce(Result<Stored, Failure>) + Send>;

impl Command {
    /// What would be too much for one call of `append`, or can't be at all. All else is decided there.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.action {
            Action::AddMembers(members) | Action::CreateConversation { members, .. } if members.len() > MEMBERS => {
                Err(Failure::too_large("user_ids", MEMBERS as u64))
            }
            Action::AddMembers(members) if members.is_empty() => Err(Failure::invalid("user_ids", "names nobody")),
            Action::CreateConversation { kind: ConversationKind::Direct, members, .. }
                if members.len() != 1 || members[0] == self.sender =>
            {
                Err(Failure::invalid("user_ids", "a direct conversation names exactly one other user"))
            }
            Action::Social(social) => social.check(self.sender),
            _ => Ok(()),
        }
    }

    /// Logs that it may touch beside its own: the users' that it names.
    pub(super) fn named(&self) -> Vec<Uuid> {
        match &self.action {
            Action::Message(message) => {
                message.mentions.iter().filter_map(|id| UserId::from_wire(id)).map(|user| user.0).collect()
            }
            Action::AddMembers(members) | Action::CreateConversation { members, .. } => {
                members.iter().map(|user| user.0).collect()
            }
            Action::RemoveMember(user) | Action::SetRole { user, .. } => vec![user.0],
            Action::Leave => vec![self.sender.0],
            Action::Social(social) => social.named().into_iter().map(|user| user.0).collect(),
            _ => Vec::new(),
        }
    }

    /// CRC-32C of kind and payload as the client sent them: what tells a repeat from a client_id used for something else.
    /// Kept for as long as the entry is, so it may never be computed in another way. Its bits as a signed number.
    pub(super) fn payload_crc(&self) -> i32 {
        let mut crc = crc32c::crc32c(&self.action.kind().to_le_bytes());
        let mut add = |bytes: &[u8]| crc = crc32c::crc32c_append(crc, bytes);
        match &self.action {
            Action::Message(message) => add(&message.encode_to_vec()),
            Action::Edit { target_seq, version, body } => {
                add(&target_seq.to_le_bytes());
                add(&version.to_le_bytes());
                add(body.as_bytes());
            }
            Action::Delete { target_seq } => add(&target_seq.to_le_bytes()),
            Action::React { target_seq, emoji } | Action::Unreact { target_seq, emoji } => {
                add(&target_seq.to_le_bytes());
                add(emoji.as_bytes());
            }
            Action::AddMembers(members) => members.iter().for_each(|user| add(user.0.as_bytes())),
            Action::RemoveMember(user) => add(user.0.as_bytes()),
            Action::Leave => add(self.sender.0.as_bytes()),
            Action::SetRole { user, role } => {
                add(user.0.as_bytes());
                add(&(*role as i32).to_le_bytes());
            }
            Action::Rename(title) => add(title.as_bytes()),
            // Not the id: the server makes another one at each attempt.
            Action::CreateConversation { kind, title, members, history_visible, conversation: _ } => {
                add(&(*kind as i32).to_le_bytes());
                members.iter().for_each(|user| add(user.0.as_bytes()));
                add(&[u8::from(*history_visible), u8::from(title.is_some())]);
                add(title.as_deref().unwrap_or_default().as_bytes());
            }
            Action::Mute { conversation, muted } => {
                add(conversation.0.as_bytes());
                add(&[u8::from(*muted)]);
            }
            Action::RevokeSession(session) => {
                if let Some(session) = session {
                    add(session.0.as_bytes());
                }
            }
            Action::Social(social) => add(&social.payload()),
        }
        crc.cast_signed()
    }

    /// What it weighs in a queue, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.action {
                Action::Message(message) => message.encoded_len(),
                Action::Edit { body, .. } => body.len(),
                Action::AddMembers(members) | Action::CreateConversation { members, .. } => 16 * members.len(),
                Action::Social(social) => social.weight(),
                _ => 0,
            }
    }

    /// What `append` gets as `details`, to be kept as the entry's attrs.
    pub(super) fn attrs(&self) -> Option<Attrs> {
        let attrs = match &self.action {
            Action::Message(message) => return Attrs::of_message(message),
            Action::Edit { .. } | Action::Delete { .. } => return None,
            Action::React { emoji, .. } | Action::Unreact { emoji, .. } => {
                Attrs { emoji: Some(emoji.clone()), ..Attrs::default() }
            }
            Action::AddMembers(members) => {
                Attrs { members: members.iter().map(|user| user.0).collect(), ..Attrs::default() }
            }
            Action::RemoveMember(user) => Attrs { user: Some(user.0), ..Attrs::default() },
            Action::Leave => Attrs { user: Some(self.sender.0), ..Attrs::default() },
            Action::SetRole { user, role } => {
                Attrs { user: Some(user.0), role: Some(*role as i32), ..Attrs::default() }
            }
            Action::Rename(title) => Attrs { title: Some(title.clone()), ..Attrs::default() },
            Action::CreateConversation { conversation, kind, title, members, history_visible } => Attrs {
                conversation: Some(conversation.0),
                kind: Some(*kind as i32),
                title: title.clone(),
                members: members.iter().map(|user| user.0).collect(),
                history_visible: Some(*history_visible),
                ..Attrs::default()
            },
            Action::Mute { conversation, muted } => {
                Attrs { conversation: Some(conversation.0), muted: Some(*muted), ..Attrs::default() }
            }
            Action::RevokeSession(session) => Attrs { session: session.map(|session| session.0), ..Attrs::default() },
            Action::Social(social) => social.attrs(),
        };
        Some(attrs)
    }
}

impl Action {
    pub(super) fn kind(&self) -> i16 {
        match self {
            Action::Message(_) => kind::MESSAGE,
            Action::Edit { .. } => kind::EDITED,
            Action::Delete { .. } => kind::DELETED,
            Action::React { .. } => kind::REACTED,
            Action::Unreact { .. } => kind::UNREACTED,
            Action::CreateConversation { .. } => kind::CREATED,
            Action::AddMembers(_) => kind::MEMBERS_ADDED,
            Action::RemoveMember(_) | Action::Leave => kind::MEMBER_LEFT,
            Action::SetRole { .. } => kind::ROLE_SET,
            Action::Rename(_) => kind::RENAMED,
            Action::RevokeSession(_) => kind::SESSION_REVOKED,
            Action::Mute { .. } => kind::MUTED,
            Action::Social(social) => social.kind(),
        }
    }

    /// Rights are checked against what is stored, not against the batch: so nothing of the same log may follow a command
    /// on membership, roles, the conversation or its user in one call. Posts and people are decided one after the other.
    pub(super) fn is_last_of_its_log(&self) -> bool {
        (kind::CREATED..kind::POSTED).contains(&self.kind())
    }

    /// The message that it is a fact about.
    pub(super) fn target_seq(&self) -> Option<Seq> {
        match self {
            Action::Edit { target_seq, .. }
            | Action::Delete { target_seq }
            | Action::React { target_seq, .. }
            | Action::Unreact { target_seq, .. } => Some(*target_seq),
            _ => None,
        }
    }

    pub(super) fn edited_version(&self) -> Option<Seq> {
        match self {
            Action::Edit { version, .. } => Some(*version),
            _ => None,
        }
    }

    pub(super) fn body(&self) -> Option<&str> {
        match self {
            Action::Message(message) => Some(message.body.as_deref().unwrap_or_default()),
            Action::Edit { body, .. } => Some(body),
            Action::Social(social) => social.body(),
            _ => None,
        }
    }
}

/// An outcome of `append` as a code and the field that it is about; `None` for stored and repeat. `version` goes with a
/// conflict.
pub(super) fn refusal(action: &Action, outcome: i16, version: Option<Seq>) -> Option<Failure> {
    if let Action::Social(social) = action
        && let Some(failure) = social.refusal(outcome)
    {
        return Some(failure);
    }
    let (code, field) = match outcome {
        0 | 1 => return None,
        2 => (Code::IdReused, Some("client_id")),
        // Of a fact about a message it is not told which of the two is not there.
        3 => (Code::NotFound, action.target_seq().is_none().then_some("log_id")),
        4 => (Code::Forbidden, None),
        5 => (Code::Conflict, action.edited_version().map(|_| "version")),
        6 => (Code::TooLate, Some("target_seq")),
        7 => (Code::TargetGone, Some("target_seq")),
        8 => return Some(Failure::retry_after(Code::EpochChanged, 1_000)),
        _ => (Code::Internal, None),
    };
    Some(Failure { field: field.map(str::to_owned), version, ..Failure::new(code) })
}
