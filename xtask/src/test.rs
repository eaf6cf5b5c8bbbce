//! `cargo xtask test` and `cargo xtask ci`: everything that must hold, from system packages to the last test.

use crate::pg::{build_all, cargo, check, features};
use crate::programs;
use crate::setup::{self, on_path};
use anyhow::Result;
use std::process::Command;
use std::time::Instant;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

/// Builds the workspace once, starts one private server for all test programs, and runs them.
pub fn run(arguments: &[String]) -> Result<()> {
    run_with(arguments, &[])
}

/// The random tests, longer than the test command has time for, from a seed that no run had before.
pub fn nightly(seed: Option<u64>, streams: u32, steps: u32, rounds: u32) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let seed = seed.unwrap_or(now);
    println!("seed {seed}: cargo xtask nightly --seed {seed} --streams {streams} --steps {steps} --rounds {rounds}");
    let settings = [
        ("BELLWETHER_SEED", seed.to_string()),
        ("BELLWETHER_STREAMS", streams.to_string()),
        ("BELLWETHER_STEPS", steps.to_string()),
        ("BELLWETHER_ROUNDS", rounds.to_string()),
        ("BELLWETHER_REQUESTS", "10000".to_owned()),
        ("BELLWETHER_SPOILT", "3000".to_owned()),
    ];
    let tests =
        ["streams", "isolation", "standby", "crash", "archive", "garbage"].map(|name| ["--test", name]).concat();
    run_with(&tests.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &settings)
}

fn run_with(arguments: &[String], settings: &[(&str, String)]) -> Result<()> {
    let start = Instant::now();
    setup::run()?;
    step("build the workspace, its tests and programs");
    build_all()?;

    step("start a private PostgreSQL with the extension");
    let server = Server::at(&Server::directory(&format!("test-{}", std::process::id())))?;
    server.remove()?;
    server.install(&Install::built()?)?;
    let _lifeline = server.remove_at_exit()?;
    server.init(Durability::Throwaway)?;
    server.start()?;

    if arguments.is_empty()
        && let Err(error) = crate::bench::python::made_small()
    {
        println!("no Python with the benchmark's peers, so that their bars are not compared: {error:#}");
    }
    if workspace::testdata().is_none() {
        println!("no BELLWETHER_TESTDATA and no ../shared/data: tests that need real market data say that they skip");
    }
    step("run the tests");
    let mut settings = settings.to_vec();
    settings.push(("BELLWETHER_TEST_DB", server.url("postgres")));
    // Who selects tests says it in cargo's words.
    let result = match arguments.is_empty() {
        true => programs::run(&settings),
        false => {
            let mut test = cargo();
            test.args(["test", "--workspace", "--no-fail-fast"]).args(features()).args(arguments).envs(settings);
            check(&mut test, "tests failed")
        }
    };
    if result.is_err() {
        eprintln!("the server's log ends:\n{}", xtask::server::tail(&server.log(), 15));
    }
    server.stop()?;
    println!("\n==> {} in {} s", if result.is_ok() { "all tests passed" } else { "failed" }, start.elapsed().as_secs());
    result
}

/// What a change must pass: format, lints, tests, licences and advisories, spelling.
pub fn ci() -> Result<()> {
    setup::run()?;
    step("format");
    check(cargo().args(["fmt", "--all", "--check"]), "not formatted; run `cargo fmt --all`")?;
    step("lints");
    let mut clippy = cargo();
    clippy.args(["clippy", "--workspace", "--all-targets"]).args(features()).args(["--", "-D", "warnings"]);
    check(&mut clippy, "clippy has something to say")?;
    run(&[])?;
    optional("cargo-deny", "licences and advisories", cargo().args(["deny", "check", "bans", "licenses", "sources"]))?;
    optional("typos", "spelling", Command::new("typos").current_dir(workspace::root()))?;
    Ok(())
}

fn optional(program: &str, what: &str, command: &mut Command) -> Result<()> {
    step(what);
    if on_path(program) {
        return check(command, &format!("{program} found something"));
    }
    println!(
        "not checked: {program} is not installed (cargo install --locked {program}{})",
        match program {
            "typos" => "-cli",
            _ => "",
        }
    );
    Ok(())
}

/// Announces a step.
pub fn step(what: &str) {
    println!("\n==> {what}");
}
