use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(socket: u32) -> Address {
    Address::numbered(socket)
}

fn user(number: u8) -> UserId {
    UserId(Uuid::from_u128(number.into()))
}

fn post(number: u32) -> Uuid {
    Uuid::from_u128(number.into())
}

/// A reader at this socket who follows author 9.
fn reader(index: &mut Index, socket: u32) {
    index.add(at(socket), user(1));
    index.take_unread();
    index.set_follows(user(1), &[user(9)]);
}

/// What each socket is told: posts, and whether there is more.
fn told(index: &mut Index, now: Instant) -> Vec<(Address, Vec<Uuid>, bool)> {
    index.due(now, SECOND).into_iter().map(|due| (due.address, due.posts, due.more)).collect()
}

fn is_forgotten(index: &Index) -> bool {
    let maps = [index.watchers.len(), index.addresses.len(), index.people.len(), index.numbered.len()];
    maps == [0; 4] && index.waiting.is_empty() && index.unread.is_empty() && index.is_empty() && !index.waits()
}

#[test]
fn followers_are_told_once_and_at_most_once_a_second() {
    let (mut index, start) = (Index::default(), Instant::now());
    reader(&mut index, 1);
    index.add(at(2), user(2));
    assert!(index.posted(user(9), post(1)));
    assert!(!index.posted(user(9), post(1)), "a second notice is none");
    assert!(!index.posted(user(8), post(2)), "nobody follows him");
    assert_eq!(told(&mut index, start), [(at(1), vec![post(1)], false)]);
    assert!(index.posted(user(9), post(3)) && index.posted(user(9), post(4)));
    assert_eq!(told(&mut index, start + SECOND - Duration::from_nanos(1)), []);
    assert!(index.waits(), "they wait for their time");
    assert_eq!(told(&mut index, start + SECOND), [(at(1), vec![post(3), post(4)], false)]);
    assert_eq!(told(&mut index, start + 9 * SECOND), []);
}

#[test]
fn of_more_than_wait_for_one_the_newest_are_told_and_that_there_was_more() {
    let (mut index, start) = (Index::default(), Instant::now());
    reader(&mut index, 1);
    let written: Vec<Uuid> = (1..=WAITING as u32 + 1).map(post).collect();
    for post in &written {
        index.posted(user(9), *post);
    }
    assert_eq!(told(&mut index, start), [(at(1), written[1..].to_vec(), true)]);
    index.posted(user(9), post(99));
    assert_eq!(told(&mut index, start + SECOND), [(at(1), vec![post(99)], false)], "the mark is for once");
}

#[test]
fn what_a_page_gave_is_not_told_whether_it_came_before_or_after() {
    let (mut index, start) = (Index::default(), Instant::now());
    reader(&mut index, 1);
    reader(&mut index, 2);
    index.posted(user(9), post(1));
    index.given(at(1), [post(1), post(2)].into_iter());
    index.posted(user(9), post(2));
    assert_eq!(told(&mut index, start), [(at(2), vec![post(1), post(2)], false)]);
    // Of a page of many, the newest are kept in mind: those that may still come.
    index.given(at(1), (3..1_000).map(post));
    index.posted(user(9), post(999));
    assert_eq!(told(&mut index, start + SECOND), [(at(2), vec![post(999)], false)]);
}

#[test]
fn whom_a_user_follows_is_read_when_he_comes_and_when_it_changes() {
    let mut index = Index::default();
    index.add(at(1), user(1));
    index.add(at(2), user(1));
    assert_eq!(index.take_unread(), [user(1)]);
    assert!(!index.waits());
    assert!(index.follows_changed(user(1)) && !index.follows_changed(user(2)));
    assert_eq!(index.take_unread(), [user(1)]);
    index.set_follows(user(1), &[user(8), user(9)]);
    assert!(index.posted(user(8), post(1)) && index.posted(user(9), post(2)));
    index.set_follows(user(1), &[user(8)]);
    assert!(!index.posted(user(9), post(3)) && index.posted(user(8), post(4)));
    let expected = [at(1), at(2)].map(|address| (address, vec![post(1), post(4)], false));
    assert_eq!(told(&mut index, Instant::now()), expected, "nothing of one whom he left, though it waited");
}

#[test]
fn what_a_page_gives_while_it_is_on_its_way_is_known() {
    let mut index = Index::default();
    reader(&mut index, 1);
    index.posted(user(9), post(1));
    assert_eq!(told(&mut index, Instant::now()).len(), 1);
    assert!(!index.was_given(at(1), post(1)));
    index.given(at(1), [post(1)].into_iter());
    assert!(index.was_given(at(1), post(1)) && !index.was_given(at(2), post(1)));
}

#[test]
fn a_log_of_another_node_is_looked_at_once_for_each_of_its_heads() {
    let mut index = Index::default();
    reader(&mut index, 1);
    assert!(!index.head(user(7), 5), "nobody follows him");
    assert!(index.head(user(9), 5) && !index.head(user(9), 5));
    assert_eq!(index.take_heard(), [user(9)]);
    index.reached(user(9), 7);
    assert!(!index.head(user(9), 7), "this node wrote it");
    assert!(index.head(user(1), 3), "whom he follows may have changed");
    assert_eq!((index.take_unread(), index.take_heard()), (vec![user(1)], vec![]));
}

#[test]
fn the_last_session_takes_all_of_it_along() {
    let mut index = Index::default();
    reader(&mut index, 1);
    reader(&mut index, 2);
    index.set_follows(user(1), &(5..200).map(user).collect::<Vec<_>>());
    index.posted(user(9), post(1));
    index.remove(at(1));
    index.remove(at(1));
    assert!(index.posted(user(9), post(2)), "the other one still hears");
    index.remove(at(2));
    assert_eq!(told(&mut index, Instant::now()), []);
    assert!(is_forgotten(&index));
    // What was read for him comes too late.
    assert!(!index.set_follows(user(1), &[user(9)]) && is_forgotten(&index));
}

/// What may happen, in any order.
#[derive(Clone, Debug)]
enum Event {
    Comes(u32),
    Leaves(u32),
    Follows(u8, Vec<u8>),
    Changes(u8),
    Posts(u8, u32),
    Head(u8, Seq),
    Given(u32, Vec<u32>),
    Told(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let (socket, person, number) = (0..6_u32, 0..5_u8, 0..60_u32);
    let follows = subsequence((0..5_u8).collect::<Vec<_>>(), 0..=5);
    prop_oneof![
        3 => socket.clone().prop_map(Event::Comes),
        1 => socket.clone().prop_map(Event::Leaves),
        3 => (person.clone(), follows).prop_map(|(person, follows)| Event::Follows(person, follows)),
        1 => person.clone().prop_map(Event::Changes),
        20 => (person.clone(), number.clone()).prop_map(|(author, post)| Event::Posts(author, post)),
        1 => (person, 0..9_u64).prop_map(|(person, seq)| Event::Head(person, seq)),
        2 => (socket, vec(number, 0..10)).prop_map(|(socket, posts)| Event::Given(socket, posts)),
        2 => (0..3_000_u64).prop_map(Event::Told),
    ]
}

/// One subscription as it should be.
#[derive(Debug, Default)]
struct Expected {
    waits: VecDeque<(Uuid, UserId)>,
    more: bool,
    told: HashSet<Uuid>,
    last: Option<Instant>,
    given: HashSet<Uuid>,
}

/// The same with nothing but lists.
#[derive(Debug, Default)]
struct Model {
    sockets: BTreeMap<u32, Expected>,
    follows: BTreeMap<UserId, Vec<UserId>>,
    heard: HashSet<Uuid>,
}

/// Three users with two sockets each.
fn owner(socket: u32) -> UserId {
    user((socket / 2) as u8)
}

/// Each post is written by one author.
fn number(author: u8, number: u32) -> Uuid {
    post(u32::from(author) * 1_000 + number)
}

impl Model {
    fn watches(&self, who: UserId) -> bool {
        self.sockets.keys().any(|socket| owner(*socket) == who)
    }

    fn posted(&mut self, author: UserId, post: Uuid) {
        let hear = |follows: &BTreeMap<UserId, Vec<UserId>>, socket: u32| {
            follows.get(&owner(socket)).is_some_and(|follows| follows.contains(&author))
        };
        let anybody = self.sockets.keys().any(|socket| hear(&self.follows, *socket));
        if !anybody || !self.heard.insert(post) {
            return;
        }
        for (socket, expected) in &mut self.sockets {
            if hear(&self.follows, *socket) && !expected.given.contains(&post) {
                expected.waits.push_back((post, author));
                if expected.waits.len() > WAITING {
                    expected.waits.pop_front();
                    expected.more = true;
                }
            }
        }
    }

    fn due(&mut self, now: Instant) -> BTreeMap<u32, (Vec<Uuid>, bool)> {
        let mut due = BTreeMap::new();
        for (socket, expected) in &mut self.sockets {
            let early = expected.last.is_some_and(|last| now < last + SECOND);
            if early || (expected.waits.is_empty() && !expected.more) {
                continue;
            }
            let posts: Vec<Uuid> = expected.waits.drain(..).map(|(post, _)| post).collect();
            assert!(posts.iter().all(|post| expected.told.insert(*post)), "told twice");
            expected.last = Some(now);
            due.insert(*socket, (posts, std::mem::take(&mut expected.more)));
        }
        due
    }
}

proptest! {
    /// Whatever happens, each socket is told what it should be: each post once, none that a page gave, none of one whom its
    /// user does not follow, never more than may wait; and when all have left, nothing of them is left.
    #[test]
    fn each_is_told_what_he_should_and_nothing_is_left_of_those_who_left(events in vec(event(), 0..250)) {
        let (mut index, mut model, mut now) = (Index::default(), Model::default(), Instant::now());
        for event in events {
            match event {
                Event::Comes(socket) => {
                    index.add(at(socket), owner(socket));
                    model.sockets.entry(socket).or_default();
                }
                Event::Leaves(socket) => {
                    index.remove(at(socket));
                    model.sockets.remove(&socket);
                    if !model.watches(owner(socket)) {
                        model.follows.remove(&owner(socket));
                    }
                }
                Event::Follows(person, follows) => {
                    let follows: Vec<UserId> = follows.into_iter().map(user).collect();
                    index.set_follows(user(person), &follows);
                    if model.watches(user(person)) {
                        for (socket, expected) in &mut model.sockets {
                            if owner(*socket) == user(person) {
                                expected.waits.retain(|(_, author)| follows.contains(author));
                            }
                        }
                        model.follows.insert(user(person), follows);
                    }
                }
                Event::Changes(person) => {
                    prop_assert_eq!(index.follows_changed(user(person)), model.watches(user(person)));
                    if model.watches(user(person)) {
                        prop_assert!(index.take_unread().contains(&user(person)));
                    }
                }
                Event::Posts(author, post) => {
                    index.posted(user(author), number(author, post));
                    model.posted(user(author), number(author, post));
                }
                Event::Head(person, seq) => _ = index.head(user(person), seq),
                Event::Given(socket, posts) => {
                    let posts: Vec<Uuid> = posts.into_iter().map(|post| number((post % 5) as u8, post)).collect();
                    index.given(at(socket), posts.iter().copied());
                    if let Some(expected) = model.sockets.get_mut(&socket) {
                        expected.waits.retain(|(post, _)| !posts.contains(post));
                        expected.given.extend(posts);
                    }
                }
                Event::Told(after_ms) => {
                    now += Duration::from_millis(after_ms);
                    let due = index.due(now, SECOND);
                    let sockets = due.len();
                    let mut told = BTreeMap::new();
                    for Due { address, user, posts, more } in due {
                        let socket = (0..6).find(|socket| at(*socket) == address).expect("one of the six");
                        prop_assert_eq!(user, owner(socket));
                        told.insert(socket, (posts, more));
                    }
                    prop_assert_eq!(told.len(), sockets, "one is told twice at once");
                    prop_assert_eq!(told, model.due(now));
                }
            }
            prop_assert!(index.watchers.values().all(|watcher| watcher.posts.len() <= WAITING));
            prop_assert!(index.waiting.len() <= 6 * 64 && index.watchers.len() == model.sockets.len());
        }
        (0..6).for_each(|socket| index.remove(at(socket)));
        prop_assert_eq!(index.due(now, SECOND), vec![]);
        index.take_heard();
        prop_assert!(is_forgotten(&index));
    }
}
