//! Membership as spans of a log.

use bowline_protocol::Seq;

/// One stay: what of the log it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first visible seq: that of joining, or an earlier one where the conversation shows its history.
    pub visible_from: Seq,
    /// The leaving entry, the last one that is visible; `None` while the stay goes on.
    pub left_seq: Option<Seq>,
}

/// A reader's stays in a log, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans(Box<[Span]>);

impl Spans {
    pub fn new(spans: impl IntoIterator<Item = Span>) -> Self {
        Self(spans.into_iter().collect())
    }

    /// All of a log, from its first entry on: a user in his own log.
    pub fn whole() -> Self {
        Self::new([Span { visible_from: 1, left_seq: None }])
    }

    pub fn show(&self, seq: Seq) -> bool {
        self.0.iter().any(|span| span.visible_from <= seq && span.left_seq.is_none_or(|left| seq <= left))
    }

    /// Something of `(after, to]` is visible.
    pub fn show_any(&self, after: Seq, to: Seq) -> bool {
        self.0.iter().any(|span| span.visible_from <= to && span.left_seq.is_none_or(|left| left > after))
    }

    /// The last leaving entry, if no stay goes on; 0 without any stay.
    pub fn closed_at(&self) -> Option<Seq> {
        match self.0.iter().any(|span| span.left_seq.is_none()) {
            true => None,
            false => Some(self.0.iter().filter_map(|span| span.left_seq).max().unwrap_or(0)),
        }
    }
}
