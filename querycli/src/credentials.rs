//! Where a database is and how to enter it: a URL or `key=value` words, completed from a service file, the environment and a
//! pgpass file, by libpq's rules. What is secret is never shown.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tokio_postgres::Config;

/// How much TLS is asked for, by the names of libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Never.
    Disable,
    /// If the server has it; nothing is verified.
    #[default]
    Prefer,
    /// Always; nothing is verified unless a root certificate is named.
    Require,
    /// Always; the certificate is one of a known authority.
    VerifyCa,
    /// Always; and it is of this host.
    VerifyFull,
}

/// What TLS needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// How much is asked for.
    pub mode: TlsMode,
    /// Certificates of authorities to trust instead of the system's.
    pub root: Option<PathBuf>,
    /// The client's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// A place and the way in.
pub struct Login {
    /// Everything but TLS.
    pub config: Config,
    /// TLS.
    pub tls: Tls,
}

/// The world that is asked: the environment and the home directory.
pub struct World<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

type Words = BTreeMap<String, String>;

const ENVIRONMENT: [(&str, &str); 16] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("channel_binding", "PGCHANNELBINDING"),
];

fn unreadable() -> Error {
    // The text is not repeated: it may hold a password.
    Error::question(
        "--db cannot be read as a connection URL",
        "write it like postgresql://user@localhost:5432/market, or service=NAME",
    )
}

impl World<'_> {
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn home(&self, file: &str) -> Option<PathBuf> {
        self.get("HOME").map(|home| Path::new(&home).join(file))
    }

    /// Reads a connection, with what the text leaves out from elsewhere.
    ///
    /// # Errors
    /// A text that is none, an unknown service, an unknown word or a value that it cannot have.
    pub fn login(&self, text: &str) -> Result<Login> {
        let mut words = parse(text.trim()).ok_or_else(unreadable)?;
        if let Some(service) = words.remove("service").or_else(|| self.get("PGSERVICE")) {
            for (key, value) in self.service(&service)? {
                words.entry(key).or_insert(value);
            }
        }
        for (key, variable) in ENVIRONMENT {
            if let Some(value) = self.get(variable) {
                words.entry(key.to_owned()).or_insert(value);
            }
        }
        let passfile = words.remove("passfile");
        let tls = self.tls(&mut words)?;
        words.entry("host".to_owned()).or_insert_with(|| "localhost".to_owned());
        words.entry("connect_timeout".to_owned()).or_insert_with(|| "10".to_owned());
        words.entry("application_name".to_owned()).or_insert_with(|| "bellwether querycli".to_owned());
        if let (false, Some(user)) = (words.contains_key("user"), self.get("USER")) {
            words.insert("user".to_owned(), user);
        }
        if !words.contains_key("password") {
            let file = passfile.map(PathBuf::from).or_else(|| self.home(".pgpass"));
            if let Some(password) = file.and_then(|file| from_passfile(&file, &words)) {
                words.insert("password".to_owned(), password);
            }
        }
        Ok(Login { config: config(&words)?, tls })
    }

    fn tls(&self, words: &mut Words) -> Result<Tls> {
        let file = |words: &mut Words, key: &str| words.remove(key).filter(|v| !v.is_empty()).map(PathBuf::from);
        let mode = words.remove("sslmode");
        let root = file(words, "sslrootcert");
        let (certificate, key) = (file(words, "sslcert"), file(words, "sslkey"));
        for ignored in ["sslcrl", "sslcompression", "sslsni", "gssencmode", "krbsrvname", "sslpassword"] {
            words.remove(ignored);
        }
        let mode = match mode.as_deref() {
            Some("disable") => TlsMode::Disable,
            None | Some("allow" | "prefer") => TlsMode::Prefer,
            // As libpq: who names an authority wants it asked.
            Some("require") if root.is_some() => TlsMode::VerifyCa,
            Some("require") => TlsMode::Require,
            Some("verify-ca") => TlsMode::VerifyCa,
            Some("verify-full") => TlsMode::VerifyFull,
            Some(other) => {
                return Err(Error::question(
                    format!("unknown sslmode \"{other}\""),
                    "use disable, prefer, require, verify-ca or verify-full",
                ));
            }
        };
        let sent = match mode {
            TlsMode::Disable => "disable",
            TlsMode::Prefer => "prefer",
            _ => "require",
        };
        words.insert("sslmode".to_owned(), sent.to_owned());
        let system = root.as_deref() == Some(Path::new("system"));
        let own = || self.home(".postgresql/root.crt").filter(|file| file.is_file());
        let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        let root = root.filter(|_| !system).or_else(|| if verifies && !system { own() } else { None });
        let identity = certificate.map(|certificate| {
            let key = key.unwrap_or_else(|| certificate.with_extension("key"));
            (certificate, key)
        });
        Ok(Tls { mode, root, identity })
    }

    fn service(&self, name: &str) -> Result<Words> {
        let of_user = self.get("PGSERVICEFILE").map(PathBuf::from).or_else(|| self.home(".pg_service.conf"));
        let of_system = self.get("PGSYSCONFDIR").map(|folder| Path::new(&folder).join("pg_service.conf"));
        let files: Vec<PathBuf> = of_user.into_iter().chain(of_system).collect();
        for file in &files {
            let Ok(text) = std::fs::read_to_string(file) else { continue };
            if let Some(words) = section(&text, name) {
                return Ok(words);
            }
        }
        let shown: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        Err(Error::question(
            format!("there is no service \"{name}\" in {}", shown.join(" or ")),
            format!("write a section [{name}] with lines such as host=localhost and dbname=market"),
        ))
    }
}

/// A section of a service file.
fn section(text: &str, name: &str) -> Option<Words> {
    let mut found: Option<Words> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                return found;
            }
            found = (section == name).then(Words::new);
        } else if let (Some(words), Some((key, value))) = (&mut found, line.split_once('=')) {
            words.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    found
}

/// A URL or `key=value` words; `None` if it is neither.
fn parse(text: &str) -> Option<Words> {
    match ["postgresql://", "postgres://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => parse_url(rest),
        None => parse_words(text),
    }
}

fn parse_url(rest: &str) -> Option<Words> {
    let mut words = Words::new();
    let mut put = |key: &str, value: &str| -> Option<()> {
        if !value.is_empty() {
            words.insert(key.to_owned(), decoded(value)?);
        }
        Some(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    put("dbname", database)?;
    let hosts = match authority.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            put("user", user)?;
            put("password", password)?;
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        // An IPv6 address has colons and stands in brackets.
        let (name, port) = match host.strip_prefix('[') {
            Some(address) => {
                let (address, port) = address.split_once(']')?;
                (address, port.strip_prefix(':').unwrap_or(port))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    put("host", &names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        let ports: Vec<&str> = ports.iter().map(|port| if port.is_empty() { "5432" } else { port }).collect();
        put("port", &ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        put(&decoded(key)?, value)?;
    }
    Some(words)
}

/// `%41` is `A`.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `host=localhost dbname='my market'`.
fn parse_words(text: &str) -> Option<Words> {
    let mut words = Words::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return (!words.is_empty()).then_some(words);
        }
        let mut key = String::new();
        while let Some(c) = chars.next_if(|c| *c != '=' && !c.is_whitespace()) {
            key.push(c);
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        chars.next_if(|c| *c == '=')?;
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let quoted = chars.next_if(|c| *c == '\'').is_some();
        let mut value = String::new();
        loop {
            match chars.next() {
                Some('\\') => value.push(chars.next()?),
                Some('\'') if quoted => break,
                Some(c) if !quoted && c.is_whitespace() => break,
                Some(c) => value.push(c),
                None if quoted => return None,
                None => break,
            }
        }
        words.insert(key, value);
    }
}

fn config(words: &Words) -> Result<Config> {
    let mut text = String::new();
    for (key, value) in words {
        let word = format!("{key}='{}' ", value.replace('\\', "\\\\").replace('\'', "\\'"));
        // One by one, so that the error names the word and not its value.
        if word.parse::<Config>().is_err() {
            return Err(Error::question(
                format!("the database's connection has no word \"{key}\", or not with this value"),
                "the words are those of libpq: host, port, dbname, user, sslmode, connect_timeout ...",
            ));
        }
        text.push_str(&word);
    }
    text.parse().map_err(|_| unreadable())
}

/// The password of the first line that fits. A file that others may read is not read, as libpq does.
fn from_passfile(file: &Path, words: &Words) -> Option<String> {
    let about = std::fs::metadata(file).ok()?;
    if !about.is_file() {
        return None;
    }
    if about.permissions().mode() & 0o077 != 0 {
        eprintln!("warning: {} is not used: others may read it; chmod 600 helps", file.display());
        return None;
    }
    let first = |key: &str| words.get(key).and_then(|value| value.split(',').next()).unwrap_or("");
    let host = match first("host") {
        socket if socket.starts_with('/') => "localhost",
        host => host,
    };
    let port = if first("port").is_empty() { "5432" } else { first("port") };
    let user = first("user");
    let database = if first("dbname").is_empty() { user } else { first("dbname") };
    let asked = [host, port, database, user];
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let fields = fields(line);
        let fits = fields.len() >= 5 && fields.iter().zip(asked).all(|(field, asked)| field == "*" || field == asked);
        fits.then(|| fields[4].clone())
    })
}

/// The fields between colons; a backslash hides one.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let c = match c {
            ':' => {
                fields.push(String::new());
                continue;
            }
            '\\' => chars.next().unwrap_or('\\'),
            c => c,
        };
        if let Some(last) = fields.last_mut() {
            last.push(c);
        }
    }
    fields
}

impl Tls {
    /// What makes the encrypted connections.
    ///
    /// # Errors
    /// A certificate that cannot be read.
    pub fn connector(&self) -> Result<postgres_native_tls::MakeTlsConnector> {
        let verifies = matches!(self.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
        let read = |file: &Path| {
            std::fs::read(file).map_err(|error| {
                Error::question(
                    format!("cannot read {}: {error}", file.display()),
                    "it is named by sslrootcert, sslcert or sslkey",
                )
            })
        };
        let wrong = |file: &Path, error: native_tls::Error| {
            Error::question(
                format!("{} is no certificate: {error}", file.display()),
                "PEM files are understood, keys in PKCS 8",
            )
        };
        let mut builder = native_tls::TlsConnector::builder();
        builder.danger_accept_invalid_certs(!verifies);
        builder.danger_accept_invalid_hostnames(self.mode != TlsMode::VerifyFull);
        if let Some(root) = &self.root {
            let found = native_tls::Certificate::stack_from_pem(&read(root)?).map_err(|error| wrong(root, error))?;
            builder.disable_built_in_roots(true);
            for certificate in found {
                builder.add_root_certificate(certificate);
            }
        }
        if let Some((certificate, key)) = &self.identity {
            let identity = native_tls::Identity::from_pkcs8(&read(certificate)?, &read(key)?);
            builder.identity(identity.map_err(|error| wrong(certificate, error))?);
        }
        let connector = builder.build().map_err(|error| Error::world(format!("TLS cannot be set up: {error}"), ""))?;
        Ok(postgres_native_tls::MakeTlsConnector::new(connector))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn login(text: &str, variables: &[(&str, &str)]) -> Result<Login> {
        let variables: HashMap<String, String> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        World { variable: &|name| variables.get(name).cloned() }.login(text)
    }

    fn password(login: &Login) -> Option<String> {
        login.config.get_password().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn place(login: &Login) -> (String, u16, String, String) {
        let host = match &login.config.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        };
        let port = login.config.get_ports().first().copied().unwrap_or(5432);
        let text = |text: Option<&str>| text.unwrap_or("").to_owned();
        (host, port, text(login.config.get_dbname()), text(login.config.get_user()))
    }

    fn owned(host: &str, port: u16, database: &str, user: &str) -> (String, u16, String, String) {
        (host.to_owned(), port, database.to_owned(), user.to_owned())
    }

    /// Forms of the manual of libpq, "Connection Strings".
    #[test]
    fn urls_and_words_mean_what_they_mean_to_libpq() {
        let check = |text: &str, expected: (String, u16, String, String)| {
            let login = login(text, &[("USER", "me")]).expect(text);
            assert_eq!(place(&login), expected, "{text}");
        };
        check("postgresql://", owned("localhost", 5432, "", "me"));
        check("postgresql://localhost:5433/market", owned("localhost", 5433, "market", "me"));
        check("postgresql://bob@db/market", owned("db", 5432, "market", "bob"));
        check("postgres://bob:se%3Acret@db", owned("db", 5432, "", "bob"));
        check(
            "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
            owned("localhost", 5432, "otherdb", "other"),
        );
        check("postgresql://postgres@/a?host=/tmp/x&port=5499", owned("/tmp/x", 5499, "a", "postgres"));
        check("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", owned("/var/lib/postgresql", 5432, "dbname", "me"));
        check("postgresql://[2001:db8::1234]:5444/database", owned("2001:db8::1234", 5444, "database", "me"));
        check("host=localhost port=5432 dbname='my market' user = bob", owned("localhost", 5432, "my market", "bob"));
        let login = login("postgres://bob:se%3Acret@db", &[]).expect("a login");
        assert_eq!(password(&login).as_deref(), Some("se:cret"));
    }

    #[test]
    fn the_text_wins_over_the_service_and_that_over_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("services");
        let services = "# mine\n[other]\nhost=nowhere\n[prod]\nhost=db.example\nport=6000\ndbname=market\nuser=reader\n[last]\nuser=x\n";
        std::fs::write(&file, services).expect("written");
        let variables = [
            ("PGSERVICEFILE", file.to_str().expect("a path")),
            ("PGUSER", "nobody"),
            ("PGPASSWORD", "hidden"),
            ("PGPORT", "1"),
        ];
        let found = login("service=prod", &variables).expect("a login");
        assert_eq!(place(&found), owned("db.example", 6000, "market", "reader"));
        assert_eq!(password(&found).as_deref(), Some("hidden"));
        let found = login("postgresql://me@/?service=prod", &variables).expect("a login");
        assert_eq!(place(&found), owned("db.example", 6000, "market", "me"));
        let error = login("service=gone", &variables).err().expect("an unknown service");
        assert!(error.message.starts_with("there is no service \"gone\""), "{error}");
    }

    #[test]
    fn the_pgpass_file_gives_the_password_of_the_first_line_that_fits() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("pgpass");
        let lines = "# comment\ndb:5432:market:bob:one\nlocalhost:*:*:bob:two\\:three\n*:*:*:*:rest\n";
        std::fs::write(&file, lines).expect("written");
        let mode = |bits| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(bits)).expect("chmod");
        mode(0o600);
        let variables = [("PGPASSFILE", file.to_str().expect("a path"))];
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(password(&login(text, &variables).expect("a login")).as_deref(), expected, "{text}");
        };
        check("postgresql://bob@db/market", Some("one"));
        check("postgresql://bob@db:5433/market", Some("rest"));
        check("postgresql://bob@/market?host=/tmp", Some("two:three"));
        check("postgresql://bob:given@db/market", Some("given"));
        mode(0o644);
        check("postgresql://bob@db/market", None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_secret() {
        for text in [
            "postgresql://me:topsecret@localhost/market?sslmode=sometimes",
            "postgresql://me:topsecret@localhost/market?nonsense=1",
            "postgresql://me:topsecret@localhost:port/market",
            "postgresql://me:topsecret%zz@localhost/market",
            "topsecret",
        ] {
            let error = login(text, &[]).err().unwrap_or_else(|| panic!("{text} is fine?"));
            assert!(!error.to_string().contains("topsecret"), "{error}");
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn sslmode_is_read_as_libpq_reads_it() {
        let tls = |text: &str| login(text, &[]).expect(text).tls;
        assert_eq!(tls("postgresql://db").mode, TlsMode::Prefer);
        assert_eq!(tls("postgresql://db?sslmode=require").mode, TlsMode::Require);
        assert_eq!(tls("postgresql://db?sslmode=require&sslrootcert=/ca.pem").mode, TlsMode::VerifyCa);
        assert_eq!(tls("postgresql://db?sslmode=verify-full").mode, TlsMode::VerifyFull);
        assert_eq!(tls("postgresql://db?sslmode=verify-full&sslrootcert=system").root, None);
        let own = tls("postgresql://db?sslmode=verify-full&sslcert=/me.crt").identity;
        assert_eq!(own, Some(("/me.crt".into(), "/me.key".into())));
    }
}
