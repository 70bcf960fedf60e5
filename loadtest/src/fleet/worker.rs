//! A worker: an engine in a thread of this process, or in a process of its own that is told what to do by lines on its input
//! and answers by lines on its output. A process ends when its input does, so none outlives who started it.

use std::io::{BufRead as _, Write as _};
use std::process::Stdio;
use std::thread;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use super::engine::Engine;
use super::machine;
use super::order::{Order, Plan, Report};
use crate::Outcome;

/// The name of the subcommand.
pub(crate) const SUBCOMMAND: &str = "worker";
/// Orders that wait for a worker; whoever gives more waits.
const ORDERS: usize = 16;
/// Answers that wait to be taken; a worker with more waits.
const ANSWERS: usize = 64;

/// Where a worker takes its orders and gives its answers.
pub(crate) struct Worker {
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) answers: mpsc::Receiver<Report>,
    /// Killed with this value, if it has not ended by itself.
    pub(crate) child: Option<Child>,
}

impl Worker {
    /// In a thread of this process. It ends when its orders do.
    pub(crate) fn here(plan: Plan) -> anyhow::Result<Self> {
        let (engine, to_engine) = Engine::new(plan)?;
        let (orders, mut taken) = mpsc::channel(ORDERS);
        let (given, answers) = mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            while let Some(order) = taken.recv().await {
                to_engine.give(order);
            }
            to_engine.give(Order::End);
        });
        thread::spawn(move || engine.run(|report| given.blocking_send(report).is_ok()));
        Ok(Self { orders, answers, child: None })
    }

    /// In a process of its own.
    pub(crate) fn apart(plan: Plan) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("this program's own file")?;
        let mut child = Command::new(program)
            .arg(SUBCOMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a worker")?;
        let (mut input, output) =
            (child.stdin.take().context("its input")?, child.stdout.take().context("its output")?);
        let (orders, mut taken) = mpsc::channel(ORDERS);
        let (given, answers) = mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            let mut next = Some(Order::Plan(Box::new(plan)));
            while let Some(order) = next {
                let Ok(mut line) = serde_json::to_vec(&order) else { return };
                line.push(b'\n');
                if input.write_all(&line).await.is_err() {
                    return;
                }
                next = taken.recv().await;
            }
        });
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let report = serde_json::from_str(&line).unwrap_or_else(|error| Report {
                    failed: Some(format!("a worker's answer: {error}")),
                    ..Report::default()
                });
                if given.send(report).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { orders, answers, child: Some(child) })
    }
}

/// The subcommand: what [`Worker::apart`] starts.
pub(crate) fn run() -> anyhow::Result<Outcome> {
    machine::room_for_sockets()?;
    let mut first = String::new();
    std::io::stdin().read_line(&mut first)?;
    let Order::Plan(plan) = serde_json::from_str(&first).context("the plan")? else { bail!("the plan comes first") };
    let (engine, orders) = Engine::new(*plan)?;
    // Ends with its input, and the engine with it.
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else { break };
            orders.give(order);
        }
        orders.give(Order::End);
    });
    let mut out = std::io::stdout().lock();
    engine.run(|report| {
        let written = serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from);
        written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).is_ok()
    });
    Ok(Outcome::Good)
}
