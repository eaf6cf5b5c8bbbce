//! An instrument that row-level security hides is hidden by every function, table and view: all that the catalog has, so that a
//! new one cannot be forgotten. Every call is first made as the owner, for whom it must work: a call that fails anyway would prove nothing.

use anyhow::{Context, Result, bail, ensure};
use futures_util::SinkExt;
use market::Calendar;
use tests::cluster;
use tests::store::{self, Chance, insert, put, sessions, texts};
use tokio_postgres::Client;

/// An id and a price that nothing else has.
const ID: i32 = 424_242;
const PRICE: &str = "98765.25";

/// An argument for a parameter. A new one of another name or type is to be added here.
fn argument(function: &str, name: &str, kind: &str) -> Result<String> {
    let value = match (function, name, kind) {
        ("put_trades", "payload", _) => "(SELECT payload FROM pg_temp.sent)",
        (_, "symbol", _) => "'HIDE'",
        (_, "symbols", _) => "ARRAY['HIDE', 'SEEN']",
        (_, "instrument" | "instrument_id", _) => "424242",
        (_, "timeframe", _) => "'5m'",
        (_, "first", "timestamp with time zone") => "'2025-11-26 00:00+00'",
        (_, "last", "timestamp with time zone") => "'2025-11-29 00:00+00'",
        (_, "till", _) => "'2025-11-26 16:00+00'",
        (_, "first" | "trade_date" | "day", _) => "'2025-11-26'",
        (_, "last", _) => "'2025-11-28'",
        (_, "at", "date") => "'2025-11-26'",
        (_, "ts" | "at" | "from_ts" | "known_at", _) => "'2025-11-26 15:00+00'",
        (_, "seq" | "trade_id", _) => "4711",
        (_, "price" | "size" | "value", _) => "1",
        (_, "action", _) => "'retention'",
        (_, "location" | "source" | "reason" | "note", _) => "'here'",
        (_, "digest", _) => {
            "(SELECT digest FROM market.session_bars WHERE instrument_id = 424242 AND trade_date = '2025-11-26' LIMIT 1)"
        }
        ("put_stats" | "put_stat", "kind", _) => "'settlement'",
        ("session_stat", "kind", _) => "'settlement'",
        (_, "kind", _) => "'ticks'",
        (_, "threshold", _) => "10",
        _ => bail!("{function}: no argument for {name} {kind}; add one to this test"),
    };
    Ok(format!("{value}::{kind}"))
}

/// A function that takes or tells of instruments, and a call of it.
struct Call {
    /// Whether it must be told which instrument.
    names_one: bool,
    sql: String,
}

/// Every function of the schema with such a parameter or column that a writer may call, but the one that answers whether.
async fn calls(owner: &Client) -> Result<Vec<Call>> {
    let rows = owner
        .query(
            "SELECT p.proname::text, p.prokind = 'p', p.pronargs::int4, (p.pronargs - p.pronargdefaults)::int4,
               coalesce(p.proargnames, '{}')::text[], ARRAY(SELECT format_type(t, NULL) FROM unnest(p.proargtypes) WITH ORDINALITY AS u(t, n) ORDER BY n),
               coalesce(p.proargmodes::text[], '{}')
             FROM pg_proc AS p
             WHERE p.pronamespace = 'market'::regnamespace AND p.prokind IN ('f', 'p') AND p.prorettype <> 'trigger'::regtype
               AND p.proname <> 'may_see' AND p.proargnames && ARRAY['symbol', 'symbols', 'instrument', 'instrument_id', 'instruments']
               AND has_function_privilege('market_writer', p.oid, 'EXECUTE') ORDER BY 1, p.oid::regprocedure::text",
            &[],
        )
        .await?;
    let mut all = Vec::new();
    for row in rows {
        let (function, procedure): (String, bool) = (row.get(0), row.get(1));
        let (count, required): (i32, i32) = (row.get(2), row.get(3));
        let (names, types, modes): (Vec<String>, Vec<String>, Vec<String>) = (row.get(4), row.get(5), row.get(6));
        let inputs: Vec<&String> = match modes.is_empty() {
            true => names.iter().collect(),
            false => names
                .iter()
                .zip(&modes)
                .filter(|(_, mode)| ["i", "b", "v"].contains(&mode.as_str()))
                .map(|(n, _)| n)
                .collect(),
        };
        ensure!(types.len() == count as usize, "{function}");
        let given = |at: usize| -> Result<String> {
            Ok(format!("{} => {}", inputs[at], argument(&function, inputs[at], &types[at])?))
        };
        let one = |name: &str| ["symbol", "symbols", "instrument", "instrument_id", "instruments"].contains(&name);
        let mut arguments: Vec<String> = (0..required as usize).map(given).collect::<Result<_>>()?;
        if function == "add_instrument" {
            arguments.push("calendar => 'XNYS'".to_owned());
        }
        let call = |arguments: &[String]| {
            let what = if procedure { "CALL" } else { "SELECT * FROM" };
            format!("{what} market.{function}({})", arguments.join(", "))
        };
        let names_one = inputs[..required as usize].iter().any(|name| one(name));
        all.push(Call { names_one, sql: call(&arguments) });
        // and with the instrument where it need not be named
        for at in (required as usize..count as usize).filter(|at| one(inputs[*at])) {
            arguments.push(given(at)?);
            all.push(Call { names_one: true, sql: call(&arguments) });
        }
    }
    Ok(all)
}

/// What a statement answers, a SELECT undone afterwards: its rows, or its SQLSTATE and all it says.
async fn answer(client: &Client, sql: &str) -> Result<std::result::Result<Vec<String>, (String, String)>> {
    // a procedure may commit
    let undo = !sql.starts_with("CALL ");
    if undo {
        client.batch_execute("BEGIN").await?;
    }
    let answer = client.simple_query(sql).await;
    if undo {
        client.batch_execute("ROLLBACK").await?;
    }
    Ok(match answer {
        Ok(messages) => Ok(messages
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).unwrap_or("-")).collect::<Vec<_>>().join("|"))
                }
                _ => None,
            })
            .collect()),
        Err(error) => {
            let db = error.as_db_error().with_context(|| format!("{sql}: {error}"))?;
            let said = [Some(db.message()), db.hint(), db.detail()].into_iter().flatten().collect::<Vec<_>>().join(" ");
            Err((db.code().code().to_owned(), said))
        }
    })
}

fn tells(row: &str) -> bool {
    row.contains("HIDE") || row.contains(PRICE) || row.split('|').any(|cell| cell == ID.to_string())
}

/// Every relation that a writer may read anything of, and whether it has a column about an instrument.
async fn readable(owner: &Client) -> Result<Vec<(String, bool)>> {
    let sql =
        "SELECT c.oid::regclass::text, EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0
          AND a.attname ~ '(symbol|instrument)')
        FROM pg_class AS c WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_any_column_privilege('market_writer', c.oid, 'SELECT') ORDER BY 1";
    let all: Vec<(String, bool)> = owner.query(sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
    ensure!(all.iter().filter(|(_, of_instruments)| *of_instruments).count() > 20, "{all:?}");
    Ok(all)
}

#[tokio::test]
async fn every_function_and_relation_hides_a_hidden_instrument() -> Result<()> {
    let database = cluster::database("hides").await?;
    let owner = database.client().await?;
    store::instrument(&owner, "SEEN", "XNYS").await?;
    owner.batch_execute(&format!("ALTER SEQUENCE market.instruments_id_seq RESTART {ID}")).await?;
    assert_eq!(store::instrument(&owner, "HIDE", "XNYS").await?, ID);
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-25", "2025-11-28")?;
    let mut chance = Chance::new(95);
    let mut sent = Vec::new();
    for (at, day) in days.iter().enumerate() {
        let mut trades = store::session_trades(&mut chance, day, 60, false);
        trades.price.fill(market::money::price_from_f64(PRICE.parse()?)?);
        if at == days.len() - 1 {
            insert(&owner, ID, &trades.iter().collect::<Vec<_>>()).await?;
        } else {
            put(&owner, ID, &trades).await?;
        }
        sent = market::block::encode_session(&trades)?;
    }
    owner
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('HIDE', '2025-11-26 15:00+00', 4711, 98765.25, 1);
             UPDATE market.live_trades SET trade_id = 4711 WHERE seq = 4711;
             SELECT market.seal('HIDE', '2025-11-26');
             SELECT market.set_policy('retention', keep_sessions => 1);
             INSERT INTO market.session_stats (instrument_id, trade_date, kind, value, source) VALUES (424242, '2025-11-26', 'settlement', 98765.25, 'test');
             SELECT market.note_unsealed();
             SELECT market.set_policy('retention', keep_sessions => 2, symbol => 'HIDE');
             INSERT INTO market.instrument_symbols VALUES (424242, 'HIDDEN', '-infinity');
             INSERT INTO market.feed_gaps (feed, instrument_id, first_missing, last_missing) VALUES ('f', 424242, 1, 2);
             INSERT INTO market.ingest_checkpoints (feed, instrument_id, last_ts, last_seq) VALUES ('f', 424242, '2025-11-26 15:00+00', 1);
             INSERT INTO market.dead_letters (source, instrument_id, reason) VALUES ('test', 424242, 'conflict');
             INSERT INTO market.archived_sessions (instrument_id, trade_date, digest, location) VALUES (424242, '2025-11-25', 1, 'there');
             INSERT INTO market.backfills (what, symbol, at_instrument, at_date) VALUES ('bars', 'HIDE', 424242, '2025-11-25'), ('all', NULL, 424242, '2025-11-25');
             INSERT INTO market.backfills (what, error) VALUES ('all', 'HIDE went wrong');
             INSERT INTO market.job_runs (job, outcome, error) SELECT 'seal', 'failed', 'HIDE went wrong' FROM market.begin_job('seal');
             SELECT market.note_halt('HIDE', '2025-11-25 15:00+00');
             SELECT market.correct_trade('HIDE', ts, seq, price, size, ns, sub) FROM market.trades WHERE symbol = 'HIDE' AND trade_date = '2025-11-25' LIMIT 1;
             CREATE TEMP TABLE sent (payload bytea)",
        )
        .await?;
    owner.execute("INSERT INTO sent VALUES ($1)", &[&sent]).await?;

    let user = format!("{}_writer", database.name);
    owner.batch_execute(&format!("CREATE ROLE \"{user}\" LOGIN NOSUPERUSER IN ROLE market_writer")).await?;
    let other = cluster::connect(&database.url.replace("postgres@", &format!("{user}@"))).await?;
    other.batch_execute("CREATE TEMP TABLE sent (payload bytea)").await?;
    other.execute("INSERT INTO sent VALUES ($1)", &[&sent]).await?;
    owner
        .batch_execute(
            "ALTER TABLE market.instruments ENABLE ROW LEVEL SECURITY;
             CREATE POLICY but_one ON market.instruments FOR SELECT TO market_reader USING (symbol <> 'HIDE')",
        )
        .await?;

    let calls = calls(&owner).await?;
    ensure!(calls.len() > 20, "only {} calls", calls.len());
    let mut wrong = Vec::new();
    for call in &calls {
        // what the digest is, a stranger cannot look up
        if let Err((code, said)) = answer(&owner, &call.sql).await? {
            wrong.push(format!("fails for the owner, so teach this test to call it: {}: {code} {said}", call.sql));
            continue;
        }
        match answer(&other, &call.sql).await? {
            // 42501: not a writer's to call, such as add_instrument
            Err((code, said))
                if (code == "42704" || code == "42501")
                    && (!said.contains("HIDE") || call.names_one)
                    && !said.contains(PRICE) => {}
            Err((code, said)) => wrong.push(format!("{}: {code} {said}", call.sql)),
            Ok(rows) if call.names_one && !rows.is_empty() => wrong.push(format!("{}: {rows:?}", call.sql)),
            Ok(rows) => {
                if let Some(row) = rows.iter().find(|row| tells(row)) {
                    wrong.push(format!("{}: {row}", call.sql));
                }
            }
        }
    }
    let mut told = 0;
    for (relation, of_instruments) in readable(&owner).await? {
        let sql = format!("SELECT * FROM {relation}");
        let tells_owner = texts(&owner, &sql).await?.iter().any(|row| tells(row));
        told += usize::from(tells_owner);
        if of_instruments && !tells_owner {
            wrong.push(format!("{relation} has nothing to hide, so teach this test to fill it"));
        }
        if let Some(row) = texts(&other, &sql).await?.into_iter().find(|row| tells(row)) {
            wrong.push(format!("{relation}: {row}"));
        }
    }
    ensure!(told >= 20, "the owner sees it in {told} relations: this proves little");
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// COPY refuses a table with policies, and writers COPY live rows in; so nobody reads that table.
#[tokio::test]
async fn writers_copy_live_rows_and_nobody_reads_their_table() -> Result<()> {
    let database = cluster::database("copies").await?;
    let owner = database.client().await?;
    let id = store::instrument(&owner, "SEEN", "XNYS").await?;
    let user = format!("{}_writer", database.name);
    owner.batch_execute(&format!("CREATE ROLE \"{user}\" LOGIN NOSUPERUSER IN ROLE market_writer")).await?;
    let writer = cluster::connect(&database.url.replace("postgres@", &format!("{user}@"))).await?;
    let copy = "COPY market.live_trades (instrument_id, ts, seq, price, size) FROM STDIN";
    let mut sink = std::pin::pin!(writer.copy_in(copy).await?);
    let lines = format!("{id}\t2025-11-26 15:00+00\t1\t10.5\t1\n{id}\t2025-11-26 15:01+00\t2\t11\t1\n");
    sink.send(std::io::Cursor::new(lines.into_bytes())).await?;
    ensure!(sink.finish().await? == 2);
    for sql in [
        "SELECT FROM market.live_trades",
        "SELECT FROM market.live_trades_0",
        "DELETE FROM market.live_trades",
        "UPDATE market.live_trades SET price = 1",
    ] {
        assert_eq!(store::state(writer.simple_query(sql).await)?, "42501", "{sql}");
    }
    let rows =
        format!("SELECT seq, price, op FROM market.unsealed_trades({id}, '2025-11-26 15:00:30+00') ORDER BY seq");
    assert_eq!(texts(&writer, &rows).await?, ["2|11|t"]);
    assert_eq!(texts(&writer, "SELECT seq, price FROM market.trades WHERE symbol = 'SEEN'").await?, ["1|10.5", "2|11"]);
    let mark = "SELECT market.bust_trade('SEEN', '2025-11-26 15:00+00', 1), market.correct_trade('SEEN', '2025-11-26 15:01+00', 2, 12, 3)";
    assert_eq!(texts(&writer, mark).await?, ["t|t"]);
    let again = "SELECT market.correct_trade('SEEN', '2025-11-26 15:01+00', 2, 13, 3)";
    assert_eq!(texts(&writer, again).await?, ["t"]);
    assert_eq!(
        texts(&owner, "SELECT seq, price, op FROM market.live_trades ORDER BY 1, 3").await?,
        ["1|10.5|b", "1|10.5|t", "2|13|c", "2|11|t"]
    );
    assert_eq!(texts(&writer, "SELECT market.seal('SEEN', '2025-11-26')").await?, ["4"]);
    assert_eq!(texts(&owner, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
    writer.batch_execute("BEGIN READ ONLY").await?;
    assert_eq!(store::state(writer.simple_query("SELECT market.seal('SEEN', '2025-11-26')").await)?, "25006");
    Ok(())
}

/// Tenants behind one login: the policy goes by a setting, so what one statement may see the next may not.
#[tokio::test]
async fn a_policy_may_go_by_a_setting() -> Result<()> {
    let database = cluster::database("tenants").await?;
    let owner = database.client().await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-26")?;
    for symbol in ["ONE", "TWO"] {
        let id = store::instrument(&owner, symbol, "XNYS").await?;
        put(&owner, id, &store::session_trades(&mut Chance::seeded(7), &days[0], 50, false)).await?;
    }
    owner
        .batch_execute(
            "ALTER TABLE market.instruments ENABLE ROW LEVEL SECURITY;
             CREATE POLICY tenant ON market.instruments FOR SELECT TO market_reader USING (symbol = current_setting('app.tenant', true));
             SET ROLE market_reader",
        )
        .await?;
    for (tenant, other) in [("ONE", "TWO"), ("TWO", "ONE"), ("ONE", "TWO")] {
        owner.batch_execute(&format!("SET app.tenant = '{tenant}'")).await?;
        let bars =
            |symbol: &str| format!("SELECT * FROM market.session_ohlc('{symbol}', '1d', '2025-11-26', '2025-11-26')");
        assert_eq!(texts(&owner, &bars(tenant)).await?.len(), 1, "{tenant}");
        assert_eq!(store::state(owner.simple_query(&bars(other)).await)?, "42704", "{tenant} asks for {other}");
        let blocks =
            "SELECT symbol FROM market.trade_blocks AS b LEFT JOIN market.instruments AS i ON i.id = b.instrument_id";
        assert_eq!(texts(&owner, blocks).await?, [tenant]);
        assert_eq!(texts(&owner, "SELECT DISTINCT symbol FROM market.trades").await?, [tenant]);
    }
    Ok(())
}

/// The first instrument locks tables one after the other, against the order in which others may hold them: it gives way, and tries
/// again until they are free.
#[tokio::test]
async fn the_first_instrument_waits_for_who_is_at_work() -> Result<()> {
    let database = cluster::database("first").await?;
    let (busy, adder) = (database.client().await?, database.client().await?);
    busy.batch_execute("BEGIN; LOCK TABLE market.archived_sessions IN ACCESS SHARE MODE").await?;
    let added = tokio::spawn(async move { store::instrument(&adder, "SEEN", "XNYS").await });
    let waits =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while texts(&busy, waits).await? != ["t"] {
        ensure!(!added.is_finished(), "it did not wait");
        tokio::task::yield_now().await;
    }
    // the other way round: who waits for a table that the adder holds
    busy.batch_execute("LOCK TABLE market.instrument_symbols, market.trade_blocks IN ACCESS SHARE MODE; COMMIT")
        .await?;
    added.await??;
    let without =
        "SELECT count(*) FROM pg_class WHERE oid = 'market.archived_sessions'::regclass AND NOT relrowsecurity";
    assert_eq!(texts(&busy, without).await?, ["0"]);
    Ok(())
}
