//! The commands of a connection that was let in: each is answered here or becomes one call of the domain.

use bowline_protocol::command::Command;
use bowline_protocol::wire::{self, server_frame::Kind as Push};
use bowline_protocol::{Code, Failure, LogId, Seq};

use super::action::{Action, Ask, Write, WriteKind};
use super::live::Live;
use super::{Context, early, fail, not_here, reply, topics};

pub(super) fn run(live: &mut Live, id: u64, command: Command, cx: &Context<'_>, out: &mut Vec<Action>) {
    let user = live.user();
    let ask = match command {
        Command::Connect { .. } => return fail(id, Code::OutOfOrder, out),
        Command::Ping => return reply(id, Push::Pong(wire::Pong {}), out),
        Command::Resume { cursors, more } => {
            return live.replay.resume(id, &live.identity, cursors, more, cx, out);
        }
        Command::Refresh { access_token } => Ask::Refresh { id, access_token },
        _ if !live.replay.is_named() => return fail(id, early("resume first"), out),
        Command::MarkRead { log, seq } => return mark_read(live, id, log, seq, cx, out),
        Command::Typing { log } => return typing(live, id, log, cx, out),
        Command::Change { log, client_id, change } => {
            return write(live, id, WriteKind::Change { log, client_id, change }, out);
        }
        Command::Create(create) => return write(live, id, WriteKind::Create(create), out),
        Command::Mute { log, client_id, muted } => {
            return write(live, id, WriteKind::Mute { log, client_id, muted }, out);
        }
        Command::Revoke { client_id, session } => {
            live.begin_revoking(id);
            return write(live, id, WriteKind::Revoke { client_id, session }, out);
        }
        Command::ChangePost { client_id, change } => {
            return write(live, id, WriteKind::Post { client_id, change }, out);
        }
        Command::ChangePeople { client_id, change } => {
            return write(live, id, WriteKind::People { client_id, change }, out);
        }
        Command::Open { .. } | Command::TopicSubscribe { .. } | Command::FeedSubscribe if !live.replay.follows() => {
            return fail(id, Code::OutOfOrder, out);
        }
        Command::Open { log, after_seq } => Ask::AttachOne { id: Some(id), user, log, after_seq },
        Command::Sessions => Ask::Sessions { id, identity: live.identity.clone() },
        Command::List { limit, after } => Ask::List { id, user, limit, after },
        Command::Members { log, limit, after } => Ask::Members { id, user, log, limit, after },
        Command::History { log, limit, place } => Ask::History { id, user, log, limit, place },
        Command::Posts(query) => Ask::Posts { id, user, query },
        Command::People(query) => Ask::People { id, user, query },
        Command::Feed(query) => Ask::Feed { id, user, query },
        Command::FeedSubscribe => {
            out.push(Action::WatchFeed { user });
            return reply(id, Push::Done(wire::Done {}), out);
        }
        Command::FeedUnsubscribe => {
            out.push(Action::LeaveFeed);
            return reply(id, Push::Done(wire::Done {}), out);
        }
        Command::TopicSubscribe { topic } => return topics::subscribe(live, id, topic, cx, out),
        Command::TopicUnsubscribe { topic } => return topics::unsubscribe(live, id, topic, cx, out),
        Command::TopicPublish { topic, body } => {
            out.push(Action::Publish { topic, sender: user, body });
            return reply(id, Push::Done(wire::Done {}), out);
        }
    };
    out.push(Action::Ask(ask));
}

fn write(live: &Live, id: u64, kind: WriteKind, out: &mut Vec<Action>) {
    out.push(Action::Write(Write { id, user: live.user(), kind }));
}

fn mark_read(live: &Live, id: u64, log: LogId, seq: Seq, cx: &Context<'_>, out: &mut Vec<Action>) {
    let Some(position) = (cx.position)(log) else { return fail(id, not_here(), out) };
    if seq > position {
        // Nobody can have read what was not yet sent to him here.
        let failure = Failure { limit: Some(position), ..Failure::invalid("mark_read.seq", "above the head") };
        return fail(id, failure, out);
    }
    out.push(Action::MarkRead { user: live.user(), log, seq });
    reply(id, Push::Done(wire::Done {}), out);
}

fn typing(live: &mut Live, id: u64, log: LogId, cx: &Context<'_>, out: &mut Vec<Action>) {
    if (cx.position)(log).is_none() {
        return fail(id, not_here(), out);
    }
    if live.may_type(cx) {
        let typing = wire::Typing { log_id: log.to_wire(), user_id: live.user().to_wire() };
        out.push(Action::Signal { log, frame: wire::ServerFrame { id: None, kind: Some(Push::Typing(typing)) } });
    }
    reply(id, Push::Done(wire::Done {}), out);
}
