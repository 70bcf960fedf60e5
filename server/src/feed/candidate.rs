//! What a source proposes for a feed, and what ranking needs to know of it.

use bowline_protocol::UserId;
use uuid::Uuid;

/// Why a post is in a feed; a post may have several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub followee: bool,
    pub trending: bool,
    pub affinity: bool,
}

impl Sources {
    pub fn and(self, other: Self) -> Self {
        Self {
            followee: self.followee || other.followee,
            trending: self.trending || other.trending,
            affinity: self.affinity || other.affinity,
        }
    }
}

/// A post that a source proposes to one reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub post: Uuid,
    pub author: UserId,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: i64,
    pub likes: u64,
    pub comments: u64,
    pub shares: u64,
    /// How much the reader engages with the author: w of the affinity A = 1 − e^(−w/8).
    pub affinity_weight: f64,
    /// The reader follows the author.
    pub followed: bool,
    pub sources: Sources,
}

/// Candidates that a source gives at the most.
pub const FOLLOWEE_POSTS: usize = 500;
pub const TRENDING_POSTS: usize = 200;
pub const AFFINITY_POSTS: usize = 300;
/// Of those whom a reader follows, those whose posts are looked for: whom he began to follow last.
pub const FOLLOWEES: usize = 2_000;
