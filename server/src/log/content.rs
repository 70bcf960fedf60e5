use bowline_protocol::wire::entry::Content;
use bowline_protocol::wire::{self};
use bowline_protocol::{Seq, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::social;

/// Kinds of entries as stored: the tags of [`Content`] on the wire.
pub(super) mod kind {
    pub(in super::super) const MESSAGE: i16 = 16;
    pub(in super::super) const EDITED: i16 = 17;
    pub(in super::super) const DELETED: i16 = 18;
    pub(in super::super) const REACTED: i16 = 19;
    pub(in super::super) const UNREACTED: i16 = 20;
    pub(in super::super) const ERASED: i16 = 21;
    pub(in super::super) const CREATED: i16 = 22;
    pub(in super::super) const MEMBERS_ADDED: i16 = 23;
    pub(in super::super) const MEMBER_LEFT: i16 = 24;
    pub(in super::super) const ROLE_SET: i16 = 25;
    pub(in super::super) const RENAMED: i16 = 26;
    pub(in super::super) const JOINED: i16 = 32;
    pub(in super::super) const LEFT: i16 = 33;
    pub(in super::super) const ROLE_CHANGED: i16 = 34;
    pub(in super::super) const MENTIONED: i16 = 35;
    pub(in super::super) const SESSION_REVOKED: i16 = 36;
    pub(in super::super) const MUTED: i16 = 37;
    pub(in super::super) const POSTED: i16 = 48;
    pub(in super::super) const POST_DELETED: i16 = 49;
    pub(in super::super) const LIKED: i16 = 50;
    pub(in super::super) const UNLIKED: i16 = 51;
    pub(in super::super) const COMMENTED: i16 = 52;
    pub(in super::super) const SHARED: i16 = 53;
    pub(in super::super) const FOLLOWED: i16 = 56;
    pub(in super::super) const UNFOLLOWED: i16 = 57;
    pub(in super::super) const BLOCKED: i16 = 58;
    pub(in super::super) const UNBLOCKED: i16 = 59;
    pub(in super::super) const USER_MUTED: i16 = 60;
    pub(in super::super) const USER_UNMUTED: i16 = 61;
    pub(in super::super) const PROFILE_CHANGED: i16 = 62;
}

/// `entries.attrs`: what an entry holds beside its body, one field for each thing that any kind may hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Attrs {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread_root: Option<Seq>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<Uuid>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// The app's own JSON, as text: jsonb would lose its order and refuse some of its numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_visible: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub muted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<Uuid>,
    /// Of the post, so that who counts what is done with posts needs no other table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Uuid>,
    /// Of a deleted post: the entry that posted it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posted_seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bio: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    url: String,
    #[serde(rename = "type")]
    media_type: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl Attrs {
    /// Most messages have none.
    pub(super) fn of_message(message: &wire::Message) -> Option<Self> {
        let attrs = Self {
            reply_to: message.reply_to_seq,
            thread_root: message.thread_root_seq,
            mentions: message.mentions.iter().filter_map(|id| UserId::from_wire(id)).map(|user| user.0).collect(),
            attachments: message.attachments.iter().cloned().map(Attachment::from).collect(),
            app: message.attrs.clone(),
            ..Self::default()
        };
        (attrs != Self::default()).then_some(attrs)
    }

    fn into_message(self, body: Option<String>) -> wire::Message {
        wire::Message {
            deleted: body.is_none(),
            body,
            reply_to_seq: self.reply_to,
            thread_root_seq: self.thread_root,
            mentions: ids(self.mentions),
            attachments: self.attachments.into_iter().map(wire::Attachment::from).collect(),
            attrs: self.app,
        }
    }
}

/// A message from the columns `body` and `attrs` of its row.
pub fn message(body: Option<String>, attrs: Option<serde_json::Value>) -> wire::Message {
    // What `append` wrote can be read; a row that something else wrote keeps its text.
    let attrs: Attrs = attrs.and_then(|attrs| serde_json::from_value(attrs).ok()).unwrap_or_default();
    attrs.into_message(body)
}

/// The content of an entry of this kind on the wire. `body` is the message's own, or of the message that an edit made
/// as it is now. A kind that this version does not know has none, and a reader passes over it.
pub(super) fn content(of_kind: i16, target_seq: Seq, body: Option<String>, attrs: Attrs) -> Option<Content> {
    let id = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    Some(match of_kind {
        kind::MESSAGE => Content::Message(attrs.into_message(body)),
        kind::EDITED => Content::Edited(wire::Edited { target_seq, body }),
        kind::DELETED => Content::Deleted(wire::Deleted { target_seq }),
        kind::REACTED => Content::Reacted(wire::Reacted { target_seq, emoji: attrs.emoji.unwrap_or_default() }),
        kind::UNREACTED => Content::Unreacted(wire::Reacted { target_seq, emoji: attrs.emoji.unwrap_or_default() }),
        kind::ERASED => Content::Erased(wire::Erased { target_seq }),
        kind::CREATED => Content::Created(wire::Created {
            kind: attrs.kind.unwrap_or_default(),
            title: attrs.title,
            user_ids: ids(attrs.members),
        }),
        kind::MEMBERS_ADDED => Content::MembersAdded(wire::MembersAdded { user_ids: ids(attrs.members) }),
        kind::MEMBER_LEFT => Content::MemberLeft(wire::MemberLeft { user_id: id(attrs.user) }),
        kind::ROLE_SET => {
            Content::RoleSet(wire::RoleSet { user_id: id(attrs.user), role: attrs.role.unwrap_or_default() })
        }
        kind::RENAMED => Content::Renamed(wire::Renamed { title: attrs.title.unwrap_or_default() }),
        kind::JOINED => Content::Joined(wire::Joined {
            conversation_id: id(attrs.conversation),
            conversation_seq: attrs.conversation_seq.unwrap_or_default(),
            kind: attrs.kind.unwrap_or_default(),
            title: attrs.title,
        }),
        kind::LEFT => Content::Left(wire::Left {
            conversation_id: id(attrs.conversation),
            conversation_seq: attrs.conversation_seq.unwrap_or_default(),
        }),
        kind::ROLE_CHANGED => Content::RoleChanged(wire::RoleChanged {
            conversation_id: id(attrs.conversation),
            role: attrs.role.unwrap_or_default(),
        }),
        kind::MENTIONED => Content::Mentioned(wire::Mentioned {
            conversation_id: id(attrs.conversation),
            conversation_seq: attrs.conversation_seq.unwrap_or_default(),
        }),
        kind::SESSION_REVOKED => {
            Content::SessionRevoked(wire::SessionRevoked { session_id: attrs.session.map(|id| id.as_bytes().to_vec()) })
        }
        kind::MUTED => Content::Muted(wire::Muted {
            conversation_id: id(attrs.conversation),
            muted: attrs.muted.unwrap_or_default(),
        }),
        kind::POSTED.. => return social::content(of_kind, body, attrs),
        _ => return None,
    })
}

fn ids(uuids: Vec<Uuid>) -> Vec<Vec<u8>> {
    uuids.into_iter().map(|id| id.as_bytes().to_vec()).collect()
}

impl From<wire::Attachment> for Attachment {
    fn from(it: wire::Attachment) -> Self {
        Self { url: it.url, media_type: it.media_type, size: it.size, sha256: it.sha256 }
    }
}

impl From<Attachment> for wire::Attachment {
    fn from(it: Attachment) -> Self {
        Self { url: it.url, media_type: it.media_type, size: it.size, sha256: it.sha256 }
    }
}
