//! `verify_bars` finds what is wrong with what is stored: an error in every column of every table that a sealed session has, and in
//! every byte of both kinds of block. The columns come from the catalog, so that a new one cannot be forgotten.

use anyhow::{Result, ensure};
use market::Calendar;
use tests::store::{self, Chance, fresh, put, sessions, texts, verify};
use tokio_postgres::Client;

/// What maintenance notes of a session, which its trades say nothing of.
const NOTES: [&str; 6] =
    ["sealed_at", "reason", "verified_at", "differences", "trades_dropped_at", "minutes_dropped_at"];

/// Two sealed sessions of `X`, and an instrument `Y` without any.
async fn sealed(name: &str, trades: usize) -> Result<(tests::cluster::Database, Client)> {
    let (database, client, id) = fresh(name, "XNYS").await?;
    store::instrument(&client, "Y", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let mut chance = Chance::new(61);
    for day in sessions(&calendar, "2025-11-25", "2025-11-26")? {
        put(&client, id, &store::session_trades(&mut chance, &day, trades, true)).await?;
    }
    assert_eq!(verify(&client, "X").await?, Vec::<String>::new(), "nothing is planted");
    Ok((database, client))
}

/// Values of a type that differ from what is there.
fn other(column: &str, kind: &str) -> Vec<String> {
    let quoted = format!("\"{column}\"");
    match kind {
        _ if column == "instrument_id" => vec!["2".to_owned()],
        "bytea" => vec![format!("'\\x00'::bytea || {quoted}"), "''".to_owned()],
        "boolean" => vec![format!("NOT {quoted}")],
        "text" if column == "segment" => vec!["CASE segment WHEN 'ON' THEN 'RTH' ELSE 'ON' END".to_owned()],
        "text" if column == "state" => vec!["CASE state WHEN 'revised' THEN 'final' ELSE 'revised' END".to_owned()],
        "date" => vec![format!("{quoted} + 7"), "'2025-11-27'".to_owned()],
        "timestamp with time zone" => {
            vec![format!("{quoted} + interval '1 microsecond'"), format!("{quoted} - interval '1 day'")]
        }
        _ => vec![format!("{quoted} + 1"), format!("{quoted} - 1")],
    }
}

#[tokio::test]
async fn an_error_in_any_column_is_found() -> Result<()> {
    let (_database, client) = sealed("columns", 400).await?;
    let columns = texts(
        &client,
        "SELECT attrelid::regclass, attname, format_type(atttypid, atttypmod) FROM pg_attribute
         WHERE attrelid IN ('market.trade_blocks'::regclass, 'market.bar_blocks'::regclass, 'market.session_bars'::regclass)
           AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum",
    )
    .await?;
    ensure!(columns.len() > 35, "{columns:?}");
    let (mut missed, mut planted) = (Vec::new(), 0);
    for column in &columns {
        let [table, name, kind] = column.split('|').collect::<Vec<_>>()[..] else { continue };
        // a part's number only tells rows apart: blocks are ordered by their first trade
        if table == "market.session_bars" && NOTES.contains(&name) || (table, name) == ("market.trade_blocks", "part") {
            continue;
        }
        for value in other(name, kind) {
            client.batch_execute("BEGIN").await?;
            // one row, and one that has a value
            let sql = format!("UPDATE {table} SET \"{name}\" = {value} WHERE (tableoid, ctid) = (SELECT tableoid, ctid FROM {table}
                WHERE instrument_id = 1 AND trade_date = '2025-11-25' AND \"{name}\" IS NOT NULL ORDER BY 3 DESC LIMIT 1)")
                .replace("ORDER BY 3 DESC ", "");
            match client.execute(&sql, &[]).await {
                Ok(1) => {
                    planted += 1;
                    let mut found = verify(&client, "X").await?;
                    found.extend(verify(&client, "Y").await?);
                    if found.is_empty() {
                        missed.push(format!("{table}.{name} = {value}"));
                    }
                }
                // what a constraint refuses cannot be stored at all
                Err(error) if error.code().is_some_and(|code| code.code().starts_with("23")) => {}
                other => anyhow::bail!("{sql}: {other:?}"),
            }
            client.batch_execute("ROLLBACK").await?;
        }
    }
    ensure!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
    ensure!(planted > 45, "only {planted} errors planted");
    Ok(())
}

#[tokio::test]
async fn an_error_in_any_byte_of_a_block_is_found() -> Result<()> {
    let (_database, client) = sealed("bytes", 120).await?;
    for table in ["trade_blocks", "bar_blocks"] {
        // one bit of each byte, another in each, and every row is as it was afterwards
        let sql = format!(
            "DO $$
             DECLARE
               whole bytea := (SELECT payload FROM market.{table} WHERE instrument_id = 1 AND trade_date = '2025-11-25');
               missed text := '';
             BEGIN
               FOR at IN 0..length(whole) - 1 LOOP
                 UPDATE market.{table} SET payload = set_byte(whole, at, get_byte(whole, at) # (1 << (at % 8)))
                 WHERE instrument_id = 1 AND trade_date = '2025-11-25';
                 IF NOT EXISTS (SELECT FROM market.verify_bars('X', '2025-11-25', '2025-11-25')) THEN
                   missed := missed || ' ' || at;
                 END IF;
               END LOOP;
               UPDATE market.{table} SET payload = whole WHERE instrument_id = 1 AND trade_date = '2025-11-25';
               IF missed <> '' THEN
                 RAISE EXCEPTION 'not found in byte%', missed;
               END IF;
             END $$"
        );
        client.batch_execute(&sql).await?;
        assert_eq!(verify(&client, "X").await?, Vec::<String>::new(), "{table} is as it was");
        let bytes = texts(
            &client,
            &format!("SELECT length(payload) > 500 FROM market.{table} WHERE trade_date = '2025-11-25'"),
        )
        .await?;
        assert_eq!(bytes, ["t"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_row_that_is_gone_or_too_many_is_found() -> Result<()> {
    let (_database, client) = sealed("rows", 300).await?;
    for plant in [
        "DELETE FROM market.trade_blocks WHERE trade_date = '2025-11-25'",
        "DELETE FROM market.bar_blocks WHERE trade_date = '2025-11-25'",
        "DELETE FROM market.session_bars WHERE trade_date = '2025-11-25'",
        "DELETE FROM market.session_bars WHERE trade_date = '2025-11-25' AND segment = 'RTH'",
        "INSERT INTO market.session_bars SELECT (b).* FROM (SELECT b FROM market.session_bars AS b WHERE trade_date = '2025-11-25' AND segment = 'RTH') AS s
           ON CONFLICT DO NOTHING; UPDATE market.session_bars SET trade_date = '2025-11-28' WHERE trade_date = '2025-11-26' AND segment = 'PRE'",
        "UPDATE market.bar_blocks AS a SET payload = b.payload, n = b.n FROM market.bar_blocks AS b WHERE a.trade_date = '2025-11-25' AND b.trade_date = '2025-11-26'",
        "UPDATE market.trade_blocks AS a SET payload = b.payload, n = b.n FROM market.trade_blocks AS b WHERE a.trade_date = '2025-11-25' AND b.trade_date = '2025-11-26'",
        "INSERT INTO market.trade_blocks SELECT instrument_id, trade_date, part + 1, n, first_ts, first_ns, first_seq, first_sub, last_ts, last_ns, last_seq, last_sub, payload
           FROM market.trade_blocks WHERE trade_date = '2025-11-25'",
    ] {
        client.batch_execute("BEGIN").await?;
        client.batch_execute(plant).await?;
        ensure!(!verify(&client, "X").await?.is_empty(), "not found: {plant}");
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(())
}
