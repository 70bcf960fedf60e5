//! Which conversation: the one that was named, or the one with these people, made if there is none.

use std::collections::HashMap;

use anyhow::{Context, bail};
use bowline_client::accounts::Accounts;
use bowline_client::protocol::wire::{self, ConversationKind};
use bowline_client::protocol::{ClientId, Code, LogId, UserId};
use bowline_client::{Client, Error, NewConversation};
use uuid::Uuid;

/// What was asked for on the command line.
pub(super) struct Asked {
    pub(super) with: Vec<String>,
    pub(super) conversation: Option<LogId>,
    pub(super) history: u64,
}

/// Where the talk is, with what is needed to show it.
pub(super) struct Place {
    pub(super) log: LogId,
    pub(super) names: HashMap<UserId, String>,
    pub(super) history: wire::Messages,
}

/// Conversations that are looked through for a group of the same people.
const LISTED: u64 = 100;

pub(super) async fn find(
    asked: &Asked,
    client: &Client,
    accounts: &Accounts,
    token: &str,
    me: UserId,
) -> anyhow::Result<Place> {
    let mut names = HashMap::new();
    for name in &asked.with {
        let account = match accounts.find(token, name).await {
            Err(Error::Refused(failure)) if failure.code == Code::NotFound => {
                bail!("there is no account {name} on this server; {name} makes it with --register")
            }
            found => found.with_context(|| format!("looking for {name}"))?,
        };
        if account.user_id == me {
            bail!("{name} is you; name the others");
        }
        names.insert(account.user_id, account.username);
    }
    let log = match asked.conversation {
        Some(log) => log,
        None => with(client, &names, me).await.context("opening the conversation")?,
    };
    let history = history(client, log, asked.history).await?;
    Ok(Place { log, names, history })
}

/// The newest messages.
pub(super) async fn history(client: &Client, log: LogId, limit: u64) -> anyhow::Result<wire::Messages> {
    let history = wire::History { log_id: log.to_wire(), limit: limit.max(1), ..Default::default() };
    client.history(history).await.context("reading the history")
}

async fn with(client: &Client, names: &HashMap<UserId, String>, me: UserId) -> anyhow::Result<LogId> {
    let mut members: Vec<UserId> = names.keys().copied().collect();
    members.sort_unstable();
    let direct = members.len() == 1;
    // The same people always come to the same id, so that a group made twice by one of them is one.
    let everybody = group_id(members.iter().copied().chain([me]));
    let title = (!direct).then(|| format!("group {everybody}"));
    if title.is_some() {
        let listed = client.list(LISTED, None).await?;
        if let Some(head) = listed.items.iter().find(|head| head.title == title) {
            return LogId::from_wire(&head.log_id).context("a conversation without an id");
        }
    }
    let kind = if direct { ConversationKind::Direct } else { ConversationKind::Group };
    let made = client
        .create(NewConversation { client_id: ClientId(everybody), kind, title, members, history_visible: true })
        .await?;
    LogId::from_wire(&made.log_id).context("a conversation without an id")
}

fn group_id(people: impl Iterator<Item = UserId>) -> Uuid {
    let mut people: Vec<_> = people.collect();
    people.sort_unstable();
    let bytes: Vec<u8> = people.iter().flat_map(|user| user.0.into_bytes()).collect();
    Uuid::new_v5(&Uuid::NAMESPACE_OID, &bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_people_are_the_same_group_whoever_asks() {
        let [a, b, c] = [1, 2, 3].map(|n| UserId(Uuid::from_u128(n)));
        assert_eq!(group_id([a, b, c].into_iter()), group_id([c, a, b].into_iter()));
        assert_ne!(group_id([a, b, c].into_iter()), group_id([a, b].into_iter()));
    }
}
