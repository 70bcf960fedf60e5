//! Aligned pages: the stored log, in the pieces that replays share.

use std::ops::Range;
use std::sync::OnceLock;

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Codec, Seq};
use bytes::Bytes;

use super::entry::decoded;
use super::framing::proto_item;
use super::header::Header;
use super::source::PageRead;

/// Seqs a page. Page n is about seqs 128n to 128n + 127.
pub const PAGE_ENTRIES: u64 = 128;

/// A page is encoded in pieces of about this size (or one entry): a message is cut from one piece, so one that a peer
/// took half of pins no more than that.
const PIECE_BYTES: usize = 8 * 1024;

/// The number of the page that `seq` is in.
pub fn page_of(seq: Seq) -> u64 {
    seq / PAGE_ENTRIES
}

/// The entries of one page as they were at `as_of_seq`, encoded once a codec for everyone who reads them.
#[derive(Debug)]
pub struct Page {
    number: u64,
    as_of_seq: Seq,
    first_seq: Seq,
    headers: Vec<Header>,
    proto: Vec<Piece>,
    json: OnceLock<Vec<Piece>>,
}

/// Items of a page for one message.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    bytes: &'a Bytes,
    from: usize,
    to: usize,
}

#[derive(Debug)]
struct Piece {
    /// Index of its first item in the page.
    first: usize,
    bytes: Bytes,
    /// Where each item ends in `bytes`, its separator included.
    ends: Vec<u32>,
}

impl Page {
    /// The page `number` out of a read.
    pub fn new(number: u64, read: &PageRead) -> Self {
        let entries: Vec<&wire::Entry> = read.entries.iter().filter(|e| page_of(e.seq) == number).collect();
        let headers = entries.iter().map(|entry| Header::of(entry)).collect();
        let proto = pieces(entries.len(), |i, out| {
            proto_item(entries[i], out);
        });
        Self { number, as_of_seq: read.as_of_seq, first_seq: read.first_seq, headers, proto, json: OnceLock::new() }
    }

    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn as_of_seq(&self) -> Seq {
        self.as_of_seq
    }

    /// The first entry of the log that is still kept.
    pub fn first_seq(&self) -> Seq {
        self.first_seq
    }

    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The last seq about which this page says everything.
    pub fn covers_to(&self) -> Seq {
        self.as_of_seq.min((self.number + 1) * PAGE_ENTRIES - 1)
    }

    /// Shows `target`, or a fact about it.
    pub fn holds(&self, target: Seq) -> bool {
        self.headers.iter().any(|header| header.holds(target))
    }

    /// The end of the items from `index` on that one message can carry; at least `index + 1`.
    pub fn message_end(&self, codec: Codec, index: usize) -> usize {
        let piece = self.piece(codec, index);
        piece.first + piece.ends.len()
    }

    /// Items `range` of one message (see [`Page::message_end`]), in their codec.
    pub fn slice(&self, codec: Codec, range: Range<usize>) -> Slice<'_> {
        let piece = self.piece(codec, range.start);
        let separator = match codec {
            Codec::Proto => 0,
            Codec::Json => 1,
        };
        let (from, last) = (range.start - piece.first, range.end - 1 - piece.first);
        let from = if from == 0 { 0 } else { piece.ends[from - 1] as usize };
        Slice { bytes: &piece.bytes, from, to: piece.ends[last] as usize - separator }
    }

    /// For the few who must know what is in it.
    pub fn decode(&self, index: usize) -> wire::Entry {
        let slice = self.slice(Codec::Proto, index..index + 1);
        let entries: wire::Entries = decoded(slice.as_ref());
        entries.items.into_iter().next().unwrap_or_default()
    }

    /// The row without what was said after its reader had left. Its version is the row's own, so that whatever the
    /// reader may see later applies on top.
    pub fn withheld(&self, index: usize) -> wire::Entry {
        let mut entry = self.decode(index);
        entry.version = entry.seq;
        if let Some(Content::Message(message)) = &mut entry.content {
            message.body = None;
        }
        entry
    }

    /// What it takes in memory in one codec, bookkeeping included.
    pub fn bytes(&self) -> usize {
        let encoded: usize = self.proto.iter().map(|p| p.bytes.len() + 4 * p.ends.len() + size_of::<Piece>()).sum();
        size_of::<Self>() + self.headers.len() * size_of::<Header>() + encoded
    }

    fn piece(&self, codec: Codec, index: usize) -> &Piece {
        let pieces = match codec {
            Codec::Proto => &self.proto,
            Codec::Json => self.json.get_or_init(|| self.to_json()),
        };
        &pieces[pieces.partition_point(|piece| piece.first <= index) - 1]
    }

    fn to_json(&self) -> Vec<Piece> {
        pieces(self.headers.len(), |i, out| {
            if let Err(error) = serde_json::to_writer(&mut *out, &self.decode(i)) {
                unreachable!("an entry of the contract did not become JSON: {error}");
            }
            out.push(b',');
        })
    }
}

impl Slice<'_> {
    /// Shares the page's bytes from `skip` bytes into the slice on.
    pub fn share(&self, skip: usize) -> Bytes {
        self.bytes.slice(self.from + skip..self.to)
    }
}

impl AsRef<[u8]> for Slice<'_> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }
}

fn pieces(items: usize, mut write: impl FnMut(usize, &mut Vec<u8>)) -> Vec<Piece> {
    let mut done = Vec::new();
    let (mut first, mut bytes, mut ends) = (0, Vec::new(), Vec::new());
    for i in 0..items {
        let start = bytes.len();
        write(i, &mut bytes);
        if start > 0 && bytes.len() > PIECE_BYTES {
            let item = bytes.split_off(start);
            done.push(Piece::new(first, std::mem::replace(&mut bytes, item), std::mem::take(&mut ends)));
            first = i;
        }
        ends.push(bytes.len() as u32);
    }
    if !ends.is_empty() {
        done.push(Piece::new(first, bytes, ends));
    }
    done
}

impl Piece {
    fn new(first: usize, mut bytes: Vec<u8>, mut ends: Vec<u32>) -> Self {
        bytes.shrink_to_fit();
        ends.shrink_to_fit();
        Self { first, bytes: bytes.into(), ends }
    }
}
