//! What a server accepts by default; the values in force are configuration, announced in `connected`.

use crate::wire;

/// Bounds on what one client may send or ask for. Each is checked where the command is decoded, and named in the error.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// UTF-8 bytes of a message body.
    pub body_bytes: u64,
    /// Bytes of one WebSocket message from a client, fragments put together.
    pub frame_bytes: u64,
    /// Bytes of a message's `attrs`, as JSON text.
    pub attrs_bytes: u64,
    pub title_bytes: u64,
    pub mentions: u64,
    pub attachments: u64,
    /// Users named in one `conversation_create` or `conversation_add`.
    pub members_per_command: u64,
    /// Commands of one socket that wait for their reply; beyond it the socket is not read.
    pub open_commands: u64,
    pub cursors_per_resume: u64,
    /// A cursor further behind than this gets `gap_too_large`.
    pub replay_entries: u64,
    /// Rows read by one `history`.
    pub history_entries: u64,
    /// Conversations that one session follows.
    pub conversations: u64,
    /// UTF-8 bytes of a topic's name.
    pub topic_bytes: u64,
    /// Topics that one socket subscribes.
    pub topics: u64,
    /// Commands of one socket a second, in the long run, frames that can't be decoded included; 0 is no limit.
    pub commands_per_s: u64,
    /// Commands of one socket at once, after a pause.
    pub commands_burst: u64,
}

/// Before a socket has connected, its messages are at most this long.
pub const UNAUTHENTICATED_FRAME_BYTES: u64 = 4 * 1024;

/// The longest emoji of a reaction, in bytes: a family with skin tones takes 41.
pub const EMOJI_BYTES: u64 = 64;

/// Of an attachment's url and media type together.
pub const ATTACHMENT_BYTES: u64 = 2 * 1024;

/// Of a person's name as it is shown, in UTF-8 bytes.
pub const DISPLAY_NAME_BYTES: u64 = 128;
pub const AVATAR_URL_BYTES: u64 = 2 * 1024;
pub const BIO_BYTES: u64 = 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 16 * 1024,
            frame_bytes: 64 * 1024,
            attrs_bytes: 4 * 1024,
            title_bytes: 256,
            mentions: 32,
            attachments: 16,
            members_per_command: 1_000,
            open_commands: 32,
            cursors_per_resume: 256,
            replay_entries: 10_000,
            history_entries: 1_024,
            conversations: 10_000,
            topic_bytes: 128,
            topics: 256,
            commands_per_s: 100,
            commands_burst: 200,
        }
    }
}

impl Limits {
    /// As announced in `connected`.
    pub fn to_wire(&self) -> wire::Limits {
        wire::Limits {
            body_bytes: self.body_bytes,
            frame_bytes: self.frame_bytes,
            attrs_bytes: self.attrs_bytes,
            title_bytes: self.title_bytes,
            mentions: self.mentions,
            attachments: self.attachments,
            members_per_command: self.members_per_command,
            open_commands: self.open_commands,
            cursors_per_resume: self.cursors_per_resume,
            replay_entries: self.replay_entries,
            history_entries: self.history_entries,
            conversations: self.conversations,
            topic_bytes: self.topic_bytes,
            topics: self.topics,
            commands_per_s: self.commands_per_s,
            commands_burst: self.commands_burst,
        }
    }
}
