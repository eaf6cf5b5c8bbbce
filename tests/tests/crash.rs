//! What was committed survives a server that dies at once.

use anyhow::{Context, Result};
use market::{Calendar, Trades};
use std::time::Duration;
use tests::cluster;
use tests::store::{self, Chance, insert, put, seal, sessions, texts, verify, view};
use tokio_postgres::Client;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};

async fn connect(server: &Server) -> Result<Client> {
    for _ in 0..200 {
        if let Ok(client) = cluster::connect(&server.url("postgres")).await {
            return Ok(client);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    cluster::connect(&server.url("postgres")).await
}

const STORED: &str = "SELECT 'block', trade_date, part, md5(payload) FROM market.trade_blocks
                      UNION ALL SELECT 'minutes', trade_date, n, md5(payload) FROM market.bar_blocks
                      UNION ALL SELECT segment, trade_date, revision, digest::text FROM market.session_bars ORDER BY 1, 2, 3";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_has_all_that_was_committed() -> Result<()> {
    let server = Server::at(&Server::directory(&format!("crash-{}", std::process::id())))?;
    server.remove()?;
    server.install(&Install::built()?)?;
    let lifeline = server.remove_at_exit()?;
    server.init(Durability::Durable)?;
    server.start()?;
    let client = connect(&server).await?;
    client.batch_execute("CREATE EXTENSION bellwether").await?;
    let id = store::instrument(&client, "SPY", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-24", "2025-12-01")?;
    let mut chance = Chance::new(61);
    let (mut before, mut held) = (Vec::new(), Vec::new());
    for (round, day) in days.iter().take(4).enumerate() {
        let client = connect(&server).await?;
        if round > 0 {
            assert_eq!(texts(&client, STORED).await?, before, "after crash {round}");
            assert_eq!(view(&client, "SPY").await?, held, "after crash {round}");
            assert_eq!(verify(&client, "SPY").await?, Vec::<String>::new());
        }
        let trades = store::session_trades(&mut chance, day, 2000, true);
        match round % 2 {
            0 => {
                put(&client, id, &trades).await?;
            }
            _ => {
                insert(&client, id, &trades.iter().collect::<Vec<_>>()).await?;
                seal(&client, "SPY", day).await?;
            }
        }
        let late: Vec<_> = trades.iter().step_by(50).map(|t| market::Trade { seq: t.seq + 100, ..t }).collect();
        insert(&client, id, &late).await?;
        before = texts(&client, STORED).await?;
        held = view(&client, "SPY").await?;
        // and something unfinished, which must be gone: a put, a seal
        let mut open = connect(&server).await?;
        let open = open.transaction().await?;
        let next: Trades = store::session_trades(&mut chance, &days[4], 500, true);
        put(open.client(), id, &next).await?;
        seal(open.client(), "SPY", day).await?;
        kill(&server)?;
        server.start()?;
    }
    let client = connect(&server).await?;
    assert_eq!(texts(&client, STORED).await?, before);
    assert_eq!(view(&client, "SPY").await?, held);
    for day in &days {
        seal(&client, "SPY", day).await?;
    }
    assert_eq!(view(&client, "SPY").await?, held, "sealed after all");
    assert_eq!(verify(&client, "SPY").await?, Vec::<String>::new());
    drop(lifeline);
    Ok(())
}

/// kill -9 of the postmaster and every process it has.
fn kill(server: &Server) -> Result<()> {
    let pid = std::fs::read_to_string(server.dir().join("data/postmaster.pid"))?;
    let pid: u32 = pid.lines().next().context("no pid")?.trim().parse()?;
    let mut all = vec![pid];
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let parent =
            status.lines().find_map(|line| line.strip_prefix("PPid:")).and_then(|p| p.trim().parse::<u32>().ok());
        if parent == Some(pid) {
            all.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
        }
    }
    for pid in &all {
        tests::signal(*pid, "-9")?;
    }
    for _ in 0..400 {
        let alive = |pid: &u32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        if !all.iter().any(alive) {
            // where nobody collects the dead their numbers still look taken
            for left in ["data/postmaster.pid", ".s.PGSQL.5432.lock"] {
                std::fs::remove_file(server.dir().join(left))?;
            }
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("the server does not die")
}
