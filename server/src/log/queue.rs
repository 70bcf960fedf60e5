use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bowline_protocol::{Code, Failure, LogId, Seq};
use tokio::sync::Notify;

use super::Config;
use super::command::{Command, Done};
use super::store::Input;
use crate::deadline::Deadline;

/// A batch is composed from this many times its size at the most, so that a log whose commands must wait for each other
/// does not cost a walk through the whole queue.
const LOOK_AHEAD: usize = 4;

/// A batch of so many waits for no more: what one of them costs falls little from there on.
const ENOUGH: usize = 8;

/// Who waits for a command's outcome.
pub(super) struct Caller {
    pub deadline: Deadline,
    pub done: Done,
}

/// What one writer has to store, in the order in which it came. Bounded in number, in bytes and in time: a command that
/// would wait too long is refused when it comes, not when it is late.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    came: Notify,
    config: Config,
}

struct Waiting {
    commands: VecDeque<Waits>,
    bytes: usize,
    /// When the batch under way was taken.
    taken_at: Option<Instant>,
    /// Commands of the last batch.
    last_batch: usize,
    /// How long a batch takes, smoothed.
    batch_time: Duration,
    closed: bool,
}

struct Waits {
    input: Input,
    weight: usize,
    caller: Caller,
}

/// Commands that may be stored by one call, and who waits for each.
pub(super) struct Batch {
    pub inputs: Vec<Input>,
    /// `None` once it has its answer.
    pub callers: Vec<Option<Caller>>,
}

impl Queue {
    pub(super) fn new(config: Config) -> Self {
        let waiting = Waiting {
            commands: VecDeque::new(),
            bytes: 0,
            taken_at: None,
            last_batch: 0,
            batch_time: Duration::ZERO,
            closed: false,
        };
        Self { waiting: Mutex::new(waiting), came: Notify::new(), config }
    }

    /// Puts a command at the end, or says at once why not: then nothing is stored.
    pub(super) fn push(&self, command: Command, deadline: Deadline, done: Done) {
        let weight = command.weight();
        let mut waiting = self.lock();
        if let Err(failure) = waiting.admit(weight, deadline, &self.config) {
            drop(waiting);
            return done(Err(failure));
        }
        let crc = command.payload_crc();
        waiting.bytes += weight;
        waiting.commands.push_back(Waits { input: Input { command, crc }, weight, caller: Caller { deadline, done } });
        drop(waiting);
        self.came.notify_one();
    }

    /// The next batch, once there is one; `None` when the queue is closed and empty. Where commands come in company, it
    /// waits for more of them.
    pub(super) async fn take(&self) -> Option<Batch> {
        let mut gathered = false;
        loop {
            let gathers = {
                let mut waiting = self.lock();
                let gathers = !gathered && waiting.gains_by_waiting(&self.config);
                if !waiting.commands.is_empty() && !gathers {
                    return Some(waiting.compose(&self.config));
                }
                if waiting.closed && waiting.commands.is_empty() {
                    return None;
                }
                gathers
            };
            if gathers {
                tokio::time::sleep(self.config.gather_time).await;
                gathered = true;
            } else {
                self.came.notified().await;
            }
        }
    }

    /// The batch that was taken last has its outcome.
    pub(super) fn finished(&self) {
        let mut waiting = self.lock();
        if let Some(taken_at) = waiting.taken_at.take() {
            waiting.batch_time = (waiting.batch_time * 7 + taken_at.elapsed()) / 8;
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
    fn admit(&self, weight: usize, deadline: Deadline, config: &Config) -> Result<(), Failure> {
        if self.closed {
            return Err(Failure::retry_after(Code::Unavailable, 1_000));
        }
        if deadline.passed() {
            return Err(Code::DeadlineExceeded.into());
        }
        let wait = self.time(config.batch_commands);
        let full = self.commands.len() >= config.queue_commands || self.bytes + weight > config.queue_bytes;
        if full || wait > config.queue_time || wait > deadline.left() {
            return Err(Failure::retry_after(Code::Overloaded, (wait.as_millis() as u64).clamp(50, 5_000)));
        }
        Ok(())
    }

    /// How long one that comes at the end waits until it is taken. A batch that takes longer than usual counts for what it has
    /// taken: so a database that hangs fills no queue.
    fn time(&self, batch_commands: usize) -> Duration {
        let under_way = self.taken_at.map_or(Duration::ZERO, |at| at.elapsed());
        let a_batch = self.batch_time.max(under_way);
        let before = self.commands.len() / batch_commands + usize::from(self.taken_at.is_some());
        a_batch * u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Commands come in company, and there is room for more of them.
    fn gains_by_waiting(&self, config: &Config) -> bool {
        let here = self.commands.len();
        let company = here > 1 || here == 1 && self.last_batch > 1;
        company && here < ENOUGH.min(config.batch_commands) && !self.closed && !config.gather_time.is_zero()
    }

    /// Takes what may be stored together, in order. Rights are checked against what is stored, not against the batch, so
    /// a log gets at most one command on the same message, and one on its members or itself only as its last; once one of
    /// a log has to wait, so do all after it.
    fn compose(&mut self, config: &Config) -> Batch {
        let mut batch = Batch { inputs: Vec::new(), callers: Vec::new() };
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
            if repeats_target || ended.contains(&log) {
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
        self.taken_at = Some(Instant::now());
        self.last_batch = batch.inputs.len();
        batch
    }
}

impl Batch {
    pub(super) fn split(&mut self) -> Batch {
        let half = self.inputs.len() / 2;
        Batch { inputs: self.inputs.split_off(half), callers: self.callers.split_off(half) }
    }

    /// Gives everyone who still waits the same answer.
    pub(super) fn refuse(self, failure: &Failure) {
        for caller in self.callers.into_iter().flatten() {
            (caller.done)(Err(failure.clone()));
        }
    }

    /// Answers those whose deadline has passed.
    pub(super) fn expire(&mut self, code: Code) {
        for caller in &mut self.callers {
            if let Some(late) = caller.take_if(|caller| caller.deadline.passed()) {
                (late.done)(Err(code.into()));
            }
        }
    }

    /// Drops the commands for which nobody waits any more.
    pub(super) fn forget_answered(&mut self) {
        let mut waits = self.callers.iter().map(Option::is_some);
        self.inputs.retain(|_| waits.next().unwrap_or(false));
        self.callers.retain(Option::is_some);
    }

    pub(super) fn earliest(&self) -> Option<Deadline> {
        self.callers.iter().flatten().map(|caller| caller.deadline).min()
    }

    pub(super) fn latest(&self) -> Option<Deadline> {
        self.callers.iter().flatten().map(|caller| caller.deadline).max()
    }
}
