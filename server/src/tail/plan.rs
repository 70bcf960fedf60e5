//! What a reader gets next. The one place where cursor, tail and pages meet.

use std::ops::Range;
use std::sync::Arc;

use bowline_protocol::{Codec, Seq, UserId};

use super::budget::Budget;
use super::cursor::{Cursor, Stretch};
use super::log_tail::{Found, Tail};
use super::page::Page;

/// The next thing to do for a cursor.
#[derive(Debug)]
pub enum Plan {
    /// Nothing: it is level, or waits for a page that was asked for.
    Rest,
    /// Nothing is left to send; [`Cursor::settle`] says what that means.
    Settle,
    /// This page has to be asked for.
    Need(u64),
    /// What the reader would see next is not kept any more; the log begins here.
    Trimmed(Seq),
    /// Nothing up to here is for this reader. He gets an empty range.
    Skip(Seq),
    /// These entries of the tail, each in its own frame.
    Frames(Stretch),
    /// These items of a page, in one message whose head is this reader's own.
    Slice(Arc<Page>, Stretch),
    /// One item of a page, without what was said after the reader had left.
    Withheld(Arc<Page>, Stretch),
}

/// Frames of one plan.
pub const MAX_FRAMES: usize = 64;

/// What comes next for this reader. Sending it, or what was taken of it, is followed by [`Cursor::advance`].
pub fn plan(cursor: &Cursor, user: Option<UserId>, codec: Codec, tail: &mut Tail, budget: &mut Budget) -> Plan {
    let head = tail.head();
    if cursor.is_level(head) {
        return Plan::Rest;
    }
    let after = cursor.seq();
    if after >= cursor.target(head) {
        return Plan::Settle;
    }
    let first = match tail.find(after, budget) {
        Found::Entries(first) => first,
        Found::Page(page) => {
            let page = Arc::clone(page);
            return out_of_page(cursor, user, codec, page);
        }
        Found::Missing { asked: true, .. } => return Plan::Rest,
        Found::Missing { page, asked: false } => return Plan::Need(page),
    };
    let header = |i| tail.entry(i).map(|entry| entry.header());
    let stretch = cursor.stretch(user, header, first, |start| start + MAX_FRAMES, head);
    match header(stretch.items.start) {
        Some(visible) if !stretch.items.is_empty() && stretch.items.start > first => Plan::Skip(visible.seq - 1),
        _ if stretch.items.is_empty() => Plan::Skip(stretch.to_seq),
        _ => Plan::Frames(stretch),
    }
}

fn out_of_page(cursor: &Cursor, user: Option<UserId>, codec: Codec, page: Arc<Page>) -> Plan {
    let after = cursor.seq();
    if page.first_seq() > after + 1 && cursor.sees_any(page.first_seq() - 1) {
        return Plan::Trimmed(page.first_seq());
    }
    let headers = page.headers();
    let first = headers.partition_point(|header| header.seq <= after);
    let limit = |start| page.message_end(codec, start);
    let stretch = cursor.stretch(user, |i| headers.get(i), first, limit, page.covers_to());
    match &stretch {
        Stretch { items: Range { start, end }, .. } if start == end => Plan::Skip(stretch.to_seq),
        Stretch { withheld: true, .. } => Plan::Withheld(page, stretch),
        _ => Plan::Slice(page, stretch),
    }
}
