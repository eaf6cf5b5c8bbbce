//! The SQL spec, `tests/slt/*.slt`, on both engines.

use anyhow::{Context, Result};
use std::path::PathBuf;
use tests::{cluster, slt};

fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let dir = tests::root().join(folder);
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "slt"));
    files.sort();
    Ok(files)
}

#[tokio::test(flavor = "multi_thread")]
async fn sql_and_querycli_agree() -> Result<()> {
    let files = files("tests/slt")?;
    assert!(!files.is_empty());
    let mut failed = Vec::new();
    for file in &files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().to_string();
        let database = cluster::database(&name).await?;
        for engine in ["postgres", "querycli"] {
            match slt::run_file(file, &database, engine).await {
                Ok(()) => println!("{name}.slt agrees on {engine}"),
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}

/// What only PostgreSQL says: SQLSTATEs, row types, writing.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_answers_as_specified() -> Result<()> {
    let mut failed = Vec::new();
    for file in &files("tests/slt/pg")? {
        let name = format!("pg_{}", file.file_stem().unwrap_or_default().to_string_lossy());
        let database = cluster::database(&name).await?;
        match slt::run_file(file, &database, "postgres").await {
            Ok(()) => println!("{name}.slt agrees"),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}
