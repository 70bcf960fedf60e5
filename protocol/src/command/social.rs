//! Commands on posts and people, and on the feed that is made of them.

use super::check::Checker;
use super::{Command, MAX_PAGE};
use crate::limits::{AVATAR_URL_BYTES, BIO_BYTES, DISPLAY_NAME_BYTES, Limits};
use crate::wire::client_frame::Kind;
use crate::wire::{self, PeopleKind};
use crate::{Code, CommentId, Failure, PostId, UserId};

/// A durable change of a post, or of what this user has to do with it. Kept in the user's own log.
#[derive(Clone, Debug, PartialEq)]
pub enum PostChange {
    Create(Draft),
    Delete(PostId),
    Like(PostId),
    Unlike(PostId),
    Share(PostId),
    Comment { post: PostId, body: String },
}

/// What a post is made of. `attrs` is the text of one JSON object.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub body: String,
    pub attachments: Vec<wire::Attachment>,
    pub attrs: Option<String>,
}

/// A durable change of what this user has to do with another, or of how others see him. Kept in the user's own log.
#[derive(Clone, Debug, PartialEq)]
pub enum PeopleChange {
    Follow(UserId),
    Unfollow(UserId),
    Block(UserId),
    Unblock(UserId),
    Mute(UserId),
    Unmute(UserId),
    Profile(ProfileChange),
}

/// What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProfileChange {
    pub display_name: Option<String>,
    pub avatar_url: Option<String>,
    pub bio: Option<String>,
}

/// A page of a list, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<Id> {
    pub limit: u64,
    /// Time and id of the last item of the page before.
    pub after: Option<(i64, Id)>,
}

/// What is read of posts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostQuery {
    Post(PostId),
    By { author: UserId, page: Page<PostId> },
    Comments { post: PostId, page: Page<CommentId> },
}

/// What is read of people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeopleQuery {
    Profile(UserId),
    List { kind: PeopleKind, of: UserId, page: Page<UserId> },
}

/// A page of the user's own feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedQuery {
    /// The `next` of the page before.
    pub cursor: Option<String>,
    pub limit: u64,
}

/// Of the cursors that the server makes, with room to grow.
const FEED_CURSOR_BYTES: u64 = 256;

pub(super) fn check(kind: Kind, limits: &Limits) -> Result<Command, Failure> {
    match kind {
        Kind::PostGet(g) => {
            let post = Checker::new("post_get", limits).post(&g.post_id)?;
            Ok(Command::Posts(PostQuery::Post(post)))
        }
        Kind::PostList(l) => {
            let check = Checker::new("post_list", limits);
            let author = check.id("user_id", &l.user_id, UserId::from_wire)?;
            let after = check.place("after_post_id", l.after_post_id.as_deref(), l.after_at_ms, PostId::from_wire)?;
            Ok(Command::Posts(PostQuery::By { author, page: check.listed(l.limit, after)? }))
        }
        Kind::CommentList(l) => {
            let check = Checker::new("comment_list", limits);
            let post = check.post(&l.post_id)?;
            let id = l.after_comment_id.as_deref();
            let after = check.place("after_comment_id", id, l.after_at_ms, CommentId::from_wire)?;
            Ok(Command::Posts(PostQuery::Comments { post, page: check.listed(l.limit, after)? }))
        }
        Kind::ProfileGet(g) => {
            let user = Checker::new("profile_get", limits).id("user_id", &g.user_id, UserId::from_wire)?;
            Ok(Command::People(PeopleQuery::Profile(user)))
        }
        Kind::PeopleList(l) => {
            let check = Checker::new("people_list", limits);
            let kind = check.known("kind", PeopleKind::try_from(l.kind))?;
            let of = check.id("user_id", &l.user_id, UserId::from_wire)?;
            let after = check.place("after_user_id", l.after_user_id.as_deref(), l.after_at_ms, UserId::from_wire)?;
            Ok(Command::People(PeopleQuery::List { kind, of, page: check.listed(l.limit, after)? }))
        }
        Kind::FeedPage(r) => {
            let check = Checker::new("feed_page", limits);
            let cursor = r.cursor.map(|cursor| check.text("cursor", cursor, FEED_CURSOR_BYTES)).transpose()?;
            Ok(Command::Feed(FeedQuery { cursor, limit: check.page("limit", r.limit, MAX_PAGE)? }))
        }
        Kind::FeedSubscribe(_) => Ok(Command::FeedSubscribe),
        Kind::FeedUnsubscribe(_) => Ok(Command::FeedUnsubscribe),
        other => check_people_change(other, limits),
    }
}

fn check_people_change(kind: Kind, limits: &Limits) -> Result<Command, Failure> {
    let (name, client_id, user_id, change): (_, _, _, fn(UserId) -> PeopleChange) = match kind {
        Kind::Follow(c) => ("follow", c.client_id, c.user_id, PeopleChange::Follow),
        Kind::Unfollow(c) => ("unfollow", c.client_id, c.user_id, PeopleChange::Unfollow),
        Kind::Block(c) => ("block", c.client_id, c.user_id, PeopleChange::Block),
        Kind::Unblock(c) => ("unblock", c.client_id, c.user_id, PeopleChange::Unblock),
        Kind::UserMute(m) => {
            let change = if m.muted { PeopleChange::Mute } else { PeopleChange::Unmute };
            ("user_mute", m.client_id, m.user_id, change)
        }
        Kind::ProfileSet(p) => {
            let check = Checker::new("profile_set", limits);
            let client_id = check.client_id(&p.client_id)?;
            return Ok(Command::ChangePeople { client_id, change: PeopleChange::Profile(profile(&check, p)?) });
        }
        other => return check_post_change(other, limits),
    };
    let check = Checker::new(name, limits);
    let user = check.id("user_id", &user_id, UserId::from_wire)?;
    Ok(Command::ChangePeople { client_id: check.client_id(&client_id)?, change: change(user) })
}

fn check_post_change(kind: Kind, limits: &Limits) -> Result<Command, Failure> {
    let (check, client_id, change) = match kind {
        Kind::PostCreate(p) => {
            let check = Checker::new("post_create", limits);
            (check, p.client_id, PostChange::Create(draft(&check, p.body, p.attachments, p.attrs, limits)?))
        }
        Kind::PostDelete(p) => {
            let check = Checker::new("post_delete", limits);
            (check, p.client_id, PostChange::Delete(check.post(&p.post_id)?))
        }
        Kind::PostLike(p) => {
            let check = Checker::new("post_like", limits);
            (check, p.client_id, PostChange::Like(check.post(&p.post_id)?))
        }
        Kind::PostUnlike(p) => {
            let check = Checker::new("post_unlike", limits);
            (check, p.client_id, PostChange::Unlike(check.post(&p.post_id)?))
        }
        Kind::PostShare(p) => {
            let check = Checker::new("post_share", limits);
            (check, p.client_id, PostChange::Share(check.post(&p.post_id)?))
        }
        Kind::CommentCreate(c) => {
            let check = Checker::new("comment_create", limits);
            let body = said(&check, "body", c.body, limits.body_bytes)?;
            (check, c.client_id, PostChange::Comment { post: check.post(&c.post_id)?, body })
        }
        _ => return Err(Failure::new(Code::UnknownCommand)),
    };
    Ok(Command::ChangePost { client_id: check.client_id(&client_id)?, change })
}

/// A post says something or shows something.
fn draft(
    check: &Checker<'_>,
    body: String,
    attachments: Vec<wire::Attachment>,
    attrs: Option<String>,
    limits: &Limits,
) -> Result<Draft, Failure> {
    check.attachments(&attachments)?;
    let body = match attachments.is_empty() {
        true => said(check, "body", body, limits.body_bytes)?,
        false => check.text("body", body, limits.body_bytes)?,
    };
    Ok(Draft { body, attachments, attrs: attrs.map(|text| check.object("attrs", text)).transpose()? })
}

fn profile(check: &Checker<'_>, set: wire::ProfileSet) -> Result<ProfileChange, Failure> {
    let name = set.display_name.map(|name| said(check, "display_name", name, DISPLAY_NAME_BYTES));
    let url = set.avatar_url.map(|url| check.text("avatar_url", url, AVATAR_URL_BYTES));
    let change = ProfileChange {
        display_name: name.transpose()?,
        avatar_url: url.transpose()?,
        bio: set.bio.map(|bio| check.text("bio", bio, BIO_BYTES)).transpose()?,
    };
    for (field, line) in [("display_name", &change.display_name), ("avatar_url", &change.avatar_url)] {
        if line.as_deref().unwrap_or_default().chars().any(char::is_control) {
            return Err(check.invalid(field, "holds a control character"));
        }
    }
    if change == ProfileChange::default() {
        return Err(check.invalid("display_name", "nothing to set: one of display_name, avatar_url, bio"));
    }
    Ok(change)
}

/// Text that is not blank.
fn said(check: &Checker<'_>, field: &str, text: String, limit: u64) -> Result<String, Failure> {
    if text.trim().is_empty() {
        return Err(check.invalid(field, "is blank"));
    }
    check.text(field, text, limit)
}
