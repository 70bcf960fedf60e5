//! What every scenario with a fleet is told.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use serde::Serialize;
use uuid::Uuid;

use super::clock;
use super::order::{Identity, Pace, Plan, Server, Stream};
use super::seats::Seats;
use crate::options::{Common, duration};

#[derive(clap::Args)]
pub(crate) struct FleetOptions {
    /// Processes that hold the sockets; 0: this one, or as many as descriptors ask for
    #[arg(short = 'w', long, default_value_t = 0, value_name = "N")]
    pub(crate) workers: u32,
    /// Connects begun a second; 0: as fast as the server takes them
    #[arg(long, default_value_t = 0.0, value_name = "R")]
    connect_rate: f64,
    /// The sockets connect evenly over this time
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "connect_rate")]
    ramp: Option<Duration>,
    /// Connects under way at a time
    #[arg(long, default_value_t = 256, value_name = "N")]
    handshakes: u32,
    /// Sockets that send
    #[arg(long, default_value_t = 8, value_name = "N")]
    publishers: u32,
    #[arg(long, value_enum, default_value = "proto")]
    codec: CodecArg,
    /// SO_RCVBUF of the sockets that read
    #[arg(long, value_name = "BYTES")]
    rcvbuf: Option<u32>,
}

/// Who follows what, of the scenarios on conversations; told in their results by the same names.
#[derive(clap::Args, Clone, Copy, Serialize)]
pub(crate) struct Following {
    /// Sockets, each of a user of its own
    #[arg(short = 'c', long = "connections", alias = "sockets", default_value_t = 10_000, value_name = "N")]
    pub(crate) sockets: u32,
    /// Conversations that each of them follows
    #[arg(long, default_value_t = 5, value_name = "F")]
    pub(crate) follow: u32,
    /// Conversations in all
    #[arg(long, default_value_t = 1_000, value_name = "C")]
    pub(crate) conversations: u32,
}

impl Following {
    pub(crate) fn check(self) -> anyhow::Result<()> {
        ensure!(self.sockets > 0 && self.conversations > 0, "--connections and --conversations: at least 1");
        ensure!(self.follow > 0 && self.follow <= self.conversations, "--follow: from 1 to --conversations");
        Ok(())
    }

    pub(crate) fn seats(self) -> Seats {
        Seats { sockets: self.sockets, follow: self.follow, targets: self.conversations, beside: 0 }
    }
}

impl fmt::Display for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sockets, follow, conversations } = self;
        write!(f, "{sockets}, each following {follow} of {conversations} conversations")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CodecArg {
    Proto,
    Json,
}

impl FleetOptions {
    /// A topic is at one server, so each server needs as many publishers as any other. Beside has a publisher of its own,
    /// the last one.
    pub(crate) fn plan(&self, common: &Common, seats: Seats, topics: bool) -> anyhow::Result<Plan> {
        ensure!(self.connect_rate >= 0.0 && self.connect_rate.is_finite(), "--connect-rate: 0 or more");
        ensure!(self.handshakes > 0 && self.publishers > 0, "--handshakes and --publishers: at least 1");
        ensure!(seats.readers() > 0 && seats.targets > 0, "no readers");
        let secret = common.token_secret.clone().context("--token-secret is needed: tokens are minted here")?;
        let servers = common.urls.iter().map(|url| server(url)).collect::<anyhow::Result<Vec<_>>>()?;
        let spread = servers.len() as u32;
        let publishers = self.publishers.min(seats.targets).next_multiple_of(spread);
        Ok(Plan {
            servers,
            identity: Identity {
                secret,
                issuer: common.issuer.clone(),
                audience: common.audience.clone(),
                run: Uuid::new_v4(),
            },
            json: self.codec == CodecArg::Json,
            topics,
            seats,
            first: 0,
            count: seats.readers(),
            publishers: publishers + u32::from(seats.beside > 0),
            connect_rate: self
                .ramp
                .map_or(self.connect_rate, |ramp| f64::from(seats.readers()) / ramp.as_secs_f64().max(1e-3)),
            handshakes: self.handshakes,
            connect_timeout: common.connect_timeout,
            receive_buffer: self.rcvbuf,
            until_ns: clock::now_ns() + clock::ns(common.timeout + Duration::from_secs(5)),
        })
    }
}

fn server(url: &str) -> anyhow::Result<Server> {
    let authority = url.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
    let resolved = authority.to_socket_addrs().with_context(|| format!("{url}: http://host:port is expected"))?;
    let address: Option<SocketAddr> = resolved.into_iter().next();
    Ok(Server { address: address.with_context(|| format!("{url}: no such host"))?, authority: authority.to_owned() })
}

impl Plan {
    /// Targets that the same readers follow have the same publisher: two would wait for each other when they add them.
    fn neighbours(&self) -> u32 {
        self.seats.follow.max(1)
    }

    /// Publishers of all targets but the one beside.
    fn main_publishers(&self) -> u32 {
        self.publishers - u32::from(self.seats.beside > 0)
    }

    /// Who publishes to a target, and is the owner of its conversation.
    pub(crate) fn publisher_of(&self, target: u32) -> u32 {
        match target == self.seats.targets {
            true => self.publishers - 1,
            false => target / self.neighbours() % self.main_publishers(),
        }
    }

    /// Messages a second to all targets but the one beside, for so long.
    pub(crate) fn stream(&self, rate: f64, duration: Duration, bytes: usize) -> Stream {
        self.main(Pace::PerSecond(rate), (rate * duration.as_secs_f64()).round() as u64, bytes)
    }

    /// So many messages to each target but the one beside, as fast as they are acked.
    pub(crate) fn burst(&self, each: u32, window: u32, bytes: usize) -> Stream {
        self.main(Pace::Window(window), u64::from(each) * u64::from(self.seats.targets), bytes)
    }

    /// Messages a second to the target beside.
    pub(crate) fn stream_beside(&self, rate: f64, duration: Duration, bytes: usize) -> Stream {
        Stream {
            first_target: self.seats.targets,
            targets: 1,
            first_publisher: self.publishers - 1,
            publishers: 1,
            ..self.stream(rate, duration, bytes)
        }
    }

    fn main(&self, pace: Pace, messages: u64, bytes: usize) -> Stream {
        Stream {
            first_target: 0,
            targets: self.seats.targets,
            first_publisher: 0,
            publishers: self.main_publishers(),
            neighbours: self.neighbours(),
            pace,
            messages,
            bytes,
        }
    }
}
