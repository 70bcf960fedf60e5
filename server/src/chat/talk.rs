//! The loop of the terminal client: events to the screen, typed lines to the client.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::bail;
use bowline_client::accounts::Accounts;
use bowline_client::protocol::{LogId, Seq, wire};
use bowline_client::{Client, Error, Event, Events, Sending};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::login::Me;
use super::place::{self, Asked, Place};
use super::screen::Screen;
use super::typed;

pub(super) struct Talk {
    client: Client,
    events: Events,
    screen: Screen,
    /// Whether the user was told that the connection is lost.
    away: bool,
    /// The newest entry of what was typed, once stored.
    stored_seq: Seq,
    sending: JoinSet<Result<wire::Stored, Error>>,
}

/// When the input has ended, what was typed gets this long to be stored.
const FAREWELL: Duration = Duration::from_secs(10);
/// Entries that come before it is known which conversation is shown; the history has those that are dropped.
const EARLY: usize = 1_000;

impl Talk {
    pub(super) fn new(client: Client, events: Events, screen: Screen) -> Self {
        Self { client, events, screen, away: false, stored_seq: 0, sending: JoinSet::new() }
    }

    /// Talks until the input ends.
    pub(super) async fn run(mut self, asked: Asked, accounts: &Accounts, me: &Me) -> anyhow::Result<()> {
        let log = self.arrive(&asked, accounts, me).await?;
        let mut typed = typed::lines();
        let mut leave_by = None;
        loop {
            tokio::select! {
                event = self.events.next() => self.event(event, log, &asked).await?,
                line = next_line(&mut typed, leave_by.is_some()) => match line {
                    Some(line) => self.say(log, &line).await?,
                    None => leave_by = Some(Instant::now() + FAREWELL),
                },
                Some(sent) = self.sending.join_next() => self.sent(sent?),
                () = sleep_until(leave_by.unwrap_or_else(Instant::now)), if leave_by.is_some() => break,
            }
            if leave_by.is_some() && self.sending.is_empty() && self.screen.has_reached(self.stored_seq) {
                break;
            }
        }
        if !self.sending.is_empty() {
            self.screen.note(&format!("{} lines are kept, and sent next time", self.sending.len()));
        }
        Ok(())
    }

    /// Finds the conversation and shows its history. Events are taken meanwhile, since the answers come behind them.
    async fn arrive(&mut self, asked: &Asked, accounts: &Accounts, me: &Me) -> anyhow::Result<LogId> {
        let (token, _) = me.latest();
        let client = self.client.clone();
        let finding = place::find(asked, &client, accounts, &token, me.user);
        tokio::pin!(finding);
        let mut early = VecDeque::new();
        let Place { log, names, history } = loop {
            tokio::select! {
                found = &mut finding => break found?,
                event = self.events.next() => match event {
                    Some(Event::Entry { log, entry }) => {
                        early.push_back((log, entry));
                        early.drain(..early.len().saturating_sub(EARLY));
                    }
                    event => self.link(event)?,
                },
            }
        };
        self.screen.know(names);
        self.screen.note(&format!("conversation {log}"));
        self.screen.history(&history);
        for (_, entry) in early.iter().filter(|(l, _)| *l == log) {
            self.screen.entry(entry);
        }
        Ok(log)
    }

    async fn event(&mut self, event: Option<Event>, here: LogId, asked: &Asked) -> anyhow::Result<()> {
        match event {
            Some(Event::Entry { log, entry }) if log == here => {
                self.screen.entry(&entry);
                let _ = self.client.mark_read(here, entry.seq).await;
            }
            Some(Event::Gap { log, after_seq, head }) if log == here => {
                self.screen.note(&format!("{} entries were skipped; the newest follow", head - after_seq));
                self.newest(here, asked).await?;
            }
            Some(Event::Reset { log, first_unsure_seq, .. }) if log == here => {
                self.screen.note("the server was restored; what was said last may be missing");
                self.screen.reset(first_unsure_seq);
            }
            Some(Event::NotFound { log }) if log == here => bail!("the conversation is not there for you any more"),
            event => self.link(event)?,
        }
        Ok(())
    }

    /// How the connection is doing.
    fn link(&mut self, event: Option<Event>) -> anyhow::Result<()> {
        match event {
            None => bail!("the client has ended"),
            Some(Event::Disconnected { why, retry_in: None }) => bail!("{why}"),
            Some(Event::Disconnected { why, .. }) if !self.away => {
                self.away = true;
                self.screen.note(&format!("connection lost ({why}); reconnecting"));
            }
            Some(Event::Connected { .. }) if std::mem::take(&mut self.away) => self.screen.note("back"),
            Some(Event::Notice(text)) => self.screen.note(&text),
            Some(Event::Refused { failure, .. }) => self.screen.note(&format!("not sent: {failure}")),
            Some(_) => {}
        }
        Ok(())
    }

    /// Reads the newest messages, and takes events meanwhile.
    async fn newest(&mut self, log: LogId, asked: &Asked) -> anyhow::Result<()> {
        let client = self.client.clone();
        let reading = place::history(&client, log, asked.history);
        tokio::pin!(reading);
        let history = loop {
            tokio::select! {
                history = &mut reading => break history?,
                event = self.events.next() => match event {
                    Some(Event::Entry { log: l, entry }) if l == log => self.screen.entry(&entry),
                    event => self.link(event)?,
                },
            }
        };
        self.screen.history(&history);
        Ok(())
    }

    async fn say(&mut self, log: LogId, line: &str) -> anyhow::Result<()> {
        self.screen.take_back_typed();
        let sending: Sending = self.client.send(log, line).await?;
        if self.away {
            self.screen.note(&format!("kept until the connection is back: {line}"));
        }
        self.sending.spawn(sending);
        Ok(())
    }

    fn sent(&mut self, outcome: Result<wire::Stored, Error>) {
        match outcome {
            Ok(stored) => self.stored_seq = self.stored_seq.max(stored.seq),
            // Told by its event.
            Err(Error::Refused(_)) => {}
            Err(error) => self.screen.note(&format!("not sent: {error}")),
        }
    }
}

/// The next line; after the end of the input, never.
async fn next_line(typed: &mut mpsc::Receiver<String>, ended: bool) -> Option<String> {
    if ended { std::future::pending().await } else { typed.recv().await }
}
