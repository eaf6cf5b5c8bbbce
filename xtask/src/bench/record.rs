//! What a recorded run says beside its figures: machine, commit, versions.

use super::DATABASE;
use crate::pg::query;
use anyhow::Result;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use xtask::server::Server;
use xtask::workspace;

/// The machine, the commit and the versions of everything.
pub fn machine(server: &Server, python: &Path) -> Result<Value> {
    let said = |command: &mut Command| -> String {
        command.output().map(|out| String::from_utf8_lossy(&out.stdout).trim().to_string()).unwrap_or_default()
    };
    let git = |arguments: &[&str]| said(Command::new("git").args(arguments).current_dir(workspace::root()));
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let freeze = said(Command::new(python).args(["-m", "pip", "freeze"]));
    Ok(json!({
        "commit": git(&["rev-parse", "HEAD"]),
        "changed_since": !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty(),
        "machine": {
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "cpu": model.trim_start_matches([' ', '\t', ':']),
            "memory": memory.lines().next().unwrap_or_default().replace("MemTotal:", "").trim(),
        },
        "versions": {
            "postgresql": query(server, DATABASE, "SHOW server_version")?,
            "rustc": said(Command::new("rustc").arg("--version")),
            "python": freeze.lines().collect::<Vec<_>>(),
        },
    }))
}

/// The date, as files are named.
pub fn today() -> Result<String> {
    let out = Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_string())
}
