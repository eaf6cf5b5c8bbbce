//! How is a PostgreSQL server of one's own run, as root or as an ordinary user? In one directory: the relocated
//! installation (`prefix`), the data, the log and the socket. It listens on that socket alone, so it needs no port and
//! meets no other server, and only its owner can enter the directory.

use crate::prefix::Install;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A private server in a directory of its own; see [`Server::at`].
#[derive(Clone, Debug)]
pub struct Server {
    dir: PathBuf,
    owner: Option<Owner>,
}

/// The user a server runs as when we are root, which PostgreSQL refuses to be.
#[derive(Clone, Copy, Debug)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// How much a server promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything committed survives a crash, as in production.
    Durable,
    /// Nothing need survive: for tests, several times faster to set up.
    Throwaway,
}

impl Server {
    /// The server living in `dir`, whether or not it exists yet. Nothing is touched.
    ///
    /// # Errors
    /// If we are root and there is no user `postgres` to run it as.
    pub fn at(dir: &Path) -> Result<Server> {
        let owner = if crate::workspace::uid() == 0 { Some(Owner::postgres()?) } else { None };
        Ok(Server { dir: dir.to_path_buf(), owner })
    }

    /// A directory for a server that its user can reach: below `/var/tmp`, because a home or a clone may be closed to
    /// the user `postgres`, and short, because a socket's path may have 107 bytes only. `BELLWETHER_RUN_DIR` overrides.
    pub fn directory(name: &str) -> PathBuf {
        let base = std::env::var_os("BELLWETHER_RUN_DIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        base.join(format!("bellwether-{}-{name}", crate::workspace::uid()))
    }

    /// The directory it lives in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its log is.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The connection URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@/{database}?host={}&port=5432", self.dir.display())
    }

    /// Installs the extension as it is built now. A running server must be stopped first.
    ///
    /// # Errors
    /// If files cannot be written.
    pub fn install(&self, install: &Install) -> Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        // The name is predictable and /var/tmp is everybody's: never run programs from a directory another user made.
        let found = fs::metadata(&self.dir)?.uid();
        if found != crate::workspace::uid() && Some(found) != self.owner.map(|owner| owner.uid) {
            bail!("{} belongs to another user; set BELLWETHER_RUN_DIR to a directory of yours", self.dir.display());
        }
        install.into(&self.dir.join("prefix"))?;
        if let Some(owner) = self.owner {
            chown(&self.dir, Some(owner.uid), Some(owner.gid))?;
        }
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        Ok(())
    }

    /// Makes an empty data directory if there is none.
    ///
    /// # Errors
    /// With initdb's own words if it fails.
    pub fn init(&self, durability: Durability) -> Result<()> {
        let data = self.data();
        if data.join("PG_VERSION").is_file() {
            return Ok(());
        }
        let mut initdb = self.tool("initdb")?;
        initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        if durability == Durability::Throwaway {
            initdb.arg("--no-sync");
        }
        run(&mut initdb).context("cannot make the database cluster")?;
        let mut settings = format!(
            "\n# Written by cargo xtask: a private server, reached by the socket in this directory only.\n\
             listen_addresses = ''\nunix_socket_directories = '{}'\nport = 5432\n\
             timezone = 'UTC'\nlog_timezone = 'UTC'\njit = off\nshared_buffers = '512MB'\nmax_wal_size = '4GB'\n\
             max_worker_processes = 16\n",
            self.dir.display()
        );
        if durability == Durability::Throwaway {
            settings += "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
            // A test that waits for a lock for ever would say nothing.
            settings += "lock_timeout = 30s\nstatement_timeout = 5min\n";
        }
        let conf = data.join("postgresql.conf");
        let text = fs::read_to_string(&conf).with_context(|| format!("cannot read {}", conf.display()))?;
        fs::write(&conf, text + &settings).with_context(|| format!("cannot write {}", conf.display()))
    }

    /// Starts it and waits until it answers; nothing happens if it is running.
    ///
    /// # Errors
    /// With the end of the server's log if it does not start.
    pub fn start(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let mut start = self.tool("pg_ctl")?;
        start.arg("-D").arg(self.data()).args(["-w", "-t", "120", "-s", "-l"]).arg(self.log()).arg("start");
        // The server inherits these: with a pipe here, whoever reads it would wait for the server to stop.
        let status = start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("the private PostgreSQL did not start; its log ends:\n{}", tail(&self.log(), 20));
        }
        Ok(())
    }

    /// Stops it and waits; nothing happens if it is not running.
    ///
    /// # Errors
    /// With pg_ctl's own words.
    pub fn stop(&self) -> Result<()> {
        if !self.is_running() {
            return Ok(());
        }
        let mut stop = self.tool("pg_ctl")?;
        stop.arg("-D").arg(self.data()).args(["-w", "-s", "-m", "fast", "stop"]);
        run(&mut stop).context("cannot stop the private PostgreSQL")
    }

    /// Whether its postmaster lives.
    pub fn is_running(&self) -> bool {
        let Ok(pid) = fs::read_to_string(self.data().join("postmaster.pid")) else { return false };
        let pid = pid.lines().next().unwrap_or_default().trim();
        // After a crash or a reboot the number may belong to somebody else: ask whose program it is.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim() == "postgres"
    }

    /// Makes sure that the server stops and its directory vanishes when this process ends, however it ends: a shell
    /// waits at the other end of a pipe that only we hold open.
    ///
    /// # Errors
    /// If the shell cannot be started.
    pub fn remove_at_exit(&self) -> Result<Lifeline> {
        // SIGQUIT is the immediate shutdown: there is nothing worth flushing.
        let script = "cat >/dev/null; pid=$(head -n 1 \"$1/data/postmaster.pid\"); kill -QUIT \"$pid\"; \
                      while [ -n \"$pid\" ] && [ -d \"/proc/$pid\" ]; do sleep 0.05; done; rm -rf \"$1\"";
        let mut shell = Command::new("sh");
        shell.args(["-c", script, "sh"]).arg(&self.dir).current_dir("/");
        // A group of its own: Ctrl-C in the terminal must not kill the one who cleans up.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Lifeline { _shell: shell.spawn().context("cannot start the shell that cleans up")? })
    }

    /// Deletes the whole directory. The server must be stopped.
    ///
    /// # Errors
    /// If a file cannot be deleted.
    pub fn remove(&self) -> Result<()> {
        if self.dir.exists() {
            fs::remove_dir_all(&self.dir).with_context(|| format!("cannot delete {}", self.dir.display()))?;
        }
        Ok(())
    }

    /// `psql` on a database, to be run as ourselves.
    ///
    /// # Errors
    /// If nothing is installed yet.
    pub fn psql(&self, database: &str) -> Result<Command> {
        let mut psql = Command::new(self.tool_path("psql")?);
        psql.arg("-X").arg(self.url(database));
        Ok(psql)
    }

    /// A program of the private installation (`initdb`, `pg_dump`, ...), to be run as the server's owner.
    ///
    /// # Errors
    /// If nothing is installed yet.
    pub fn tool(&self, name: &str) -> Result<Command> {
        Ok(self.as_owner(self.tool_path(name)?))
    }

    /// The path of a program of the private installation.
    ///
    /// # Errors
    /// If nothing is installed yet.
    pub fn tool_path(&self, name: &str) -> Result<PathBuf> {
        let prefix = self.dir.join("prefix");
        // Debian: lib/postgresql/15/bin; elsewhere the ancestor of bin, lib and share: bin.
        let mut found = vec![prefix.join("bin")];
        if let Ok(entries) = fs::read_dir(prefix.join("lib/postgresql")) {
            found.extend(entries.filter_map(|entry| Some(entry.ok()?.path().join("bin"))));
        }
        let path = found.iter().map(|dir| dir.join(name)).find(|path| path.exists());
        path.with_context(|| format!("no {name} in {}; run `cargo xtask pg start`", prefix.display()))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn as_owner(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Some(owner) = self.owner {
            command.uid(owner.uid).gid(owner.gid);
        }
        // Our directory may be closed to the owner, and our environment is none of the server's business.
        command.current_dir("/").env_clear().envs([("PATH", "/usr/bin:/bin"), ("LC_ALL", "C.UTF-8")]);
        command
    }
}

/// Keeps a throwaway server alive; see [`Server::remove_at_exit`].
#[derive(Debug)]
pub struct Lifeline {
    // Holds the only writing end of the shell's standard input.
    _shell: std::process::Child,
}

impl Owner {
    fn postgres() -> Result<Owner> {
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|f| f[0] == "postgres");
        let fields = fields.context(
            "PostgreSQL refuses to run as root and there is no user \"postgres\" to run it as; run `cargo xtask setup`",
        )?;
        Ok(Owner { uid: fields[2].parse()?, gid: fields[3].parse()? })
    }
}

/// Runs a command to its end; what it printed is shown only if it fails.
///
/// # Errors
/// If it cannot be started or fails.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !out.status.success() {
        let said = [out.stdout, out.stderr].concat();
        bail!("{name} failed ({}):\n{}", out.status, String::from_utf8_lossy(&said).trim_end());
    }
    Ok(())
}

/// The last lines of a file; empty if it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
