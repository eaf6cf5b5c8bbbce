//! The small server of objects that the archive's tests ask, too, and the program with credentials for it.

#![allow(dead_code, unused_imports, reason = "not every test asks all of it")]

#[path = "../../../tests/src/s3.rs"]
mod s3;

pub use s3::{KEY, SECRET, Store};
use std::path::Path;
use std::process::Command;

/// The program, with all stores' credentials of this server.
pub fn querycli(dir: &Path, store: &Store, arguments: &[&str]) -> Command {
    let url = format!("http://127.0.0.1:{}", store.port);
    let mut command = Command::new(env!("CARGO_BIN_EXE_querycli"));
    // No credentials of whoever runs the test, and no proxy.
    command.args(arguments).current_dir(dir).env_clear();
    command.env("AWS_ENDPOINT_URL", &url).env("AWS_ALLOW_HTTP", "true").env("AWS_REGION", "us-east-1");
    command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
    let account = format!(
        "{{\"gcs_base_url\": \"{url}\", \"disable_oauth\": true, \"client_email\": \"\", \"private_key\": \"\", \"private_key_id\": \"\"}}"
    );
    command.env("GOOGLE_SERVICE_ACCOUNT_KEY", account).env("GOOGLE_ALLOW_HTTP", "true");
    command.env("AZURE_STORAGE_USE_EMULATOR", "true").env("AZURITE_BLOB_STORAGE_URL", &url);
    command.env("AZURE_ALLOW_HTTP", "true");
    command
}
