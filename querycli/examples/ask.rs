//! How long does an answer take, and how fast do trades reach Arrow? Asks what the standard input says, a statement a line, and
//! prints an answer a line as JSON, so that whoever drives it can take the time of each (bench/run.py does).
//!
//! `cargo run --release -p querycli --example ask -- --db URL`, or `--archive DIR`. A line `pull SELECT ...` reads all rows of a
//! query into Arrow and drops them; its answer is their number.

use futures_util::StreamExt;
use querycli::{Error, Options, Result, Session};
use std::io::{BufRead, Write};
use std::time::Instant;

#[tokio::main]
async fn main() -> Result<()> {
    let mut options = Options::default();
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--db" => options.db = Some(value),
            "--archive" => options.archive = Some(value),
            "--data" => options.files.push(value.into()),
            _ => return Err(Error::question(format!("unknown option {name}"), "--db, --archive, --data")),
        }
    }
    let session = Session::open(options).await?;
    let failed = |error: std::io::Error| Error::world(error.to_string(), "");
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(failed)?;
        let begun = Instant::now();
        let rows = match line.strip_prefix("pull ") {
            Some(sql) => pull(&session, sql).await.map(|rows| vec![vec![Some(rows.to_string())]]),
            None => ask(&session, &line).await,
        };
        let wall = begun.elapsed().as_secs_f64();
        let answer = match rows {
            Ok(rows) => serde_json::json!({ "rows": rows, "wall": wall }),
            Err(error) => serde_json::json!({ "error": error.to_string() }),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}").and_then(|()| out.flush()).map_err(failed)?;
    }
    Ok(())
}

/// On the workers, as the program does: a plan that computes for long must not hold the thread that reads.
async fn ask(session: &Session, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    let (session, sql) = (session.clone(), sql.to_owned());
    let rows = tokio::spawn(async move { session.rows(&sql).await });
    Ok(rows.await.map_err(|error| Error::world(error.to_string(), ""))??.texts())
}

async fn pull(session: &Session, sql: &str) -> Result<usize> {
    let tasks = session.stream(sql).await?.into_iter().map(|mut part| {
        tokio::spawn(async move {
            let mut rows = 0;
            while let Some(batch) = part.next().await {
                rows += batch?.num_rows();
            }
            Result::Ok(rows)
        })
    });
    let mut rows = 0;
    for task in tasks.collect::<Vec<_>>() {
        rows += task.await.map_err(|error| Error::world(error.to_string(), ""))??;
    }
    Ok(rows)
}
