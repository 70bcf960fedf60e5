//! Pages of one reader's ranking, and the signed cursor that says where he is. Pure.
//!
//! A cursor names an edition of the ranking and an offset in it, and an edition never changes: whoever follows cursors sees
//! each of its posts once. An edition can be read on until the one after the next is made.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bowline_protocol::{Failure, UserId};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

use super::candidate::Sources;
use super::ranking::{POSTS, Ranked};

#[cfg(test)]
mod tests;

/// What a reader's cursors are made of, so that a key that signs something else can't be turned against them.
const LABEL: &[u8] = b"bowline feed cursor 1";
const SIGNATURE_BYTES: usize = 16;
const PLACE_BYTES: usize = 10;

/// A post of an edition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Item {
    pub post: Uuid,
    pub score: f32,
    pub reasons: Sources,
}

/// One ranking of a reader's feed, at most [`POSTS`] long; never changed after it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Edition {
    /// Greater than those of the reader's editions before.
    version: u64,
    /// Sources that did not give their part.
    missing: Sources,
    items: Vec<Item>,
}

/// What can be read of a reader's feed: the newest edition, and the one before it for those who are reading it.
#[derive(Clone, Debug, PartialEq)]
pub struct Editions {
    current: Edition,
    before: Option<Edition>,
}

/// Where in which edition a reader goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    version: u64,
    offset: u16,
}

/// What is left of an edition from a place on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rest<'a> {
    pub items: &'a [Item],
    start: Place,
}

/// The edition that a cursor names is gone, or never was on this node: `cursor_expired`. The reader starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ranking that the cursor names is gone")]
pub struct Expired;

/// Makes cursors, and believes only its own. Cheap to clone.
#[derive(Clone)]
pub struct Cursors {
    keyed: Hmac<Sha256>,
}

impl Edition {
    /// Of a ranking, best first.
    pub fn new(version: u64, ranked: &[Ranked], missing: Sources) -> Self {
        let items = ranked.iter().take(POSTS);
        let items = items.map(|ranked| Item { post: ranked.post, score: ranked.score as f32, reasons: ranked.reasons });
        Self { version, missing, items: items.collect() }
    }

    /// Of posts that no source proposed, as they come.
    pub fn unranked(version: u64, posts: &[Uuid], missing: Sources) -> Self {
        let items = posts.iter().take(POSTS);
        let items = items.map(|post| Item { post: *post, score: 0.0, reasons: Sources::default() });
        Self { version, missing, items: items.collect() }
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }
}

impl Editions {
    /// `next` becomes the current one; of `before` stays what was current.
    pub fn new(next: Edition, before: Option<&Editions>) -> Self {
        Self { before: before.map(|editions| editions.current.clone()), current: next }
    }

    pub fn current(&self) -> &Edition {
        &self.current
    }

    /// No source is missing from the current edition, and one of them proposed something.
    pub fn is_whole(&self) -> bool {
        let proposed = self.current.items.first().is_some_and(|item| item.reasons != Sources::default());
        self.current.missing == Sources::default() && proposed
    }

    pub fn contains(&self, place: Place) -> bool {
        self.edition(place.version).is_some()
    }

    /// Sources that the edition of this place lacks; without one, the current edition.
    pub fn missing(&self, place: Option<Place>) -> Sources {
        let version = place.map_or(self.current.version, |place| place.version);
        self.edition(version).map(|edition| edition.missing).unwrap_or_default()
    }

    /// From the place on; without one, from the start of the current edition.
    pub fn rest(&self, place: Option<Place>) -> Result<Rest<'_>, Expired> {
        let start = place.unwrap_or(Place { version: self.current.version, offset: 0 });
        let edition = self.edition(start.version).ok_or(Expired)?;
        let items = edition.items.get(usize::from(start.offset)..).ok_or(Expired)?;
        Ok(Rest { items, start })
    }

    fn edition(&self, version: u64) -> Option<&Edition> {
        [Some(&self.current), self.before.as_ref()].into_iter().flatten().find(|edition| edition.version == version)
    }

    /// What another node reads with [`Self::from_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for edition in [Some(&self.current), self.before.as_ref()].into_iter().flatten() {
            bytes.extend(edition.version.to_be_bytes());
            bytes.push(flags(edition.missing));
            bytes.extend(u16::try_from(edition.items.len()).unwrap_or(u16::MAX).to_be_bytes());
            for Item { post, score, reasons } in &edition.items {
                bytes.extend(post.as_bytes());
                bytes.extend(score.to_be_bytes());
                bytes.push(flags(*reasons));
            }
        }
        bytes
    }

    /// What another node wrote; nothing where it wrote something else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (current, rest) = read_edition(bytes)?;
        let before = match rest {
            [] => None,
            rest => Some(read_edition(rest).filter(|(_, rest)| rest.is_empty())?.0),
        };
        Some(Self { current, before })
    }
}

fn read_edition(bytes: &[u8]) -> Option<(Edition, &[u8])> {
    let (version, bytes) = bytes.split_first_chunk()?;
    let (missing, bytes) = bytes.split_first()?;
    let (count, mut bytes) = bytes.split_first_chunk()?;
    let count = usize::from(u16::from_be_bytes(*count));
    let mut items = Vec::with_capacity(count.min(POSTS));
    for _ in 0..count {
        let (post, rest) = bytes.split_first_chunk()?;
        let (score, rest) = rest.split_first_chunk()?;
        let (reasons, rest) = rest.split_first()?;
        let (score, reasons) = (f32::from_be_bytes(*score), from_flags(*reasons));
        items.push(Item { post: Uuid::from_bytes(*post), score, reasons });
        bytes = rest;
    }
    Some((Edition { version: u64::from_be_bytes(*version), missing: from_flags(*missing), items }, bytes))
}

fn flags(Sources { followee, trending, affinity }: Sources) -> u8 {
    u8::from(followee) | u8::from(trending) << 1 | u8::from(affinity) << 2
}

fn from_flags(flags: u8) -> Sources {
    Sources { followee: flags & 1 != 0, trending: flags & 2 != 0, affinity: flags & 4 != 0 }
}

impl Rest<'_> {
    /// How many of the edition stand before it.
    pub fn offset(&self) -> usize {
        usize::from(self.start.offset)
    }

    /// Where the reader goes on after the first `taken` of [`Self::items`]; nothing at the end of the edition.
    pub fn after(&self, taken: usize) -> Option<Place> {
        let offset = usize::from(self.start.offset) + taken;
        (taken < self.items.len())
            .then(|| u16::try_from(offset).ok())
            .flatten()
            .map(|offset| Place { offset, ..self.start })
    }
}

impl Cursors {
    /// All nodes have the same secret, or a reader's cursor is good only where it was made.
    pub fn new(secret: &[u8]) -> Self {
        // HMAC takes keys of any length.
        let keyed = Hmac::new_from_slice(secret).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        Self { keyed }
    }

    /// The text that this reader brings back.
    pub fn seal(&self, reader: UserId, place: Place) -> String {
        let mut bytes = to_bytes(place).to_vec();
        bytes.extend(&self.sign(reader, place).finalize().into_bytes()[..SIGNATURE_BYTES]);
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `invalid` unless [`Self::seal`] made it for this reader. Takes equally long whichever byte is wrong.
    pub fn open(&self, reader: UserId, cursor: &str) -> Result<Place, Failure> {
        let invalid = || Failure::invalid("cursor", "not a cursor that this reader was given");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let (place, signature) = bytes.split_first_chunk::<PLACE_BYTES>().ok_or_else(invalid)?;
        let place = from_bytes(*place);
        if signature.len() != SIGNATURE_BYTES {
            return Err(invalid());
        }
        self.sign(reader, place).verify_truncated_left(signature).map_err(|_| invalid())?;
        Ok(place)
    }

    fn sign(&self, reader: UserId, place: Place) -> Hmac<Sha256> {
        self.keyed.clone().chain_update(LABEL).chain_update(reader.0.as_bytes()).chain_update(to_bytes(place))
    }
}

fn to_bytes(Place { version, offset }: Place) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    bytes[..8].copy_from_slice(&version.to_be_bytes());
    bytes[8..].copy_from_slice(&offset.to_be_bytes());
    bytes
}

fn from_bytes(bytes: [u8; PLACE_BYTES]) -> Place {
    let [version @ .., high, low] = bytes;
    Place { version: u64::from_be_bytes(version), offset: u16::from_be_bytes([high, low]) }
}
