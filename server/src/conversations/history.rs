//! Messages as they are now, a page around a place.
//!
//! Two statements: where the place is and what this user may see, then the rows. Rows newer than the first are left out,
//! and one who is removed in between is shown nothing that came after it.

use std::collections::{HashMap, HashSet};

use bowline_protocol::command::Place;
use bowline_protocol::{Code, Failure, LogId, Seq, UserId, wire};

use super::attach::spans;
use super::store::{self, Found, Message, Reaction, Scan, Scanned};
use crate::deadline::Deadline;
use crate::storage::Pool;
use crate::tail::Span;

/// Text in one page, at least one message.
const PAGE_BYTES: i64 = 256 * 1024;

/// What a page is asked for.
pub(super) struct Asked {
    pub(super) user: UserId,
    pub(super) log: LogId,
    pub(super) place: Place,
    pub(super) limit: u64,
}

/// Reads at most `most_rows` entries of the log and as many reactions.
pub(super) async fn read(
    pool: &Pool,
    asked: Asked,
    most_rows: u64,
    deadline: Deadline,
) -> Result<wire::Messages, Failure> {
    let at_ms = match asked.place {
        Place::AroundTime { at_ms } => Some(at_ms),
        _ => None,
    };
    let connection = pool.get(deadline).await?;
    let place = store::place(&connection, asked.user, asked.log, at_ms, deadline).await;
    let Some(place) = place.map_err(store::failed("history"))? else { return Err(Code::NotFound.into()) };
    let view = View::of(&place);
    let window = Window::around(asked.place, place.at_seq, asked.limit, most_rows, &view);
    let scan = Scan {
        spans: &view.spans,
        middle: window.middle,
        older: window.older,
        newer: window.newer,
        most_bytes: PAGE_BYTES,
        most_reactions: most_rows,
    };
    let scanned = store::scan(&connection, asked.user, asked.log, &scan, deadline).await;
    Ok(page(&asked, &view, &window, scanned.map_err(store::failed("history"))?, most_rows))
}

/// What a user may see of a log.
struct View {
    spans: Vec<Span>,
    first_seq: Seq,
    /// The last entry that is for him.
    end: Seq,
}

impl View {
    fn of(found: &Found) -> Self {
        let spans = spans(&found.stays, found.history_visible);
        let left_seq = spans.last().and_then(|span| span.left_seq);
        Self {
            spans,
            first_seq: found.first_seq,
            end: left_seq.map_or(found.last_seq, |left| left.min(found.last_seq)),
        }
    }

    /// The newest visible seq that is not above this one.
    fn at_or_below(&self, seq: Seq) -> Option<Seq> {
        let seq = seq.min(self.end);
        let spans = self.spans.iter().rev().filter(|span| span.visible_from <= seq);
        spans
            .map(|span| span.left_seq.map_or(seq, |left| left.min(seq)))
            .next()
            .filter(|seq| *seq >= self.first_seq.max(1))
    }

    /// The oldest visible seq above this one.
    fn above(&self, seq: Seq) -> Option<Seq> {
        let from = (seq + 1).max(self.first_seq);
        let mut spans = self.spans.iter().filter(|span| span.left_seq.is_none_or(|left| left >= from));
        spans.next().map(|span| span.visible_from.max(from)).filter(|seq| *seq <= self.end)
    }
}

/// Where messages are looked for: on two sides of a middle, which itself is on the older one.
#[derive(Debug, PartialEq)]
struct Window {
    middle: Seq,
    older: Side,
    newer: Side,
}

/// The entries in (after, to] are looked at for messages, `most` of them, from the middle outwards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Side {
    pub(super) after: Seq,
    pub(super) to: Seq,
    pub(super) most: u64,
}

impl Window {
    fn around(place: Place, at_seq: Option<Seq>, limit: u64, most_rows: u64, view: &View) -> Self {
        let half = limit.div_ceil(2);
        let (middle, older, newer) = match place {
            Place::Newest => (view.end, limit, 0),
            Place::Before(seq) => (seq.saturating_sub(1), limit, 0),
            Place::After(seq) => (seq, 0, limit),
            Place::Around(seq) => (seq, half, limit - half),
            Place::AroundTime { .. } => (at_seq.unwrap_or(view.end), half, limit - half),
        };
        let middle = middle.min(view.end);
        let rows = |most: u64| if most == limit { most_rows } else { most_rows / 2 };
        // A side where nothing is for him is looked through already.
        let older = match view.at_or_below(middle) {
            Some(top) => Side { after: top.saturating_sub(rows(older)), to: top, most: older },
            None => Side { after: 0, to: 0, most: older },
        };
        let newer = match view.above(middle) {
            Some(bottom) => Side { after: bottom - 1, to: (bottom - 1 + rows(newer)).min(view.end), most: newer },
            None => Side { after: view.end, to: view.end, most: newer },
        };
        Self { middle, older, newer }
    }

    /// The range that a page covers which holds `kept` of the messages that were found.
    fn covered(&self, view: &View, found: &[Seq], kept: &[Seq]) -> (Seq, Seq) {
        let is_older = |seq: &&Seq| **seq <= self.middle;
        let full = |side: Side, found: usize, kept: usize| found as u64 == side.most || kept < found;
        let (found_older, kept_older) = (found.iter().filter(is_older).count(), kept.iter().filter(is_older).count());
        let (found_newer, kept_newer) = (found.len() - found_older, kept.len() - kept_older);
        let after_seq = if full(self.older, found_older, kept_older) {
            kept.iter().filter(is_older).min().map_or(self.middle, |seq| seq - 1)
        } else {
            self.older.after
        };
        let to_seq = if full(self.newer, found_newer, kept_newer) {
            kept.iter().filter(|seq| !is_older(seq)).max().copied().unwrap_or(self.middle)
        } else {
            self.newer.to
        };
        // Where nothing more is for him on a side, he need not ask for it.
        let after_seq = if view.at_or_below(after_seq).is_none() { 0 } else { after_seq };
        let to_seq = if view.above(to_seq).is_none() { view.end.max(after_seq) } else { to_seq };
        (after_seq, to_seq)
    }
}

/// The page that the rows make: of the messages, nearest to the middle first, as many as are known whole.
fn page(asked: &Asked, view: &View, window: &Window, scanned: Scanned, most_reactions: u64) -> wire::Messages {
    let Scanned { messages, reactions, left_seq } = scanned;
    let found: Vec<Seq> = messages.iter().map(|message| message.entry.seq).collect();
    let kept = &found[..whole(&messages, &reactions, most_reactions)];
    let (after_seq, to_seq) = window.covered(view, &found, kept);
    // He may have been removed after his place was looked up.
    let gone = left_seq.unwrap_or(Seq::MAX);
    let mut counts = count(reactions.iter().filter(|reaction| reaction.seq <= gone), asked.user);
    let mut items: Vec<_> = messages
        .into_iter()
        .take(kept.len())
        .filter(|message| message.entry.seq <= gone)
        .map(|Message { entry, .. }| wire::FoldedMessage {
            reactions: counts.remove(&entry.seq).unwrap_or_default(),
            entry: Some(as_left(entry, gone)),
        })
        .collect();
    items.sort_unstable_by_key(|item| item.entry.as_ref().map(|entry| entry.seq));
    wire::Messages { log_id: asked.log.to_wire(), as_of_seq: view.end, after_seq, to_seq, items }
}

/// How many of the messages came with their text and all that was read of their reactions; one at least, whose reactions
/// may be so many that the oldest were not read.
fn whole(messages: &[Message], reactions: &[Reaction], most_reactions: u64) -> usize {
    let without_text = messages.iter().position(|message| message.over);
    let cut = reactions.last().filter(|_| reactions.len() as u64 >= most_reactions);
    let cut = cut.and_then(|last| messages.iter().position(|message| message.entry.seq == last.target_seq));
    let whole = [without_text, cut].into_iter().flatten().min().unwrap_or(messages.len());
    whole.max(1).min(messages.len())
}

/// The text of a message that was changed after this reader had left is not for him.
fn as_left(mut entry: wire::Entry, gone: Seq) -> wire::Entry {
    if entry.version > gone
        && let Some(wire::entry::Content::Message(message)) = &mut entry.content
    {
        message.body = None;
    }
    entry
}

/// Reactions by message: of each user and emoji the newest fact counts. In the order in which an emoji was first used of
/// what was read.
fn count<'a>(reactions: impl Iterator<Item = &'a Reaction>, user: UserId) -> HashMap<Seq, Vec<wire::ReactionCount>> {
    let mut newest: Vec<_> = reactions.collect();
    newest.sort_unstable_by_key(|reaction| std::cmp::Reverse(reaction.seq));
    let mut decided = HashSet::new();
    newest.retain(|reaction| decided.insert((reaction.target_seq, reaction.user, reaction.emoji.as_str())));
    let mut counts: HashMap<Seq, Vec<wire::ReactionCount>> = HashMap::new();
    for reaction in newest.iter().rev().filter(|reaction| reaction.added) {
        let of_message = counts.entry(reaction.target_seq).or_default();
        let mine = reaction.user == user;
        match of_message.iter_mut().find(|count| count.emoji == reaction.emoji) {
            Some(count) => {
                count.count += 1;
                count.mine |= mine;
            }
            None => of_message.push(wire::ReactionCount { emoji: reaction.emoji.clone(), count: 1, mine }),
        }
    }
    counts
}
