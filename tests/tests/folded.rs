//! `GROUP BY` over trades that querycli folds where it decodes their pages gives what DataFusion's own grouping gives, over a
//! database with late rows and over its archive.

use anyhow::{Result, ensure};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tests::cluster;
use tests::store::{self, Chance, flat, generate, insert, seal, sessions};

const BUCKET: &str = "session_bucket('5m', ts, 'XNYS', 'ETH')";

/// Keys and conditions, and whether the scan can fold them.
fn questions() -> Vec<(&'static str, &'static str, bool)> {
    let mut all = Vec::new();
    for (at, keys) in [
        "symbol",
        "trade_date",
        "symbol; trade_date; segment",
        "segment; instrument_id",
        BUCKET,
        "symbol; session_bucket('65m', ts, calendar)",
        "calendar; trade_date; session_bucket('30s', ts, calendar, 'RTH')",
        "session_bucket('1d', ts, calendar, 'PRE+POST')",
        "symbol; date_trunc('minute', ts)",
        "date_trunc('hour', ts); segment",
    ]
    .into_iter()
    .enumerate()
    {
        let conditions = [
            "true",
            "symbol = 'X'",
            "symbol IN ('X', 'F') AND trade_date >= date '2025-11-28'",
            "segment <> 'OFF' AND ts >= timestamptz '2025-11-26 15:00:00.000001+00' AND ts < timestamptz '2025-11-26 20:59:59+00'",
            "trade_date = date '2025-11-28' AND ts <= timestamptz '2025-11-28 18:00:00+00' AND segment IN ('RTH', 'POST')",
            "ts BETWEEN timestamptz '2025-11-26 15:00:00+00' AND timestamptz '2025-12-01 15:00:00+00' OR symbol = 'F'",
            "symbol = 'nobody'",
        ];
        // A few of them with every key, each of them with several.
        for condition in [0, 2, 5].map(|step| conditions[(at + step) % conditions.len()]) {
            all.push((keys, condition, !condition.contains(" OR ")));
        }
    }
    let inside = "session_bucket('5m', ts, 'XNYS', 'ETH') IS NOT NULL";
    all.extend([
        (BUCKET, inside, true),
        ("symbol", inside, false),
        ("symbol; flags", "true", false),
        ("symbol", "random() >= 0", false),
    ]);
    all
}

/// The bars of each group.
fn ask(keys: &str, condition: &str) -> String {
    let keys: Vec<&str> = keys.split("; ").collect();
    let names: Vec<String> = (0..keys.len()).map(|at| format!("k{at}")).collect();
    let named: Vec<String> = keys.iter().zip(&names).map(|(key, name)| format!("{key} AS {name}")).collect();
    format!(
        "SELECT {}, (b).open, (b).high, (b).low, (b).close, (b).volume, (b).notional, (b).trades, (b).priced, (b).first_ts,
                (b).first_seq, (b).last_ts, (b).last_seq, v, n
         FROM (SELECT {}, ohlc(price, size, ts, seq) AS b, vwap(price, size) AS v, count(*) AS n
               FROM trades WHERE {condition} GROUP BY {}) AS bars",
        names.join(", "),
        named.join(", "),
        keys.join(", ")
    )
}

fn check(place: &[&str], script: &Path) -> Result<()> {
    let questions = questions();
    let mut text = String::new();
    for (keys, condition, _) in &questions {
        let (direct, fenced) = (ask(keys, condition), ask(keys, &format!("({condition}) AND price <> 0.123456789")));
        for sql in [format!("EXPLAIN {direct}"), direct, format!("EXPLAIN {fenced}"), fenced] {
            writeln!(text, "SELECT '#' AS mark;\n{sql};")?;
        }
    }
    std::fs::write(script, text)?;
    let mut program = Command::new(tests::program("querycli")?);
    program.args(place).args(["--format", "csv", "-f"]).arg(script);
    let out = program.env_remove("BELLWETHER_DB").env_remove("BELLWETHER_ARCHIVE").output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let answers: Vec<&str> = said.split("mark\n#\n").skip(1).collect();
    ensure!(answers.len() == 4 * questions.len(), "{} answers to {} questions", answers.len(), questions.len());
    for (of, (keys, condition, folded)) in answers.chunks(4).zip(questions) {
        let [plan, found, fenced, wanted] = of else { continue };
        let marked = |plan: &str| plan.contains("folded where trades are decoded");
        assert_eq!((marked(plan), marked(fenced)), (folded, false), "{keys} WHERE {condition}\n{plan}");
        let sorted = |text: &str| {
            let mut rows: Vec<String> = text.lines().map(str::to_owned).collect();
            rows.sort();
            rows
        };
        assert!(wanted.lines().count() > 1 || condition.contains("nobody"), "{keys} WHERE {condition} has no rows");
        store::same(&format!("{place:?}: {keys} WHERE {condition}"), &sorted(found), &sorted(wanted));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn folding_changes_no_group() -> Result<()> {
    let database = cluster::database("folded").await?;
    let client = database.client().await?;
    let folder = tempfile::tempdir()?;
    let mut chance = Chance::new(47);
    let mut late = Vec::new();
    for (symbol, calendar) in [("X", "XNYS"), ("F", "CME_EQUITY")] {
        let id = store::instrument(&client, symbol, calendar).await?;
        let known = market::Calendar::builtin(calendar)?;
        let days = sessions(&known, "2025-11-26", "2025-12-01")?;
        let mut trades = flat(&generate(&mut chance, &days, 700));
        chance.shuffle(&mut trades);
        let (early, rest) = trades.split_at(trades.len() * 4 / 5);
        insert(&client, id, early).await?;
        for day in &days {
            seal(&client, symbol, day).await?;
        }
        late.push((id, rest.to_vec()));
    }
    let (script, archive) = (folder.path().join("script.sql"), folder.path().join("archive"));
    let archive = archive.to_str().unwrap_or_default();
    let mut push = Command::new(tests::program("querycli")?);
    let pushed = push.args(["archive", "push", "--archive", archive, "--db", &database.url]).output()?;
    ensure!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    check(&["--archive", archive], &script)?;
    check(&["--db", &database.url], &script)?;
    for (id, rows) in &late {
        insert(&client, *id, rows).await?;
    }
    check(&["--db", &database.url], &script)
}
