//! Real trades against their vendors' own bars: files loaded with `ingest`, bars from `session_ohlc` and `querycli`.
//! The data is not part of this repository; ../shared/data/README.md says where it comes from and at which rates it
//! agrees.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use tests::cluster::{self, Database};
use tests::testdata;
use tokio_postgres::SimpleQueryMessage;

const MINUTE_MS: i64 = 60_000;

/// Open, high, low, close in 1e-4, and the volume in 1e-8, of a bar by the milliseconds of its open.
type Bars = BTreeMap<i64, ([i64; 4], i64)>;

fn fixed(text: &str, scale: f64) -> Result<i64> {
    Ok((text.parse::<f64>().with_context(|| format!("not a number: {text}"))? * scale).round() as i64)
}

/// Loads files; a rejected line fails the test.
fn load(database: &Database, arguments: &[&str], files: &[&Path]) -> Result<String> {
    let mut ingest = database.program("ingest", &["load"])?;
    let out = ingest.args(arguments).args(files).output()?;
    ensure!(out.status.success(), "ingest: {}", String::from_utf8_lossy(&out.stderr));
    Ok(String::from_utf8_lossy(&out.stdout).to_string())
}

/// Our bars, by SQL.
async fn ours(database: &Database, sql: &str) -> Result<Bars> {
    let client = database.client().await?;
    client.batch_execute("SET timezone = 'UTC'").await?;
    let mut bars = Bars::new();
    let sql = format!("SELECT (EXTRACT(epoch FROM bar_at) * 1000)::int8, open, high, low, close, volume FROM {sql}");
    for message in client.simple_query(&sql).await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let value = |at: usize| row.get(at).unwrap_or("NaN");
        let mut prices = [0; 4];
        for (at, price) in prices.iter_mut().enumerate() {
            *price = if value(at + 1) == "NaN" { -1 } else { fixed(value(at + 1), 1e4)? };
        }
        bars.insert(value(0).parse()?, (prices, fixed(value(5), 1e8)?));
    }
    Ok(bars)
}

/// Each CSV of a zip, by name.
fn zipped(path: &Path) -> Result<Vec<(String, String)>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path)?)?;
    let mut files = Vec::new();
    for at in 0..archive.len() {
        let mut file = archive.by_index(at)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        files.push((file.name()?.to_string(), text));
    }
    Ok(files)
}

/// The bars of one of Lean's files: milliseconds of the day, then prices times `scale` and the volume.
fn lean_bars(text: &str, midnight_ms: i64, scale: f64) -> Result<Bars> {
    let mut bars = Bars::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(',').collect();
        ensure!(fields.len() >= 6, "a bar has six fields: {line}");
        let mut prices = [0; 4];
        for (at, price) in prices.iter_mut().enumerate() {
            *price = fixed(fields[at + 1], 1e4 / scale)?;
        }
        bars.insert(midnight_ms + fields[0].parse::<i64>()?, (prices, fixed(fields[5], 1e8)?));
    }
    Ok(bars)
}

/// How many of the vendor's bars have our prices, and how many our volume.
fn agreement(ours: &Bars, vendors: &Bars) -> (usize, usize) {
    let both: Vec<_> = vendors.iter().filter_map(|(at, bar)| ours.get(at).map(|our| (our, bar))).collect();
    let prices = both.iter().filter(|(our, bar)| our.0 == bar.0).count();
    (prices, both.iter().filter(|(our, bar)| our.1 == bar.1).count())
}

/// `querycli` gives the same rows as PostgreSQL, to the last digit of every price.
async fn both_engines_agree(database: &Database, call: &str) -> Result<()> {
    let sql = format!(
        "SELECT trade_date, bar_at, open, high, low, close, volume, trades FROM market.session_ohlc({call}) ORDER BY bar_at"
    );
    let mut spec = tests::slt::Postgres::connect(database).await?;
    let postgres = sqllogictest::AsyncDB::run(&mut spec, &sql).await?;
    let mut spec = tests::slt::QueryCli::new(database);
    let querycli = sqllogictest::AsyncDB::run(&mut spec, &sql).await?;
    let (sqllogictest::DBOutput::Rows { rows: a, .. }, sqllogictest::DBOutput::Rows { rows: b, .. }) =
        (postgres, querycli)
    else {
        anyhow::bail!("no rows");
    };
    ensure!(!a.is_empty(), "no bars for {call}");
    ensure!(a.len() == b.len(), "{} bars in PostgreSQL, {} in querycli for {call}", a.len(), b.len());
    let differs = a.iter().zip(&b).find(|(a, b)| a != b);
    ensure!(differs.is_none(), "{call}: {differs:?}");
    Ok(())
}

/// COMEX gold, all contracts, two days: every minute's open, high, low and close.
#[tokio::test(flavor = "multi_thread")]
async fn gold_minutes_equal_the_vendors() -> Result<()> {
    let (mut bars, mut equal) = (0, 0);
    for (day, midnight) in [("20131007", 1_381_104_000_000), ("20131008", 1_381_190_400_000)] {
        let Some(trades) = testdata(&format!("ticks/gc/{day}_trade.zip")) else { return Ok(()) };
        let Some(minutes) = testdata(&format!("ticks/gc/{day}_minute_trade.zip")) else { return Ok(()) };
        let database = cluster::database("gold").await?;
        load(&database, &["--format", "lean"], &[&trades])?;
        let from = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        let range = format!("timestamptz '{from} 00:00+00', timestamptz '{from} 00:00+00' + interval '1 day'");
        for (name, text) in zipped(&minutes)? {
            // 20131007_gc_minute_trade_201312.csv is GCZ13.
            let contract = name.trim_end_matches(".csv").rsplit('_').next().context("no contract month")?.to_string();
            let month = b"FGHJKMNQUVXZ"[contract[4..].parse::<usize>()? - 1] as char;
            let symbol = format!("GC{month}{}", &contract[2..4]);
            let vendors = lean_bars(&text, midnight, 1.0)?;
            let our =
                ours(&database, &format!("market.session_ohlc('{symbol}', '1m', {range}, segments => 'ALL')")).await?;
            let (prices, _) = agreement(&our, &vendors);
            bars += vendors.len();
            equal += prices;
            ensure!(our.len() == vendors.len(), "{symbol} {day}: {} bars, vendor {}", our.len(), vendors.len());
        }
        let december = format!(
            "'GCZ13', '1m', TIMESTAMPTZ '{from} 00:00:00+00', TIMESTAMPTZ '{from} 20:00:00+00', segments => 'ETH'"
        );
        both_engines_agree(&database, &december).await?;
    }
    println!("gold: {equal} of {bars} minute bars equal");
    assert!(bars > 2000);
    assert_eq!(equal, bars);
    Ok(())
}

/// SPY by Lean's trades with sale conditions: the rates of the data's README, and the official daily bars.
#[tokio::test(flavor = "multi_thread")]
async fn spy_agrees_with_the_vendor_at_the_known_rates() -> Result<()> {
    // Midnight in New York, which is 04:00 UTC in October.
    for (day, midnight) in [("20131007", 1_381_118_400_000_i64), ("20131008", 1_381_204_800_000)] {
        let Some(ticks) = testdata(&format!("ticks/spy/{day}_tick.zip")) else { return Ok(()) };
        let (Some(seconds), Some(minutes), Some(daily)) = (
            testdata(&format!("ticks/spy/{day}_second.zip")),
            testdata(&format!("ticks/spy/{day}_minute.zip")),
            testdata("ticks/spy/daily_spy_1998_2021.zip"),
        ) else {
            return Ok(());
        };
        let database = cluster::database("spy").await?;
        load(&database, &["--format", "lean"], &[&ticks])?;
        let date = format!("{}-{}-{}", &day[..4], &day[4..6], &day[6..]);
        let call = |timeframe: &str, segments: &str| {
            format!("'SPY', '{timeframe}', DATE '{date}', DATE '{date}', segments => '{segments}'")
        };
        for (timeframe, file, prices_at_least, volume_at_least) in
            [("1m", minutes, 0.996, 0.996), ("1s", seconds, 0.9998, 0.0)]
        {
            let vendors = lean_bars(&zipped(&file)?[0].1, midnight, 1e4)?;
            let our = ours(&database, &format!("market.session_ohlc({})", call(timeframe, "ETH"))).await?;
            let (prices, volume) = agreement(&our, &vendors);
            let share = |n: usize| n as f64 / vendors.len() as f64;
            println!("SPY {day} {timeframe}: {prices} by price, {volume} by volume, of {}", vendors.len());
            ensure!(share(prices) >= prices_at_least, "{timeframe} of {day}: {prices} of {}", vendors.len());
            ensure!(share(volume) >= volume_at_least, "{timeframe} of {day}: {volume} volumes of {}", vendors.len());
            if timeframe == "1m" {
                let last = midnight + 16 * 60 * MINUTE_MS - MINUTE_MS;
                ensure!(our.get(&last).map(|bar| bar.0) == vendors.get(&last).map(|bar| bar.0), "the closing minute");
            }
        }
        let line = zipped(&daily)?[0].1.lines().find(|line| line.starts_with(day)).map(str::to_string);
        let line = line.context("no daily bar")?;
        let mut vendors: Vec<i64> =
            line.split(',').skip(1).take(4).map(|text| fixed(text, 1.0)).collect::<Result<_>>()?;
        if day == "20131008" {
            // The daily file's low is a cent above the low of the same vendor's minutes and trades.
            assert_eq!(vendors[2], 1_653_700);
            vendors[2] = 1_653_600;
        }
        let our = ours(&database, &format!("market.session_ohlc({})", call("1d", "RTH"))).await?;
        let our = our.values().next().context("no daily bar of ours")?;
        assert_eq!(our.0.as_slice(), vendors, "the daily bar of {day}");
        both_engines_agree(&database, &call("1m", "RTH")).await?;
    }
    Ok(())
}

/// Kraken's own candles from Kraken's own trades: every minute, with volume and count.
#[tokio::test(flavor = "multi_thread")]
async fn kraken_minutes_equal_the_exchanges_own() -> Result<()> {
    let Some(trades) = testdata("ticks/kraken/http_trades.json") else { return Ok(()) };
    let Some(candles) = testdata("ticks/kraken/http_ohlc.json") else { return Ok(()) };
    let database = cluster::database("kraken").await?;
    let arguments = ["--format", "kraken", "--calendar", "24/7", "--symbol-map", "XBTUSDT=BTC-USDT"];
    load(&database, &arguments, &[&trades])?;
    let call = "'BTC-USDT', '1m', TIMESTAMPTZ '2025-11-10 00:00:00+00', TIMESTAMPTZ '2025-11-12 00:00:00+00'";
    let our = ours(&database, &format!("market.session_ohlc({call})")).await?;

    let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(candles)?)?;
    let mut vendors = Bars::new();
    for candle in json["result"]["XBTUSDT"].as_array().context("no candles")? {
        let text = |at: usize| candle[at].as_str().unwrap_or_default();
        let prices = [fixed(text(1), 1e4)?, fixed(text(2), 1e4)?, fixed(text(3), 1e4)?, fixed(text(4), 1e4)?];
        // A minute without trades is listed flat.
        if candle[7].as_i64() > Some(0) {
            vendors.insert(candle[0].as_i64().context("no time")? * 1000, (prices, fixed(text(6), 1e8)?));
        }
    }
    // The first and the last minute of the trades may be cut.
    let (first, last) = (our.keys().next().copied(), our.keys().next_back().copied());
    vendors.retain(|at, _| Some(*at) > first && Some(*at) < last);
    let (prices, volume) = agreement(&our, &vendors);
    println!("kraken: {prices} by price, {volume} by volume, of {}", vendors.len());
    assert!(vendors.len() >= 270, "{}", vendors.len());
    assert_eq!((prices, volume), (vendors.len(), vendors.len()));
    both_engines_agree(&database, call).await
}

/// Databento's own minute bars, which count trades by when they were received.
#[tokio::test(flavor = "multi_thread")]
async fn databento_minutes_equal_the_vendors() -> Result<()> {
    let Some(trades) = testdata("ticks/databento/futures_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst") else {
        return Ok(());
    };
    let Some(bars) = testdata("ticks/databento/futures_ohlcv-1m_2024-07-01T23-40_2024-07-02T00-10.dbn.zst") else {
        return Ok(());
    };
    let database = cluster::database("databento").await?;
    load(&database, &["--format", "dbn"], &[&trades])?;
    // Any column of time makes bars with the aggregate.
    let bars_received = "(SELECT date_trunc('minute', ts_recv) AS bar_at, (market.ohlc(price, size, ts_recv, seq)).*
        FROM market.trades_between('ESU24', timestamptz '2024-07-01 23:57+00', timestamptz '2024-07-02 00:03+00')
        WHERE ts_recv >= '2024-07-01 23:58+00' AND ts_recv < '2024-07-02 00:02+00' GROUP BY 1) AS received";
    let our = ours(&database, bars_received).await?;

    use dbn::decode::{DbnMetadata, DecodeRecord};
    let mut decoder = dbn::decode::dbn::Decoder::new(zstd::stream::read::Decoder::new(std::fs::File::open(&bars)?)?)?;
    // The file holds two contracts; their numbers are in its header.
    let mappings = &decoder.metadata().mappings;
    let es = mappings.iter().find(|mapping| mapping.raw_symbol == "ESU4").context("no ESU4 in the file")?;
    let es: u32 = es.intervals.first().context("ESU4 has no number")?.symbol.parse()?;
    let mut vendors = Bars::new();
    while let Some(bar) = decoder.decode_record::<dbn::OhlcvMsg>()? {
        if bar.hd.instrument_id != es {
            continue;
        }
        let prices = [bar.open, bar.high, bar.low, bar.close].map(|price| price / 100_000);
        let volume = i64::try_from(bar.volume)? * 100_000_000;
        vendors.insert(i64::try_from(bar.hd.ts_event / 1_000_000)?, (prices, volume));
    }
    vendors.retain(|at, _| (1_719_878_280_000..1_719_878_520_000).contains(at));
    assert_eq!(vendors.len(), 4);
    assert_eq!(our, vendors);
    // the same without writing SQL: bars by the clock of receipt, in both engines
    let call =
        "'ESU24', '1m', TIMESTAMPTZ '2024-07-01 23:58:00+00', TIMESTAMPTZ '2024-07-02 00:02:00+00', clock => 'recv'";
    assert_eq!(ours(&database, &format!("market.session_ohlc({call})")).await?, vendors);
    both_engines_agree(&database, call).await
}
