//! `cargo xtask pg`: a PostgreSQL of one's own with the extension as built from this clone, beside any PostgreSQL of
//! the system. Its data stays between `stop` and `start`.

use crate::setup;
use anyhow::{Context, Result, bail};
use clap::Subcommand;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

/// The database that `pg url` and `pg psql` mean.
pub const DATABASE: &str = "market";

#[derive(Clone, Subcommand)]
pub enum Action {
    /// Build the extension, install it privately, start the server and make database `market` with the extension
    Start {
        /// Throw away the data of earlier runs first
        #[arg(long)]
        fresh: bool,
    },
    /// Stop the server; its data stays
    Stop,
    /// A psql prompt; arguments go to psql
    Psql {
        /// Another database than the one for your own data
        #[arg(long, default_value = DATABASE)]
        database: String,
        /// What psql is given, such as -c 'SELECT 1'
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Print the connection URL and nothing else
    Url {
        /// Another database than the one for your own data
        #[arg(long, default_value = DATABASE)]
        database: String,
    },
    /// Say whether the server runs, and where it lives
    Status,
}

/// Carries out an action of `cargo xtask pg`.
pub fn run(action: Action) -> Result<ExitCode> {
    let server = server()?;
    match action {
        Action::Start { fresh } => {
            setup::run()?;
            build()?;
            start(&server, fresh)?;
            eprintln!("running; connect with: cargo xtask pg psql, or psql \"$(cargo xtask pg url)\"");
        }
        Action::Stop => {
            server.stop()?;
            eprintln!("stopped");
        }
        Action::Psql { database, arguments } => {
            running(&server)?;
            let status = server.psql(&database)?.args(arguments).status()?;
            return Ok(ExitCode::from(status.code().unwrap_or(2) as u8));
        }
        Action::Url { database } => {
            running(&server)?;
            println!("{}", server.url(&database));
        }
        Action::Status if server.is_running() => {
            println!("running in {}", server.dir().display());
        }
        Action::Status => {
            println!("not running; `cargo xtask pg start` starts it in {}", server.dir().display());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// This clone's server: two clones of one user do not meet.
pub fn server() -> Result<Server> {
    Server::at(&Server::directory(&format!("{:08x}", hash(&workspace::root()))))
}

/// Installs what is built, starts the server and makes sure of the database and the extension.
pub fn start(server: &Server, fresh: bool) -> Result<()> {
    let install = Install::built()?;
    // A running server keeps the old library in memory; replace it whole.
    server.stop()?;
    if fresh {
        server.remove()?;
    }
    server.install(&install)?;
    server.init(Durability::Durable)?;
    server.start()?;
    make_database(server, DATABASE)
}

/// Makes a database with the extension unless it is there.
pub fn make_database(server: &Server, database: &str) -> Result<()> {
    let found = query(server, "postgres", &format!("SELECT count(*) FROM pg_database WHERE datname = '{database}'"))?;
    if found == "0" {
        query(server, "postgres", &format!("CREATE DATABASE {database}"))?;
    }
    query(server, database, "SET client_min_messages = warning; CREATE EXTENSION IF NOT EXISTS bellwether")
        .context("CREATE EXTENSION bellwether failed")?;
    Ok(())
}

/// Runs SQL and returns what it printed, unaligned and without headings.
pub fn query(server: &Server, database: &str, sql: &str) -> Result<String> {
    let out =
        server.psql(database)?.args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", sql]).stdin(Stdio::null()).output()?;
    if !out.status.success() {
        bail!("psql: {}", String::from_utf8_lossy(&out.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim_end().to_string())
}

/// Builds the libraries and programs of the workspace, with its one feature set.
pub fn build() -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--workspace"]).args(features());
    check(&mut cargo, "the build failed")
}

/// Builds these and every test as well.
pub fn build_all() -> Result<()> {
    let mut cargo = cargo();
    cargo.args(["build", "--workspace", "--all-targets"]).args(features());
    check(&mut cargo, "the build failed")
}

/// Cargo, as it was called to run us.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from));
    cargo.current_dir(workspace::root()).env("PGRX_PG_CONFIG_PATH", workspace::pg_config());
    // what the cargo that runs us says of this package: build scripts that look at it (ring's) would run again, and all of DataFusion
    // be compiled again, whenever it differs from the last build's
    for (name, _) in std::env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// The features for the PostgreSQL at hand; none for the default major, so that plain `cargo build` is the same build.
pub fn features() -> Vec<String> {
    match workspace::major() {
        15 => vec![],
        major => vec!["--no-default-features".into(), "--features".into(), format!("bellwether/pg{major}")],
    }
}

/// Runs a command with our own output; its failure is `failed`.
pub fn check(command: &mut Command, failed: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{failed} ({status})");
    }
    Ok(())
}

fn running(server: &Server) -> Result<()> {
    if !server.is_running() {
        bail!("the private PostgreSQL is not running; start it with `cargo xtask pg start`");
    }
    Ok(())
}

/// FNV-1a: stable over Rust versions, unlike the standard hasher.
fn hash(path: &std::path::Path) -> u32 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
