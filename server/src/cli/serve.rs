use std::net::SocketAddr;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::SourceArgs;
use super::run::{runtime, start_logging};
use crate::config::Config;
use crate::{api, app};

/// As a shell counts a process ended by ^C.
const INTERRUPTED: i32 = 130;

#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Serve although fsync, full_page_writes or synchronous_commit of the database is off
    #[arg(long)]
    allow_unsafe_database: bool,
}

/// Binds early, so that a taken port is known before anything starts, and serves until SIGTERM or ^C; a second one ends
/// the process at once.
pub fn serve(sources: &SourceArgs, args: &ServeArgs) -> anyhow::Result<()> {
    let config = sources.load(args.flags())?.config;
    start_logging(&config.logging)?;
    let listener = api::listen(&config.http).with_context(|| format!("listening on {}", config.http.listen))?;
    greet(&config, listener.local_addr()?);
    runtime()?.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (asked, shutdown) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            either(&mut terminate, &mut interrupt).await;
            tracing::info!("stopping; once more ends it at once");
            let _ = asked.send(());
            either(&mut terminate, &mut interrupt).await;
            std::process::exit(INTERRUPTED);
        });
        app::run(config, listener, async {
            let _ = shutdown.await;
        })
        .await
    })
}

impl ServeArgs {
    fn flags(&self) -> Vec<(String, String, &'static str)> {
        let listen = self.listen.map(|address| ("http.listen".to_owned(), address.to_string(), "--listen"));
        let allowed = ("database.allow_unsafe".to_owned(), "true".to_owned(), "--allow-unsafe-database");
        listen.into_iter().chain(self.allow_unsafe_database.then_some(allowed)).collect()
    }
}

async fn either(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn greet(config: &Config, address: SocketAddr) {
    println!("Bowline listens on http://{address}");
    if config.database.url.is_none() {
        println!("No DATABASE_URL: it runs a PostgreSQL of its own, whose files are kept from run to run.");
    }
    println!(
        "To make an account:\n  curl http://{address}/v1/accounts -H 'content-type: application/json' \\\n    \
         -d '{{\"username\":\"ada\",\"password\":\"correct horse battery staple\"}}'"
    );
    println!("To talk, once ben has one too:\n  bowline chat --url http://{address} --user ada --with ben");
}
