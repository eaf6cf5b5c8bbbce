//! The checks that a DBA can read and run: `sql/checks/*.sql`, each with psql against a fresh database.

use anyhow::Result;
use std::process::Command;
use tests::cluster::{self, cluster};

#[tokio::test(flavor = "multi_thread")]
async fn every_sql_check_passes() -> Result<()> {
    let mut files: Vec<_> = match std::fs::read_dir(tests::root().join("sql/checks")) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    files.sort();
    let mut failed = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().to_string();
        let database = cluster::database(&name).await?;
        let mut psql = Command::new(cluster()?.client_program("psql")?);
        psql.args(["-Xq", "-v", "ON_ERROR_STOP=1", "-d", &database.url, "-f"]).arg(&file).current_dir(tests::root());
        let out = psql.output()?;
        if !out.status.success() {
            failed.push(format!("{}:\n{}", file.display(), String::from_utf8_lossy(&out.stderr)));
        }
        println!("{name}: {}", if out.status.success() { "ok" } else { "failed" });
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}
