//! Levels, profile, flow and activity bars of real trades, against the vendor's own bars, and long bars against daily bars of
//! many years. ../shared/data/README.md says where the data comes from and at which rates it agrees.

use anyhow::{Context, Result, ensure};
use market::{Calendar, Segments, Trade, TradeDate, Trades, money};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tests::cluster::{self, Database};
use tests::{store, testdata};
use tokio_postgres::Client;

/// A minute or a day as the vendor has it: open, high, low, close, volume.
type Bar = [f64; 5];

/// The text of the one file of a zip.
fn zipped(path: &Path) -> Result<String> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path)?)?;
    let mut text = String::new();
    archive.by_index(0)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Lean's SPY minutes: minute of New York's day, prices in 1e-4.
fn vendor_minutes(path: &Path) -> Result<BTreeMap<i64, Bar>> {
    let mut bars = BTreeMap::new();
    for line in zipped(path)?.lines() {
        let fields: Vec<f64> = line.split(',').map(str::parse).collect::<Result<_, _>>()?;
        ensure!(fields.len() >= 6, "a bar has six fields: {line}");
        let bar = [fields[1] / 1e4, fields[2] / 1e4, fields[3] / 1e4, fields[4] / 1e4, fields[5]];
        bars.insert(fields[0] as i64 / 60_000, bar);
    }
    Ok(bars)
}

/// Highest, lowest, volume of the minutes `[from, till)`.
fn reach(minutes: &BTreeMap<i64, Bar>, from: i64, till: i64) -> (f64, f64, f64) {
    minutes
        .range(from..till)
        .fold((f64::MIN, f64::MAX, 0.0), |all, (_, bar)| (all.0.max(bar[1]), all.1.min(bar[2]), all.2 + bar[4]))
}

/// Lean's daily bars of SPY, prices in 1e-4, by date.
fn vendor_days(path: &Path) -> Result<Vec<(TradeDate, Bar)>> {
    let mut days = Vec::new();
    for line in zipped(path)?.lines() {
        let (day, rest) = line.split_at(8);
        let day = TradeDate::parse(&format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]))?;
        let fields: Vec<f64> = rest.split(',').skip(1).map(str::parse).collect::<Result<_, _>>()?;
        ensure!(fields.len() >= 5, "a day has five fields: {line}");
        days.push((day, [fields[0] / 1e4, fields[1] / 1e4, fields[2] / 1e4, fields[3] / 1e4, fields[4]]));
    }
    Ok(days)
}

async fn loaded(days: &[&str]) -> Result<Option<(Database, Client)>> {
    let mut files = Vec::new();
    for day in days {
        let Some(file) = testdata(&format!("ticks/spy/{day}_tick.zip")) else { return Ok(None) };
        files.push(file);
    }
    let database = cluster::database("levels").await?;
    let out = database.program("ingest", &["load", "--format", "lean"])?.args(&files).output()?;
    ensure!(out.status.success(), "ingest: {}", String::from_utf8_lossy(&out.stderr));
    let client = database.client().await?;
    client.batch_execute("SET timezone = 'America/New_York'").await?;
    Ok(Some((database, client)))
}

async fn levels(client: &Client, options: &str) -> Result<BTreeMap<String, Option<f64>>> {
    let sql = format!("SELECT level, value FROM market.session_levels('SPY', DATE '2013-10-08'{options})");
    Ok(client.query(&sql, &[]).await?.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_levels_of_spy_are_those_of_the_vendors_bars() -> Result<()> {
    let (Some(minutes), Some(days)) =
        (testdata("ticks/spy/20131008_minute.zip"), testdata("ticks/spy/daily_spy_1998_2021.zip"))
    else {
        return Ok(());
    };
    let Some((_database, client)) = loaded(&["20131007", "20131008"]).await? else { return Ok(()) };
    let found = levels(&client, ", opening_minutes => 15").await?;
    let value = |name: &str| found.get(name).copied().flatten().with_context(|| format!("no {name}: {found:?}"));
    // The day before, from the vendor's daily file: 2013-10-07.
    let days = vendor_days(&days)?;
    let day = |text: &str| -> Result<Bar> {
        let date = TradeDate::parse(text)?;
        days.iter().find(|(day, _)| *day == date).map(|(_, bar)| *bar).context("no such day")
    };
    let (before, today) = (day("2013-10-07")?, day("2013-10-08")?);
    assert_eq!([value("prior_high")?, value("prior_low")?, value("prior_close")?], before[1..4]);
    assert_eq!([value("open")?, value("high")?, value("last")?], [today[0], today[1], today[3]]);
    assert_eq!(value("gap")?, ((today[0] - before[3]) * 1e4).round() / 1e4);
    // The ranges, from the vendor's minutes of 2013-10-08: 9:30 is minute 570.
    let minutes = vendor_minutes(&minutes)?;
    for (name, from, till) in [("overnight", 240, 570), ("opening_range", 570, 585), ("initial_balance", 570, 630)] {
        let (high, low, _) = reach(&minutes, from, till);
        assert_eq!((value(&format!("{name}_high"))?, value(&format!("{name}_low"))?), (high, low), "{name}");
    }
    // Of a day the vendor gives no average; it lies in the day's range and is that of the trades.
    let sql = "SELECT sum(price::numeric * size::numeric) / sum(size::numeric) FROM market.trades
               WHERE symbol = 'SPY' AND trade_date = '2013-10-08' AND segment = 'RTH' AND flags & 4 = 0";
    let vwap: String = client.query_one(&format!("SELECT ({sql})::text"), &[]).await?.get(0);
    assert!((value("vwap")? / vwap.parse::<f64>()? - 1.0).abs() < 1e-12, "{vwap}");
    Ok(())
}

/// By half hours: to the share, but for the auctions. Of each the vendor's minutes hold the first print alone (1,750 and 3,500
/// shares), ours all; and the vendor leaves out 251,688 shares of condition 0x4000000 in the first second.
#[tokio::test(flavor = "multi_thread")]
async fn the_volume_of_spy_is_the_vendors_by_price_by_side_and_by_activity() -> Result<()> {
    let Some(minutes) = testdata("ticks/spy/20131007_minute.zip") else { return Ok(()) };
    let Some((_database, client)) = loaded(&["20131007"]).await? else { return Ok(()) };
    let minutes = vendor_minutes(&minutes)?;
    let flow = client
        .query(
            "SELECT (EXTRACT(hour FROM bar_at) * 60 + EXTRACT(minute FROM bar_at))::int8, volume, unknown_volume, trades
             FROM market.session_flow('SPY', '30m', DATE '2013-10-07', DATE '2013-10-07')",
            &[],
        )
        .await?;
    assert_eq!(flow.len(), 13);
    let one = |sql: &str| {
        let sql = sql.to_owned();
        let client = &client;
        async move { Ok::<f64, anyhow::Error>(client.query_one(&sql, &[]).await?.get::<_, f64>(0)) }
    };
    let auction = |flag: u32| {
        format!("SELECT sum(size) FROM market.trades WHERE symbol = 'SPY' AND flags & 4 = 0 AND flags & {flag} <> 0")
    };
    let (opening, closing) =
        (one(&auction(market::flags::AUCTION_OPEN)).await?, one(&auction(market::flags::AUCTION_CLOSE)).await?);
    let mut all = 0.0;
    for row in &flow {
        let (minute, volume): (i64, f64) = (row.get(0), row.get(1));
        let auctions = match minute {
            570 => opening - 1750.0 + 251_688.0,
            930 => closing - 3500.0,
            _ => 0.0,
        };
        assert_eq!(volume, reach(&minutes, minute, minute + 30).2 + auctions, "the half hour from minute {minute}");
        // The tape of US equities has no side.
        assert_eq!(row.get::<_, f64>(2), volume);
        all += volume;
    }
    let count: i64 = flow.iter().map(|row| row.get::<_, i64>(3)).sum();
    assert_eq!(
        one("SELECT sum(volume) FROM market.session_profile('SPY', DATE '2013-10-07', bin => 0.01)").await?,
        all
    );
    for (kind, threshold) in [("ticks", "1000"), ("volume", "100000"), ("notional", "1e8")] {
        let call = format!("market.activity_ohlc('SPY', '{kind}', {threshold}, DATE '2013-10-07', DATE '2013-10-07')");
        assert_eq!(one(&format!("SELECT sum(volume) FROM {call}")).await?, all);
        assert_eq!(one(&format!("SELECT sum(trades)::float8 FROM {call}")).await?, count as f64);
        let amount = match kind {
            "ticks" => "trades",
            "volume" => "volume",
            _ => "volume * vwap",
        };
        let short =
            format!("SELECT count(*)::float8 FROM {call} WHERE complete <> ({amount} >= {threshold} * (1 - 1e-12))");
        assert_eq!(one(&short).await?, 0.0, "{kind}");
    }
    // The profile reaches from the day's low to its high where prices are set, and its areas hold what they must.
    let sql = "SELECT min(price) FILTER (WHERE tpo > 0), max(price) FILTER (WHERE tpo > 0), max(tpo)::int4,
                      sum(volume) FILTER (WHERE in_value_area), count(*) FILTER (WHERE is_poc), count(*) FILTER (WHERE is_tpo_poc)
               FROM market.session_profile('SPY', DATE '2013-10-07', bin => 0.01)";
    let row = client.query_one(sql, &[]).await?;
    let (high, low, _) = reach(&minutes, 570, 960);
    // The vendor's prices have four decimals, rows two.
    let row_of = |price: f64| ((price * 1e4).round() / 100.0).floor() / 100.0;
    assert_eq!((row.get::<_, f64>(0), row.get::<_, f64>(1)), (row_of(low), row_of(high)));
    assert!(row.get::<_, i32>(2) <= 13 && row.get::<_, f64>(3) >= 0.7 * all, "{row:?}");
    assert_eq!((row.get::<_, i64>(4), row.get::<_, i64>(5)), (1, 1));
    Ok(())
}

/// Where retention dropped the trades, minute bars tell the same prices, at their minutes; what needs trades says so.
#[tokio::test(flavor = "multi_thread")]
async fn levels_outlive_the_trades() -> Result<()> {
    let (database, client, id) = store::fresh("outlive", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let mut chance = store::Chance::new(71);
    for session in store::sessions(&calendar, "2025-11-26", "2025-11-28")? {
        store::put(&client, id, &store::session_trades(&mut chance, &session, 300, true)).await?;
    }
    let levels = "SELECT level, value, date_trunc('minute', at) AS at, kind, state FROM market.session_levels('X', DATE '2025-11-28', segments => 'ETH')";
    let querycli = |sql: &str| -> Result<String> {
        let out = database.program("querycli", &["--format", "csv", "-c", sql])?.output()?;
        Ok(String::from_utf8(out.stdout)? + &String::from_utf8(out.stderr)?)
    };
    let before = (store::texts(&client, levels).await?, querycli(levels)?);
    assert_eq!((before.0.len(), before.1.lines().count()), (15, 16), "{before:?}");
    client
        .batch_execute("DELETE FROM market.trade_blocks; UPDATE market.session_bars SET trades_dropped_at = now()")
        .await?;
    assert_eq!((store::texts(&client, levels).await?, querycli(levels)?), before);
    for call in [
        "session_profile('X', DATE '2025-11-28')",
        "session_flow('X', '1h', DATE '2025-11-28', DATE '2025-11-28')",
        "activity_ohlc('X', 'ticks', 5, DATE '2025-11-26', DATE '2025-11-28')",
    ] {
        let sql = format!("SELECT * FROM market.{call}");
        let error = client.query(&sql, &[]).await.err().context("made of trades")?;
        assert_eq!(error.code().map(|code| code.code()), Some("55000"), "{call}");
        assert!(querycli(&sql)?.contains("retention dropped"), "{call}");
    }
    Ok(())
}

/// A bar of several days: its first session, and what they come to if there is anything.
type Long = (TradeDate, Option<Bar>);

/// Sessions in groups by a rule that gets a session's number within its year and its date; days without a bar add nothing.
fn grouped(sessions: &[TradeDate], days: &BTreeMap<i32, Bar>, group: &dyn Fn(usize, TradeDate) -> i64) -> Vec<Long> {
    let mut bars: Vec<(i64, Long)> = Vec::new();
    let (mut year, mut nth) = (0, 0);
    for session in sessions {
        let (this, _) = session.year_month();
        (year, nth) = if this == year { (year, nth + 1) } else { (this, 0) };
        let key = group(nth, *session);
        if bars.last().is_none_or(|(last, _)| *last != key) {
            bars.push((key, (*session, None)));
        }
        if let (Some((_, all)), Some(bar)) = (bars.last_mut(), days.get(&session.0)) {
            all.1 = Some(match all.1 {
                Some(a) => [a[0], a[1].max(bar[1]), a[2].min(bar[2]), bar[3], a[4] + bar[4]],
                None => *bar,
            });
        }
    }
    bars.into_iter().map(|(_, bar)| bar).collect()
}

/// Days, weeks, months, quarters, years and runs of days of SPY from 1998 to 2021, with every fill: the vendor's daily bars as
/// trades (open, high, low, close of a day), put together again from blocks and rows. A month, a quarter and a year are left
/// out, so that there is something to fill.
#[tokio::test(flavor = "multi_thread")]
async fn long_bars_are_the_vendors_days_put_together() -> Result<()> {
    let Some(file) = testdata("ticks/spy/daily_spy_1998_2021.zip") else { return Ok(()) };
    let vendor = vendor_days(&file)?;
    ensure!(vendor.len() > 5000, "{} days", vendor.len());
    let (_db, client, id) = store::fresh("long_bars", "XNYS").await?;
    let calendar = Calendar::builtin("XNYS")?;
    let fixed = |x: f64| money::from_f64("price", x);
    let left_out = |day: TradeDate| {
        let (year, month) = day.year_month();
        (year, month) == (2009, 8) || (year == 2012 && (4..=6).contains(&month)) || year == 2016
    };
    let (mut days, mut rows) = (BTreeMap::new(), Vec::new());
    for (day, bar) in vendor.iter().filter(|(day, _)| !left_out(*day)) {
        let Some(session) = calendar.session(*day)? else { continue };
        let (open, close) = session.open(Segments::RTH).zip(session.close(Segments::RTH)).context("regular hours")?;
        let mut trades = Trades::new();
        for (at, price) in bar.iter().take(4).enumerate() {
            let ts = open + (close - open) / 4 * at as i64;
            let size = if at == 0 { fixed(bar[4])? } else { 0 };
            trades.push(Trade { ts, seq: at as i64, price: fixed(*price)?, size, ..Trade::default() });
        }
        // The last weeks stay rows.
        if *day < TradeDate::parse("2021-02-01")? {
            store::put(&client, id, &trades).await?;
        } else {
            rows.extend(trades.iter());
        }
        days.insert(day.0, *bar);
    }
    store::insert(&client, id, &rows).await?;
    let (first, last) = (vendor[0].0, vendor[vendor.len() - 1].0);
    let sessions: Vec<TradeDate> = calendar.sessions(first, last)?.map(|session| session.trade_date).collect();
    println!("{} days of the vendor's {} are stored, {} sessions", days.len(), vendor.len(), sessions.len());
    let year = |day: TradeDate| i64::from(day.year_month().0);
    let month = |day: TradeDate| i64::from(day.year_month().1) - 1;
    type Group = Box<dyn Fn(usize, TradeDate) -> i64>;
    let groups: [(&str, Group); 7] = [
        ("1d", Box::new(|_, day| i64::from(day.0))),
        // 1970-01-01 was a Thursday.
        ("1w", Box::new(|_, day| i64::from((day.0 + 3).div_euclid(7)))),
        ("1mo", Box::new(move |_, day| year(day) * 12 + month(day))),
        ("1q", Box::new(move |_, day| year(day) * 4 + month(day) / 3)),
        ("1y", Box::new(move |_, day| year(day))),
        ("5d", Box::new(move |nth, day| year(day) * 1000 + nth as i64 / 5)),
        ("21d", Box::new(move |nth, day| year(day) * 1000 + nth as i64 / 21)),
    ];
    for (timeframe, group) in &groups {
        let all = grouped(&sessions, &days, group);
        for fill in ["none", "previous", "null"] {
            let mut close = None;
            let mut expected: Vec<(String, Option<[f64; 4]>, f64)> = Vec::new();
            for (date, bar) in &all {
                let prices = match (bar, fill) {
                    (Some(bar), _) => Some([bar[0], bar[1], bar[2], bar[3]]),
                    (None, "none") => continue,
                    (None, "previous") => close.map(|close| [close; 4]),
                    (None, _) => None,
                };
                close = prices.map(|prices| prices[3]).or(close);
                expected.push((date.to_string(), prices, bar.map_or(0.0, |bar| bar[4])));
            }
            // Nothing was traded outside the regular hours, so that they and the whole session are the same.
            for segments in ["RTH", "ETH"] {
                let sql = format!(
                    "SELECT trade_date::text, open, high, low, close, volume FROM market.session_ohlc('X', '{timeframe}', DATE '{first}', DATE '{last}',
                     segments => '{segments}', fill => '{fill}') ORDER BY 1"
                );
                let rows = client.query(&sql, &[]).await?;
                let price = |row: &tokio_postgres::Row, at: usize| row.get::<_, Option<f64>>(at);
                let found: Vec<(String, Option<[f64; 4]>, f64)> = rows
                    .iter()
                    .map(|row| {
                        let prices = [price(row, 1), price(row, 2), price(row, 3), price(row, 4)];
                        let prices = match prices {
                            [Some(o), Some(h), Some(l), Some(c)] => Some([o, h, l, c]),
                            _ => None,
                        };
                        (row.get(0), prices, row.get(5))
                    })
                    .collect();
                let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
                assert_eq!(differs, None, "{timeframe} {fill} {segments}: found, expected");
                assert_eq!(found.len(), expected.len(), "{timeframe} {fill} {segments}");
            }
        }
        println!("{timeframe}: {} groups, equal with every fill", all.len());
    }
    Ok(())
}

/// Databento's statistics of ESZ4 on 2023-11-20, from a live capture of theirs: settlement first preliminary, then final.
#[tokio::test(flavor = "multi_thread")]
async fn databentos_statistics_become_what_levels_read() -> Result<()> {
    let Some(file) = testdata("ticks/databento/test_data.live.dbn.zst") else { return Ok(()) };
    let database = cluster::database("statistics").await?;
    for turn in [4, 0] {
        let out = database.program("ingest", &["load", "--format", "dbn"])?.arg(&file).output()?;
        ensure!(out.status.success(), "ingest: {}", String::from_utf8_lossy(&out.stderr));
        let text = String::from_utf8_lossy(&out.stdout).to_string();
        let line = text.lines().find(|line| line.starts_with("statistics")).context("no line of statistics")?;
        assert!(line.contains(" 4  (") && line.contains(&format!("({turn} new)")), "{text}");
    }
    let client = database.client().await?;
    let sql = "SELECT trade_date::text, stat, value, status, (EXTRACT(epoch FROM ts) * 1000000)::int8
               FROM market.session_stat('ESZ24', '2023-11-20', '2023-11-21') ORDER BY stat";
    let rows: Vec<(String, String, f64, Option<String>, i64)> =
        client.query(sql, &[]).await?.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4))).collect();
    let stat = |name: &str, value, status: Option<&str>, ts| {
        ("2023-11-20".to_owned(), name.to_owned(), value, status.map(str::to_owned), ts)
    };
    assert_eq!(
        rows,
        [
            stat("cleared_volume", 8.0, None, 1_700_533_390_288_188),
            stat("open_interest", 1768.0, None, 1_700_533_390_288_188),
            stat("preliminary_settlement", 4753.75, Some("actual"), 1_700_519_938_386_227),
            stat("settlement", 4753.75, Some("actual"), 1_700_526_715_410_284),
        ]
    );
    let sql = "SELECT value, kind, state FROM market.session_levels('ESZ24', '2023-11-21') WHERE level = 'prior_close'";
    let row = client.query_one(sql, &[]).await?;
    assert_eq!(
        (row.get::<_, f64>(0), row.get::<_, String>(1), row.get::<_, String>(2)),
        (4753.75, "settlement".into(), "final".into())
    );
    Ok(())
}
