//! Not written yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub joined_seq: u64,
    pub left_seq: Option<u64>,
}
