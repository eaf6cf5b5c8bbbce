//! Why a server did not let us in, and what helps.

use super::place;
use crate::error::{Error, causes};
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;

/// The error of a connection that was not made.
pub fn refused(config: &Config, error: &tokio_postgres::Error) -> Error {
    let reason = error.as_db_error().map_or_else(|| causes(error), |db| db.message().to_string());
    let hint = match error.code() {
        Some(code) => of_server(code, &reason),
        None => of_network(&reason),
    };
    Error::world(format!("cannot connect to {}: {reason}", place(config)), hint)
}

fn of_server(code: &SqlState, reason: &str) -> &'static str {
    if *code == SqlState::INVALID_CATALOG_NAME {
        return "create it with createdb, then CREATE EXTENSION bellwether";
    }
    if *code == SqlState::INVALID_PASSWORD {
        return "check the user, and its password in PGPASSWORD, the pgpass file or the service file";
    }
    if *code == SqlState::TOO_MANY_CONNECTIONS {
        return "try again in a moment, or close other sessions: querycli needs a few connections at once";
    }
    if *code == SqlState::CANNOT_CONNECT_NOW {
        return "the server is starting or stopping: try again in a moment";
    }
    match reason.contains("pg_hba.conf") {
        true => {
            "the server lets nobody in this way: check the user, the database and sslmode, or ask whoever keeps its pg_hba.conf"
        }
        false => "check the user, the database and their rights",
    }
}

fn of_network(reason: &str) -> &'static str {
    let reason = reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if says(&["password missing", "password not provided"]) {
        "the server asks for a password: put it into PGPASSWORD, ~/.pgpass or the service file"
    } else if says(&["certificate", "self-signed", "self signed"]) {
        "sslrootcert names the authority to trust, sslmode how much is verified: verify-full, verify-ca, or require for nothing"
    } else if says(&["does not support tls"]) {
        "the server has no TLS: sslmode=prefer does without it"
    } else if says(&["lookup address"]) {
        "is the host's name in --db or BELLWETHER_DB right?"
    } else {
        "is it running, and is the address in --db or BELLWETHER_DB right? `cargo xtask pg start` starts one, `cargo xtask pg url` prints its address"
    }
}
