//! Durable changes: a command becomes one of the log's, and what was stored the frame that answers it.

use bowline_protocol::command::{Change, Create};
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{ClientId, Failure, LogId, UserId};

use super::reads::Reads;
use crate::deadline::Deadline;
use crate::log::{Action, Command, Log, Stored};

/// Who orders a change, of what, under which id.
#[derive(Clone, Copy)]
pub(super) struct Order {
    pub(super) user: UserId,
    pub(super) log: LogId,
    pub(super) client_id: ClientId,
}

pub(super) fn change(
    log: &Log,
    reads: &Reads,
    order: Order,
    change: Change,
    deadline: Deadline,
    done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
) {
    let is_message = matches!(change, Change::Send(_));
    let reads = reads.clone();
    let answer = move |result: Result<Stored, Failure>| {
        done(result.map(|stored| {
            if is_message {
                // Who says something has read what was said before it.
                reads.sent(order.user, order.log, stored.seq, stored.message_no);
                Push::Sent(stored.to_wire())
            } else {
                Push::Stored(stored.to_wire())
            }
        }));
    };
    log.append(order.command(action(change)), deadline, Box::new(answer));
}

pub(super) fn create(
    log: &Log,
    user: UserId,
    create: Create,
    deadline: Deadline,
    done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
) {
    let conversation = LogId::new();
    let (kind, title) = (create.kind, create.title.clone());
    let answer = move |result: Result<Stored, Failure>| {
        done(result.map(|stored| {
            let (log, seq) = stored.conversation.unwrap_or((conversation, 0));
            Push::Conversation(wire::Conversation {
                log_id: log.to_wire(),
                kind: kind as i32,
                title,
                seq,
                existed: stored.repeat,
            })
        }));
    };
    let action = Action::CreateConversation {
        conversation,
        kind,
        title: create.title,
        members: create.users,
        history_visible: create.history_visible,
    };
    let order = Order { user, log: user.log(), client_id: create.client_id };
    log.append(order.command(action), deadline, Box::new(answer));
}

pub(super) fn mute(
    log: &Log,
    order: Order,
    muted: bool,
    deadline: Deadline,
    done: impl FnOnce(Result<Push, Failure>) + Send + 'static,
) {
    let own = Order { log: order.user.log(), ..order };
    let answer = move |result: Result<Stored, Failure>| done(result.map(|stored| Push::Stored(stored.to_wire())));
    log.append(own.command(Action::Mute { conversation: order.log, muted }), deadline, Box::new(answer));
}

impl Order {
    fn command(self, action: Action) -> Command {
        Command {
            log: self.log,
            sender: self.user,
            sender_kind: wire::SenderKind::User,
            client_id: self.client_id,
            action,
        }
    }
}

fn action(change: Change) -> Action {
    match change {
        Change::Send(message) => Action::Message(message),
        Change::Edit { target_seq, version, body } => Action::Edit { target_seq, version, body },
        Change::Delete { target_seq } => Action::Delete { target_seq },
        Change::React { target_seq, emoji } => Action::React { target_seq, emoji },
        Change::Unreact { target_seq, emoji } => Action::Unreact { target_seq, emoji },
        Change::Rename { title } => Action::Rename(title),
        Change::Add { users } => Action::AddMembers(users),
        Change::Remove { user } => Action::RemoveMember(user),
        Change::Leave => Action::Leave,
        Change::SetRole { user, role } => Action::SetRole { user, role },
    }
}
