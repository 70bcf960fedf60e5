//! UTF-8 as it comes, in pieces cut anywhere: what can't become valid any more is refused at once.

/// The bytes of a character that the last piece began and did not end.
#[derive(Clone, Debug, Default)]
pub(super) struct Utf8 {
    begun: [u8; 4],
    len: u8,
}

impl Utf8 {
    /// Takes the next piece; false once the text is invalid.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> bool {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else { return true };
            self.begun[self.len as usize] = byte;
            self.len += 1;
            piece = rest;
            match std::str::from_utf8(&self.begun[..self.len as usize]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => {}
            }
        }
        let Err(error) = std::str::from_utf8(piece) else { return true };
        let begun = &piece[error.valid_up_to()..];
        if error.error_len().is_some() {
            return false;
        }
        self.begun[..begun.len()].copy_from_slice(begun);
        self.len = begun.len() as u8;
        true
    }

    /// The text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &[u8], cuts: &[prop::sample::Index]) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let mut utf8 = Utf8::default();
        for pair in at.windows(2) {
            let valid = utf8.push(&text[pair[0]..pair[1]]);
            let seen = std::str::from_utf8(&text[..pair[1]]);
            assert_eq!(valid, seen.is_ok() || seen.is_err_and(|e| e.error_len().is_none()), "{text:x?} to {}", pair[1]);
            if !valid {
                return;
            }
        }
        assert_eq!(utf8.is_whole(), std::str::from_utf8(text).is_ok(), "{text:x?}");
    }

    proptest! {
        #[test]
        fn text_in_pieces_is_judged_like_the_whole(text: String, cuts: Vec<prop::sample::Index>) {
            check(text.as_bytes(), &cuts);
        }

        #[test]
        fn bytes_in_pieces_are_judged_like_the_whole(text: Vec<u8>, good: String, cuts: Vec<prop::sample::Index>) {
            check(&[good.as_bytes(), &text].concat(), &cuts);
        }
    }
}
