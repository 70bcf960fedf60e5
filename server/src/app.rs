//! The composition root: builds every part, connects them, starts, drains.

use std::net::TcpListener;

use anyhow::bail;

use crate::config::Config;
use crate::storage::Storage;

/// Serves until `shutdown` completes; an error if the embedded database ends before that, since nothing can be stored then.
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let storage = Storage::open(&config.database).await?;
    println!("ready");
    let died = storage.died();
    tokio::select! {
        () = shutdown => {}
        how = died => bail!("{how}"),
    }
    drop(listener);
    storage.close().await;
    Ok(())
}
