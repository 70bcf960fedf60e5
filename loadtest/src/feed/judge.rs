//! What a page of the feed must be: there in time, not empty for whom there is something, and without what was shown before. Pure.

use std::collections::HashSet;
use std::time::Duration;

use bowline_client::protocol::wire;

/// What a server has for a page, from the request's arrival to the answer.
pub(super) const BUDGET: Duration = Duration::from_millis(450);

/// One reading of a ranking, from its first page on.
#[derive(Debug, Default)]
pub(super) struct Walk {
    shown: HashSet<Vec<u8>>,
    next: Option<String>,
    pages: u32,
}

/// What is wrong with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    /// A first page without a post, for one who follows somebody who wrote something.
    pub(super) empty: bool,
    /// The same, for one who follows nobody: others wrote something.
    pub(super) empty_of_stranger: bool,
    /// Posts that this reading has shown before.
    pub(super) repeated: u64,
}

impl Walk {
    /// Behind which the next page is asked for.
    pub(super) fn cursor(&self) -> Option<&String> {
        self.next.as_ref()
    }

    /// Whether there is a further page of it.
    pub(super) fn goes_on(&self) -> bool {
        self.next.is_some()
    }

    /// Takes in a page that was asked for with [`Self::cursor`]. `owed`: whether its reader follows somebody who wrote something.
    pub(super) fn take(&mut self, page: &wire::FeedPage, owed: bool) -> Wrong {
        let empty = self.pages == 0 && page.items.is_empty();
        self.pages += 1;
        self.next.clone_from(&page.next);
        let posts = page.items.iter().filter_map(|item| item.post.as_ref());
        let repeated = posts.filter(|post| !self.shown.insert(post.post_id.clone())).count() as u64;
        Wrong { empty: empty && owed, empty_of_stranger: empty && !owed, repeated }
    }
}

/// By how much a page came too late: beyond the budget, and what the machine was late by in the same time. Zero: in time.
pub(super) fn too_late(took: Duration, machine_late: Duration) -> Duration {
    took.saturating_sub(BUDGET + machine_late)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(posts: &[u8], next: Option<&str>) -> wire::FeedPage {
        let post = |id: &u8| wire::Post { post_id: vec![*id; 16], ..Default::default() };
        let items = posts.iter().map(|id| wire::FeedItem { post: Some(post(id)), ..Default::default() });
        wire::FeedPage { items: items.collect(), next: next.map(str::to_owned), ..Default::default() }
    }

    /// What is wrong with each page of one reading.
    #[track_caller]
    fn check(owed: bool, pages: &[&[u8]], expected: &[Wrong]) {
        let mut walk = Walk::default();
        let found: Vec<Wrong> = pages.iter().map(|posts| walk.take(&page(posts, Some("more")), owed)).collect();
        assert_eq!(found, expected, "{pages:?}");
    }

    #[test]
    fn a_post_is_shown_once_in_a_reading() {
        let good = Wrong::default();
        check(true, &[&[1, 2], &[3], &[4, 5]], &[good; 3]);
        check(true, &[&[1, 2], &[3, 2]], &[good, Wrong { repeated: 1, ..good }]);
        check(true, &[&[1, 1, 1]], &[Wrong { repeated: 2, ..good }]);
        check(true, &[&[1], &[2], &[1, 2]], &[good, good, Wrong { repeated: 2, ..good }]);
    }

    #[test]
    fn the_first_page_is_not_empty_and_a_later_one_may_be() {
        let good = Wrong::default();
        check(true, &[&[]], &[Wrong { empty: true, ..good }]);
        check(false, &[&[]], &[Wrong { empty_of_stranger: true, ..good }]);
        check(true, &[&[1], &[]], &[good; 2]);
    }

    #[test]
    fn a_reading_ends_with_the_page_that_names_no_next() {
        let mut walk = Walk::default();
        walk.take(&page(&[1], Some("a")), true);
        assert_eq!((walk.goes_on(), walk.cursor().map(String::as_str)), (true, Some("a")));
        walk.take(&page(&[2], None), true);
        assert!(!walk.goes_on());
    }

    #[test]
    fn late_is_beyond_the_budget_and_what_the_machine_adds() {
        let ms = Duration::from_millis;
        for (took_ms, machine_ms, late_ms) in [(449, 0, 0), (450, 0, 0), (451, 0, 1), (451, 1, 0), (900, 200, 250)] {
            assert_eq!(too_late(ms(took_ms), ms(machine_ms)), ms(late_ms), "{took_ms} ms, the machine {machine_ms}");
        }
    }
}
