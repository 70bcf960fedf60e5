use proptest::prelude::*;

use super::*;

const EPOCH: Epoch = 1;

fn me() -> UserId {
    UserId(uuid::Uuid::from_u128(1))
}

fn room(n: u128) -> LogId {
    LogId(uuid::Uuid::from_u128(100 + n))
}

fn state(start: Start, cursors: &[(LogId, Seq)]) -> State {
    let mut state = State::new(start, cursors.iter().map(|(log, seq)| Cursor { log: *log, seq: *seq, epoch: EPOCH }));
    assert!(state.connected(me(), EPOCH));
    state
}

fn message(seq: Seq) -> wire::Entry {
    let content = Content::Message(wire::Message { body: Some(format!("m{seq}")), ..Default::default() });
    wire::Entry { seq, version: seq, content: Some(content), ..Default::default() }
}

fn joined(seq: Seq, log: LogId, conversation_seq: Seq) -> wire::Entry {
    let content = wire::Joined { conversation_id: log.to_wire(), conversation_seq, ..Default::default() };
    wire::Entry { seq, content: Some(Content::Joined(content)), ..Default::default() }
}

fn left(seq: Seq, log: LogId, conversation_seq: Seq) -> wire::Entry {
    let content = wire::Left { conversation_id: log.to_wire(), conversation_seq };
    wire::Entry { seq, content: Some(Content::Left(content)), ..Default::default() }
}

fn entries(log: LogId, after_seq: Seq, to_seq: Seq, items: Vec<wire::Entry>) -> Push {
    Push::Entries(wire::Entries { log_id: log.to_wire(), after_seq, to_seq, items })
}

fn range(log: LogId, after_seq: Seq, to_seq: Seq) -> Push {
    entries(log, after_seq, to_seq, (after_seq + 1..=to_seq).map(message).collect())
}

fn heads(as_of_seq: Seq, items: &[(LogId, Seq)], more: bool) -> Push {
    let head = |(log, last_seq): &(LogId, Seq)| wire::Head {
        log_id: log.to_wire(),
        last_seq: *last_seq,
        ..Default::default()
    };
    Push::Heads(wire::Heads { as_of_seq, items: items.iter().map(head).collect(), more })
}

fn apply(state: &mut State, push: Push) -> Result<Vec<Step>, Hole> {
    let mut out = Vec::new();
    state.apply(push, &mut out)?;
    Ok(out)
}

/// The seqs of the entries of `log` that came out.
fn seen(steps: &[Step], log: LogId) -> Vec<Seq> {
    let seq = |step: &Step| match step {
        Step::Event(Event::Entry { log: l, entry }) if *l == log => Some(entry.seq),
        _ => None,
    };
    steps.iter().filter_map(seq).collect()
}

fn opens(steps: &[Step]) -> Vec<(LogId, Seq)> {
    let open = |step: &Step| match step {
        Step::Open { log, after_seq } => Some((*log, *after_seq)),
        _ => None,
    };
    steps.iter().filter_map(open).collect()
}

#[test]
fn positions_move_by_the_range_and_what_was_seen_is_ignored() {
    let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 10)]));
    for (push, gives, cursor) in [
        (range(a, 10, 12), vec![11, 12], 12),
        (range(a, 10, 12), vec![], 12),
        (range(a, 8, 14), vec![13, 14], 14),
        (entries(a, 14, 20, vec![message(16)]), vec![16], 20),
        (entries(a, 20, 25, vec![]), vec![], 25),
        (entries(a, 25, 26, vec![message(26), message(27)]), vec![26], 26),
        (entries(a, 26, 28, vec![message(28), message(27)]), vec![28], 28),
    ] {
        let steps = apply(&mut s, push).expect("no hole");
        assert_eq!((seen(&steps, a), s.cursor(a)), (gives, Some(cursor)));
    }
}

#[test]
fn a_range_that_begins_above_the_cursor_is_a_hole_and_moves_nothing() {
    let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 10)]));
    assert_eq!(apply(&mut s, range(a, 11, 12)), Err(Hole { log: a, cursor: 10, after_seq: 11 }));
    assert_eq!(s.cursor(a), Some(10));
    s.disconnected();
    assert_eq!(seen(&apply(&mut s, range(a, 10, 12)).expect("resumed"), a), [11, 12]);
}

#[test]
fn heads_give_the_first_positions_and_later_pages_do_not_move_the_users_own() {
    let (a, b, mut s) = (room(1), room(2), state(Start::Head, &[(room(2), 3)]));
    apply(&mut s, heads(40, &[(a, 7)], true)).expect("heads");
    apply(&mut s, heads(44, &[(b, 9)], false)).expect("heads");
    assert_eq!(s.user_cursor().map(|c| c.seq), Some(40));
    assert_eq!((s.cursor(a), s.cursor(b)), (Some(7), Some(3)), "a position that was named is not skipped ahead");
    assert_eq!(s.cursors().count(), 2);
}

#[test]
fn a_snapshot_in_place_of_an_unusable_user_cursor_replaces_it() {
    let mut s = state(Start::Head, &[(me().log(), 500)]);
    apply(&mut s, heads(40, &[], false)).expect("heads");
    assert_eq!(apply(&mut s, range(me().log(), 40, 41)).map(|steps| seen(&steps, me().log())), Ok(vec![41]));
}

#[test]
fn entries_of_the_own_log_may_come_before_the_snapshot() {
    let (own, mut s) = (me().log(), state(Start::Beginning, &[]));
    apply(&mut s, entries(own, 0, 1, vec![joined(1, room(1), 20)])).expect("joined");
    apply(&mut s, heads(0, &[], false)).expect("heads");
    assert_eq!(apply(&mut s, range(own, 1, 2)).map(|steps| seen(&steps, own)), Ok(vec![2]));
}

#[test]
fn a_joining_that_is_replayed_moves_no_cursor() {
    let (a, own, mut s) = (room(1), me().log(), state(Start::Beginning, &[(me().log(), 0), (room(1), 0)]));
    apply(&mut s, entries(own, 0, 1, vec![joined(1, a, 20)])).expect("joined");
    assert_eq!(seen(&apply(&mut s, range(a, 0, 3)).expect("from the beginning"), a), [1, 2, 3]);
}

#[test]
fn one_who_joins_again_first_gets_what_came_before_he_left() {
    let (a, own, mut s) = (room(1), me().log(), state(Start::Head, &[(me().log(), 0), (room(1), 10)]));
    apply(&mut s, entries(own, 0, 2, vec![left(1, a, 12), joined(2, a, 20)])).expect("left, joined");
    assert_eq!(seen(&apply(&mut s, range(a, 10, 12)).expect("up to the leaving"), a), [11, 12]);
    assert_eq!(seen(&apply(&mut s, range(a, 19, 20)).expect("no hole"), a), [20]);
}

#[test]
fn joining_follows_from_the_joining_entry_and_leaving_ends_with_the_leaving_one() {
    let (a, own, mut s) = (room(1), me().log(), state(Start::Head, &[(me().log(), 0)]));
    apply(&mut s, entries(own, 0, 1, vec![joined(1, a, 20)])).expect("joined");
    assert_eq!(s.cursor(a), Some(19));
    apply(&mut s, range(a, 19, 25)).expect("entries");
    apply(&mut s, entries(own, 1, 2, vec![left(2, a, 30)])).expect("left");
    assert_eq!(s.cursor(a), Some(25), "the entries up to the leaving one are still to come");
    assert_eq!(seen(&apply(&mut s, range(a, 25, 30)).expect("entries"), a), [26, 27, 28, 29, 30]);
    assert_eq!(s.cursor(a), None);
}

#[test]
fn a_left_from_before_the_present_membership_is_ignored() {
    let (a, own, mut s) = (room(1), me().log(), state(Start::Head, &[(me().log(), 0), (room(1), 50)]));
    apply(&mut s, entries(own, 0, 1, vec![left(1, a, 30)])).expect("left");
    assert_eq!(s.cursor(a), Some(50));
    apply(&mut s, entries(own, 1, 3, vec![left(2, a, 40), joined(3, a, 45)])).expect("left, joined");
    assert_eq!(s.cursor(a), Some(50));
}

#[test]
fn the_own_leaving_entry_ends_a_log_and_anothers_does_not() {
    let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 0)]));
    let leaves = |seq, user: UserId| wire::Entry {
        seq,
        content: Some(Content::MemberLeft(wire::MemberLeft { user_id: user.to_wire() })),
        ..Default::default()
    };
    apply(&mut s, entries(a, 0, 1, vec![leaves(1, UserId::new())])).expect("another left");
    assert_eq!(s.cursor(a), Some(1));
    let steps = apply(&mut s, entries(a, 1, 2, vec![leaves(2, me())])).expect("left");
    assert_eq!((seen(&steps, a), s.cursor(a)), (vec![2], None));
}

#[test]
fn from_the_beginning_nothing_is_given_out_before_the_server_has_moved() {
    let (a, own, mut s) = (room(1), me().log(), state(Start::Beginning, &[(me().log(), 0)]));
    let steps = apply(&mut s, entries(own, 0, 1, vec![joined(1, a, 20)])).expect("joined");
    assert_eq!((opens(&steps), s.cursor(a)), (vec![], Some(0)), "the server may not follow it yet");
    assert_eq!(apply(&mut s, range(a, 19, 20)), Ok(vec![Step::Open { log: a, after_seq: 0 }]));
    let caught_up = wire::CaughtUp { log_id: a.to_wire(), seq: 21, ..Default::default() };
    for stale in [range(a, 20, 21), Push::CaughtUp(caught_up)] {
        assert_eq!(apply(&mut s, stale), Ok(vec![]));
    }
    assert_eq!(seen(&apply(&mut s, range(a, 0, 3)).expect("from the start"), a), [1, 2, 3]);
    s.opened(a, true).expect("nothing lost");
    assert_eq!(seen(&apply(&mut s, range(a, 3, 22)).expect("the rest"), a), (4..=22).collect::<Vec<_>>());
    assert!(apply(&mut s, range(a, 23, 24)).is_err(), "holes count again");
}

#[test]
fn the_beginning_is_asked_for_again_and_given_up_in_the_end() {
    let (a, mut s) = (room(1), state(Start::Beginning, &[]));
    assert_eq!(opens(&apply(&mut s, heads(7, &[(a, 20)], false)).expect("heads")), [(a, 0)]);
    for seq in [20, 21] {
        assert_eq!(s.opened(a, false), Ok(()));
        assert_eq!(opens(&apply(&mut s, range(a, seq, seq + 1)).expect("passed over")), [(a, 0)]);
    }
    assert!(s.opened(a, false).is_err(), "what was passed over must be resumed");
    assert_eq!(s.cursor(a), Some(20));
}

#[test]
fn a_cut_while_moving_to_the_beginning_resumes_there() {
    let (a, mut s) = (room(1), state(Start::Beginning, &[]));
    apply(&mut s, heads(7, &[(a, 20)], false)).expect("heads");
    s.disconnected();
    assert_eq!(s.cursors().map(|c| c.seq).collect::<Vec<_>>(), [0]);
    assert_eq!(seen(&apply(&mut s, range(a, 0, 2)).expect("replay"), a), [1, 2]);
}

#[test]
fn a_refused_move_goes_back_and_resumes_where_something_was_passed_over() {
    let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 20)]));
    s.open(a, 5, &mut Vec::new());
    assert_eq!((s.opened(a, false), s.cursor(a)), (Ok(()), Some(20)));
    s.open(a, 5, &mut Vec::new());
    apply(&mut s, range(a, 20, 21)).expect("passed over");
    assert!(s.opened(a, false).is_err());
    assert_eq!(s.cursor(a), Some(20));
}

#[test]
fn gap_trim_and_loss_of_a_log_are_said_and_move_the_position() {
    let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 20)]));
    let id = || a.to_wire();
    let steps = apply(&mut s, Push::GapTooLarge(wire::GapTooLarge { log_id: id(), head: 90_000 }));
    assert_eq!(steps, Ok(vec![Step::Event(Event::Gap { log: a, after_seq: 20, head: 90_000 })]));
    apply(&mut s, range(a, 90_000, 90_001)).expect("live from the head");
    apply(&mut s, Push::Trimmed(wire::Trimmed { log_id: id(), first_seq: 95_001 })).expect("trimmed");
    apply(&mut s, range(a, 95_000, 95_001)).expect("on from what is kept");
    let steps = apply(&mut s, Push::NotFound(wire::NotFound { log_id: id() }));
    assert_eq!((steps, s.cursor(a)), (Ok(vec![Step::Event(Event::NotFound { log: a })]), None));
}

#[test]
fn a_reset_moves_back_into_the_new_epoch_and_never_ahead() {
    for (at, after) in [(20, 14), (10, 10)] {
        let (a, mut s) = (room(1), state(Start::Head, &[(room(1), at)]));
        let reset = wire::Reset { log_id: a.to_wire(), first_unsure_seq: 15, epoch: 2 };
        let steps = apply(&mut s, Push::Reset(reset));
        assert_eq!(steps, Ok(vec![Step::Event(Event::Reset { log: a, first_unsure_seq: 15, epoch: 2 })]));
        assert_eq!(s.cursors().next(), Some(Cursor { log: a, seq: after, epoch: 2 }));
    }
}

#[test]
fn another_user_does_not_get_these_positions() {
    let mut s = state(Start::Head, &[]);
    assert!(!s.connected(UserId::new(), EPOCH));
}

/// What a careless network makes of a log: ranges anywhere, cut, repeated, overlapping, or with a part missing.
#[derive(Clone, Debug)]
enum Fate {
    Range { back: Seq, length: Seq },
    Hole { by: Seq },
    Reset { back: Seq },
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => (0u64..6, 0u64..9).prop_map(|(back, length)| Fate::Range { back, length }),
        1 => (1u64..4).prop_map(|by| Fate::Hole { by }),
        1 => (0u64..12).prop_map(|back| Fate::Reset { back }),
    ]
}

proptest! {
    /// Whatever comes, in whatever order: every visible entry once, in order, none missing; a reset takes back exactly
    /// what it names.
    #[test]
    fn each_entry_once_and_in_order(hidden in prop::collection::hash_set(1u64..80, 0..20), steps in prop::collection::vec(fate(), 1..60)) {
        let (a, mut s) = (room(1), state(Start::Head, &[(room(1), 0)]));
        let (mut kept, mut reached, mut epoch) = (Vec::new(), 0u64, EPOCH);
        for step in steps {
            match step {
                Fate::Range { back, length } => {
                    let after = reached.saturating_sub(back);
                    let to = after + length;
                    let items = (after + 1..=to).filter(|seq| !hidden.contains(seq)).map(message).collect();
                    kept.extend(seen(&apply(&mut s, entries(a, after, to, items)).expect("no hole"), a));
                    reached = reached.max(to);
                }
                Fate::Hole { by } => {
                    prop_assert!(apply(&mut s, range(a, reached + by, reached + by + 1)).is_err());
                    s.disconnected();
                    prop_assert!(s.connected(me(), epoch));
                }
                Fate::Reset { back } => {
                    epoch += 1;
                    let first_unsure_seq = (reached + 1).saturating_sub(back).max(1);
                    let reset = wire::Reset { log_id: a.to_wire(), first_unsure_seq, epoch };
                    apply(&mut s, Push::Reset(reset)).expect("a reset is no hole");
                    kept.retain(|seq| *seq < first_unsure_seq);
                    reached = reached.min(first_unsure_seq - 1);
                }
            }
            prop_assert_eq!(s.cursor(a), Some(reached));
        }
        let due: Vec<_> = (1..=reached).filter(|seq| !hidden.contains(seq)).collect();
        prop_assert_eq!(kept, due);
    }
}
