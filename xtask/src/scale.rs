//! `cargo xtask bench --scale`: Q2 and Q3 in a store full of other instruments' sessions (bench/scale.sql), with the goals that
//! bench/README.md has for eight instruments and a month.

use crate::pg::{self, cargo, check, features};
use crate::setup;
use crate::test::step;
use anyhow::{Context, Result, ensure};
use std::process::ExitCode;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

const DATABASE: &str = "scale";

/// How large the store is made.
#[derive(clap::Args, Clone)]
pub struct Size {
    /// Many instruments for a year and ten years of one, in place of the six queries: what Q2 and Q3 cost then
    #[arg(long)]
    pub scale: bool,
    /// With --scale: how many instruments
    #[arg(long, default_value_t = 1000)]
    instruments: u32,
    /// With --scale: how many sessions of each
    #[arg(long, default_value_t = 252)]
    sessions: u32,
    /// With --scale: how many years of one more instrument
    #[arg(long, default_value_t = 10)]
    years: u32,
    /// With --scale: parts by hash of the instrument below each month
    #[arg(long, default_value_t = 1)]
    parts: u32,
}

/// Runs it; the exit code is 2 when a goal is missed.
pub fn run(size: &Size, rounds: u32, built: bool, goals: bool) -> Result<ExitCode> {
    let install = if built {
        Install::built()?
    } else {
        setup::run()?;
        step("build with optimisation");
        check(cargo().args(["build", "--release", "-p", "bellwether"]).args(features()), "the build failed")?;
        Install::of(workspace::programs()?.with_file_name("release").join("libbellwether.so"))
    };
    step("start a private PostgreSQL of its own");
    let server = Server::at(&Server::directory("scale"))?;
    server.stop()?;
    server.remove()?;
    server.install(&install)?;
    let _lifeline = server.remove_at_exit()?;
    server.init(Durability::Throwaway)?;
    server.start()?;
    pg::make_database(&server, DATABASE)?;

    step(&format!("{} instruments of {} sessions, one of {} years", size.instruments, size.sessions, size.years));
    let mut psql = server.psql(DATABASE)?;
    for (name, value) in [
        ("instruments", size.instruments),
        ("sessions", size.sessions),
        ("years", size.years),
        ("parts", size.parts),
        ("rounds", rounds),
    ] {
        psql.args(["-v", &format!("{name}={value}")]);
    }
    let out = psql.arg("-f").arg(workspace::root().join("bench/scale.sql")).output().context("cannot run psql")?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let missed = report(&String::from_utf8_lossy(&out.stdout))?;
    server.stop()?;
    Ok(ExitCode::from(if missed > 0 && goals { 2 } else { 0 }))
}

/// Prints what was measured; returns how many goals were missed.
fn report(said: &str) -> Result<u32> {
    let mut missed = 0;
    println!("{:34} {:>6} {:>8} {:>8} {:>6} {:>11}", "query", "rows", "CPU ms", "wall ms", "goal", "partitions");
    for line in said.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        match fields[..] {
            ["query", name, rows, cpu, wall, goal, partitions] => {
                let over = goal.parse::<f64>().is_ok_and(|goal| cpu.parse::<f64>().is_ok_and(|cpu| cpu > goal));
                missed += u32::from(over);
                let word = if over { "MISSED" } else { "" };
                println!("{name:34} {rows:>6} {cpu:>8} {wall:>8} {goal:>6} {partitions:>11} {word}");
            }
            ["verified", symbol, differences] => {
                ensure!(differences == "0 differences", "{symbol} has {differences}: this measures nothing");
            }
            _ => println!("{line}"),
        }
    }
    Ok(missed)
}
