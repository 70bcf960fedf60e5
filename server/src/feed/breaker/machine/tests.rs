use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Plays a script and reads the states. `1500 aafs` is 1.5 s later: two calls answered, one failed, one answered slowly;
/// `c` is cancelled, `<` begins a call that stays under way, `>` answers the oldest of these, `!` fails it; `x` is a call
/// that must be refused. Jitter is none.
#[track_caller]
fn check(what: &str, script: &str, expected: &str) {
    let start = Instant::now();
    let mut machine = Machine::new(Config::default(), start);
    let (mut now, mut states, mut open) = (start, Vec::new(), std::collections::VecDeque::new());
    for part in script.split(", ") {
        let (later_ms, calls) = part.split_once(' ').unwrap();
        now += Duration::from_millis(later_ms.parse().unwrap());
        for call in expand(calls).chars() {
            let (ticket, outcome) = match call {
                '<' => {
                    open.push_back(machine.admit(now).expect(what));
                    continue;
                }
                '>' => (open.pop_front(), Outcome::Answered),
                '!' => (open.pop_front(), Outcome::Failed),
                'x' => {
                    assert_eq!(machine.admit(now), None, "{what}");
                    continue;
                }
                'f' => (machine.admit(now), Outcome::Failed),
                'c' => (machine.admit(now), Outcome::Cancelled),
                _ => (machine.admit(now), Outcome::Answered),
            };
            machine.finish(ticket.expect(what), outcome, call == 's', now, 0.0);
        }
        states.push(match machine.state() {
            State::Closed => "closed",
            State::HalfOpen => "half",
            State::Open => "open",
        });
    }
    assert_eq!(states.join(" "), expected, "{what}");
}

/// `10f` is `ffffffffff`.
fn expand(calls: &str) -> String {
    let mut count = 0;
    let mut expanded = String::new();
    for call in calls.chars() {
        match call.to_digit(10) {
            Some(digit) => count = count * 10 + digit as usize,
            None => {
                expanded.extend(std::iter::repeat_n(call, count.max(1)));
                count = 0;
            }
        }
    }
    expanded
}

#[test]
fn it_opens_on_failures_and_on_slowness() {
    check("half failed, not twenty calls", "0 9a10f", "closed");
    check("half failed of twenty", "0 10a9f, 0 f", "closed open");
    check("less than half failed", "0 11a9f", "closed");
    check("four of five slow", "0 4a15s, 0 s", "closed open");
    check("less than four of five slow", "0 5a15s", "closed");
    check("cancelled calls don't count", "0 100c, 0 10a, 0 50c9f, 0 f", "closed closed closed open");
    check("what is older than the window does not count", "0 19f, 10000 a, 0 9a9f, 0 f", "closed closed closed open");
    check("nor what was longer ago still", "0 19f, 15000 a, 0 9a9f, 0 f", "closed closed closed open");
    check("what is within the window does", "0 10f, 8999 9a, 0 a", "closed closed open");
}

#[test]
fn open_refuses_then_probes_and_closes() {
    check("refuses while open", "0 20f, 4999 x", "open open");
    check("three probes at once, then all answered", "0 20f, 5000 3<x, 0 2>x, 0 >", "open half half closed");
    check("a probe that failed", "0 20f, 5000 3<2>, 0 !", "open half open");
    check("a slow probe", "0 20f, 5000 s", "open open");
    check("a cancelled probe makes room for another", "0 20f, 5000 5c3<x", "open half");
    check("closed begins anew", "0 20f, 5000 3a19f, 0 f", "open closed open");
}

#[test]
fn each_time_it_opens_again_it_is_open_for_longer() {
    check(
        "5, 10, 20, 30, 30 s",
        "0 20f, 5000 f, 9999 x, 1 f, 19999 x, 1 f, 29999 x, 1 f, 29999 x, 1 3a",
        "open open open open open open open open open closed",
    );
    check(
        "5 s again after it was closed",
        "0 20f, 5000 f, 10000 3a, 0 20f, 4999 x, 1 a",
        "open open closed open open half",
    );
}

#[test]
fn a_call_of_an_earlier_phase_says_nothing() {
    check("a late answer does not close", "0 4<20f, 5000 a, 0 4>, 0 aa", "open half half closed");
    check("a late failure does not open", "0 4<20f, 5000 3a, 0 4!15a", "open closed closed");
}

#[test]
fn jitter_only_shortens_by_a_fifth_at_most() {
    for (jitter, open_ms) in [(0.0, 5_000), (0.5, 4_500), (1.0, 4_000), (-3.0, 5_000), (9.0, 4_000)] {
        let start = Instant::now();
        let mut machine = Machine::new(Config { calls: 1, ..Config::default() }, start);
        let ticket = machine.admit(start).unwrap();
        machine.finish(ticket, Outcome::Failed, false, start, jitter);
        assert_eq!(machine.admit(start + Duration::from_millis(open_ms - 1)), None, "{jitter}");
        assert!(machine.admit(start + Duration::from_millis(open_ms)).is_some(), "{jitter}");
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Later(u64),
    Begin,
    End(prop::sample::Index, Outcome, bool),
}

fn event() -> impl Strategy<Value = Event> {
    let outcome = prop_oneof![Just(Outcome::Answered), Just(Outcome::Failed), Just(Outcome::Cancelled)];
    prop_oneof![
        1 => (0..8_000_u64).prop_map(Event::Later),
        5 => Just(Event::Begin),
        5 => (any::<prop::sample::Index>(), outcome, any::<bool>())
            .prop_map(|(which, outcome, slow)| Event::End(which, outcome, slow)),
    ]
}

proptest! {
    /// Whatever happens: no call passes while it is open, no more probes than allowed are under way, and once nothing has
    /// failed for long enough, it is closed.
    #[test]
    fn it_never_lets_too_much_through_and_never_stays_shut(events in vec(event(), 0..300), jitter in 0.0..1.0) {
        let config = Config { calls: 4, ..Config::default() };
        let mut now = Instant::now();
        let mut machine = Machine::new(config.clone(), now);
        let (mut running, mut closed_at) = (Vec::new(), None);
        for event in events {
            match event {
                Event::Later(ms) => now += Duration::from_millis(ms),
                Event::Begin => {
                    let before = machine.state();
                    if let Some(ticket) = machine.admit(now) {
                        running.push(ticket);
                        let probes = running.iter().filter(|other| other.phase == machine.phase).count();
                        prop_assert!(machine.state() == State::Closed || probes <= 3, "{probes} probes");
                        prop_assert!(machine.state() != State::Open);
                        if let (State::Open, Some(at)) = (before, closed_at) {
                            prop_assert!(now >= at + config.open.mul_f64(0.8), "it was not open for long");
                        }
                    }
                }
                Event::End(which, outcome, slow) if !running.is_empty() => {
                    let ticket = running.swap_remove(which.index(running.len()));
                    let before = machine.state();
                    machine.finish(ticket, outcome, slow, now, jitter);
                    if machine.state() == State::Open && before != State::Open {
                        closed_at = Some(now);
                    }
                }
                Event::End(..) => {}
            }
        }
        for ticket in running {
            machine.finish(ticket, Outcome::Cancelled, false, now, jitter);
        }
        now += config.open_max;
        for _ in 0..config.probes {
            if let Some(ticket) = machine.admit(now) {
                machine.finish(ticket, Outcome::Answered, false, now, jitter);
            }
        }
        prop_assert_eq!(machine.state(), State::Closed);
    }
}
