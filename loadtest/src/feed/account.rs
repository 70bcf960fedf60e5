//! What one subscriber was told of an author's posts: each is to come once. Pure.

use std::collections::HashMap;

use tokio::time::Instant;

#[derive(Default)]
pub(super) struct Account {
    /// When each post was pushed for the first time.
    pushed: HashMap<usize, Instant>,
    /// When a page has shown each for the first time.
    shown: HashMap<usize, Instant>,
    /// Pushes of what had been pushed before.
    again: u64,
    /// Pushes that said that there were more posts.
    pub(super) more: u64,
}

impl Account {
    /// Whether it is the first time.
    pub(super) fn push(&mut self, post: usize, at: Instant) -> bool {
        let first = !self.pushed.contains_key(&post);
        if first {
            self.pushed.insert(post, at);
        } else {
            self.again += 1;
        }
        first
    }

    pub(super) fn page(&mut self, posts: Vec<usize>, at: Instant) {
        for post in posts {
            self.shown.entry(post).or_insert(at);
        }
    }

    pub(super) fn pushed(&self) -> u64 {
        self.pushed.len() as u64
    }

    /// Pushes of what had been pushed, or shown by a page of the same session. A page may show what was pushed.
    pub(super) fn repeated(&self) -> u64 {
        let after_page = |(post, at): (&usize, &Instant)| self.shown.get(post).is_some_and(|shown| shown < at);
        self.again + self.pushed.iter().filter(|pushed| after_page(*pushed)).count() as u64
    }

    /// Of these, those that came by a page alone.
    pub(super) fn by_page(&self, posts: &[usize]) -> u64 {
        posts.iter().filter(|post| self.shown.contains_key(post) && !self.pushed.contains_key(post)).count() as u64
    }

    /// Of these, those that never came.
    pub(super) fn missing(&self, posts: &[usize]) -> u64 {
        posts.iter().filter(|post| !self.shown.contains_key(post) && !self.pushed.contains_key(post)).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    enum Came {
        Push(usize),
        Page(Vec<usize>),
    }
    use Came::{Page, Push};

    /// Of posts 0 to 3: pushed, by page, missing, repeated.
    #[track_caller]
    fn check(came: Vec<Came>, expected: (u64, u64, u64, u64)) {
        let (mut account, mut at) = (Account::default(), Instant::now());
        for one in came {
            at += Duration::from_secs(1);
            match one {
                Push(post) => _ = account.push(post, at),
                Page(posts) => account.page(posts, at),
            }
        }
        let posts = [0, 1, 2, 3];
        assert_eq!((account.pushed(), account.by_page(&posts), account.missing(&posts), account.repeated()), expected);
    }

    #[test]
    fn each_post_is_to_come_once() {
        check(vec![Push(0), Push(1), Push(2), Push(3)], (4, 0, 0, 0));
        check(vec![Push(0), Push(1), Push(1), Push(3)], (3, 0, 1, 1));
        check(vec![Push(0), Page(vec![0, 1]), Push(2), Push(3)], (3, 1, 0, 0));
        check(vec![Page(vec![0]), Push(0), Page(vec![0])], (1, 0, 3, 1));
    }
}
