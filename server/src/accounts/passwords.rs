//! Passwords are hashed with Argon2id on threads of their own, one core left free, so that a rush of logins neither
//! stalls the sockets nor takes memory without bound. The threads keep their memory while there is work.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{mem, thread};

use anyhow::{Context, ensure};
use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use bowline_protocol::{Code, Failure};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;

use crate::config::Invalid;
use crate::deadline::Deadline;
use crate::telemetry::Metrics;

const OUTPUT_BYTES: usize = 32;
/// A thread without work gives its memory back after this.
const IDLE: Duration = Duration::from_secs(2);
/// What a hash is taken to cost until the first one was measured.
const FIRST_GUESS: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Memory of one hash, at least 19 MiB; each thread holds this much while it works.
    pub memory_kib: u32,
    /// Passes over the memory, at least 2.
    pub passes: u32,
    /// Threads that hash; without it one less than there are cores, and at least one.
    pub threads: Option<usize>,
    /// Passwords that wait for a thread; more get `overloaded`.
    pub queue: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { memory_kib: Params::DEFAULT_M_COST, passes: Params::DEFAULT_T_COST, threads: None, queue: 64 }
    }
}

impl Config {
    pub fn validate(&self) -> Vec<Invalid> {
        let checks = [
            Invalid::unless_in("memory_kib", self.memory_kib.into(), 19 * 1_024..=256 * 1_024),
            Invalid::unless_in("passes", self.passes.into(), 2..=16),
            self.threads.and_then(|threads| Invalid::unless_in("threads", threads as u64, 1..=256)),
            Invalid::unless_in("queue", self.queue as u64, 1..=4_096),
        ];
        checks.into_iter().flatten().collect()
    }

    /// The parameters of new hashes. Parallelism is 1: the threads are the parallelism.
    fn params(&self) -> anyhow::Result<Params> {
        Params::new(self.memory_kib, self.passes, 1, Some(OUTPUT_BYTES)).context("Argon2 parameters")
    }

    fn threads(&self) -> usize {
        let cores = thread::available_parallelism().map_or(1, |n| n.get());
        self.threads.unwrap_or(cores - 1).max(1)
    }
}

/// What became of a login's password.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// `rehashed` is to be stored: the hash was made with other parameters than those in force.
    Right {
        rehashed: Option<String>,
    },
    Wrong,
}

/// The threads that hash, and their queue. Dropping it ends them after the hash that each is at.
#[derive(Debug)]
pub struct Hashers {
    shared: Arc<Shared>,
}

impl Hashers {
    pub fn start(config: &Config, metrics: &Metrics) -> anyhow::Result<Self> {
        let queue = metrics.register("accounts_hash_queue", "Passwords that wait to be hashed", Gauge::default());
        let buckets = Histogram::new(exponential_buckets(0.01, 2.0, 9));
        let seconds = metrics.register("accounts_hash_seconds", "Time on a hashing thread", buckets);
        let shared = Arc::new(Shared {
            params: config.params()?,
            threads: u32::try_from(config.threads()).context("passwords.threads")?,
            bound: config.queue,
            state: Mutex::new(State { jobs: VecDeque::new(), closed: false, mean: FIRST_GUESS }),
            wake: Condvar::new(),
            queue,
            seconds,
        });
        let hashers = Self { shared };
        for n in 0..config.threads() {
            let shared = Arc::clone(&hashers.shared);
            thread::Builder::new()
                .name(format!("hash-{n}"))
                .spawn(move || shared.work())
                .context("a hashing thread")?;
        }
        Ok(hashers)
    }

    /// A PHC string with a salt of its own.
    ///
    /// # Errors
    /// `overloaded` when the queue is full or too long for the deadline, `deadline_exceeded` when it passed on the way.
    pub async fn hash(&self, password: SecretString, deadline: Deadline) -> Result<String, Failure> {
        let done = self.run(password, Task::Hash, deadline).await?;
        done.phc.ok_or_else(|| Code::Internal.into())
    }

    /// Whether the password is that of the hash. Without one (nobody has this name) the answer is `Wrong` after the same
    /// work, so that time does not tell which names exist. Errors as for [`Self::hash`].
    pub async fn verify(&self, password: SecretString, phc: Option<String>, by: Deadline) -> Result<Verdict, Failure> {
        let done = self.run(password, Task::Verify(phc), by).await?;
        Ok(if done.right { Verdict::Right { rehashed: done.phc } } else { Verdict::Wrong })
    }

    async fn run(&self, password: SecretString, task: Task, deadline: Deadline) -> Result<Done, Failure> {
        let (reply, done) = oneshot::channel();
        self.shared.push(Job { password, task, deadline, reply })?;
        match tokio::time::timeout_at(deadline.instant().into(), done).await {
            Ok(Ok(result)) => result,
            // The thread skips a job whose time has passed; a broken thread drops it.
            Ok(Err(_)) if !deadline.passed() => Err(Code::Internal.into()),
            Ok(Err(_)) | Err(_) => Err(Code::DeadlineExceeded.into()),
        }
    }
}

impl Drop for Hashers {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

struct Job {
    password: SecretString,
    task: Task,
    deadline: Deadline,
    reply: oneshot::Sender<Result<Done, Failure>>,
}

enum Task {
    Hash,
    Verify(Option<String>),
}

struct Done {
    right: bool,
    phc: Option<String>,
}

struct Shared {
    params: Params,
    threads: u32,
    bound: usize,
    /// Held to push or take a job, never while hashing.
    state: Mutex<State>,
    wake: Condvar,
    queue: Gauge,
    seconds: Histogram,
}

struct State {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Moving average of the time that a job takes.
    mean: Duration,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Failure> {
        let mut state = self.lock();
        let waiting = u32::try_from(state.jobs.len()).unwrap_or(u32::MAX);
        let wait = state.mean.saturating_mul(waiting + 1) / self.threads;
        if state.jobs.len() >= self.bound || wait > job.deadline.left() {
            let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(100);
            return Err(Failure::retry_after(Code::Overloaded, retry_after_ms));
        }
        state.jobs.push_back(job);
        self.queue.set(i64::from(waiting) + 1);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn work(&self) {
        let mut memory = Vec::new();
        while let Some(job) = self.next(&mut memory) {
            if job.deadline.passed() || job.reply.is_closed() {
                continue;
            }
            let start = Instant::now();
            let done = self.do_task(&job.password, &job.task, &mut memory).map_err(|error| {
                tracing::error!(%error, "a password could not be hashed or compared");
                Code::Internal.into()
            });
            let took = start.elapsed();
            self.seconds.observe(took.as_secs_f64());
            // A caller who has gone meanwhile needs no answer.
            let _ = job.reply.send(done);
            let mut state = self.lock();
            state.mean = (state.mean * 7 + took) / 8;
        }
    }

    /// Waits for a job; frees the memory when there was none for a while. None once the pool is closed.
    fn next(&self, memory: &mut Vec<Block>) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(job) = state.jobs.pop_front() {
                self.queue.set(i64::try_from(state.jobs.len()).unwrap_or(i64::MAX));
                return Some(job);
            }
            if memory.is_empty() {
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (woken, timeout) = self.wake.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.jobs.is_empty() {
                drop(state);
                drop(mem::take(memory));
                state = self.lock();
            }
        }
    }

    fn do_task(&self, password: &SecretString, task: &Task, memory: &mut Vec<Block>) -> anyhow::Result<Done> {
        let password = password.expose_secret().as_bytes();
        let Task::Verify(stored) = task else {
            return Ok(Done { right: true, phc: Some(self.new_hash(password, memory)?) });
        };
        let Some(stored) = stored else {
            self.new_hash(password, memory)?;
            return Ok(Done { right: false, phc: None });
        };
        let stored = PasswordHash::new(stored).context("a stored hash")?;
        ensure!(stored.algorithm == ARGON2ID_IDENT, "a stored hash is not Argon2id");
        let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else {
            anyhow::bail!("a stored hash without salt or output");
        };
        let params = Params::try_from(&stored).context("a stored hash's parameters")?;
        let right = output(password, &salt, &params, memory)? == expected;
        let outdated = right && cost(&params) != cost(&self.params);
        let phc = outdated.then(|| self.new_hash(password, memory)).transpose()?;
        Ok(Done { right, phc })
    }

    fn new_hash(&self, password: &[u8], memory: &mut Vec<Block>) -> anyhow::Result<String> {
        let salt = Salt::generate();
        let hash = PasswordHash {
            algorithm: ARGON2ID_IDENT,
            version: Some(Version::default().into()),
            params: ParamsString::try_from(&self.params).context("Argon2 parameters")?,
            salt: Some(salt),
            hash: Some(output(password, &salt, &self.params, memory)?),
        };
        Ok(hash.to_string())
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("params", &self.params).finish_non_exhaustive()
    }
}

/// `Output` compares in constant time.
fn output(password: &[u8], salt: &Salt, params: &Params, memory: &mut Vec<Block>) -> anyhow::Result<Output> {
    memory.resize(params.block_count(), Block::new());
    let mut out = [0; OUTPUT_BYTES];
    Argon2::new(Algorithm::Argon2id, Version::default(), params.clone())
        .hash_password_into_with_memory(password, salt, &mut out, memory.as_mut_slice())
        .context("Argon2")?;
    Output::new(&out).context("Argon2's output")
}

fn cost(params: &Params) -> (u32, u32, u32) {
    (params.m_cost(), params.t_cost(), params.p_cost())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(60);

    fn start(config: Config) -> Hashers {
        Hashers::start(&config, &Metrics::default()).unwrap()
    }

    fn later() -> Deadline {
        Deadline::after(LATER)
    }

    #[tokio::test]
    async fn the_right_password_alone_is_right() {
        let hashers = start(Config::default());
        let phc = hashers.hash("correct horse".into(), later()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        let check = async |password: &str, phc: Option<&String>, expected: Verdict| {
            let verdict = hashers.verify(password.into(), phc.cloned(), later()).await.unwrap();
            assert_eq!(verdict, expected, "{password}");
        };
        check("correct horse", Some(&phc), Verdict::Right { rehashed: None }).await;
        check("correct horsf", Some(&phc), Verdict::Wrong).await;
        check("", Some(&phc), Verdict::Wrong).await;
        check("correct horse", None, Verdict::Wrong).await;
        let again = hashers.hash("correct horse".into(), later()).await.unwrap();
        assert_ne!(again, phc, "a salt of its own each time");
    }

    #[tokio::test]
    async fn a_login_moves_an_outdated_hash_to_the_parameters_in_force() {
        let old = start(Config { memory_kib: 20 * 1024, passes: 3, ..Config::default() });
        let phc = old.hash("correct horse".into(), later()).await.unwrap();
        let hashers = start(Config::default());
        assert_eq!(hashers.verify("wrong horse".into(), Some(phc.clone()), later()).await, Ok(Verdict::Wrong));
        let Ok(Verdict::Right { rehashed: Some(new) }) =
            hashers.verify("correct horse".into(), Some(phc), later()).await
        else {
            panic!("the password is right and its hash outdated");
        };
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
        let verdict = hashers.verify("correct horse".into(), Some(new), later()).await;
        assert_eq!(verdict, Ok(Verdict::Right { rehashed: None }));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_loses_nothing() {
        let hashers = start(Config { threads: Some(1), queue: 4, ..Config::default() });
        let jobs = (0..20).map(|_| hashers.hash("correct horse".into(), later()));
        let results = futures_util::future::join_all(jobs).await;
        let (stored, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert!(stored.len() >= 4 && !refused.is_empty(), "{} stored", stored.len());
        for refusal in refused.into_iter().filter_map(Result::err) {
            assert_eq!(refusal.code, Code::Overloaded);
            assert!(refusal.retry_after_ms.is_some_and(|ms| ms >= 100));
        }
    }

    #[tokio::test]
    async fn a_deadline_that_the_queue_cannot_meet_is_refused() {
        let hashers = start(Config::default());
        let result = hashers.hash("correct horse".into(), Deadline::after(Duration::ZERO)).await;
        assert_eq!(result.map_err(|f| f.code), Err(Code::Overloaded));
    }

    #[test]
    fn weak_parameters_are_refused_by_key() {
        assert_eq!(Config::default().validate(), []);
        for (config, key) in [
            (Config { memory_kib: 8 * 1024, ..Config::default() }, "memory_kib"),
            (Config { passes: 1, ..Config::default() }, "passes"),
            (Config { threads: Some(0), ..Config::default() }, "threads"),
            (Config { queue: 0, ..Config::default() }, "queue"),
        ] {
            let found: Vec<_> = config.validate().into_iter().map(|invalid| invalid.key).collect();
            assert_eq!(found, [key]);
        }
    }
}
