//! The three sources of candidates as PostgreSQL gives them: one bounded statement each, and what is there when none of
//! them has anything. Also whom a reader follows, and the secret of cursors.

mod store;

pub(super) use store::{affinity, followees, follows, newest, newest_posts_of, secret, trending};
