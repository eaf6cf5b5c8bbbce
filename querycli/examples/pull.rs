//! How fast do trades reach Arrow? `cargo run --release -p querycli --example pull -- --db URL` (or `--archive DIR`) reads all
//! trades as the columns a query asks for, drops them, and prints trades, wall and CPU seconds of this process.

use futures_util::StreamExt;
use querycli::{Options, Session};
use std::time::Instant;

#[tokio::main]
async fn main() -> querycli::Result<()> {
    let (mut options, mut columns) = (Options::default(), "symbol, ts, price, size".to_owned());
    let mut arguments = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (arguments.next(), arguments.next()) {
        match name.as_str() {
            "--db" => options.db = Some(value),
            "--archive" => options.archive = Some(value),
            "--columns" => columns = value,
            _ => return Err(querycli::Error::question(format!("unknown option {name}"), "--db, --archive, --columns")),
        }
    }
    let session = Session::open(options).await?;
    for _ in 0..3 {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        let parts = session.stream(&format!("SELECT {columns} FROM trades")).await?;
        let tasks = parts.into_iter().map(|mut part| {
            tokio::spawn(async move {
                let mut rows = 0;
                while let Some(batch) = part.next().await {
                    rows += batch?.num_rows();
                }
                querycli::Result::Ok(rows)
            })
        });
        let mut rows = 0;
        for task in tasks.collect::<Vec<_>>() {
            rows += task.await.map_err(|error| querycli::Error::world(error.to_string(), ""))??;
        }
        let (wall, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        println!("{rows} trades, {wall:.3} s wall, {cpu:.3} s CPU: {:.1} M trades/s", rows as f64 / wall / 1e6);
    }
    Ok(())
}

/// User and system time of this process, of `/proc/self/stat`, whose clock ticks 100 times a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}
