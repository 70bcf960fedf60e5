use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_protocol::wire::{self, entry::Content};
use bowline_protocol::{Code, Failure, LogId};
use uuid::Uuid;

use super::batch::Batch;
use super::command::{Action, Command, Stored, refusal};
use super::content::content;
use super::queue::{Queue, SLOW};
use super::store::{self, Answer};
use super::{Committed, Shared};
use crate::deadline::Deadline;
use crate::storage::{Connection, Fault};

/// How often deadlines are looked at while the database does not answer.
const SWEEP: Duration = Duration::from_millis(100);

/// Stores what its queue holds, one statement at a time, and hands on what was committed before it answers the callers.
/// A caller that has gone changes nothing.
pub(super) struct Writer {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

/// Why a batch was not stored, as far as is known.
enum Refused {
    /// For something in it: its halves may fare better.
    Split(Failure),
    Whole(Failure),
}

impl Writer {
    pub(super) fn new(queue: Arc<Queue>, shared: Arc<Shared>) -> Self {
        Self { queue, shared, connection: None }
    }

    /// Until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        loop {
            while let Some(batch) = self.queue.try_take() {
                let number = batch.number;
                self.store(batch).await;
                self.queue.finished(number);
            }
            // Others may need it meanwhile: a pool may be as small as two.
            self.connection = None;
            if !self.queue.more().await {
                return;
            }
        }
    }

    /// A batch that fails for something in it is split in halves until the bad one stands alone.
    async fn store(&mut self, batch: Batch) {
        let mut pieces = vec![batch];
        while let Some(mut piece) = pieces.pop() {
            match self.attempt(&mut piece).await {
                Ok(answers) => self.commit(piece, answers),
                Err(Refused::Split(_)) if piece.inputs.len() > 1 => {
                    let second = piece.split();
                    pieces.extend([second, piece]);
                }
                Err(Refused::Split(failure) | Refused::Whole(failure)) => piece.refuse(&failure),
            }
        }
    }

    async fn attempt(&mut self, batch: &mut Batch) -> Result<Vec<Answer>, Refused> {
        let Some(deadline) = batch.latest() else { return Ok(Vec::new()) };
        let Self { queue, shared, connection } = self;
        let ready = ready(shared, connection.take(), deadline);
        let ready = watch(queue, batch, Code::DeadlineExceeded, ready).await.map_err(Refused::Whole)?;
        batch.forget_answered();
        let started = Instant::now();
        let inputs = std::mem::take(&mut batch.inputs);
        let statement = store::append(&ready, shared.epoch(), &inputs, deadline);
        let answers = watch(queue, batch, Code::OutcomeUnknown, statement).await;
        batch.inputs = inputs;
        match answers {
            Ok(answers) => {
                shared.metrics.batch(batch.inputs.len(), started.elapsed());
                *connection = Some(ready);
                Ok(answers)
            }
            Err(fault) => {
                let refused = refused(&fault);
                // One that was cut or is late is closed, and cancelled, by being dropped.
                if matches!(refused, Refused::Split(_)) {
                    *connection = Some(ready);
                } else {
                    tracing::warn!(%fault, commands = batch.inputs.len(), "a batch was not stored");
                }
                if batch.inputs.len() == 1 {
                    tracing::error!(%fault, log = %batch.inputs[0].command.log, "a command can't be stored");
                }
                Err(refused)
            }
        }
    }

    fn commit(&self, batch: Batch, answers: Vec<Answer>) {
        let mut committed = Logs::default();
        let mut outcomes: Vec<Option<Result<Stored, Failure>>> = batch.inputs.iter().map(|_| None).collect();
        let mut commands: Vec<Option<Command>> = batch.inputs.into_iter().map(|input| Some(input.command)).collect();
        let (caused, own): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.caused.is_some());
        for answer in caused {
            let Some(Some(command)) = commands.get(answer.ord) else { continue };
            let Some((log, client_id)) = answer.caused else { continue };
            let content = content(answer.kind, 0, None, answer.attrs.clone());
            committed.add(log, entry(command, client_id, &answer, content));
        }
        for mut answer in own {
            let Some(command) = commands.get_mut(answer.ord).and_then(Option::take) else { continue };
            outcomes[answer.ord] = Some(outcome(&command, &answer));
            if answer.outcome == 0 {
                let attrs = std::mem::take(&mut answer.attrs);
                let mut entry = entry(&command, command.client_id.0, &answer, None);
                entry.content = own_content(command.action, answer.kind, attrs);
                committed.add(command.log, entry);
            }
        }
        let mut waiting = batch.callers.into_iter().zip(outcomes);
        let mut answer = || {
            for (caller, outcome) in waiting.by_ref() {
                if let Some(caller) = caller {
                    // `append` has a row for each; one that is missing is no proof of anything.
                    (caller.done)(outcome.unwrap_or_else(|| Err(Code::OutcomeUnknown.into())));
                }
            }
        };
        (self.shared.sink)(&committed.in_order(), &mut answer);
        answer();
    }
}

/// A connection that is well, and a node that knows its epoch.
async fn ready(shared: &Shared, kept: Option<Connection>, deadline: Deadline) -> Result<Connection, Failure> {
    let connection = match kept.filter(|connection| !connection.is_closed()) {
        Some(connection) => connection,
        None => shared.pool.get(deadline).await?,
    };
    if shared.epoch() == 0 {
        let epoch = store::current_epoch(&connection, deadline).await.map_err(|fault| fault.read())?;
        shared.learn_epoch(epoch);
    }
    Ok(connection)
}

/// Waits for `work`. Whoever's deadline passes meanwhile is told `code`; one that still stands in the queue, that nothing
/// was stored.
async fn watch<T>(queue: &Queue, batch: &mut Batch, code: Code, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut look = Deadline::after(SLOW);
    loop {
        let next = batch.earliest().map_or(look, |earliest| earliest.min(look));
        tokio::select! {
            biased;
            outcome = &mut work => return outcome,
            () = tokio::time::sleep_until(next.instant().into()) => {
                batch.expire(code);
                queue.expire();
                queue.let_another_start();
                look = Deadline::after(SWEEP);
            }
        }
    }
}

fn refused(fault: &Fault) -> Refused {
    let Fault::Refused(error) = fault else { return Refused::Whole(fault.write()) };
    match error.code().map(|state| &state.code()[..2]) {
        // Data that PostgreSQL can't take.
        Some("22") | None => Refused::Split(Failure::invalid("body", "holds what can't be stored")),
        // A constraint, a limit of the server, or an error raised by a trigger of an operator.
        Some("23" | "54" | "P0") => Refused::Split(Code::Internal.into()),
        Some(_) => Refused::Whole(fault.write()),
    }
}

fn outcome(command: &Command, answer: &Answer) -> Result<Stored, Failure> {
    if let Some(failure) = refusal(&command.action, answer.outcome, answer.version) {
        return Err(failure);
    }
    let made = match &command.action {
        Action::Social(social) => social.made(&answer.attrs),
        _ => None,
    };
    let creates = matches!(command.action, Action::CreateConversation { .. });
    let conversation = answer.attrs.conversation.filter(|_| creates).map(LogId);
    Ok(Stored {
        log: command.log,
        seq: answer.seq,
        message_no: answer.message_no,
        version: answer.seq,
        created_at_ms: answer.created_at_ms,
        repeat: answer.outcome == 1,
        conversation: conversation.map(|id| (id, answer.attrs.conversation_seq.unwrap_or_default())),
        made,
    })
}

fn entry(command: &Command, client_id: Uuid, answer: &Answer, content: Option<Content>) -> wire::Entry {
    wire::Entry {
        seq: answer.seq,
        message_no: answer.message_no,
        version: answer.seq,
        created_at_ms: answer.created_at_ms,
        sender_id: command.sender.to_wire(),
        sender_kind: command.sender_kind.into(),
        client_id: client_id.as_bytes().to_vec(),
        content,
    }
}

/// An entry that was stored just now is its message's newest fact.
fn own_content(action: Action, kind: i16, attrs: super::content::Attrs) -> Option<Content> {
    let target = action.target_seq().unwrap_or_default();
    Some(match action {
        Action::Message(message) => {
            let body = Some(message.body.unwrap_or_default());
            Content::Message(wire::Message { body, deleted: false, ..message })
        }
        Action::Edit { body, .. } => Content::Edited(wire::Edited { target_seq: target, body: Some(body) }),
        Action::Delete { .. } => Content::Deleted(wire::Deleted { target_seq: target }),
        Action::React { emoji, .. } => Content::Reacted(wire::Reacted { target_seq: target, emoji }),
        Action::Unreact { emoji, .. } => Content::Unreacted(wire::Reacted { target_seq: target, emoji }),
        Action::Social(social) => return content(kind, 0, social.body().map(str::to_owned), attrs),
        _ => return content(kind, 0, None, attrs),
    })
}

/// What a batch stored, by log, in the order in which the logs came.
#[derive(Default)]
struct Logs {
    all: Vec<Committed>,
    at: HashMap<LogId, usize>,
}

impl Logs {
    fn add(&mut self, log: LogId, entry: wire::Entry) {
        let at = *self.at.entry(log).or_insert_with(|| {
            self.all.push(Committed { log, entries: Vec::new() });
            self.all.len() - 1
        });
        self.all[at].entries.push(entry);
    }

    fn in_order(mut self) -> Vec<Committed> {
        for committed in &mut self.all {
            committed.entries.sort_by_key(|entry| entry.seq);
        }
        self.all
    }
}
