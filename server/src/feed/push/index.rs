//! Who on this node is to hear of whom, and of what he has not been told yet. Pure: the moment is an argument.
//!
//! A subscriber and someone whom he follows are 8 bytes: the number of each in the other's list.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::{Duration, Instant};

use bowline_protocol::{Seq, UserId};
use uuid::Uuid;

use crate::wire::Address;

#[cfg(test)]
mod tests;

/// Posts that wait for one session; the oldest beyond it becomes "there is more".
const WAITING: usize = 20;
/// Posts that a session was given with its last pages and may not be pushed: the newest are the ones that could be.
const GIVEN: usize = 64;
/// Posts of which this node heard: a second notice of one of them is none.
const HEARD: usize = 4_096;

/// What one session is told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub address: Address,
    pub user: UserId,
    /// The oldest first.
    pub posts: Vec<Uuid>,
    pub more: bool,
}

#[derive(Default)]
pub(super) struct Index {
    watchers: HashMap<u32, Watcher>,
    addresses: HashMap<Address, u32>,
    last_watcher: u32,
    /// Users with subscribers, and those whom they follow.
    people: HashMap<UserId, u32>,
    numbered: HashMap<u32, Person>,
    last_person: u32,
    /// Watchers that something waits for.
    waiting: Vec<u32>,
    /// Users of whom it is not known whom they follow.
    unread: HashSet<UserId>,
    /// Authors who may have written something on another node.
    heard_of: HashSet<UserId>,
    heard: Recent<Uuid>,
}

struct Watcher {
    address: Address,
    user: UserId,
    person: u32,
    /// What he is to be told, each with who wrote it.
    posts: VecDeque<(Uuid, u32)>,
    more: bool,
    queued: bool,
    told: Option<Instant>,
    given: Recent<Uuid>,
}

struct Person {
    user: UserId,
    /// His own sessions.
    sessions: Vec<u32>,
    /// Whom he follows, while he has sessions.
    follows: Vec<u32>,
    /// People with sessions who follow him.
    followers: Vec<u32>,
    /// All of his log up to here is known to this node.
    seq: Seq,
}

/// The last few of something.
struct Recent<T> {
    order: VecDeque<T>,
    set: HashSet<T>,
}

impl Index {
    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    pub(super) fn add(&mut self, address: Address, user: UserId) {
        if self.addresses.contains_key(&address) {
            return;
        }
        self.last_watcher = self.last_watcher.wrapping_add(1);
        let (number, person) = (self.last_watcher, self.person(user));
        self.addresses.insert(address, number);
        if let Some(person) = self.numbered.get_mut(&person) {
            if person.sessions.is_empty() {
                self.unread.insert(user);
            }
            person.sessions.push(number);
        }
        let watcher = Watcher {
            address,
            user,
            person,
            posts: VecDeque::new(),
            more: false,
            queued: false,
            told: None,
            given: Recent::default(),
        };
        self.watchers.insert(number, watcher);
    }

    pub(super) fn remove(&mut self, address: Address) {
        let Some(number) = self.addresses.remove(&address) else { return };
        let Some(watcher) = self.watchers.remove(&number) else { return };
        let Some(person) = self.numbered.get_mut(&watcher.person) else { return };
        person.sessions.retain(|session| *session != number);
        if person.sessions.is_empty() {
            self.unread.remove(&watcher.user);
            self.set_follows(watcher.user, &[]);
            self.forget(watcher.person);
        }
    }

    /// Whom a user follows from here on.
    pub(super) fn set_follows(&mut self, user: UserId, follows: &[UserId]) -> bool {
        let Some(number) = self.people.get(&user).copied() else { return false };
        let Some(person) = self.numbered.get_mut(&number) else { return false };
        let wanted = if person.sessions.is_empty() { &[] } else { follows };
        let before = std::mem::take(&mut person.follows);
        let after: Vec<u32> = wanted.iter().map(|followee| self.person(*followee)).collect();
        for followee in &before {
            if let Some(followee) = self.numbered.get_mut(followee) {
                followee.followers.retain(|follower| *follower != number);
            }
        }
        for followee in &after {
            if let Some(followee) = self.numbered.get_mut(followee) {
                followee.followers.push(number);
            }
        }
        if let Some(person) = self.numbered.get_mut(&number) {
            for session in &person.sessions {
                let Some(watcher) = self.watchers.get_mut(session) else { continue };
                watcher.posts.retain(|(_, author)| after.contains(author));
            }
            person.follows = after;
        }
        before.into_iter().for_each(|followee| self.forget(followee));
        true
    }

    /// Whether it is to be read whom this user follows.
    pub(super) fn follows_changed(&mut self, user: UserId) -> bool {
        let watches = self.known(user).is_some_and(|person| !person.sessions.is_empty());
        if watches {
            self.unread.insert(user);
        }
        watches
    }

    pub(super) fn take_unread(&mut self) -> Vec<UserId> {
        self.unread.drain().collect()
    }

    /// All of a user's log up to here went through this node.
    pub(super) fn reached(&mut self, user: UserId, seq: Seq) {
        if let Some(person) = self.people.get(&user).and_then(|number| self.numbered.get_mut(number)) {
            person.seq = person.seq.max(seq);
        }
    }

    /// A log has entries up to here; whether something is to be read of it.
    pub(super) fn head(&mut self, user: UserId, seq: Seq) -> bool {
        let Some(person) = self.known(user).filter(|person| person.seq < seq) else { return false };
        let (author, reader) = (!person.followers.is_empty(), !person.sessions.is_empty());
        if author {
            self.heard_of.insert(user);
        }
        if reader {
            self.unread.insert(user);
        }
        self.reached(user, seq);
        author || reader
    }

    pub(super) fn take_heard(&mut self) -> Vec<UserId> {
        self.heard_of.drain().collect()
    }

    /// Authors of whom it could not be read what they wrote.
    pub(super) fn hear_again(&mut self, authors: &[UserId]) {
        let followed = authors.iter().filter(|author| self.known(**author).is_some_and(|p| !p.followers.is_empty()));
        let followed: Vec<UserId> = followed.copied().collect();
        self.heard_of.extend(followed);
    }

    /// Someone has written a post; whether somebody is to hear of it.
    pub(super) fn posted(&mut self, author: UserId, post: Uuid) -> bool {
        let Some(number) = self.people.get(&author).copied() else { return false };
        let Some(person) = self.numbered.get(&number).filter(|person| !person.followers.is_empty()) else {
            return false;
        };
        let sessions = person.followers.iter().filter_map(|follower| self.numbered.get(follower));
        let sessions: Vec<u32> = sessions.flat_map(|follower| follower.sessions.iter().copied()).collect();
        if !self.heard.insert(post, HEARD) {
            return false;
        }
        let mut any = false;
        for session in sessions {
            let Some(watcher) = self.watchers.get_mut(&session) else { continue };
            if watcher.given.contains(&post) {
                continue;
            }
            any = true;
            watcher.posts.push_back((post, number));
            if watcher.posts.len() > WAITING {
                watcher.posts.pop_front();
                watcher.more = true;
            }
            if !std::mem::replace(&mut watcher.queued, true) {
                self.waiting.push(session);
            }
        }
        any
    }

    /// A page showed these to a session: they are not pushed to it any more.
    pub(super) fn given(&mut self, address: Address, posts: impl Iterator<Item = Uuid>) {
        let watcher = self.addresses.get(&address).and_then(|number| self.watchers.get_mut(number));
        let Some(watcher) = watcher else { return };
        // A newer id is a newer post: those that may still be announced are among the newest.
        let mut posts: Vec<Uuid> = posts.collect();
        posts.sort_unstable();
        watcher.posts.retain(|(post, _)| posts.binary_search(post).is_err());
        posts.into_iter().rev().take(GIVEN).rev().for_each(|post| _ = watcher.given.insert(post, GIVEN));
    }

    /// Whether a page showed this post to a session.
    pub(super) fn was_given(&self, address: Address, post: Uuid) -> bool {
        let watcher = self.addresses.get(&address).and_then(|number| self.watchers.get(number));
        watcher.is_some_and(|watcher| watcher.given.contains(&post))
    }

    /// Something waits for somebody.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty() || !self.unread.is_empty() || !self.heard_of.is_empty()
    }

    /// What is to be told to those who were told nothing for this long.
    pub(super) fn due(&mut self, now: Instant, every: Duration) -> Vec<Due> {
        let mut due = Vec::new();
        let watchers = &mut self.watchers;
        self.waiting.retain(|number| {
            let Some(watcher) = watchers.get_mut(number) else { return false };
            if watcher.told.is_some_and(|told| now.duration_since(told) < every) {
                return true;
            }
            watcher.queued = false;
            let (posts, more) = (std::mem::take(&mut watcher.posts), std::mem::take(&mut watcher.more));
            if more || !posts.is_empty() {
                watcher.told = Some(now);
                let posts = posts.into_iter().map(|(post, _)| post).collect();
                due.push(Due { address: watcher.address, user: watcher.user, posts, more });
            }
            false
        });
        due
    }

    fn known(&self, user: UserId) -> Option<&Person> {
        self.numbered.get(self.people.get(&user)?)
    }

    fn person(&mut self, user: UserId) -> u32 {
        if let Some(number) = self.people.get(&user) {
            return *number;
        }
        self.last_person = self.last_person.wrapping_add(1);
        let person = Person { user, sessions: Vec::new(), follows: Vec::new(), followers: Vec::new(), seq: 0 };
        self.numbered.insert(self.last_person, person);
        self.people.insert(user, self.last_person);
        self.last_person
    }

    /// Nobody is interested in him any more.
    fn forget(&mut self, number: u32) {
        let of_use = |person: &Person| !person.sessions.is_empty() || !person.followers.is_empty();
        if let Some(person) = self.numbered.get(&number).filter(|person| !of_use(person)) {
            self.people.remove(&person.user);
            self.numbered.remove(&number);
        }
    }
}

impl<T: Copy + Eq + Hash> Recent<T> {
    /// Whether it was not among the last so many.
    fn insert(&mut self, one: T, most: usize) -> bool {
        if !self.set.insert(one) {
            return false;
        }
        self.order.push_back(one);
        if self.order.len() > most {
            self.order.pop_front().map(|oldest| self.set.remove(&oldest));
        }
        true
    }

    fn contains(&self, one: &T) -> bool {
        self.set.contains(one)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { order: VecDeque::new(), set: HashSet::new() }
    }
}
