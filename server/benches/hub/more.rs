//! What the hub does beside plain fan-out, each with its cost.

use std::sync::atomic::Ordering;
use std::thread::sleep;

use super::follower::Turn;
use super::*;

/// A replay's log: entries, and how many logs there are of them.
const STORED: (Seq, usize) = (2_000, 8);
const REPLAYERS: usize = 500;
const TURNS_A_SECOND: u32 = 2_000;

pub(crate) fn all(runtime: &Runtime, rounds: u64, time: Duration) -> anyhow::Result<()> {
    joins_and_leaves(runtime, rounds, time)?;
    heartbeats(runtime, time)?;
    behind_the_tail(runtime)?;
    fragments(runtime)?;
    for (logs, rate) in [(1, 200), (1_000, 2_000)] {
        two_shards(runtime, logs, rate, rounds, time)?;
    }
    Ok(())
}

/// One log that all sockets follow, or 1,000 with ten each, by one shard and by two; `rate` messages a second in all.
fn two_shards(runtime: &Runtime, logs: usize, rate: u32, rounds: u64, time: Duration) -> anyhow::Result<()> {
    let ids: Vec<LogId> = (0..logs).map(|_| LogId::new()).collect();
    let each = if logs == 1 { SOCKETS } else { 10 };
    let hub = |shards| {
        let config = Config { shards, ..Config::default() };
        Hub::start(runtime, config, MemoryLog::default(), SOCKETS, |socket| {
            let followed = (0..logs.min(10)).map(|i| (socket + i * SOCKETS / 10) % logs);
            followed.map(|log| Place::live(ids[log])).collect()
        })
    };
    // Both are here, and so are their threads: what is counted is what a round adds.
    let hubs = [hub(1)?, hub(2)?];
    let mut seqs = vec![[0; 2]; logs];
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let mut rates = [0.0; 2];
        for (i, hub) in hubs.iter().enumerate() {
            let (spent, delivered) = (cpu_time("shard-")?, hub.readers.count()?);
            let sent = paced(rate, time, |n| {
                let log = n as usize % logs;
                seqs[log][i] += 1;
                hub.shards.publish(ids[log], &[entry(seqs[log][i])]);
            });
            let due = sent * each as u64;
            hub.readers.wait_for(delivered + due)?;
            rates[i] = due as f64 / (cpu_time("shard-")? - spent).as_secs_f64();
        }
        ratios.push(rates[1] / rates[0]);
    }
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    println!("2 shards / 1, {logs} logs x {each}, {rate} messages/s: {median:.2} ({least:.2} to {most:.2})");
    hubs.iter().for_each(|hub| hub.shards.stop());
    Ok(())
}

/// Sockets leave the log and come back to where they were while it flows; nothing is lost.
fn joins_and_leaves(runtime: &Runtime, rounds: u64, time: Duration) -> anyhow::Result<()> {
    let log = LogId::new();
    let hub = one_log(runtime, log)?;
    let addresses = hub.shared.addresses.lock().expect("no holder panics").clone();
    let mut sent = 0;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let mut rates = [0.0; 2];
        for (turns, rate) in [0, TURNS_A_SECOND].into_iter().zip(&mut rates) {
            let spent = cpu_time("shard-")?;
            let before = sent;
            std::thread::scope(|scope| {
                let turning = scope.spawn(|| {
                    // An even number each: all have come back at the end.
                    let turn = |n: u64| hub.shards.complete(addresses[(n / 2 * 7) as usize % SOCKETS], Turn(log));
                    (turns > 0).then(|| paced(turns, time, turn))
                });
                sent += paced(200, time, |n| hub.shards.publish(log, &[entry(before + n + 1)]));
                turning.join().expect("it does not panic");
            });
            hub.readers.wait_for(sent * SOCKETS as u64)?;
            *rate = ((sent - before) * SOCKETS as u64) as f64 / (cpu_time("shard-")? - spent).as_secs_f64();
        }
        ratios.push(rates[1] / rates[0]);
    }
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    println!("{TURNS_A_SECOND} leaves and joins/s during 1 x {SOCKETS} x 200/s: {median:.2} of the deliveries without");
    hub.shards.stop();
    Ok(())
}

/// The sweep and its pings, thirty times as often as by default.
fn heartbeats(runtime: &Runtime, time: Duration) -> anyhow::Result<()> {
    let heartbeat = Duration::from_secs(1);
    let config = Config { heartbeat, ..Config::default() };
    let hub = Hub::start(runtime, config, MemoryLog::default(), IDLE_SOCKETS, |_| vec![Place::live(LogId::new())])?;
    sleep(heartbeat);
    let spent = cpu_time("shard-")?;
    sleep(time);
    let spent = cpu_time("shard-")? - spent;
    anyhow::ensure!(hub.shards.sockets() == IDLE_SOCKETS, "sockets were lost");
    let each = spent.as_secs_f64() * 1e6 / (IDLE_SOCKETS as f64 * time.as_secs_f64() / heartbeat.as_secs_f64());
    println!("heartbeat: {each:.1} us of CPU a socket (a ping, its pong, six looks)");
    hub.shards.stop();
    Ok(())
}

/// Replays that no tail holds, of logs that many read.
fn behind_the_tail(runtime: &Runtime) -> anyhow::Result<()> {
    let (source, (stored, logs)) = (MemoryLog::default(), STORED);
    let logs: Vec<LogId> = (0..logs).map(|_| LogId::new()).collect();
    for log in &logs {
        (0..stored).for_each(|_| drop(source.append(*log, entry(0))));
    }
    let config = Config { tail_bytes: 256 << 10, ..Config::default() };
    let start = Instant::now();
    let hub = Hub::start(runtime, config, source, REPLAYERS, |socket| {
        vec![Place::stored(logs[socket % logs.len()], stored)]
    })?;
    while hub.shared.replayed.load(Ordering::Relaxed) < REPLAYERS as u64 {
        anyhow::ensure!(start.elapsed() < Duration::from_secs(60), "replays hang");
        sleep(Duration::from_millis(5));
    }
    let spent = cpu_time("shard-")?;
    let each = spent.as_secs_f64() * 1e6 / (REPLAYERS as u64 * stored) as f64;
    println!(
        "replays of {REPLAYERS} sockets, {stored} entries each, 256 KiB of tails: {:.1} s, {each:.2} us of shard CPU an entry",
        start.elapsed().as_secs_f64()
    );
    hub.shards.stop();
    Ok(())
}

/// Messages of 1 KiB from clients, in one frame and in eight.
fn fragments(runtime: &Runtime) -> anyhow::Result<()> {
    const MESSAGES: usize = 20;
    let hub = one_log(runtime, LogId::new())?;
    let mut expected = 0;
    for frames in [1, 8] {
        let spent = cpu_time("shard-")?;
        hub.readers.send(MESSAGES, frames)?;
        expected += (MESSAGES * SOCKETS) as u64;
        let start = Instant::now();
        while hub.shared.messages.load(Ordering::Relaxed) < expected {
            anyhow::ensure!(start.elapsed() < Duration::from_secs(30), "messages are missing");
            sleep(Duration::from_millis(1));
        }
        let each = (cpu_time("shard-")? - spent).as_secs_f64() * 1e6 / (MESSAGES * SOCKETS) as f64;
        println!("a message of 1 KiB from a client in {frames} frame(s): {each:.2} us of CPU");
    }
    hub.shards.stop();
    Ok(())
}

fn one_log(runtime: &Runtime, log: LogId) -> anyhow::Result<Hub> {
    Hub::start(runtime, Config::default(), MemoryLog::default(), SOCKETS, |_| vec![Place::live(log)])
}
