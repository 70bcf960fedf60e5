//! What the hub does beside plain fan-out, each with its cost.

use std::sync::atomic::Ordering;
use std::thread::sleep;

use super::follower::Turn;
use super::*;

/// A replay's log: entries, and how many logs there are of them.
const STORED: (Seq, usize) = (2_000, 8);
const REPLAYERS: usize = 500;
const SMALL: usize = 100;
const TURNS_A_SECOND: u32 = 2_000;

pub(crate) fn all(runtime: &Runtime, rounds: u64, time: Duration) -> anyhow::Result<()> {
    past_one_write_a_frame(runtime, time)?;
    small_windows(runtime, time)?;
    joins_and_leaves(runtime, rounds, time)?;
    heartbeats(runtime, time)?;
    behind_the_tail(runtime)?;
    fragments(runtime)?;
    for (topics, rate) in [(1, 200), (1_000, 2_000)] {
        compare(runtime, 2, topics, rate, rounds, time)?;
    }
    Ok(())
}

/// More messages than one write each could carry.
fn past_one_write_a_frame(runtime: &Runtime, time: Duration) -> anyhow::Result<()> {
    let log = LogId::new();
    let hub = one_log(runtime, log, 0)?;
    let spent = cpu_time("shard-")?;
    let sent = paced(500, time, |n| hub.shards.publish(log, &[entry(n + 1)]));
    let due = sent * SOCKETS as u64;
    hub.readers.wait_for(due)?;
    let rate = due as f64 / (cpu_time("shard-")? - spent).as_secs_f64();
    println!("1 topic x {SOCKETS}, 500 messages/s: {rate:.0} deliveries a CPU-second, {}", hub.readers.times()?);
    hub.shards.stop();
    Ok(())
}

/// Some readers have windows of 4 KiB, and stop for a while; how the others fare.
fn small_windows(runtime: &Runtime, time: Duration) -> anyhow::Result<()> {
    let log = LogId::new();
    let hub = one_log(runtime, log, SMALL)?;
    let mut sent = 0;
    for what in ["all read", "stopped", "catching up", "afterwards"] {
        match what {
            "stopped" => hub.readers.stop()?,
            "catching up" => hub.readers.go_on()?,
            _ => {}
        }
        let spent = cpu_time("shard-")?;
        let before = sent;
        sent += paced(200, time, |n| hub.shards.publish(log, &[entry(before + n + 1)]));
        let spent = (cpu_time("shard-")? - spent).as_secs_f64() / time.as_secs_f64();
        println!("{SMALL} of {SOCKETS} with 4 KiB, {what}: others {}, {spent:.2} CPU", hub.readers.times()?);
    }
    hub.readers.wait_for(sent * SOCKETS as u64)?;
    hub.shards.stop();
    Ok(())
}

/// Sockets leave the log and come back to where they were while it flows; nothing is lost.
fn joins_and_leaves(runtime: &Runtime, rounds: u64, time: Duration) -> anyhow::Result<()> {
    let log = LogId::new();
    let hub = one_log(runtime, log, 0)?;
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
    let hub =
        Hub::start(runtime, config, MemoryLog::default(), [IDLE_SOCKETS, 0], |_| vec![Place::live(LogId::new())])?;
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
    let hub = Hub::start(runtime, config, source, [REPLAYERS, 0], |socket| {
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
    let hub = one_log(runtime, LogId::new(), 0)?;
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

fn one_log(runtime: &Runtime, log: LogId, small: usize) -> anyhow::Result<Hub> {
    Hub::start(runtime, Config::default(), MemoryLog::default(), [SOCKETS, small], |_| vec![Place::live(log)])
}
