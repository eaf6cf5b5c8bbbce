//! Copies of a database that others read: a hot standby answers like its primary and takes over from it, and logical
//! replication of all tables carries everything that happens to trades.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Trade, Trades};
use tests::cluster::{self, add_settings, durable, until};
use tests::store::{self, Chance, insert, put, same, seal, sessions, texts, verify, view};
use tokio_postgres::Client;
use xtask::prefix::Install;
use xtask::server::{Server, run};

/// What a reader may ask; each must be answered without writing anything.
const QUESTIONS: &[&str] = &[
    "SELECT * FROM market.session_ohlc('X', '5m', '2025-11-20', '2025-12-05', segments => 'ALL')",
    "SELECT * FROM market.session_ohlc('X', '30s', '2025-11-20', '2025-12-05', segments => 'ETH', fill => 'previous')",
    "SELECT * FROM market.session_ohlc('X', '1d', '2025-11-20', '2025-12-05', segments => 'RTH')",
    "SELECT * FROM market.session_ohlc('X', '1w', '2025-11-20', '2025-12-05')",
    "SELECT * FROM market.session_ohlc(ARRAY['X'], '1h', '2025-11-20', '2025-12-05')",
    "SELECT * FROM market.trades_between('X', '-infinity', 'infinity')",
    "SELECT trade_date, segment, count(*), market.ohlc(price, size, ts, seq) FROM market.trades WHERE symbol = 'X' GROUP BY 1, 2 ORDER BY 1, 2",
    "SELECT * FROM market.verify_bars('X', '2025-11-01', '2025-12-31')",
    "SELECT * FROM market.explain_bar('X', '1h', '2025-11-26 15:00+00')",
    "SELECT * FROM market.sessions('ACME', '2025-11-20', '2025-12-05')",
    "SELECT market.trade_date('2025-12-02 15:00+00', 'ACME'), market.segment('2025-12-02 15:00+00', 'ACME'),
            market.session_bucket('1h', '2025-12-02 15:00+00', 'ACME'), market.is_session('2025-12-02', 'ACME')",
    "SELECT id, version FROM market.calendars WHERE id IN ('ACME', 'XNYS') ORDER BY 1",
    "SELECT market.instrument_id('X'), market.instrument_id('Y')",
    "SELECT instrument_id, trade_date, trades, marks, state FROM market.live_sessions() ORDER BY 1, 2",
    "SELECT * FROM market.retention_plan()",
    "SELECT * FROM market.session_bars ORDER BY instrument_id, trade_date, segment",
    "SELECT * FROM market.trade_corrections ORDER BY id",
    "SELECT * FROM market.dead_letters ORDER BY id",
];

const ACME: &str = r#"schema = 1
id = "ACME"
tz = "America/New_York"
main = "RTH"
known = [2025-11-01, 2025-12-31]
[[hours]]
days = "mon-fri"
PRE  = "04:00-09:30"
RTH  = "09:30-16:00"
POST = "16:00-20:00"
[holidays]
"Thanksgiving" = "4th thu nov"
"#;

async fn answers(client: &Client) -> Result<Vec<String>> {
    let mut all = view(client, "X").await?;
    ensure!(all.len() > 500, "too little to compare: {}", all.len());
    for sql in QUESTIONS {
        all.extend(texts(client, sql).await?.into_iter().map(|row| format!("{sql}: {row}")));
    }
    Ok(all)
}

/// A session's life in rounds, each of which changes what a copy must show.
struct Life {
    id: i32,
    calendar: Calendar,
    chance: Chance,
    trades: Vec<Trades>,
}

impl Life {
    async fn begin(client: &Client) -> Result<Life> {
        client.batch_execute("CREATE EXTENSION bellwether").await?;
        client.execute("SELECT market.calendar_define($1)", &[&ACME]).await?;
        client.batch_execute("SELECT market.calendar_publish('ACME')").await?;
        let id = store::instrument(client, "X", "ACME").await?;
        store::instrument(client, "Y", "ACME").await?;
        let calendar = Calendar::from_toml(ACME)?;
        let mut chance = Chance::new(71);
        let days = sessions(&calendar, "2025-11-26", "2025-12-02")?;
        let trades = store::generate(&mut chance, &days, 300);
        Ok(Life { id, calendar, chance, trades })
    }

    /// Blocks, rows, late rows of sealed sessions, a bust, a correction.
    async fn store(&mut self, client: &Client) -> Result<()> {
        let days = sessions(&self.calendar, "2025-11-26", "2025-12-02")?;
        put(client, self.id, &self.trades[0]).await?;
        insert(client, self.id, &self.trades[1].iter().collect::<Vec<_>>()).await?;
        seal(client, "X", &days[1]).await?;
        insert(client, self.id, &self.trades[2].iter().step_by(2).collect::<Vec<_>>()).await?;
        seal(client, "X", &days[2]).await?;
        insert(client, self.id, &self.trades[2].iter().collect::<Vec<_>>()).await?;
        self.correct(client, self.trades[0].get(7)).await
    }

    async fn correct(&mut self, client: &Client, t: Trade) -> Result<()> {
        let name = format!(
            "'X', timestamptz 'epoch' + {} * interval '1 microsecond', {}, ns => {}::int2, sub => {}::int2",
            t.ts.div_euclid(1000),
            t.seq,
            t.ts.rem_euclid(1000),
            t.sub
        );
        let call = match self.chance.once_in(2) {
            true => format!("SELECT market.bust_trade({name})"),
            false => format!("SELECT market.correct_trade({name}, price => 42, size => 7)"),
        };
        assert_eq!(texts(client, &call).await?, ["t"], "{call}");
        Ok(())
    }

    /// Seals what is late, so that blocks, minute bars and session bars are updated; other rows and a bust come.
    async fn revise(&mut self, client: &Client) -> Result<()> {
        for day in sessions(&self.calendar, "2025-11-26", "2025-12-02")? {
            seal(client, "X", &day).await?;
        }
        put(client, self.id, &self.trades[3]).await?;
        let late: Vec<Trade> = self.trades[3].iter().step_by(9).map(|t| Trade { seq: t.seq + 100, ..t }).collect();
        insert(client, self.id, &late).await?;
        self.correct(client, self.trades[1].get(11)).await?;
        self.correct(client, self.trades[3].get(3)).await?;
        client
            .batch_execute("SELECT market.set_policy('seal', 'trades', options => '{\"quiet\": \"0 seconds\"}')")
            .await?;
        client.batch_execute("CALL market.maintain()").await?;
        let failed = "SELECT job, last_error FROM market.job_status WHERE last_error IS NOT NULL";
        same("failed jobs", &texts(client, failed).await?, &[]);
        Ok(())
    }

    /// Another calendar moves trades; a name goes to another instrument.
    async fn publish(&mut self, client: &Client) -> Result<()> {
        let toml = ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]");
        client.execute("SELECT market.calendar_define($1)", &[&toml]).await?;
        client.batch_execute("SELECT market.calendar_publish('ACME'); UPDATE market.instruments SET symbol = 'Z' WHERE symbol = 'Y'; SELECT market.add_instrument('Y', calendar => 'ACME')").await?;
        Ok(())
    }
}

async fn connect(server: &Server) -> Result<Client> {
    cluster::connect(&server.url("postgres")).await
}

/// Waits until the standby has replayed what the primary has written by now.
async fn replayed(primary: &Client, standby: &Client) -> Result<()> {
    let written = texts(primary, "SELECT pg_current_wal_lsn()").await?;
    let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{}'::pg_lsn", written[0]);
    until("the standby has replayed everything", || async { Ok(texts(standby, &sql).await? == ["t"]) }).await
}

#[tokio::test]
async fn a_hot_standby_answers_like_its_primary_and_takes_over() -> Result<()> {
    let (primary, _lifeline) = durable("primary", "autovacuum = off")?;
    let client = connect(&primary).await?;
    let mut life = Life::begin(&client).await?;
    life.store(&client).await?;

    let standby = Server::at(&Server::directory(&format!("standby-{}", std::process::id())))?;
    standby.remove()?;
    standby.install(&Install::built()?)?;
    let _standby_lifeline = standby.remove_at_exit()?;
    let mut copy = primary.tool("pg_basebackup")?;
    copy.arg("-D").arg(standby.dir().join("data")).args(["-R", "-c", "fast", "-d"]).arg(primary.url("postgres"));
    run(&mut copy)?;
    add_settings(
        &standby,
        &format!(
            "unix_socket_directories = '{}'\nhot_standby_feedback = on\nwal_receiver_status_interval = 1s",
            standby.dir().display()
        ),
    )?;
    standby.start()?;
    // one connection from the beginning to the end: what it keeps in memory must follow the primary
    let reader = connect(&standby).await?;
    assert_eq!(texts(&reader, "SELECT pg_is_in_recovery()").await?, ["t"]);
    same("as copied", &answers(&reader).await?, &answers(&client).await?);

    life.revise(&client).await?;
    replayed(&client, &reader).await?;
    same("revised", &answers(&reader).await?, &answers(&client).await?);
    life.publish(&client).await?;
    replayed(&client, &reader).await?;
    same("published", &answers(&reader).await?, &answers(&client).await?);

    // what a snapshot of the standby sees is not truncated on the primary, once the primary has heard of it
    reader.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    let before = answers(&reader).await?;
    let oldest = texts(&reader, "SELECT pg_snapshot_xmin(pg_current_snapshot())").await?;
    let heard = format!("SELECT backend_xmin::text::int8 <= {} FROM pg_stat_replication", oldest[0]);
    until("the standby's feedback", || async { Ok(texts(&client, &heard).await? == ["t"]) }).await?;
    let slot = texts(&client, "SELECT (market.current_slot() + 12) % 24").await?;
    client
        .batch_execute(&format!(
            "INSERT INTO market.live_trades (instrument_id, ts, seq, price, size, slot)
             SELECT {}, timestamptz '2025-11-26 15:00+00' + n * interval '1 second', 70000 + n, 5, 5, {} FROM generate_series(1, 50) AS n;",
            life.id, slot[0]
        ))
        .await?;
    client.batch_execute("CALL market.maintain('seal')").await?;
    client.batch_execute("CALL market.maintain('slots')").await?;
    let size = format!("SELECT pg_relation_size('market.live_trades_{}') > 0", slot[0]);
    assert_eq!(texts(&client, &size).await?, ["t"], "a snapshot of the standby is older");
    let other = connect(&standby).await?;
    replayed(&client, &other).await?;
    same("an old snapshot of the standby", &answers(&reader).await?, &before);
    reader.batch_execute("COMMIT").await?;
    same("a new one", &answers(&reader).await?, &answers(&client).await?);
    until("the slot is truncated", || async {
        client.batch_execute("CALL market.maintain('slots')").await?;
        Ok(texts(&client, &size).await? == ["f"])
    })
    .await?;
    replayed(&client, &reader).await?;
    same("truncated", &answers(&reader).await?, &answers(&client).await?);

    // who writes there is told so
    for sql in [
        "SELECT market.seal('X', '2025-11-26')",
        "SELECT market.bust_trade('X', '2025-11-26 15:00+00', 1)",
        "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('X', '2025-11-26 15:00+00', 1, 1, 1)",
        "CALL market.maintain()",
    ] {
        let error = reader.batch_execute(sql).await.expect_err("a standby takes no writes");
        let code = error.as_db_error().with_context(|| format!("{sql}: {error}"))?.code().code().to_owned();
        ensure!(["25006", "55000", "0A000"].contains(&code.as_str()), "{sql}: {code} {error}");
    }
    same("after refusals", &answers(&reader).await?, &answers(&client).await?);

    // the primary is gone, the standby goes on
    let last = answers(&client).await?;
    drop(client);
    primary.stop()?;
    assert_eq!(texts(&reader, "SELECT pg_promote(true, 600)").await?, ["t"]);
    same("promoted", &answers(&reader).await?, &last);
    let late = [Trade { seq: 9_999, ..life.trades[0].get(0) }];
    insert(&reader, life.id, &late).await?;
    let held = view(&reader, "X").await?;
    for day in sessions(&life.calendar, "2025-11-26", "2025-12-01")? {
        seal(&reader, "X", &day).await?;
    }
    same("sealed there", &view(&reader, "X").await?, &held);
    same("verify", &verify(&reader, "X").await?, &[]);
    standby.stop()
}

/// Without a replica identity a table refuses updates and deletes as soon as somebody publishes all tables.
#[tokio::test]
async fn every_table_has_a_replica_identity() -> Result<()> {
    let (_db, client, _) = store::fresh("identity", "XNYS").await?;
    client
        .batch_execute(
            "SELECT market.ensure_partitions('2025-11-26'); SELECT market.set_policy('partitions', options => '{\"hash\": 2}');
             SELECT market.ensure_partitions('2024-11-26')",
        )
        .await?;
    // a partitioned table is never asked for its own: its partitions have theirs
    let without = "SELECT c.oid::regclass FROM pg_class AS c
        WHERE c.relnamespace = 'market'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p' AND c.relreplident <> 'f'
          AND NOT EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident))
        ORDER BY 1";
    same("tables", &texts(&client, without).await?, &[]);
    let blocks = "SELECT count(*) FROM pg_class WHERE relname LIKE 'trade^_blocks^_2024%' ESCAPE '^' AND relkind = 'r'";
    assert_eq!(texts(&client, blocks).await?, ["2"]);
    Ok(())
}

#[tokio::test]
async fn logical_replication_of_all_tables_carries_everything() -> Result<()> {
    let (publisher, _lifeline) = durable("publisher", "wal_level = logical")?;
    let (subscriber, _other_lifeline) = durable("subscriber", "")?;
    let client = connect(&publisher).await?;
    let copy = connect(&subscriber).await?;
    let mut life = Life::begin(&client).await?;
    // December in parts by instrument
    let months = "SELECT market.ensure_partitions('2025-11-25'); SELECT market.set_policy('partitions', options => '{\"hash\": 2}');
                  SELECT market.ensure_partitions('2025-12-01')";
    client.batch_execute(months).await?;
    client.batch_execute("CREATE PUBLICATION everything FOR ALL TABLES").await?;
    life.store(&client).await?;
    copy.batch_execute("CREATE EXTENSION bellwether").await?;
    // tables that are not there yet are made by hand; their rows come, the policy's too
    copy.batch_execute(&format!("BEGIN; {months}; DELETE FROM market.policies; COMMIT")).await?;
    let url = publisher.url("postgres");
    copy.batch_execute(&format!("CREATE SUBSCRIPTION everything CONNECTION '{url}' PUBLICATION everything")).await?;
    // maintenance of the publisher makes the months to come, which are no part of what is compared
    let ready = "SELECT NOT EXISTS (SELECT FROM pg_subscription_rel WHERE srsubstate <> 'r')";
    let caught_up = async || -> Result<()> {
        until("the tables are copied", || async { Ok(texts(&copy, ready).await? == ["t"]) }).await?;
        let written = texts(&client, "SELECT pg_current_wal_lsn()").await?;
        let sql = format!(
            "SELECT confirmed_flush_lsn >= '{}'::pg_lsn FROM pg_replication_slots WHERE slot_name = 'everything'",
            written[0]
        );
        until("the subscriber has everything", || async { Ok(texts(&client, &sql).await? == ["t"]) }).await
    };
    caught_up().await?;
    same("as copied", &answers(&copy).await?, &answers(&client).await?);
    life.revise(&client).await?;
    caught_up().await?;
    same("revised", &answers(&copy).await?, &answers(&client).await?);
    life.publish(&client).await?;
    caught_up().await?;
    same("published", &answers(&copy).await?, &answers(&client).await?);
    same("verify", &verify(&copy, "X").await?, &[]);
    copy.batch_execute("ALTER SUBSCRIPTION everything DISABLE; ALTER SUBSCRIPTION everything SET (slot_name = NONE); DROP SUBSCRIPTION everything").await?;
    subscriber.stop()?;
    publisher.stop()
}
