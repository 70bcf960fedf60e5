use std::ops::RangeInclusive;

/// A value that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub key: String,
    pub value: String,
    /// What is, as the end of a sentence that begins with "expected".
    pub allowed: String,
}

impl Invalid {
    pub fn new(key: &str, value: impl ToString, allowed: impl Into<String>) -> Self {
        Self { key: key.to_owned(), value: value.to_string(), allowed: allowed.into() }
    }

    pub fn unless_in(key: &str, value: u64, allowed: RangeInclusive<u64>) -> Option<Self> {
        let sentence = || format!("a whole number from {} to {}", allowed.start(), allowed.end());
        (!allowed.contains(&value)).then(|| Self::new(key, value, sentence()))
    }

    /// As seen from outside the section.
    pub fn under(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }
}
