use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_protocol::{Code, Failure, LogId, Seq};
use tokio::sync::Notify;

use super::Config;
use super::batch::{Batch, Caller};
use super::command::{Command, Done};
use super::store::Input;
use crate::deadline::Deadline;

/// A batch is composed from this many times its size at the most, so that a log whose commands must wait for each other
/// does not cost a walk through the whole queue.
const LOOK_AHEAD: usize = 4;
/// A batch that takes longer is not waited for by the other logs.
pub(super) const SLOW: Duration = Duration::from_millis(20);

/// What the writers have to store, in the order in which it came. Bounded in number, in bytes and in time: a command that
/// would wait too long is refused when it comes, not when it is late.
///
/// One writer takes all that waits; another one starts only while a whole batch waits besides, or when those under way are
/// slow: many small batches at once cost more, here and in the database, than one after the other. A log is in one
/// batch at a time, so that its order is kept.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    came: Notify,
    config: Config,
}

struct Waiting {
    commands: VecDeque<Waits>,
    bytes: usize,
    under_way: Vec<UnderWay>,
    /// How long a batch takes, smoothed.
    batch_time: Duration,
    closed: bool,
}

struct UnderWay {
    number: u64,
    taken_at: Instant,
    logs: HashSet<LogId>,
}

struct Waits {
    input: Input,
    weight: usize,
    caller: Caller,
}

impl Queue {
    pub(super) fn new(config: Config) -> Self {
        Self { waiting: Mutex::default(), came: Notify::new(), config }
    }

    /// Puts a command at the end, or says at once why not: then nothing is stored.
    pub(super) fn push(&self, command: Command, deadline: Deadline, done: Done) {
        let weight = command.weight();
        let mut waiting = self.lock();
        let now = Instant::now();
        if let Err(failure) = waiting.admit(command.log, weight, deadline, &self.config, now) {
            drop(waiting);
            return done(Err(failure));
        }
        let crc = command.payload_crc();
        waiting.bytes += weight;
        waiting.commands.push_back(Waits { input: Input { command, crc }, weight, caller: Caller { deadline, done } });
        let starts = waiting.another_may_start(&self.config, now);
        drop(waiting);
        if starts {
            self.came.notify_one();
        }
    }

    /// The next batch, if there is one to be stored at once.
    pub(super) fn try_take(&self) -> Option<Batch> {
        let batch = self.lock().next(&self.config, Instant::now());
        if batch.is_some() {
            self.let_another_start();
        }
        batch
    }

    /// Until there may be another batch; `false` when the queue is closed and empty.
    pub(super) async fn more(&self) -> bool {
        if !self.lock().over() {
            self.came.notified().await;
        }
        let over = self.lock().over();
        if over {
            // So that all writers end.
            self.came.notify_one();
        }
        !over
    }

    /// The batch of this number has its outcome.
    pub(super) fn finished(&self, number: u64) {
        let mut waiting = self.lock();
        if let Some(at) = waiting.under_way.iter().position(|batch| batch.number == number) {
            let taken_at = waiting.under_way.swap_remove(at).taken_at;
            waiting.batch_time = (waiting.batch_time * 7 + taken_at.elapsed()) / 8;
        }
    }

    /// Wakes a writer if one more is of use.
    pub(super) fn let_another_start(&self) {
        if self.lock().another_may_start(&self.config, Instant::now()) {
            self.came.notify_one();
        }
    }

    /// Answers those whose deadline passed before they were taken.
    pub(super) fn expire(&self) {
        let late: Vec<Waits> = {
            let mut waiting = self.lock();
            if !waiting.commands.iter().any(|command| command.caller.deadline.passed()) {
                return;
            }
            let (late, rest) = waiting.commands.drain(..).partition(|command: &Waits| command.caller.deadline.passed());
            waiting.commands = rest;
            let freed: usize = late.iter().map(|command: &Waits| command.weight).sum();
            waiting.bytes -= freed;
            Vec::from(late)
        };
        for command in late {
            (command.caller.done)(Err(Code::DeadlineExceeded.into()));
        }
    }

    /// Takes nothing more; what waits is still stored.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.came.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn admit(
        &self,
        log: LogId,
        weight: usize,
        deadline: Deadline,
        config: &Config,
        now: Instant,
    ) -> Result<(), Failure> {
        if self.closed {
            return Err(Failure::retry_after(Code::Unavailable, 1_000));
        }
        if deadline.passed() {
            return Err(Code::DeadlineExceeded.into());
        }
        let wait = self.time(config, now).max(self.stuck_for(log, now));
        let full = self.commands.len() >= config.queue_commands || self.bytes + weight > config.queue_bytes;
        if full || wait > config.queue_time || wait > deadline.left() {
            return Err(Failure::retry_after(Code::Overloaded, (wait.as_millis() as u64).clamp(50, 5_000)));
        }
        Ok(())
    }

    /// How long one that comes at the end waits until it is taken. Once all writers are busy, batches that take longer than
    /// usual count for what they have taken: so a database that hangs fills no queue.
    fn time(&self, config: &Config, now: Instant) -> Duration {
        let all_busy = self.under_way.len() >= config.writers;
        let youngest = self.under_way.iter().map(|batch| now - batch.taken_at).min().filter(|_| all_busy);
        let a_batch = self.batch_time.max(youngest.unwrap_or_default());
        let before = self.commands.len() / (config.batch_commands * config.writers) + usize::from(all_busy);
        a_batch * u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// How long its log's batch has taken so far: commands of one log can't go past each other.
    fn stuck_for(&self, log: LogId, now: Instant) -> Duration {
        let its_own = self.under_way.iter().find(|batch| batch.logs.contains(&log));
        its_own.map(|batch| now - batch.taken_at).unwrap_or_default()
    }

    fn over(&self) -> bool {
        self.closed && self.commands.is_empty()
    }

    /// Nobody stores, or a whole batch waits besides, or those under way are slow.
    fn another_may_start(&self, config: &Config, now: Instant) -> bool {
        let slow = self.under_way.iter().all(|batch| now - batch.taken_at >= SLOW);
        let of_use = slow || self.commands.len() >= config.batch_commands;
        !self.commands.is_empty() && of_use && self.under_way.len() < config.writers
    }

    fn next(&mut self, config: &Config, now: Instant) -> Option<Batch> {
        if !self.another_may_start(config, now) {
            return None;
        }
        let batch = self.compose(config);
        if batch.inputs.is_empty() {
            return None;
        }
        let logs = batch.inputs.iter().map(|input| input.command.log).collect();
        self.under_way.push(UnderWay { number: batch.number, taken_at: now, logs });
        Some(batch)
    }

    /// Takes what may be stored together, in order. Rights are checked against what is stored, not against the batch, so
    /// a log gets at most one command on the same message, and one on its members or itself only as its last; once one of
    /// a log has to wait, so do all after it. Logs of batches under way wait too.
    fn compose(&mut self, config: &Config) -> Batch {
        let number = self.under_way.iter().map(|batch| batch.number + 1).max().unwrap_or_default();
        let mut batch = Batch { number, inputs: Vec::new(), callers: Vec::new() };
        let mut ended: HashSet<LogId> = HashSet::new();
        let mut targets: HashMap<LogId, Vec<Seq>> = HashMap::new();
        let mut passed_over = VecDeque::new();
        let mut bytes = 0;
        for _ in 0..config.batch_commands * LOOK_AHEAD {
            if batch.inputs.len() == config.batch_commands || bytes >= config.batch_bytes {
                break;
            }
            let Some(next) = self.commands.pop_front() else { break };
            let (log, action) = (next.input.command.log, &next.input.command.action);
            let repeats_target = action
                .target_seq()
                .is_some_and(|target| targets.get(&log).is_some_and(|targets| targets.contains(&target)));
            let stored_now = self.under_way.iter().any(|batch| batch.logs.contains(&log));
            if repeats_target || stored_now || ended.contains(&log) {
                ended.insert(log);
                passed_over.push_back(next);
                continue;
            }
            if let Some(target) = action.target_seq() {
                targets.entry(log).or_default().push(target);
            }
            if action.is_last_of_its_log() {
                ended.insert(log);
            }
            bytes += next.weight;
            self.bytes -= next.weight;
            batch.inputs.push(next.input);
            batch.callers.push(Some(next.caller));
        }
        passed_over.append(&mut self.commands);
        self.commands = passed_over;
        batch
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self { commands: VecDeque::new(), bytes: 0, under_way: Vec::new(), batch_time: Duration::ZERO, closed: false }
    }
}

#[cfg(test)]
mod tests {
    use bowline_protocol::wire::{Message, SenderKind};
    use bowline_protocol::{ClientId, UserId};

    use super::super::command::Action;
    use super::*;

    struct Bench {
        waiting: Waiting,
        config: Config,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let config = Config { batch_commands: 10, writers: 2, ..Config::default() };
            Self { waiting: Waiting::default(), config, now: Instant::now() }
        }

        fn push(&mut self, log: LogId, n: usize) {
            for _ in 0..n {
                let command = Command {
                    log,
                    sender: UserId::new(),
                    sender_kind: SenderKind::User,
                    client_id: ClientId::new(),
                    action: Action::Message(Message::default()),
                };
                let caller = Caller { deadline: Deadline::after(Duration::from_secs(60)), done: Box::new(|_| {}) };
                self.waiting.commands.push_back(Waits { input: Input { command, crc: 0 }, weight: 0, caller });
            }
        }

        /// As many commands as the next writer takes; `None` if it waits.
        fn take(&mut self) -> Option<usize> {
            self.waiting.next(&self.config, self.now).map(|batch| batch.inputs.len())
        }
    }

    #[test]
    fn a_second_writer_starts_for_a_whole_batch_or_when_the_first_is_slow() {
        let (mut bench, a, b) = (Bench::new(), LogId::new(), LogId::new());
        bench.push(a, 3);
        assert_eq!(bench.take(), Some(3));
        bench.push(b, 9);
        assert_eq!(bench.take(), None, "one batch at a time");
        bench.push(b, 1);
        assert_eq!(bench.take(), Some(10), "a whole batch waits");
        bench.push(LogId::new(), 20);
        assert_eq!(bench.take(), None, "all writers are busy");

        let mut bench = Bench::new();
        bench.push(a, 1);
        assert_eq!(bench.take(), Some(1));
        bench.push(b, 1);
        bench.now += SLOW;
        assert_eq!(bench.take(), Some(1), "the first is slow");
    }

    #[test]
    fn a_log_is_in_one_batch_at_a_time() {
        let (mut bench, stuck, other) = (Bench::new(), LogId::new(), LogId::new());
        bench.push(stuck, 1);
        assert_eq!(bench.take(), Some(1));
        bench.push(stuck, 5);
        bench.push(other, 2);
        bench.push(stuck, 5);
        assert_eq!(bench.take(), Some(2));
        bench.waiting.under_way.clear();
        assert_eq!(bench.take(), Some(10), "afterwards all that waited, in order");
        assert_eq!(bench.waiting.commands.len(), 0);
    }

    #[test]
    fn who_would_wait_too_long_is_refused_and_nobody_else() {
        let (mut bench, stuck) = (Bench::new(), LogId::new());
        bench.push(stuck, 1);
        bench.take();
        bench.now += bench.config.queue_time * 2;
        let admitted = |bench: &Bench, log| {
            let deadline = Deadline::after(Duration::from_secs(60));
            bench.waiting.admit(log, 1, deadline, &bench.config, bench.now).map_err(|failure| failure.code)
        };
        assert_eq!(admitted(&bench, stuck), Err(Code::Overloaded));
        assert_eq!(admitted(&bench, LogId::new()), Ok(()));
        bench.push(LogId::new(), 1);
        bench.take();
        bench.now += bench.config.queue_time * 2;
        assert_eq!(admitted(&bench, LogId::new()), Err(Code::Overloaded), "all writers hang");
    }
}
