//! Makes the conversations of a fleet, with all their members, of whom none is there yet.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bowline_client::protocol::wire::client_frame::Kind as Ask;
use bowline_client::protocol::wire::server_frame::Kind as Push;
use bowline_client::protocol::{ClientId, LogId, UserId, wire};
use tokio::task::JoinSet;

use super::order::Plan;
use super::shared::{publisher_name, reader_name};
use crate::people::Minting;
use crate::progress::Progress;
use crate::raw::{RawSocket, Target};

/// What a server lets one command name.
const MEMBERS: usize = 1_000;
const ATTEMPTS: u32 = 100;

/// The conversations by number. Each is made by who will publish to it.
pub(crate) async fn found(plan: &Plan) -> anyhow::Result<Vec<LogId>> {
    let minting = Minting::of(&plan.identity);
    let mut shares: Vec<Vec<(u32, Vec<UserId>)>> = vec![Vec::new(); plan.publishers as usize];
    for (target, members) in (0..).zip(plan.seats.members()) {
        let users = members.into_iter().map(|reader| minting.user(&reader_name(reader))).collect();
        shares[plan.publisher_of(target) as usize].push((target, users));
    }
    let mut founders = JoinSet::new();
    let (made, mut told) = tokio::sync::mpsc::channel(64);
    for (publisher, share) in (0..).zip(shares) {
        let server = &plan.servers[publisher as usize % plan.servers.len()];
        let target = Target::resolve(&format!("http://{}", server.authority)).await?;
        let token = minting.token(minting.user(&publisher_name(publisher)))?;
        let (made, patience) = (made.clone(), plan.connect_timeout);
        founders.spawn(async move {
            let mut socket = RawSocket::connect(&target, &token, patience).await?;
            for (target, users) in share {
                let log = create(&mut socket, &users).await.context("making the conversations")?;
                // Whoever counted them has failed, and says so.
                let _ = made.send((target, log)).await;
            }
            anyhow::Ok(())
        });
    }
    drop(made);
    let all = plan.seats.all_targets();
    let (mut logs, mut count) = (vec![None; all as usize], 0);
    let mut progress = Progress::new(u64::from(all));
    while let Some((target, log)) = told.recv().await {
        logs[target as usize] = Some(log);
        count += 1;
        progress.tell(count, || format!("{count} conversations made"));
    }
    progress.end();
    while let Some(founder) = founders.join_next().await {
        founder??;
    }
    logs.into_iter().collect::<Option<Vec<_>>>().context("a conversation was not made")
}

async fn create(socket: &mut RawSocket, users: &[UserId]) -> anyhow::Result<LogId> {
    let mut chunks = users.chunks(MEMBERS).map(|users| users.iter().map(|user| user.to_wire()).collect::<Vec<_>>());
    let create = wire::ConversationCreate {
        client_id: ClientId::new().to_wire(),
        user_ids: chunks.next().unwrap_or_default(),
        ..Default::default()
    };
    let log_id = match ask(socket, Ask::ConversationCreate(create)).await? {
        Push::Conversation(made) => made.log_id,
        _ => bail!("another reply"),
    };
    for user_ids in chunks {
        let add = wire::ConversationAdd { log_id: log_id.clone(), client_id: ClientId::new().to_wire(), user_ids };
        ask(socket, Ask::ConversationAdd(add)).await?;
    }
    LogId::from_wire(&log_id).context("a conversation without an id")
}

/// The reply to a durable command, which a server that is full is asked for again.
async fn ask(socket: &mut RawSocket, command: Ask) -> anyhow::Result<Push> {
    for _ in 0..ATTEMPTS {
        let id = socket.ask(command.clone());
        match socket.answer(id).await? {
            Push::Error(wire::Error { retry_after_ms: Some(ms), .. }) => {
                let pause = Duration::from_millis(ms).mul_f64(1.0 + rand::random::<f64>());
                tokio::time::sleep(pause).await;
            }
            Push::Error(error) => bail!("{}: {}", error.name, error.message),
            reply => return Ok(reply),
        }
    }
    bail!("refused {ATTEMPTS} times")
}
