//! `cargo xtask setup`: which system packages does the build need, and why? Each is looked for by the file it is
//! needed for, so a machine that has them from elsewhere is left alone.

use anyhow::{Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use xtask::workspace;

struct Need {
    /// What for, as told to the user.
    why: &'static str,
    /// Whether it is there.
    present: bool,
    /// Debian's and Ubuntu's packages that bring it.
    packages: Vec<String>,
}

/// Installs what is missing; does and says nothing when nothing is.
pub fn run() -> Result<()> {
    let missing: Vec<Need> = needs(workspace::major()).into_iter().filter(|need| !need.present).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("setup: this machine lacks system packages; installing them with apt-get");
    for need in &missing {
        eprintln!("  {:<44} {}", need.packages.join(" "), need.why);
    }
    if !on_path("apt-get") {
        bail!("there is no apt-get here; install the equivalents of the packages above by hand, then run this again");
    }
    let server_is_new = missing.iter().any(|need| need.packages.iter().any(|name| name.starts_with("postgresql-")))
        && !Path::new("/etc/postgresql-common/createcluster.conf").exists();
    if server_is_new {
        // Debian's package would make a cluster and start it on port 5432; we bring our own and want nothing running.
        eprintln!("  (told Debian's PostgreSQL package to make no cluster of its own)");
        let dir = "/etc/postgresql-common/createcluster.d";
        root("sh", &["-c", &format!("mkdir -p {dir} && echo 'create_main_cluster = false' > {dir}/bellwether.conf")])?;
    }
    root("apt-get", &["update", "-qq"])?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(missing.iter().flat_map(|need| need.packages.iter().map(String::as_str)));
    root("apt-get", &arguments)?;
    let still: Vec<_> = needs(workspace::major()).into_iter().filter(|need| !need.present).collect();
    if let Some(need) = still.first() {
        bail!("installed {}, but it is still not found where it was expected", need.packages.join(" "));
    }
    eprintln!("setup: done");
    Ok(())
}

fn needs(major: u32) -> Vec<Need> {
    let need = |why, present, packages: &[&str]| Need {
        why,
        present,
        packages: packages.iter().map(|name| (*name).to_string()).collect(),
    };
    let server = format!("postgresql-{major}");
    let headers = format!("postgresql-server-dev-{major}");
    let file = |path: String| Path::new(&path).exists();
    vec![
        need("finds libraries for the build", on_path("pkg-config"), &["pkg-config"]),
        need(
            "TLS to databases and exchanges",
            any_file(&["/usr/include"], "openssl", "ssl.h") || file("/usr/local/include/openssl/ssl.h".into()),
            &["libssl-dev"],
        ),
        need("root certificates for TLS", file("/etc/ssl/certs/ca-certificates.crt".into()), &["ca-certificates"]),
        need(
            "the database server (run privately)",
            file(format!("/usr/lib/postgresql/{major}/bin/initdb")) || pg_config_given(),
            &[&server],
        ),
        need(
            "its headers, for the extension",
            file(format!("/usr/include/postgresql/{major}/server/postgres.h")) || pg_config_given(),
            &[&headers],
        ),
        need("reads those headers (pgrx's bindgen)", libclang(), &["libclang-dev", "clang"]),
    ]
}

/// Installs packages that one command alone needs.
pub fn install(why: &str, packages: &[&str]) -> Result<()> {
    eprintln!("setup: installing {} ({why})", packages.join(" "));
    root("apt-get", &["update", "-qq"])?;
    root("apt-get", &[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// Whether the user brought a PostgreSQL that is not Debian's.
fn pg_config_given() -> bool {
    workspace::pg_config() != workspace::debian_pg_config(workspace::major())
}

fn libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let mut dirs = vec!["/usr/lib".into(), "/usr/lib64".into(), "/usr/local/lib".into()];
    for version in std::fs::read_dir("/usr/lib").into_iter().flatten().flatten() {
        let path = version.path();
        dirs.push(path.join("lib")); // llvm-14/lib
        dirs.push(path); // x86_64-linux-gnu
    }
    let named = |name: &str| name.starts_with("libclang.so") || name.starts_with("libclang-") && name.contains(".so");
    dirs.iter().any(|dir| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name()).any(|name| {
            let name = name.to_string_lossy();
            named(&name) && !name.starts_with("libclang-cpp")
        })
    })
}

/// Whether `dir/folder/name` or, as Debian has it for some architectures, `dir/*/folder/name` exists.
fn any_file(dirs: &[&str], folder: &str, name: &str) -> bool {
    dirs.iter().any(|dir| {
        let below = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        std::iter::once(Path::new(dir).to_path_buf()).chain(below).any(|dir| dir.join(folder).join(name).is_file())
    })
}

/// Whether a program is found.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// Runs a command as root: directly, or through sudo, which may ask for a password.
fn root(program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new("env");
    if workspace::uid() != 0 {
        if !on_path("sudo") {
            bail!("only root can do this and there is no sudo here; as root run: {program} {}", arguments.join(" "));
        }
        command = Command::new("sudo");
        command.arg("env");
    }
    // A package that asks questions would wait for ever where nobody answers.
    command.args(["DEBIAN_FRONTEND=noninteractive", program]).args(arguments);
    // Packages chatter; what they said matters only when they fail. sudo asks for its password on the terminal itself.
    let out = command.stdin(Stdio::null()).output()?;
    if !out.status.success() {
        let said = [out.stdout, out.stderr].concat();
        bail!("{program} {} failed ({}):\n{}", arguments.join(" "), out.status, String::from_utf8_lossy(&said));
    }
    Ok(())
}
