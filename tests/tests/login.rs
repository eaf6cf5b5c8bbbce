//! How `querycli` enters a database: TLS as far as it is asked for, passwords from where they are kept, and shown nowhere.
//!
//! Against a real server with a certificate of an authority made here, which takes TLS connections with a password only.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tests::cluster::until;
use tests::store::texts;
use xtask::prefix::Install;
use xtask::server::{Durability, Lifeline, Server};

struct Secured {
    port: u16,
    /// Its administrator's way in.
    socket: String,
    log: PathBuf,
    /// Certificates, and what clients read.
    files: tempfile::TempDir,
    _lifeline: Lifeline,
}

const PASSWORD: &str = "correct horse";

fn openssl(dir: &Path, arguments: &[&str]) -> Result<()> {
    let out = Command::new("openssl").args(arguments).current_dir(dir).output();
    let out = out.context("openssl is not installed; run `cargo xtask setup`")?;
    ensure!(out.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(())
}

/// An authority, a certificate of it for localhost, and another authority that nobody asked.
fn certificates(dir: &Path) -> Result<()> {
    for (name, subject) in [("ca", "/CN=Authority"), ("other", "/CN=Another authority")] {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(
            dir,
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                subject,
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        )?;
    }
    openssl(
        dir,
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ],
    )?;
    fs::write(dir.join("extensions"), "subjectAltName=DNS:localhost\n")?;
    openssl(
        dir,
        &[
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "extensions",
            "-out",
            "server.crt",
        ],
    )
}

async fn secured(name: &str) -> Result<Secured> {
    let files = tempfile::tempdir()?;
    certificates(files.path())?;
    let server = Server::at(&Server::directory(&format!("{name}-{}", std::process::id())))?;
    server.remove()?;
    server.install(&Install::built()?)?;
    let lifeline = server.remove_at_exit()?;
    server.init(Durability::Throwaway)?;
    let data = server.dir().join("data");
    let owner = fs::metadata(&data)?;
    for name in ["server.key", "server.crt"] {
        let copy = data.join(name);
        fs::copy(files.path().join(name), &copy)?;
        chown(&copy, Some(owner.uid()), Some(owner.gid()))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
    }
    // A free port: the system does not give the same one again soon.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let conf = data.join("postgresql.conf");
    let settings = format!("{}\nlisten_addresses = '127.0.0.1'\nport = {port}\nssl = on\n", fs::read_to_string(&conf)?);
    fs::write(&conf, settings)?;
    fs::write(data.join("pg_hba.conf"), "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")?;
    server.start()?;
    let url = format!("postgresql://postgres@/postgres?host={}&port={port}", server.dir().display());
    let client = tests::cluster::connect(&url).await?;
    client
        .batch_execute(&format!(
            "CREATE EXTENSION bellwether; CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}' IN ROLE market_reader"
        ))
        .await?;
    Ok(Secured { port, socket: url, log: server.log(), files, _lifeline: lifeline })
}

impl Secured {
    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Runs `querycli` with a query that succeeds wherever it gets in.
    fn ask(&self, db: &str, variables: &[(&str, &str)]) -> Result<Output> {
        let mut querycli = Command::new(xtask::workspace::program("querycli")?);
        querycli.args(["-c", "\\conninfo", "-c", "SELECT count(*) AS relations FROM instruments", "--db", db]);
        querycli.env_clear().env("HOME", self.files.path()).env("USER", "reader").envs(variables.iter().copied());
        let out = querycli.output()?;
        let printed = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        ensure!(!printed.contains(PASSWORD) && !printed.contains("correct"), "the password is shown: {printed}");
        Ok(out)
    }

    fn url(&self, host: &str, options: &str) -> String {
        format!("postgresql://reader@{host}:{}/postgres?hostaddr=127.0.0.1&{options}", self.port)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_as_far_as_sslmode_says_and_passwords_stay_secret() -> Result<()> {
    let server = secured("tls").await?;
    let (ca, other) = (server.path("ca.pem"), server.path("other.pem"));
    let (ca, other) = (ca.display(), other.display());
    let password = [("PGPASSWORD", PASSWORD)];
    let goes = |host: &str, options: &str| -> Result<()> {
        let out = server.ask(&server.url(host, options), &password)?;
        ensure!(out.status.success(), "{host} {options}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(())
    };
    let refused = |host: &str, options: &str, reason: &str| -> Result<()> {
        let out = server.ask(&server.url(host, options), &password)?;
        let error = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.code() == Some(1), "{host} {options} ended with {:?}: {error}", out.status.code());
        ensure!(error.to_lowercase().contains(reason), "{host} {options} said {error}");
        Ok(())
    };
    goes("localhost", &format!("sslmode=verify-full&sslrootcert={ca}"))?;
    goes("localhost", &format!("sslmode=verify-ca&sslrootcert={ca}"))?;
    goes("elsewhere", &format!("sslmode=verify-ca&sslrootcert={ca}"))?;
    goes("elsewhere", "sslmode=require")?;
    goes("elsewhere", "sslmode=prefer")?;
    refused("elsewhere", &format!("sslmode=verify-full&sslrootcert={ca}"), "certificate")?;
    refused("localhost", &format!("sslmode=verify-full&sslrootcert={other}"), "certificate")?;
    refused("localhost", &format!("sslmode=require&sslrootcert={other}"), "certificate")?;
    // No authority of this machine knows ours.
    refused("localhost", "sslmode=verify-full", "certificate")?;
    refused("localhost", "sslmode=disable", "pg_hba.conf")?;

    let hinted = |url: &str, variables: &[(&str, &str)], hint: &str| -> Result<()> {
        let out = server.ask(url, variables)?;
        let error = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.code() == Some(1) && error.contains("error: cannot connect to database"), "{error}");
        ensure!(error.contains(&format!("hint: {hint}")), "{error}");
        Ok(())
    };
    let required = server.url("localhost", "sslmode=require");
    hinted(&required, &[("PGPASSWORD", "correct cow")], "check the user, and its password in PGPASSWORD")?;
    hinted(&required, &[], "the server asks for a password: put it into PGPASSWORD")?;
    hinted(&server.url("localhost", "sslmode=disable"), &password, "the server lets nobody in this way")?;
    hinted(&server.url("localhost", "sslmode=verify-full"), &password, "sslrootcert names the authority to trust")?;
    hinted(&required.replace("/postgres?", "/nowhere?"), &password, "create it with createdb")?;
    // Nobody listens on a port that was just given back.
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let nobody = format!("postgresql://reader@127.0.0.1:{closed}/postgres");
    hinted(&nobody, &password, "is it running, and is the address in --db or BELLWETHER_DB right?")?;

    // Everything but the password from a service file, and that from a pgpass file.
    let service = format!(
        "[bellwether]\nhost=localhost\nhostaddr=127.0.0.1\nport={}\ndbname=postgres\nuser=reader\nsslmode=verify-full\nsslrootcert={ca}\n",
        server.port
    );
    fs::write(server.path(".pg_service.conf"), service)?;
    let pgpass = server.path(".pgpass");
    fs::write(&pgpass, format!("localhost:{}:postgres:reader:{PASSWORD}\n", server.port))?;
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o600))?;
    for (db, variables) in [("service=bellwether", vec![]), ("dbname=postgres", vec![("PGSERVICE", "bellwether")])] {
        let out = server.ask(db, &variables)?;
        ensure!(out.status.success(), "{db}: {}", String::from_utf8_lossy(&out.stderr));
        let told = String::from_utf8_lossy(&out.stdout);
        let place = format!("database \"postgres\" on localhost:{} as user \"reader\"", server.port);
        ensure!(told.contains(&place), "{told}");
    }
    fs::set_permissions(&pgpass, fs::Permissions::from_mode(0o644))?;
    let open = server.ask("service=bellwether", &[])?;
    ensure!(open.status.code() == Some(1));
    ensure!(String::from_utf8_lossy(&open.stderr).contains("chmod 600 helps"));
    Ok(())
}

/// Ctrl-C reaches the server on a connection of its own, which is encrypted as the others are.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_over_tls_is_cancelled() -> Result<()> {
    let server = secured("tls-cancel").await?;
    let watcher = tests::cluster::connect(&server.socket).await?;
    watcher
        .batch_execute(
            "CREATE VIEW market.slow AS SELECT pg_sleep(600)::text AS slept; GRANT SELECT ON market.slow TO reader",
        )
        .await?;
    let running = "SELECT count(*)::text FROM pg_stat_activity AS a JOIN pg_stat_ssl AS s USING (pid)
        WHERE s.ssl AND a.state = 'active' AND a.usename = 'reader' AND a.query LIKE '%slow%'";
    let runs = async |wanted: &str| {
        let what = format!("{wanted} statements run");
        until(&what, async || Ok(texts(&watcher, running).await?.remove(0) == wanted)).await
    };
    let options = format!("sslmode=verify-full&sslrootcert={}", server.path("ca.pem").display());
    let mut querycli = Command::new(xtask::workspace::program("querycli")?);
    querycli.args(["--db", &server.url("localhost", &options)]).env_clear().env("HOME", server.files.path());
    querycli.env("PGPASSWORD", PASSWORD).env("QUERYCLI_HISTORY", "").env("TERM", "xterm");
    let mut shell = rexpect::session::spawn_command(querycli, Some(120_000))?;
    shell.exp_string("market=> ")?;
    shell.send_line("SELECT * FROM slow;")?;
    runs("1").await?;
    shell.send_control('c')?;
    shell.exp_string("cancelled")?;
    shell.exp_string("market=> ")?;
    runs("0").await?;
    // It was told to, and did not only find its client gone.
    let log = || Ok(fs::read_to_string(&server.log)?.contains("canceling statement due to user request"));
    until("the server was asked to cancel", async || log()).await?;
    shell.send_line("SELECT count(*) + 40 + 1 AS answer FROM instruments WHERE symbol = '';")?;
    shell.exp_string("41")?;
    shell.send_line("\\q")?;
    shell.exp_eof()?;
    Ok(())
}
