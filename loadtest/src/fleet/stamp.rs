//! What a body says about itself: when it was meant to go, and which of its target's messages it is.

/// The head of every body that a fleet sends, in hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// On the clock of [`super::clock`].
    pub(crate) meant_ns: u64,
    /// Counted from 0 over what was sent to this target.
    pub(crate) number: u32,
}

pub(crate) const STAMP_BYTES: usize = 24;

impl Stamp {
    /// A body of `bytes`, at least [`STAMP_BYTES`].
    pub(crate) fn body(self, bytes: usize) -> String {
        let mut body = format!("{:016x}{:08x}", self.meant_ns, self.number);
        body.extend(std::iter::repeat_n('.', bytes.saturating_sub(STAMP_BYTES)));
        body
    }

    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let head = std::str::from_utf8(body.get(..STAMP_BYTES)?).ok()?;
        let (meant, number) = head.split_at(16);
        Some(Self { meant_ns: u64::from_str_radix(meant, 16).ok()?, number: u32::from_str_radix(number, 16).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_stamp() {
        let stamp = Stamp { meant_ns: 0x0123_4567_89ab_cdef, number: 77 };
        let body = stamp.body(128);
        assert_eq!((body.len(), Stamp::of(body.as_bytes())), (128, Some(stamp)));
        assert_eq!(Stamp::of(b"hello"), None);
        assert_eq!(Stamp::of("é".repeat(20).as_bytes()), None);
    }
}
