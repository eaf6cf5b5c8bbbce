//! Every bad input gets a clear error with its SQLSTATE, changes nothing, and leaves the server standing.

use anyhow::{Context, Result};
use market::{Calendar, Trade, Trades, block, flags};
use tests::cluster;
use tests::store::{self, Chance, put, put_bytes, sessions, state, texts};
use tokio_postgres::Client;

async fn client(name: &str) -> Result<(Client, i32)> {
    let client = cluster::database(name).await?.client().await?;
    let id = store::instrument(&client, "SPY", "XNYS").await?;
    Ok((client, id))
}

/// SQLSTATE, message and hint.
async fn refusal(client: &Client, sql: &str) -> Result<(String, String, String)> {
    let error = client.simple_query(sql).await.err().with_context(|| format!("{sql} must fail"))?;
    let db = error.as_db_error().with_context(|| format!("{sql}: {error}"))?;
    Ok((db.code().code().to_owned(), db.message().to_owned(), db.hint().unwrap_or_default().to_owned()))
}

async fn refused(client: &Client, code: &str, sql: &str) -> Result<()> {
    let (found, message, hint) = refusal(client, sql).await?;
    assert_eq!(found, code, "{sql}: {message}");
    assert!(!message.is_empty() && (code.starts_with("23") || !hint.is_empty()), "{sql}: {message}; hint: {hint}");
    Ok(())
}

#[tokio::test]
async fn readers_refuse_what_they_do_not_know() -> Result<()> {
    let (client, _) = client("refuse").await?;
    let bars = |symbol: &str, timeframe: &str, first: &str, last: &str, rest: &str| {
        format!("SELECT * FROM market.session_ohlc('{symbol}', '{timeframe}', '{first}', '{last}'{rest})")
    };
    let day = "2025-11-26";
    for (code, sql) in [
        ("42704", bars("SPX", "5m", day, day, "")),
        ("42704", "SELECT * FROM market.trades_between('SPX', '2025-11-26', '2025-11-27')".into()),
        ("42704", "SELECT * FROM market.verify_bars('SPX', '2025-11-26', '2025-11-27')".into()),
        ("42704", "SELECT market.seal('SPX', '2025-11-26')".into()),
        ("42704", "SELECT market.bust_trade('SPX', '2025-11-26', 1)".into()),
        ("42704", "SELECT market.put_trades(77, '')".into()),
        ("42704", "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPX', '2025-11-26', 1, 1, 1)".into()),
        ("42704", "SELECT * FROM market.sessions('XNYX', '2025-11-26', '2025-11-27')".into()),
        ("42704", "SELECT market.add_instrument('QQQ', calendar => 'NYES')".into()),
        ("22008", bars("SPY", "5m", "1890-01-02", day, "")),
        ("22008", bars("SPY", "5m", day, "2090-01-02", "")),
        ("22008", bars("SPY", "1w", "1890-01-02 10:00", "2025-11-26 10:00", "")),
        ("22008", "SELECT market.seal('SPY', '2090-01-03')".into()),
        ("22023", "SELECT market.seal('SPY', '2025-11-27')".into()),
        ("22023", "SELECT market.seal('SPY', '2025-11-30')".into()),
        ("22023", bars("SPY", "5x", day, day, "")),
        ("22023", bars("SPY", "0m", day, day, "")),
        ("22023", bars("SPY", "-5m", day, day, "")),
        ("22023", bars("SPY", "", day, day, "")),
        ("22023", bars("SPY", "99999999999999999999m", day, day, "")),
        ("22023", bars("SPY", "5m", day, "2025-11-25", "")),
        ("22023", bars("SPY", "5m", day, day, ", segments => 'RHT'")),
        ("22023", bars("SPY", "5m", day, day, ", segments => ''")),
        ("22023", bars("SPY", "5m", day, day, ", fill => 'zero'")),
        ("22023", bars("SPY", "5m", day, day, ", clock => 'wall'")),
        ("22023", bars("SPY", "5m", day, day, ", day => 'night'")),
        ("22023", "SET bellwether.source = 'disk'; SELECT * FROM market.session_ohlc('SPY', '5m', '2025-11-26', '2025-11-26')".into()),
        ("22023", "SELECT * FROM market.session_ohlc(NULL, '5m', '2025-11-26', '2025-11-26')".into()),
    ] {
        refused(&client, code, &sql).await?;
        client.batch_execute("RESET bellwether.source").await?;
    }
    for (sql, near) in [
        (bars("SPV", "5m", day, day, ""), "SPY"),
        ("SELECT * FROM market.sessions('XNYX', '2025-11-26', '2025-11-27')".into(), "XNYS"),
    ] {
        let (_, message, hint) = refusal(&client, &sql).await?;
        assert!(hint.contains(near) || message.contains(near), "{sql}: {message}; {hint}");
    }
    Ok(())
}

#[tokio::test]
async fn bad_trades_are_refused_and_nothing_is_stored() -> Result<()> {
    let (client, id) = client("numbers").await?;
    let day = "'2025-11-26 15:00+00'";
    for price in ["'NaN'", "'Infinity'", "'-Infinity'", "1e10", "NULL"] {
        let (code, message, _) = refusal(
            &client,
            &format!("INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', {day}, 1, {price}, 1)"),
        )
        .await?;
        assert!(["22023", "22003"].contains(&code.as_str()), "{price}: {code} {message}");
        let (code, message, _) = refusal(&client, &format!("INSERT INTO market.live_trades (instrument_id, ts, seq, price, size) VALUES ({id}, {day}, 1, {price}, 1)")).await?;
        assert!(["23514", "23502"].contains(&code.as_str()), "{price}: {code} {message}");
    }
    for size in ["'NaN'", "'Infinity'", "-1", "-1e-9", "1e10", "NULL"] {
        let (code, message, _) = refusal(
            &client,
            &format!("INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', {day}, 1, 1, {size})"),
        )
        .await?;
        assert!(["22023", "22003"].contains(&code.as_str()), "{size}: {code} {message}");
        let (code, message, _) = refusal(&client, &format!("INSERT INTO market.live_trades (instrument_id, ts, seq, price, size) VALUES ({id}, {day}, 1, 1, {size})")).await?;
        assert!(["23514", "23502"].contains(&code.as_str()), "{size}: {code} {message}");
    }
    for (column, value) in [("ns", "1000"), ("ns", "-1"), ("sub", "-1")] {
        refused(&client, "22023", &format!("INSERT INTO market.trades (symbol, ts, seq, price, size, {column}) VALUES ('SPY', {day}, 1, 1, 1, {value})")).await?;
        refused(&client, "23514", &format!("INSERT INTO market.live_trades (instrument_id, ts, seq, price, size, {column}) VALUES ({id}, {day}, 1, 1, 1, {value})")).await?;
    }
    for ts in ["'infinity'", "'-infinity'"] {
        let (code, message, _) = refusal(
            &client,
            &format!("INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', {ts}, 1, 1, 1)"),
        )
        .await?;
        assert!(["22008", "22003", "22023"].contains(&code.as_str()), "{ts}: {code} {message}");
    }
    refused(&client, "22023", &format!("SELECT market.correct_trade('SPY', {day}, 1, 5, -1)")).await?;
    refused(&client, "0A000", "UPDATE market.trades SET price = 1").await.or_else(|error| {
        // an empty view has no row to refuse
        if error.to_string().contains("must fail") { Ok(()) } else { Err(error) }
    })?;
    assert_eq!(texts(&client, "SELECT count(*) FROM market.live_trades").await?, ["0"]);
    // what is legal: negative and zero prices, zero sizes, instants no calendar knows
    client
        .batch_execute(
            "INSERT INTO market.trades (symbol, ts, seq, price, size) VALUES ('SPY', '2025-11-26 15:00+00', 1, -37.63, 0),
             ('SPY', '2025-11-26 15:00+00', 2, 0, 1), ('SPY', '1885-01-01', 3, 1, 1), ('SPY', '2199-01-01', 4, 1, 1)",
        )
        .await?;
    assert_eq!(texts(&client, "SELECT count(*) FROM market.trades WHERE symbol = 'SPY'").await?, ["4"]);
    Ok(())
}

#[tokio::test]
async fn writers_need_read_committed() -> Result<()> {
    let (client, _) = client("levels").await?;
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        for call in [
            "market.seal('SPY', '2025-11-26')",
            "market.put_trades(1, '')",
            "market.bust_trade('SPY', '2025-11-26 15:00+00', 1)",
            "market.correct_trade('SPY', '2025-11-26 15:00+00', 1, 1, 1)",
        ] {
            client.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}")).await?;
            refused(&client, "25001", &format!("SELECT {call}")).await?;
            client.batch_execute("ROLLBACK").await?;
        }
    }
    Ok(())
}

/// Everything that answers depend on.
async fn stored(client: &Client) -> Result<Vec<String>> {
    texts(
        client,
        "SELECT 'block', md5(string_agg(md5(payload), '' ORDER BY trade_date, part)), count(*) FROM market.trade_blocks
         UNION ALL SELECT 'minutes', md5(string_agg(md5(payload), '' ORDER BY trade_date)), count(*) FROM market.bar_blocks
         UNION ALL SELECT 'session', md5(string_agg(digest::text, '' ORDER BY trade_date, segment)), count(*) FROM market.session_bars",
    )
    .await
}

#[tokio::test]
async fn bad_payloads_are_refused_whole() -> Result<()> {
    let (client, id) = client("payloads").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-12-01")?;
    let mut chance = Chance::new(41);
    let good = store::session_trades(&mut chance, &days[0], 500, true);
    let next = store::session_trades(&mut chance, &days[1], 500, true);
    put(&client, id, &good).await?;
    let before = stored(&client).await?;
    let refuse = async |what: &str, code: &str, payload: &[u8]| -> Result<()> {
        let result = client.query_one("SELECT * FROM market.put_trades($1, $2)", &[&id, &payload]).await;
        assert_eq!(state(result)?, code, "{what}");
        assert_eq!(stored(&client).await?, before, "{what}");
        Ok(())
    };
    let payload = block::encode_session(&next)?;
    for len in [0, 3, 4, 8, 11, 12, 60, payload.len() / 2, payload.len() - 1] {
        refuse(&format!("cut to {len}"), "XX001", &payload[..len]).await?;
    }
    refuse("a byte more", "XX001", &[&payload[..], &[0]].concat()).await?;
    refuse("another format", "XX001", b"PK\x03\x04 a zip file, not a payload").await?;
    let block = block::encode(&next, 0..next.len())?;
    refuse("a block, not a payload", "XX001", &block).await?;
    let minutes: Vec<u8> =
        client.query_one("SELECT payload FROM market.bar_blocks", &[]).await.context("minute bars")?.get(0);
    refuse("minute bars", "XX001", &block::pack_payload(&[minutes])).await?;
    refuse("no parts", "22023", &block::pack_payload(&[])).await?;
    let both: Trades = good.iter().chain(next.iter()).collect();
    refuse("two sessions", "22023", &block::encode_session(&both)?).await?;
    let halves = [block::encode(&next, 250..next.len())?, block::encode(&next, 0..250)?];
    refuse("parts out of order", "22023", &block::pack_payload(&halves)).await?;
    refuse("a part twice", "22023", &block::pack_payload(&[block.clone(), block.clone()])).await?;
    let beyond: Trades = [Trade { ts: 4_000_000_000_000_000_000, size: 1, ..Trade::default() }].into_iter().collect();
    refuse("beyond the calendar", "22008", &block::encode_session(&beyond)?).await?;
    refuse("over 64 MB", "22023", &vec![0x42; (64 << 20) + 1]).await?;
    put(&client, id, &next).await?;
    Ok(())
}

/// What SQL could not say must not come in by the other door.
#[tokio::test]
async fn a_payload_cannot_hold_what_sql_cannot_say() -> Result<()> {
    let (client, id) = client("say").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let open = sessions(&calendar, "2025-11-26", "2025-11-26")?[0].spans.to_vec()[1].open;
    let t = Trade { ts: open, seq: 1, price: 1, size: 1, ..Trade::default() };
    for (what, trade) in [("sub beyond int2", Trade { sub: 40_000, ..t }), ("negative sub", Trade { sub: -1, ..t })] {
        let one: Trades = [trade].into_iter().collect();
        match put(&client, id, &one).await {
            Err(error) => {
                let db = error
                    .downcast_ref::<tokio_postgres::Error>()
                    .and_then(|e| e.as_db_error())
                    .context("a server error")?;
                assert!(["22003", "22023", "22008"].contains(&db.code().code()), "{what}: {db}");
            }
            Ok(_) => {
                let seen =
                    texts(&client, "SELECT sub, extract(year FROM ts_recv) FROM market.trades WHERE symbol = 'SPY'")
                        .await;
                panic!("{what} is stored, and seen as {seen:?}");
            }
        }
    }
    // the extremes that are legal come back as they were
    let all: Trades = [
        Trade { price: i64::MAX / 4, size: i64::MAX / 4, seq: i64::MIN, ..t },
        Trade {
            price: i64::MIN / 4,
            size: 0,
            seq: i64::MAX,
            sub: i32::from(i16::MAX),
            flags: flags::BLOCK | 1 << 31,
            cond: u32::MAX,
            ..t
        },
    ]
    .into_iter()
    .collect();
    put(&client, id, &all).await?;
    let seen =
        texts(&client, "SELECT seq, sub, flags, cond FROM market.trades WHERE symbol = 'SPY' ORDER BY seq").await?;
    assert_eq!(seen, ["-9223372036854775808|0|0|0", "9223372036854775807|32767|-2147483520|-1"]);
    texts(&client, "SELECT * FROM market.session_ohlc('SPY', '1m', '2025-11-26', '2025-11-26')").await?;
    assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new());
    Ok(())
}

/// xxh3 checksums are mended after the change, so that what is behind them is reached.
fn mend(block: &mut [u8]) {
    let word =
        |b: &[u8], at: usize| b.get(at..at + 4).map_or(0, |w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]) as usize);
    let (pages, columns, core_columns, head) = (
        word(block, 12) & 0xffff,
        usize::from(block.get(6).copied().unwrap_or(0)),
        usize::from(block.get(7).copied().unwrap_or(0)),
        word(block, 16),
    );
    let entry = 64 + 4 * columns;
    let mut zones = [head, head.saturating_add(word(block, 20))];
    for page in 0..pages.min(8) {
        let at = 64 + page * entry;
        for (zone, start) in zones.iter_mut().enumerate() {
            let range = if zone == 0 { 0..core_columns } else { core_columns..columns };
            let len: usize = range.map(|c| word(block, at + 64 + 4 * c) & ((1 << 28) - 1)).sum();
            let (from, end) = (*start, start.saturating_add(len));
            *start = end;
            let Some(sum) = block.get(from..end).map(xxhash_rust::xxh3::xxh3_64) else { continue };
            if let Some(place) = block.get_mut(at + 48 + 8 * zone..at + 56 + 8 * zone) {
                place.copy_from_slice(&sum.to_le_bytes());
            }
        }
    }
    if let Some(bytes) = block.get(..head).map(<[u8]>::to_vec) {
        let mut bytes = bytes;
        if bytes.len() >= 64 {
            bytes[56..64].fill(0);
            let sum = xxhash_rust::xxh3::xxh3_64(&bytes);
            block[56..64].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

#[tokio::test]
async fn any_bytes_leave_the_server_standing() -> Result<()> {
    let (client, id) = client("fuzz").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let days = sessions(&calendar, "2025-11-26", "2025-11-28")?;
    let mut chance = Chance::new(42);
    let trades = store::session_trades(&mut chance, &days[0], 300, true);
    let other = store::session_trades(&mut chance, &days[1], 40, true);
    put(&client, id, &other).await?;
    let mut untouched = block::encode(&trades, 0..trades.len())?;
    let original = untouched.clone();
    mend(&mut untouched);
    assert_eq!(untouched, original, "the mending knows the format");
    let pid = texts(&client, "SELECT pg_backend_pid(), pg_postmaster_start_time()").await?;
    let (mut taken, mut refused) = (0, std::collections::BTreeMap::<String, u32>::new());
    for round in 0..3000 {
        let mut block = original.clone();
        for _ in 0..chance.within(1, 4) {
            // the header and the directory are reached as often as the columns
            let zone = if chance.once_in(2) { 200.min(block.len()) } else { block.len() };
            let at = chance.within(0, zone as i64) as usize;
            match chance.within(0, 5) {
                0 => block[at] = chance.bits() as u8,
                1 => block[at] ^= 1 << chance.within(0, 8),
                2 => block[at] = 0xff,
                3 => block.truncate(at.max(1)),
                _ => {
                    let end = (at + 8).min(block.len());
                    block[at..end].fill(if chance.once_in(2) { 0 } else { 0x7f });
                }
            }
        }
        if round % 4 != 0 {
            mend(&mut block);
        }
        let mut payload = block::pack_payload(&[block]);
        if round % 10 == 9 {
            let at = chance.within(0, 12) as usize;
            payload[at] = chance.bits() as u8;
        }
        client.batch_execute("BEGIN").await?;
        match put_bytes(&client, id, &payload).await {
            Ok(_) => {
                taken += 1;
                // what is taken can be read and verified
                assert_eq!(store::verify(&client, "SPY").await?, Vec::<String>::new(), "round {round}");
                store::view(&client, "SPY").await?;
                texts(
                    &client,
                    "SELECT * FROM market.session_ohlc('SPY', '30s', '2025-11-26', '2025-11-26', segments => 'ALL')",
                )
                .await?;
            }
            Err(error) => {
                let db = error.downcast_ref::<tokio_postgres::Error>().and_then(|e| e.as_db_error());
                let db = db.with_context(|| format!("round {round}: {error:#}"))?;
                let code = db.code().code().to_owned();
                assert!(["XX001", "22023", "22003", "22008"].contains(&code.as_str()), "round {round}: {code} {db}");
                *refused.entry(code).or_default() += 1;
            }
        }
        client.batch_execute("ROLLBACK").await?;
    }
    println!("{taken} taken, refused {refused:?}");
    assert_eq!(
        texts(&client, "SELECT pg_backend_pid(), pg_postmaster_start_time()").await?,
        pid,
        "the same server process"
    );
    assert_eq!(put(&client, id, &trades).await?.added, trades.len() as i64);
    Ok(())
}
