//! The epoch of the database, raised by an operator after a restore.

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection as _, PgConnection};

/// Begins the next epoch where every log ends now, and returns it. Clients learn what they hold that may not be in the
/// restored database, and drop it.
pub async fn bump(url: &SecretString) -> anyhow::Result<i64> {
    let mut connection = PgConnection::connect(url.expose_secret()).await.context("connecting to the database")?;
    let (epoch,): (i64,) =
        sqlx::query_as("SELECT bump_epoch()").fetch_one(&mut connection).await.context("raising the epoch")?;
    connection.close().await?;
    Ok(epoch)
}
