//! L1: one command from a file to sealed sessions with bars, and what it cost on both sides.

use crate::pg::check;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use xtask::server::Server;

/// Time of one load, as the clock and as both sides' processors saw it.
pub struct Load {
    what: &'static str,
    trades: u64,
    wall: f64,
    client_cpu: f64,
    server_cpu: f64,
}

impl Load {
    /// As recorded, and as run.py takes it.
    pub fn json(&self) -> Value {
        json!({
            "format": self.what, "wall_s": self.wall, "trades_per_s": self.trades as f64 / self.wall,
            "client_cpu_s": self.client_cpu, "server_cpu_s": self.server_cpu,
        })
    }
}

/// Loads a file with `ingest`.
pub fn load(
    server: &Server,
    ingest: &Path,
    database: &str,
    format: &'static str,
    file: &Path,
    trades: u64,
) -> Result<Load> {
    let (server_before, client_before) = (server_cpu(server)?, children_cpu()?);
    let start = Instant::now();
    let mut command = Command::new(ingest);
    command.stdout(Stdio::null());
    command.args(["load", "--db", &server.url(database), "--format", format]).arg(file);
    check(&mut command, "ingest failed")?;
    Ok(Load {
        what: format,
        trades,
        wall: start.elapsed().as_secs_f64(),
        client_cpu: children_cpu()? - client_before,
        server_cpu: server_cpu(server)? - server_before,
    })
}

/// CPU seconds of a server: the postmaster, its ended children, its living ones.
fn server_cpu(server: &Server) -> Result<f64> {
    let pid = fs::read_to_string(server.dir().join("data/postmaster.pid")).context("the server has no pid file")?;
    let postmaster: u32 = pid.lines().next().unwrap_or_default().trim().parse()?;
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(stat) = stat(pid) else { continue };
        if pid == postmaster {
            ticks += stat.own + stat.children;
        } else if stat.parent == postmaster {
            ticks += stat.own;
        }
    }
    Ok(ticks as f64 / TICKS)
}

/// CPU seconds of all children we have waited for.
fn children_cpu() -> Result<f64> {
    let stat = stat(std::process::id()).context("cannot read /proc/self/stat")?;
    Ok(stat.children as f64 / TICKS)
}

/// Linux counts these in hundredths of a second on every architecture we build for.
const TICKS: f64 = 100.0;

struct Stat {
    parent: u32,
    own: u64,
    children: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks; fields are counted after it.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat { parent: number(1)? as u32, own: number(11)? + number(12)?, children: number(13)? + number(14)? })
}
