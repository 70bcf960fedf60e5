//! How long other work waits while many passwords are hashed at once: the worst delay of a 1 ms timer on the runtime,
//! for hashing in the request's task, on tokio's blocking threads, and on the hashing threads of `accounts`.
//!
//! `cargo run --release -p bowline --example argon2_stall [passwords at once]`

use std::time::{Duration, Instant};

use argon2::Argon2;
use bowline::accounts::passwords::{Config, Hashers};
use bowline::deadline::Deadline;
use bowline::telemetry::Metrics;
use bowline_protocol::Failure;
use futures_util::future::join_all;
use tokio::sync::oneshot;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const TICK: Duration = Duration::from_millis(1);
const PASSWORD: &str = "correct horse battery";

/// Delays of the timer's ticks, beyond the tick itself.
struct Stalls(Vec<Duration>);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let at_once = std::env::args().nth(1).map_or(Ok(100), |number| number.parse())?;
    println!("{at_once} passwords at once, {} cores", std::thread::available_parallelism()?);
    println!("{:<28} {:>6} {:>10} {:>9} {:>9} {:>9}", "", "hashed", "overloaded", "all ms", "p99 ms", "worst ms");

    show("no hashing", at_once, async || tokio::time::sleep(Duration::from_secs(1)).await).await;
    show("in the request's task", at_once, async || {
        join_all((0..at_once).map(|_| tokio::spawn(async { hash() }))).await;
    })
    .await;
    show("tokio's blocking threads", at_once, async || {
        join_all((0..at_once).map(|_| tokio::task::spawn_blocking(hash))).await;
    })
    .await;
    let pool = Hashers::start(&Config { queue: at_once, ..Config::default() }, &Metrics::default())?;
    show("hashing threads, long queue", at_once, async || drop(all(&pool, at_once).await)).await;
    let pool = Hashers::start(&Config::default(), &Metrics::default())?;
    let (stalls, took, results) = measured(async || all(&pool, at_once).await).await;
    let hashed = results.iter().filter(|result| result.is_ok()).count();
    print("hashing threads, as shipped", hashed, at_once - hashed, took, &stalls);
    Ok(())
}

async fn show(what: &str, at_once: usize, work: impl AsyncFnOnce()) {
    let (stalls, took, ()) = measured(work).await;
    print(what, at_once, 0, took, &stalls);
}

fn print(what: &str, hashed: usize, overloaded: usize, took: Duration, stalls: &Stalls) {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let (all, p99, worst) = (ms(took), ms(stalls.at(0.99)), ms(stalls.at(1.0)));
    println!("{what:<28} {hashed:>6} {overloaded:>10} {all:>9.0} {p99:>9.1} {worst:>9.1}");
}

async fn all(pool: &Hashers, at_once: usize) -> Vec<Result<String, Failure>> {
    let by = Deadline::after(Duration::from_secs(60));
    join_all((0..at_once).map(|_| pool.hash(PASSWORD.into(), by))).await
}

fn hash() {
    let mut out = [0; 32];
    let hashed = Argon2::default().hash_password_into(PASSWORD.as_bytes(), b"0123456789abcdef", &mut out);
    assert!(hashed.is_ok());
    std::hint::black_box(out);
}

async fn measured<T>(work: impl AsyncFnOnce() -> T) -> (Stalls, Duration, T) {
    let (stop, stopped) = oneshot::channel();
    let timer = tokio::spawn(tick(stopped));
    tokio::time::sleep(TICK * 20).await;
    let start = Instant::now();
    let result = work().await;
    let took = start.elapsed();
    let _ = stop.send(());
    (timer.await.unwrap_or(Stalls(Vec::new())), took, result)
}

async fn tick(mut stopped: oneshot::Receiver<()>) -> Stalls {
    let mut delays = Vec::new();
    while stopped.try_recv().is_err() {
        let start = Instant::now();
        tokio::time::sleep(TICK).await;
        delays.push(start.elapsed().saturating_sub(TICK));
    }
    delays.sort();
    Stalls(delays)
}

impl Stalls {
    fn at(&self, share: f64) -> Duration {
        let last = self.0.len().saturating_sub(1);
        self.0.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }
}
