use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn item() -> impl Strategy<Value = Item> {
    (any::<u128>(), -1.0..1.0_f32, any::<[bool; 3]>()).prop_map(|(post, score, [followee, trending, affinity])| Item {
        post: Uuid::from_u128(post),
        score,
        reasons: Sources { followee, trending, affinity },
    })
}

fn edition(version: u64) -> impl Strategy<Value = Edition> {
    vec(item(), 0..60).prop_map(move |items| Edition { version, missing: Sources::default(), items })
}

fn editions() -> impl Strategy<Value = Editions> {
    (edition(7), prop::option::of(edition(6))).prop_map(|(current, before)| Editions { current, before })
}

fn place() -> impl Strategy<Value = Place> {
    (any::<u64>(), any::<u16>()).prop_map(|(version, offset)| Place { version, offset })
}

fn reader(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

proptest! {
    /// The reader takes pages of any size; at one moment the next edition is made.
    #[test]
    fn whoever_follows_cursors_sees_each_post_once(
        first in edition(1), second in edition(2), turn in 0..20_usize, sizes in vec(1..20_usize, 60),
    ) {
        let cursors = Cursors::new(b"secret");
        let mut editions = Editions::new(first.clone(), None);
        let (mut seen, mut cursor) = (Vec::<Item>::new(), None);
        for (page, size) in sizes.into_iter().enumerate() {
            if page == turn {
                editions = Editions::new(second.clone(), Some(&editions));
            }
            let place = cursor.map(|cursor: String| cursors.open(reader(1), &cursor).unwrap());
            let rest = editions.rest(place).unwrap();
            let taken = rest.items.len().min(size);
            seen.extend(&rest.items[..taken]);
            cursor = rest.after(taken).map(|place| cursors.seal(reader(1), place));
            if cursor.is_none() {
                break;
            }
        }
        let read = if turn == 0 { second } else { first };
        prop_assert_eq!(cursor, None);
        prop_assert_eq!(seen, read.items);
    }

    #[test]
    fn a_cursor_is_good_until_the_edition_after_the_next(
        made in vec(edition(0), 3), offset in 0..60_u16,
    ) {
        let [first, second, third]: [Edition; 3] = made.try_into().unwrap();
        let [first, second, third] =
            [(1, first), (2, second), (3, third)].map(|(version, edition)| Edition { version, ..edition });
        let place = Place { version: 1, offset };
        let expected = first.items.get(usize::from(offset)..).map(<[Item]>::to_vec).ok_or(Expired);
        let editions = Editions::new(first, None);
        let rest = |editions: &Editions| editions.rest(Some(place)).map(|rest| rest.items.to_vec());
        prop_assert_eq!(rest(&editions), expected.clone());
        let editions = Editions::new(second, Some(&editions));
        prop_assert_eq!(rest(&editions), expected);
        let editions = Editions::new(third, Some(&editions));
        prop_assert_eq!(rest(&editions), Err(Expired));
    }

    #[test]
    fn only_the_reader_that_a_cursor_was_made_for_may_use_it(place in place(), other in 2..u128::MAX) {
        let cursors = Cursors::new(b"secret");
        let cursor = cursors.seal(reader(1), place);
        prop_assert_eq!(cursors.open(reader(1), &cursor), Ok(place));
        prop_assert!(cursors.open(reader(other), &cursor).is_err());
        prop_assert!(Cursors::new(b"Secret").open(reader(1), &cursor).is_err());
    }

    #[test]
    fn a_changed_cursor_is_refused(place in place(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let cursors = Cursors::new(b"secret");
        let mut bytes = BASE64_URL_SAFE_NO_PAD.decode(cursors.seal(reader(1), place)).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let failure = cursors.open(reader(1), &BASE64_URL_SAFE_NO_PAD.encode(&bytes)).unwrap_err();
        prop_assert_eq!(failure.field.as_deref(), Some("cursor"));
        bytes[at] ^= 1 << bit;
        bytes.truncate(at);
        prop_assert!(cursors.open(reader(1), &BASE64_URL_SAFE_NO_PAD.encode(&bytes)).is_err());
    }

    #[test]
    fn editions_come_back_from_their_bytes_whole_or_not_at_all(
        editions in editions(), cut in any::<prop::sample::Index>(), noise in vec(any::<u8>(), 0..100),
    ) {
        let bytes = editions.to_bytes();
        prop_assert_eq!(Editions::from_bytes(&bytes), Some(editions.clone()));
        // A cut between two editions leaves a whole one.
        let cut = Editions::from_bytes(&bytes[..cut.index(bytes.len())]);
        prop_assert!(cut.is_none_or(|cut| cut.current == editions.current && cut.before.is_none()));
        if let Some(read) = Editions::from_bytes(&noise) {
            prop_assert_eq!(read.to_bytes().len(), noise.len());
        }
    }
}

#[test]
fn text_that_is_no_cursor_is_refused() {
    for text in ["", "AAAA", "not base64!", &"A".repeat(35), &"A".repeat(10_000)] {
        assert!(Cursors::new(b"secret").open(reader(1), text).is_err(), "{text}");
    }
}

#[test]
fn what_lacks_a_source_or_is_proposed_by_none_is_not_whole() {
    let post = Uuid::from_u128(1);
    let none = Sources::default();
    let trending = Sources { trending: true, ..none };
    let item = |reasons| Item { post, score: 1.0, reasons };
    for (items, missing, expected) in [
        (vec![item(trending)], none, true),
        (vec![item(trending)], Sources { affinity: true, ..none }, false),
        (vec![item(none)], none, false),
        (vec![], none, false),
    ] {
        assert_eq!(Editions::new(Edition { version: 1, missing, items }, None).is_whole(), expected);
    }
    assert!(!Editions::new(Edition::unranked(1, &[post], none), None).is_whole());
}
