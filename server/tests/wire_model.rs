//! What every reader of a log is owed, whatever becomes of publishes, announcements and page reads on the way: each
//! entry that is for him, once, in order, nothing after he was removed, nothing that was edited or deleted meanwhile.
//!
//! A log is written by a random history of messages, facts and membership; its publishes are lost, repeated and put out
//! of order, page reads see and bring the log late, memory is short, and readers come, stop and go on. All of it is pure.

mod support;

use bowline_protocol::{Codec, Seq};
use proptest::prelude::*;
use support::model::{Fault, Op, World};

fn op() -> impl Strategy<Value = Op> {
    let pick = 0..usize::MAX;
    prop_oneof![
        6 => (1..60usize).prop_map(Op::Messages),
        3 => pick.clone().prop_map(Op::Edit),
        2 => pick.clone().prop_map(Op::Delete),
        1 => pick.clone().prop_map(Op::React),
        3 => pick.clone().prop_map(Op::Join),
        3 => pick.clone().prop_map(Op::Leave),
        8 => (1..40usize).prop_map(Op::PublishNext),
        2 => pick.clone().prop_map(Op::PublishAny),
        2 => pick.clone().prop_map(Op::Repeat),
        2 => pick.clone().prop_map(Op::Lose),
        2 => Just(Op::Announce),
        5 => pick.clone().prop_map(Op::Read),
        5 => pick.clone().prop_map(Op::Arrive),
        3 => (pick.clone(), pick.clone()).prop_map(|(user, from)| Op::Attach { user, from }),
        4 => pick.clone().prop_map(Op::Enter),
        8 => pick.clone().prop_map(Op::Step),
        3 => Just(Op::StepAll),
        1 => (0..usize::MAX).prop_map(Op::Quit),
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 1..150)
}

fn run(ops: Vec<Op>, codec: Codec, memory_bytes: usize) -> World {
    let mut world = World::new(codec, memory_bytes);
    for op in ops {
        world.apply(op);
    }
    world.finish();
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_reader_ends_with_exactly_what_is_for_him(
        ops in ops(),
        json: bool,
        memory_bytes in prop_oneof![Just(0usize), 2_000..20_000usize, Just(4usize << 20)],
    ) {
        let world = run(ops, if json { Codec::Json } else { Codec::Proto }, memory_bytes);
        world.check().map_err(TestCaseError::fail)?;
    }

    /// The check itself: it finds one item that is missing, doubled or swapped, and one entry too many.
    #[test]
    fn a_fault_is_found(ops in ops(), at: prop::sample::Index) {
        let world = run(ops, Codec::Proto, 4 << 20);
        let delivered: usize = world.delivered();
        if delivered < 2 {
            return Ok(());
        }
        for fault in [Fault::Drop, Fault::Double, Fault::Stale] {
            if let Some(broken) = world.with_fault(fault, at.index(delivered)) {
                prop_assert!(broken.check().is_err(), "{fault:?} was not found");
            }
        }
    }
}

#[test]
fn the_history_that_the_model_makes_is_not_trivial() {
    let ops = vec![
        Op::Join(0),
        Op::Messages(300),
        Op::Attach { user: 0, from: 0 },
        Op::Enter(0),
        Op::Edit(5),
        Op::Leave(0),
        Op::Messages(10),
        Op::Edit(7),
        Op::Join(0),
        Op::Messages(10),
        Op::PublishNext(1_000),
    ];
    let world = run(ops, Codec::Proto, 4 << 20);
    world.check().expect("all is in order");
    let seqs: Vec<Seq> = world.seqs_of(0);
    assert!(seqs.len() > 300, "{} entries", seqs.len());
}

/// A page that was asked for may come from a read that began when the log was followed before: it counts as stale.
#[test]
fn a_read_from_before_the_log_was_followed_again_shows_nothing_old() {
    let ops = [
        vec![Op::Join(0), Op::Messages(10), Op::Attach { user: 0, from: 0 }, Op::Enter(0), Op::Step(0), Op::Read(0)],
        vec![Op::Quit(0), Op::Edit(0), Op::PublishNext(100), Op::Attach { user: 0, from: 0 }, Op::Enter(0)],
        vec![Op::Step(1), Op::Arrive(0), Op::StepAll],
    ];
    run(ops.concat(), Codec::Proto, 4 << 20).check().expect("nothing old is shown");
}
