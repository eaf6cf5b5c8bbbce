//! A statement that its user gives up ends on the server, too.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use tests::cluster::{self, Database, until};
use tests::store::texts;
use tokio_postgres::Client;

/// A table that is ready in ten minutes.
const SLOW: &str = "CREATE VIEW market.slow AS SELECT pg_sleep(600)::text AS slept";
const RUNNING: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE '%slow%'";

async fn slow(name: &str) -> Result<(Database, Client)> {
    let database = cluster::database(name).await?;
    let client = database.client().await?;
    client.batch_execute(SLOW).await?;
    Ok((database, client))
}

async fn runs(client: &Client, wanted: bool) -> Result<()> {
    let what = if wanted { "the statement begins" } else { "the statement ends" };
    until(what, async || Ok(texts(client, RUNNING).await?.remove(0) == if wanted { "1" } else { "0" })).await
}

fn querycli(database: &Database) -> Result<Command> {
    let mut querycli = Command::new(xtask::workspace::program("querycli")?);
    querycli.env("BELLWETHER_DB", &database.url).env("QUERYCLI_HISTORY", "").env("TERM", "xterm");
    Ok(querycli)
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_in_the_shell_ends_the_statement_on_the_server() -> Result<()> {
    let (database, client) = slow("cancel_shell").await?;
    let mut shell = rexpect::session::spawn_command(querycli(&database)?, Some(120_000))?;
    shell.exp_string("market=> ")?;
    shell.send_line("SELECT * FROM slow;")?;
    runs(&client, true).await?;
    shell.send_control('c')?;
    shell.exp_string("cancelled")?;
    shell.exp_string("market=> ")?;
    runs(&client, false).await?;
    // The shell goes on, on the same database.
    shell.send_line("SELECT count(*) + 40 + 1 AS answer FROM instruments WHERE symbol = '';")?;
    shell.exp_string("41")?;
    shell.exp_string("market=> ")?;
    shell.send_line("\\q")?;
    shell.exp_eof()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_gone_leaves_no_statement_behind() -> Result<()> {
    let (database, client) = slow("cancel_gone").await?;
    let ask = ["-c", "SELECT * FROM slow"];
    let out = querycli(&database)?.args(ask).args(["--timeout", "300ms"]).output()?;
    ensure!(out.status.code() == Some(1), "{}", String::from_utf8_lossy(&out.stderr));
    runs(&client, false).await?;
    let mut killed = querycli(&database)?.args(ask).spawn()?;
    runs(&client, true).await?;
    killed.kill().context("it runs")?;
    killed.wait()?;
    runs(&client, false).await
}
