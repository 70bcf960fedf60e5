//! What a user does with posts and people, as commands and as entries of his own log.

use bowline_protocol::command::{Draft, ProfileChange};
use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Code, CommentId, Failure, PostId, UserId};
use prost::Message as _;
use uuid::Uuid;

use super::content::{Attrs, kind};

/// Decided and done by `append`, in the order of the commands, each after those before it.
#[derive(Clone, Debug, PartialEq)]
pub enum Social {
    /// `post` is the id that it gets, unless the command was stored before.
    Post {
        post: PostId,
        draft: Draft,
    },
    DeletePost(PostId),
    Like(PostId),
    Unlike(PostId),
    /// `comment` as `post` above.
    Comment {
        comment: CommentId,
        post: PostId,
        body: String,
    },
    Share(PostId),
    Follow(UserId),
    Unfollow(UserId),
    /// Ends what the two follow of each other, with an entry in the log of each who did.
    Block(UserId),
    Unblock(UserId),
    Mute(UserId),
    Unmute(UserId),
    Profile(ProfileChange),
}

/// What a command is about.
enum Target {
    Post(PostId),
    User(UserId),
    Oneself,
}

impl Social {
    /// What can't be at all.
    pub(super) fn check(&self, actor: UserId) -> Result<(), Failure> {
        match self.target() {
            Target::User(user) if user == actor => Err(Failure::invalid("user_id", "is oneself")),
            _ => Ok(()),
        }
    }

    /// The user whose log is locked and perhaps written too.
    pub(super) fn named(&self) -> Option<UserId> {
        match self {
            Self::Block(user) | Self::Unblock(user) => Some(*user),
            _ => None,
        }
    }

    /// Without what the server makes anew at each attempt.
    pub(super) fn payload(&self) -> Vec<u8> {
        match self {
            Self::Post { draft: Draft { body, attachments, attrs }, .. } => {
                let (body, attachments, attrs) = (body.clone(), attachments.clone(), attrs.clone());
                wire::PostCreate { client_id: Vec::new(), body, attachments, attrs }.encode_to_vec()
            }
            Self::Comment { post, body, .. } => [post.0.as_bytes(), body.as_bytes()].concat(),
            Self::Profile(ProfileChange { display_name, avatar_url, bio }) => {
                let (display_name, avatar_url, bio) = (display_name.clone(), avatar_url.clone(), bio.clone());
                wire::ProfileSet { client_id: Vec::new(), display_name, avatar_url, bio }.encode_to_vec()
            }
            _ => match self.target() {
                Target::Post(post) => post.to_wire(),
                Target::User(user) => user.to_wire(),
                Target::Oneself => Vec::new(),
            },
        }
    }

    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Post { draft, .. } => {
                let attached: usize = draft.attachments.iter().map(wire::Attachment::encoded_len).sum();
                draft.body.len() + attached + draft.attrs.as_ref().map_or(0, String::len)
            }
            Self::Comment { body, .. } => body.len(),
            Self::Profile(change) => {
                let texts = [&change.display_name, &change.avatar_url, &change.bio];
                texts.into_iter().flatten().map(String::len).sum()
            }
            _ => 0,
        }
    }

    pub(super) fn attrs(&self) -> Attrs {
        let mut attrs = match self.target() {
            Target::Post(post) => Attrs { post: Some(post.0), ..Attrs::default() },
            Target::User(user) => Attrs { user: Some(user.0), ..Attrs::default() },
            Target::Oneself => Attrs::default(),
        };
        match self {
            Self::Post { draft, .. } => {
                attrs.attachments = draft.attachments.iter().cloned().map(Into::into).collect();
                attrs.app.clone_from(&draft.attrs);
            }
            Self::Comment { comment, .. } => attrs.comment = Some(comment.0),
            Self::Profile(ProfileChange { display_name, avatar_url, bio }) => {
                attrs.display_name.clone_from(display_name);
                attrs.avatar_url.clone_from(avatar_url);
                attrs.bio.clone_from(bio);
            }
            _ => {}
        }
        attrs
    }

    pub(super) fn kind(&self) -> i16 {
        match self {
            Self::Post { .. } => kind::POSTED,
            Self::DeletePost(_) => kind::POST_DELETED,
            Self::Like(_) => kind::LIKED,
            Self::Unlike(_) => kind::UNLIKED,
            Self::Comment { .. } => kind::COMMENTED,
            Self::Share(_) => kind::SHARED,
            Self::Follow(_) => kind::FOLLOWED,
            Self::Unfollow(_) => kind::UNFOLLOWED,
            Self::Block(_) => kind::BLOCKED,
            Self::Unblock(_) => kind::UNBLOCKED,
            Self::Mute(_) => kind::USER_MUTED,
            Self::Unmute(_) => kind::USER_UNMUTED,
            Self::Profile(_) => kind::PROFILE_CHANGED,
        }
    }

    pub(super) fn body(&self) -> Option<&str> {
        match self {
            Self::Post { draft, .. } => Some(&draft.body),
            Self::Comment { body, .. } => Some(body),
            _ => None,
        }
    }

    /// The id of what it made, from the attrs of its entry.
    pub(super) fn made(&self, stored: &Attrs) -> Option<Uuid> {
        match self {
            Self::Post { .. } => stored.post,
            Self::Comment { .. } => stored.comment,
            _ => None,
        }
    }

    /// An outcome of `append` that is of these commands' own kind.
    pub(super) fn refusal(&self, outcome: i16) -> Option<Failure> {
        let failure = |code, field: &str, message: Option<&str>| Failure {
            field: Some(field.to_owned()),
            message: message.map(str::to_owned),
            ..Failure::new(code)
        };
        match (outcome, self.target()) {
            (3, Target::Post(_)) => Some(failure(Code::NotFound, "post_id", None)),
            (3, Target::User(_)) => Some(failure(Code::NotFound, "user_id", None)),
            (7, Target::Post(_)) => Some(failure(Code::TargetGone, "post_id", Some("the post was deleted"))),
            _ => None,
        }
    }

    fn target(&self) -> Target {
        match self {
            Self::Post { post, .. }
            | Self::DeletePost(post)
            | Self::Like(post)
            | Self::Unlike(post)
            | Self::Comment { post, .. }
            | Self::Share(post) => Target::Post(*post),
            Self::Follow(user)
            | Self::Unfollow(user)
            | Self::Block(user)
            | Self::Unblock(user)
            | Self::Mute(user)
            | Self::Unmute(user) => Target::User(*user),
            Self::Profile(_) => Target::Oneself,
        }
    }
}

/// What a post shows beside its text, from the column `attrs` of its row.
pub fn attached(attrs: Option<serde_json::Value>) -> (Vec<wire::Attachment>, Option<String>) {
    // What `append` wrote can be read; a row that something else wrote keeps its text.
    let attrs: Attrs = attrs.and_then(|attrs| serde_json::from_value(attrs).ok()).unwrap_or_default();
    (attrs.attachments.into_iter().map(Into::into).collect(), attrs.app)
}

/// The content of an entry of these kinds on the wire; a post without a body was deleted.
pub(super) fn content(of_kind: i16, body: Option<String>, attrs: Attrs) -> Option<Content> {
    let id = |id: Option<Uuid>| id.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let (post_id, author_id) = (id(attrs.post), id(attrs.author));
    let user = wire::AboutUser { user_id: id(attrs.user) };
    Some(match of_kind {
        kind::POSTED => Content::Posted(wire::Posted {
            post_id,
            deleted: body.is_none(),
            body,
            attachments: attrs.attachments.into_iter().map(Into::into).collect(),
            attrs: attrs.app,
        }),
        kind::POST_DELETED => {
            Content::PostDeleted(wire::PostDeleted { post_id, target_seq: attrs.posted_seq.unwrap_or_default() })
        }
        kind::LIKED => Content::Liked(wire::AboutPost { post_id, author_id }),
        kind::UNLIKED => Content::Unliked(wire::AboutPost { post_id, author_id }),
        kind::COMMENTED => Content::Commented(wire::Commented {
            post_id,
            author_id,
            comment_id: id(attrs.comment),
            body: body.unwrap_or_default(),
        }),
        kind::SHARED => Content::Shared(wire::AboutPost { post_id, author_id }),
        kind::FOLLOWED => Content::Followed(user),
        kind::UNFOLLOWED => Content::Unfollowed(user),
        kind::BLOCKED => Content::Blocked(user),
        kind::UNBLOCKED => Content::Unblocked(user),
        kind::USER_MUTED => Content::UserMuted(user),
        kind::USER_UNMUTED => Content::UserUnmuted(user),
        kind::PROFILE_CHANGED => Content::ProfileChanged(wire::ProfileChanged {
            display_name: attrs.display_name.unwrap_or_default(),
            avatar_url: attrs.avatar_url.unwrap_or_default(),
            bio: attrs.bio.unwrap_or_default(),
        }),
        _ => return None,
    })
}
