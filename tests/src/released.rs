//! What release 0.1.0 shipped where today's library ships other sessions: CME_CRYPTO without the pause on Saturdays.

use crate::cluster::{self, Database};
use crate::root;
use anyhow::{Context, Result};
use market::Calendar;
use tokio_postgres::Client;

/// The calendar's file.
///
/// # Errors
/// A file that is gone.
pub fn crypto() -> Result<String> {
    let file = root().join("sql/released/0.1.0/calendars/CME_CRYPTO.toml");
    std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))
}

/// The calendar, and a database in which it is in force, as the upgrade from that release leaves it.
///
/// # Errors
/// If the cluster cannot be started; what the server says.
pub async fn crypto_in_force(name: &str) -> Result<(Database, Client, Calendar)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    let file = "INSERT INTO market.calendar_versions (calendar, version, state, toml, aliases, published_at)
                VALUES ('CME_CRYPTO', 1, 'published', $1, '{CME_Bitcoin}', now())";
    client.execute(file, &[&crypto()?]).await?;
    Ok((database, client, Calendar::from_toml(&crypto()?)?))
}
