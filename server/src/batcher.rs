//! Requests that meet in one statement.
//!
//! Of a kind that comes in storms ([`Batcher::start`]) a request waits [`LINGER`] for others. Once [`STORM`] have come (a node's
//! users all reconnect), a batch waits for as long as more keep coming, so that it is nearly full however fast they come in:
//! with a fixed wait, a slower machine would need more statements for the same users. Of another kind ([`Batcher::at_once`])
//! nobody waits for company. Either way a batch takes what arrives while all statements that may run are running.

use std::sync::Arc;
use std::time::Duration;

use bowline_protocol::{Code, Failure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::deadline::Deadline;

/// Requests in one statement.
const BATCH: usize = 256;
/// The sum of the requests' weights in one statement; one that weighs more alone goes alone.
const BATCH_WEIGHT: usize = 16 * 1024;
const LINGER: Duration = Duration::from_millis(5);
/// So many in one batch are a storm: it goes on while no [`STORM_GAP`] passes without another one, up to [`STORM_LINGER`].
const STORM: usize = 16;
const STORM_GAP: Duration = Duration::from_millis(50);
const STORM_LINGER: Duration = Duration::from_millis(250);
/// Statements of one kind at a time, so that a storm leaves connections to the others.
const STATEMENTS: usize = 3;
/// The same of a kind that does not wait for company.
const STATEMENTS_AT_ONCE: usize = 2;
/// Requests that wait to be gathered; one more is `overloaded`.
const QUEUE: usize = 16_384;
const OVERLOADED_RETRY_AFTER_MS: u64 = 1_000;

/// Where requests of one kind meet, so that many of them cost one statement. Cheap to clone; ends when the last clone is dropped.
pub struct Batcher<Q, A> {
    queue: mpsc::Sender<Job<Q, A>>,
}

/// One request of a batch.
pub struct Job<Q, A> {
    pub asked: Q,
    pub deadline: Deadline,
    answer: oneshot::Sender<Result<A, Failure>>,
}

impl<Q: Send + 'static, A: Send + 'static> Batcher<Q, A> {
    /// `run` answers every job of the batches that it is given; a job that it drops is answered with `internal`.
    pub fn start<F, Running>(weight: fn(&Q) -> usize, run: F) -> Self
    where
        F: Fn(Vec<Job<Q, A>>) -> Running + Send + 'static,
        Running: Future<Output = ()> + Send + 'static,
    {
        Self::with(weight, true, run)
    }

    /// As [`Self::start`]; a request never waits for others, but may find them where it waits for its turn.
    pub fn at_once<F, Running>(weight: fn(&Q) -> usize, run: F) -> Self
    where
        F: Fn(Vec<Job<Q, A>>) -> Running + Send + 'static,
        Running: Future<Output = ()> + Send + 'static,
    {
        Self::with(weight, false, run)
    }

    fn with<F, Running>(weight: fn(&Q) -> usize, lingers: bool, run: F) -> Self
    where
        F: Fn(Vec<Job<Q, A>>) -> Running + Send + 'static,
        Running: Future<Output = ()> + Send + 'static,
    {
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(Gatherer { jobs, held: None, weight, lingers }.work(run));
        Self { queue }
    }

    /// The answer to one request, by its deadline.
    pub async fn ask(&self, asked: Q, deadline: Deadline) -> Result<A, Failure> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .try_send(Job { asked, deadline, answer })
            .map_err(|_| Failure::retry_after(Code::Overloaded, OVERLOADED_RETRY_AFTER_MS))?;
        match timeout_at(deadline.instant().into(), answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Code::Internal.into()),
            Err(_) => Err(Code::DeadlineExceeded.into()),
        }
    }
}

impl<Q, A> Clone for Batcher<Q, A> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<Q, A> Job<Q, A> {
    pub fn answer(self, result: Result<A, Failure>) {
        // Nobody hears it: he did not wait that long.
        let _ = self.answer.send(result);
    }

    /// Nobody waits for the answer any more.
    fn given_up(&self) -> bool {
        self.answer.is_closed() || self.deadline.passed()
    }
}

/// By when a statement for all of these is of use.
pub fn latest<Q, A>(jobs: &[Job<Q, A>]) -> Option<Deadline> {
    jobs.iter().map(|job| job.deadline).max()
}

struct Gatherer<Q, A> {
    jobs: mpsc::Receiver<Job<Q, A>>,
    /// Taken from the queue, but too heavy for the batch before.
    held: Option<Job<Q, A>>,
    weight: fn(&Q) -> usize,
    /// A request waits for company.
    lingers: bool,
}

/// A batch being gathered.
struct Batch<Q, A> {
    jobs: Vec<Job<Q, A>>,
    weight: usize,
}

impl<Q: Send + 'static, A: Send + 'static> Gatherer<Q, A> {
    async fn work<F, Running>(mut self, run: F)
    where
        F: Fn(Vec<Job<Q, A>>) -> Running,
        Running: Future<Output = ()> + Send + 'static,
    {
        let running = Arc::new(Semaphore::new(if self.lingers { STATEMENTS } else { STATEMENTS_AT_ONCE }));
        loop {
            let first = match self.held.take() {
                Some(job) => job,
                None => match self.jobs.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            let batch = self.gather(first).await;
            let Ok(permit) = running.clone().acquire_owned().await else { return };
            let mut jobs = self.fill(batch).jobs;
            jobs.retain(|job| !job.given_up());
            if !jobs.is_empty() {
                tokio::spawn(hold(permit, run(jobs)));
            }
        }
    }

    async fn gather(&mut self, first: Job<Q, A>) -> Batch<Q, A> {
        let began = Instant::now();
        let mut batch = Batch { weight: (self.weight)(&first.asked), jobs: vec![first] };
        while self.lingers && batch.jobs.len() < BATCH && self.held.is_none() {
            let until = match batch.jobs.len() {
                ..STORM => began + LINGER,
                _ => (Instant::now() + STORM_GAP).min(began + STORM_LINGER),
            };
            match timeout_at(until, self.jobs.recv()).await {
                Ok(Some(job)) => self.take(&mut batch, job),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    /// What came while the batch waited for its turn.
    fn fill(&mut self, mut batch: Batch<Q, A>) -> Batch<Q, A> {
        while batch.jobs.len() < BATCH && self.held.is_none() {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.take(&mut batch, job);
        }
        batch
    }

    fn take(&mut self, batch: &mut Batch<Q, A>, job: Job<Q, A>) {
        let weight = (self.weight)(&job.asked);
        if batch.weight + weight > BATCH_WEIGHT {
            self.held = Some(job);
        } else {
            batch.weight += weight;
            batch.jobs.push(job);
        }
    }
}

async fn hold(_permit: OwnedSemaphorePermit, running: impl Future<Output = ()>) {
    running.await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    /// The weights of the jobs of each batch.
    type Ran = Arc<Mutex<Vec<Vec<usize>>>>;

    /// A batcher that answers each job with its weight, and what it ran.
    fn batcher() -> (Batcher<usize, usize>, Ran) {
        let ran = Ran::default();
        let seen = ran.clone();
        let batcher = Batcher::start(
            |weight| *weight,
            move |jobs: Vec<Job<usize, usize>>| {
                seen.lock().unwrap().push(jobs.iter().map(|job| job.asked).collect());
                async move {
                    for job in jobs {
                        let weight = job.asked;
                        job.answer(Ok(weight));
                    }
                }
            },
        );
        (batcher, ran)
    }

    /// Asks all at once, in order; the sizes and weights of the batches that came of it.
    async fn batches(asked: &[usize]) -> Vec<(usize, usize)> {
        let (batcher, ran) = batcher();
        let mut asking = tokio::task::JoinSet::new();
        for weight in asked.iter().copied() {
            let batcher = batcher.clone();
            asking.spawn(async move { batcher.ask(weight, soon()).await.unwrap() });
        }
        let mut answers = asking.join_all().await;
        let mut expected = asked.to_vec();
        answers.sort_unstable();
        expected.sort_unstable();
        assert_eq!(answers, expected, "each has its own answer");
        let ran = ran.lock().unwrap();
        ran.iter().map(|batch| (batch.len(), batch.iter().sum())).collect()
    }

    #[tokio::test]
    async fn a_batch_is_bounded_by_number_and_weight() {
        assert_eq!(batches(&[1]).await, [(1, 1)]);
        assert_eq!(batches(&[1; 300]).await, [(256, 256), (44, 44)]);
        assert_eq!(batches(&[10_000, 6_384, 1]).await, [(2, 16_384), (1, 1)]);
        assert_eq!(batches(&[1, 50_000, 1]).await, [(1, 1), (1, 50_000), (1, 1)], "the heavy one goes alone");
    }

    #[tokio::test]
    async fn one_that_does_not_linger_takes_who_waits_for_a_turn() {
        let (turns, sizes) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (turn, seen) = (turns.clone(), sizes.clone());
        let batcher = Batcher::at_once(
            |()| 1,
            move |jobs: Vec<Job<(), ()>>| {
                seen.lock().unwrap().push(jobs.len());
                let turn = turn.clone();
                async move {
                    turn.acquire().await.unwrap().forget();
                    jobs.into_iter().for_each(|job| job.answer(Ok(())));
                }
            },
        );
        let mut asking = tokio::task::JoinSet::new();
        for asked in 1..=STATEMENTS_AT_ONCE + 10 {
            let batcher = batcher.clone();
            asking.spawn(async move { batcher.ask((), soon()).await });
            // Each of the first has begun before the next one asks, without any time having passed.
            while asked <= STATEMENTS_AT_ONCE && sizes.lock().unwrap().len() < asked {
                tokio::task::yield_now().await;
            }
        }
        tokio::task::yield_now().await;
        turns.add_permits(STATEMENTS_AT_ONCE + 1);
        assert!(asking.join_all().await.iter().all(Result::is_ok));
        assert_eq!(*sizes.lock().unwrap(), [1, 1, 10]);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_says_so_at_once() {
        let (batcher, _) = batcher();
        let mut asking = tokio::task::JoinSet::new();
        // On one thread the gatherer has no turn before all have asked.
        for _ in 0..=QUEUE {
            let batcher = batcher.clone();
            asking.spawn(async move { batcher.ask(1, soon()).await });
        }
        let refused: Vec<_> = asking.join_all().await.into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, [Failure::retry_after(Code::Overloaded, OVERLOADED_RETRY_AFTER_MS)]);
    }

    #[tokio::test]
    async fn nobody_waits_past_his_deadline_or_for_a_job_that_was_dropped() {
        let never = Batcher::<(), ()>::start(
            |()| 1,
            |jobs| async move {
                std::future::pending::<()>().await;
                drop(jobs);
            },
        );
        let late = never.ask((), Deadline::after(Duration::from_millis(20))).await;
        assert_eq!(late, Err(Code::DeadlineExceeded.into()));
        let dropping = Batcher::<(), ()>::start(|()| 1, |jobs| async move { drop(jobs) });
        assert_eq!(dropping.ask((), soon()).await, Err(Code::Internal.into()));
    }
}
