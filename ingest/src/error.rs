//! What can go wrong while loading, and the exit code it ends in.

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error for the person at the terminal: what was asked, what is allowed, what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The command line asks for something that cannot be done.
    #[error("{0}")]
    Usage(String),
    /// The server cannot be reached, refuses us, or has no (or another) Bellwether.
    #[error("{0}")]
    Connection(String),
    /// A file that is not what it should be; trades read before stay loaded.
    #[error("{file}: {reason}")]
    Input {
        /// The file, with the archive member after a `!`.
        file: String,
        /// Why, with the line where known.
        reason: String,
    },
    /// No instrument of that symbol and no rule by which to make one.
    #[error("{0}")]
    Symbol(String),
    /// The server refused a statement.
    #[error("{doing}: {reason}")]
    Database {
        /// What was being done.
        doing: String,
        /// The server's message and hint.
        reason: String,
        /// The SQLSTATE, empty when the connection broke.
        state: String,
    },
    /// The domain crate refused.
    #[error("{}", explain(.0))]
    Market(#[from] market::Error),
}

impl Error {
    /// 2 for the command line and the connection, 1 for everything that went wrong with the data.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Connection(_) => 2,
            _ => 1,
        }
    }

    /// Whether the connection broke, so that another one may succeed.
    pub fn is_lost_connection(&self) -> bool {
        match self {
            Error::Connection(_) => true,
            // Class 08 is connection, 57P0x is a server that shuts down or crashed.
            Error::Database { state, .. } => state.is_empty() || state.starts_with("08") || state.starts_with("57P0"),
            _ => false,
        }
    }

    /// A statement that failed, in words: the server's message, detail and hint, never the connection's parameters.
    pub fn database(doing: impl Into<String>, error: &tokio_postgres::Error) -> Error {
        let (reason, state) = match error.as_db_error() {
            Some(db) => {
                let mut text = db.message().to_string();
                for (label, part) in [(": ", db.detail()), ("; hint: ", db.hint())] {
                    if let Some(part) = part {
                        text.push_str(label);
                        text.push_str(part);
                    }
                }
                (text, db.code().code().to_string())
            }
            None => (causes(error), String::new()),
        };
        Error::Database { doing: doing.into(), reason, state }
    }
}

/// An error and what caused it, in one line.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

fn explain(error: &market::Error) -> String {
    match error.hint() {
        hint if hint.is_empty() => error.to_string(),
        hint => format!("{error}; {hint}"),
    }
}
