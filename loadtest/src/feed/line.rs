//! A user's socket on which many things are asked at once, and on which pushes come meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use bowline_client::protocol::wire;
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::people::Who;
use crate::http::Refused;
use crate::raw::{RawSocket, Target};

/// A clone is the same socket; it is closed when the last one is dropped.
#[derive(Clone)]
pub(super) struct Line(mpsc::Sender<Question>);

struct Question {
    ask: Ask,
    answer: oneshot::Sender<(Push, Instant)>,
}

/// Questions that wait for the socket's task; who asks beyond it waits, and his time runs.
const QUESTIONS: usize = 256;
const ATTEMPTS: u32 = 5;
/// After the first attempt; longer after each further one.
const PAUSE: Duration = Duration::from_millis(200);

impl Line {
    /// Follows what its user follows when this returns. Tried again a few times: a server that is full closes connections. `pushed`
    /// is given what nobody asked for, in order.
    pub(super) async fn connect(
        target: &Target,
        who: &Who,
        patience: Duration,
        pushed: impl FnMut(Push) + Send + 'static,
    ) -> anyhow::Result<Self> {
        let mut attempt = 1;
        let socket = loop {
            match socket(target, who, patience).await {
                Ok(socket) => break socket,
                Err(error) if attempt == ATTEMPTS => return Err(error),
                Err(error) => tracing::debug!("{error:#}"),
            }
            tokio::time::sleep(PAUSE.mul_f64(f64::from(attempt) + rand::random::<f64>())).await;
            attempt += 1;
        };
        let (asks, asked) = mpsc::channel(QUESTIONS);
        tokio::spawn(serve(socket, asked, pushed));
        Ok(Self(asks))
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The reply, and when it was there.
    pub(super) async fn ask(&self, ask: Ask) -> Result<(Push, Instant), Refused> {
        let lost = || Refused::because("connection lost");
        let (answer, answered) = oneshot::channel();
        self.0.send(Question { ask, answer }).await.map_err(|_| lost())?;
        match answered.await.map_err(|_| lost())? {
            (Push::Error(error), _) => Err(error.into()),
            answer => Ok(answer),
        }
    }
}

async fn socket(target: &Target, who: &Who, patience: Duration) -> anyhow::Result<RawSocket> {
    let mut socket = RawSocket::connect(target, &who.token, patience).await?;
    timeout(patience, socket.resumed()).await.with_context(|| format!("not resumed within {patience:?}"))??;
    Ok(socket)
}

/// Until the connection ends, or nobody is left who could ask.
async fn serve(mut socket: RawSocket, mut asked: mpsc::Receiver<Question>, mut pushed: impl FnMut(Push) + Send) {
    let mut open: HashMap<u64, oneshot::Sender<(Push, Instant)>> = HashMap::new();
    loop {
        let read = tokio::select! {
            read = socket.read(|frame| answered(frame, &mut open, &mut pushed)) => read,
            question = asked.recv() => match question {
                Some(Question { ask, answer }) => {
                    open.insert(socket.ask(ask), answer);
                    Ok(())
                }
                None => return,
            },
        };
        if let Err(error) = read {
            tracing::debug!(%error, "a socket ended");
            return;
        }
    }
}

fn answered(
    frame: wire::ServerFrame,
    open: &mut HashMap<u64, oneshot::Sender<(Push, Instant)>>,
    pushed: &mut impl FnMut(Push),
) {
    let Some(kind) = frame.kind else { return };
    match frame.id {
        // Whoever asked may have given up.
        Some(id) => {
            if let Some(answer) = open.remove(&id) {
                let _ = answer.send((kind, Instant::now()));
            }
        }
        None => pushed(kind),
    }
}
