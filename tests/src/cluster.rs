//! Where do tests get a PostgreSQL with the extension? From a [`Cluster`]: a private one made and removed by the test
//! process, or the one that `BELLWETHER_TEST_DB` names (`cargo xtask test` starts one for all test programs).
//! The trait is what a container backend would implement to stand beside them.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let database = tests::cluster::database("early_close").await?;
//! let client = database.client().await?;
//! client.batch_execute("SELECT market.add_instrument('ESZ25')").await?;
//! # Ok(()) }
//! ```

use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use xtask::prefix::Install;
use xtask::server::{Durability, Lifeline, Server};

/// A PostgreSQL server into which the extension is installed.
pub trait Cluster: Send + Sync {
    /// The connection URL of one of its databases, as libpq and tokio-postgres read it.
    fn url(&self, database: &str) -> String;

    /// The path of one of its client programs, such as `pg_dump`.
    ///
    /// # Errors
    /// If the backend has none.
    fn client_program(&self, name: &str) -> Result<PathBuf>;
}

/// A server that lives in a directory of its own and ends with this process.
pub struct PrivateCluster {
    server: Server,
    _lifeline: Lifeline,
}

impl PrivateCluster {
    /// Installs the built extension, makes a cluster and starts it: about two seconds.
    ///
    /// # Errors
    /// If the extension is not built or PostgreSQL is not installed; each says what to run.
    pub fn start() -> Result<PrivateCluster> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = Server::at(&Server::directory(&name))?;
        server.remove()?;
        server.install(&Install::built()?)?;
        let lifeline = server.remove_at_exit()?;
        server.init(Durability::Throwaway)?;
        server.start()?;
        Ok(PrivateCluster { server, _lifeline: lifeline })
    }
}

/// A server of its own that keeps what was committed, as in production, made and started with further settings; it vanishes
/// with the lifeline.
///
/// # Errors
/// If the extension is not built or PostgreSQL is not installed.
pub fn durable(name: &str, settings: &str) -> Result<(Server, Lifeline)> {
    let server = Server::at(&Server::directory(&format!("{name}-{}", std::process::id())))?;
    server.remove()?;
    server.install(&Install::built()?)?;
    let lifeline = server.remove_at_exit()?;
    server.init(Durability::Durable)?;
    add_settings(&server, settings)?;
    server.start()?;
    Ok((server, lifeline))
}

/// A connection to a server that was just started and may still recover.
///
/// # Errors
/// If it does not answer in time.
pub async fn patiently(server: &Server) -> Result<Client> {
    let url = server.url("postgres");
    until("the server answers", async || Ok(connect(&url).await.is_ok())).await?;
    connect(&url).await
}

/// kill -9 of the postmaster and every process it has.
///
/// # Errors
/// If the server does not run, or does not die.
pub fn kill(server: &Server) -> Result<()> {
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
        crate::signal(*pid, "-9")?;
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
    bail!("the server does not die")
}

/// Appends to a server's configuration, which it reads when it starts.
///
/// # Errors
/// If the file cannot be written.
pub fn add_settings(server: &Server, settings: &str) -> Result<()> {
    use std::io::Write;
    let conf = server.dir().join("data/postgresql.conf");
    let mut file = std::fs::OpenOptions::new().append(true).open(&conf).with_context(|| format!("no {conf:?}"))?;
    Ok(writeln!(file, "\n{settings}")?)
}

/// Asks again and again until the answer is yes; a server that is behind or starting needs a moment, how long nobody knows.
///
/// # Errors
/// If it never is, or what was asked fails.
pub async fn until<F: Future<Output = Result<bool>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<()> {
    for _ in 0..6000 {
        if ask().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("never: {what}")
}

impl Cluster for PrivateCluster {
    fn url(&self, database: &str) -> String {
        self.server.url(database)
    }

    fn client_program(&self, name: &str) -> Result<PathBuf> {
        self.server.tool_path(name)
    }
}

/// A server that somebody else started and stops.
pub struct GivenCluster {
    url: String,
}

impl Cluster for GivenCluster {
    fn url(&self, database: &str) -> String {
        with_database(&self.url, database)
    }

    fn client_program(&self, name: &str) -> Result<PathBuf> {
        let dir = xtask::workspace::pg_config().parent().map(PathBuf::from).context("pg_config has no directory")?;
        Ok(dir.join(name))
    }
}

/// The cluster all tests of this process share, started when first asked for.
///
/// # Errors
/// Why it could not be started, the same for every test.
pub fn cluster() -> Result<&'static dyn Cluster> {
    static SHARED: OnceLock<Result<Box<dyn Cluster>, String>> = OnceLock::new();
    let start = || -> Result<Box<dyn Cluster>> {
        match std::env::var("BELLWETHER_TEST_DB") {
            Ok(url) => Ok(Box::new(GivenCluster { url })),
            Err(_) => Ok(Box::new(PrivateCluster::start()?)),
        }
    };
    let shared = SHARED.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    shared.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// A database of its own, with the extension in it.
///
/// # Errors
/// If the cluster cannot be started or `CREATE EXTENSION` fails.
pub async fn database(name: &str) -> Result<Database> {
    let database = empty_database(name).await?;
    database.client().await?.batch_execute("CREATE EXTENSION bellwether").await.context("CREATE EXTENSION failed")?;
    Ok(database)
}

/// A database of its own, without the extension.
///
/// # Errors
/// If the cluster cannot be started.
pub async fn empty_database(name: &str) -> Result<Database> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("{name}_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let cluster = cluster()?;
    connect(&cluster.url("postgres")).await?.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
    Ok(Database { url: cluster.url(&name), name })
}

/// A fresh database. It is left behind when the test ends, so that a failed one can be looked at; it goes with the
/// cluster.
#[derive(Clone, Debug)]
pub struct Database {
    /// What programs take as `--db`.
    pub url: String,
    /// Its name.
    pub name: String,
}

impl Database {
    /// A new connection.
    ///
    /// # Errors
    /// If the server does not answer.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// One of this workspace's programs with `--db` and the given arguments: `database.program("ingest", &["load"])`
    /// runs `ingest load --db URL`.
    ///
    /// # Errors
    /// If the program is not built.
    pub fn program(&self, name: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(xtask::workspace::program(name)?);
        command.args(arguments).args(["--db", &self.url]).env_remove("BELLWETHER_DB");
        Ok(command)
    }
}

/// A connection, its traffic carried by a task in the background.
///
/// # Errors
/// If the server does not answer.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to the test server")?;
    tokio::spawn(async move {
        // A server that goes away shows up as an error of the next query.
        let _ = connection.await;
    });
    Ok(client)
}

/// The URL with another database name.
fn with_database(url: &str, database: &str) -> String {
    let (head, query) = url.split_once('?').unwrap_or((url, ""));
    let after_scheme = head.find("://").map_or(0, |at| at + 3);
    let end = head[after_scheme..].find('/').map_or(head.len(), |at| after_scheme + at);
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    format!("{}/{database}{query}", &head[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_url_gets_another_database_name() {
        let check = |url, expected| assert_eq!(with_database(url, "b"), expected);
        check("postgresql://postgres@/a?host=/tmp/x&port=5432", "postgresql://postgres@/b?host=/tmp/x&port=5432");
        check("postgresql://u:p@localhost:5432/a", "postgresql://u:p@localhost:5432/b");
        check("postgresql://localhost", "postgresql://localhost/b");
    }
}
