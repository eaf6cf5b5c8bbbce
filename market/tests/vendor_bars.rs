//! Bars of real trades against the vendor's own bars (QuantConnect Lean samples: SPY and gold, 2013-10-07 and 08).
//!
//! The files are not in the repository: `$BELLWETHER_TESTDATA` or `../shared/data` names the folder; without it these tests
//! say "skipped".

use market::block::{Core, Header, check_block, decode_core, encode_session, unpack_payload};
use market::eligibility::{LEAN_SUSPICIOUS, lean_us_equity};
use market::flags::AUCTION_CLOSE;
use market::money::parse_decimal;
use market::time::{HOUR, MINUTE, SECOND};
use market::{
    Answer, Bar, Calendar, MinuteFold, OhlcRequest, Segments, Session, SessionBar, SessionFold, Timeframe, Trade,
    TradeDate, Trades,
};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

const DAYS: [&str; 2] = ["2013-10-07", "2013-10-08"];

fn data(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("BELLWETHER_TESTDATA").map(PathBuf::from);
    let root = root.unwrap_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")));
    let file = root.join("ticks").join(path);
    if file.exists() {
        return Some(file);
    }
    println!("skipped: no {}", file.display());
    None
}

/// The lines of every file of an archive, with the file's name.
fn lines(archive: PathBuf) -> Vec<(String, String)> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(archive).expect("a file")).expect("a zip archive");
    let mut all = Vec::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).expect("an entry");
        let name = file.name().expect("a name").to_string();
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        all.extend(text.lines().map(|line| (name.clone(), line.to_string())));
    }
    all
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or_else(|_| panic!("a number, not {text}"))
}

fn midnight(day: &str) -> i64 {
    i64::from(TradeDate::parse(day).expect("a date").0) * 24 * HOUR
}

/// A vendor's bar: open, high, low, close in 1e-9, volume in units.
type VendorBar = [i64; 5];

fn vendor_bar(fields: &[&str], price: impl Fn(&str) -> i64) -> VendorBar {
    [price(fields[1]), price(fields[2]), price(fields[3]), price(fields[4]), number(fields[5])]
}

fn ohlc(bar: &Bar) -> [i64; 4] {
    [bar.open, bar.high, bar.low, bar.close]
}

fn units(bar: &Bar) -> i64 {
    i64::try_from(bar.volume / 1_000_000_000).expect("a small volume")
}

/// Prices in SPY's files are dollars times 10,000.
fn dollars(text: &str) -> i64 {
    number(text) * 100_000
}

/// SPY's trades of one day; New York was four hours behind UTC on both.
fn spy_trades(day: &str) -> Option<Trades> {
    let file = data(&format!("spy/{}_tick.zip", day.replace('-', "")))?;
    let start = midnight(day) + 4 * HOUR;
    let lines = lines(file);
    let trades = lines.iter().enumerate().map(|(line, (_, text))| {
        let fields: Vec<_> = text.split(',').collect();
        let suspicious = if fields[5] == "1" { LEAN_SUSPICIOUS } else { 0 };
        let cond = u32::from_str_radix(fields[4], 16).expect("a hexadecimal condition") | suspicious;
        Trade {
            ts: start + number(fields[0]) * 1_000_000,
            seq: line as i64,
            price: dollars(fields[1]),
            size: number(fields[2]) * market::money::ONE,
            flags: lean_us_equity(cond),
            cond,
            ..Trade::default()
        }
    });
    let mut trades: Trades = trades.collect();
    trades.sort_by_key();
    Some(trades)
}

fn spy_bars(day: &str, kind: &str) -> Option<BTreeMap<i64, VendorBar>> {
    let file = data(&format!("spy/{}_{kind}.zip", day.replace('-', "")))?;
    let start = midnight(day) + 4 * HOUR;
    let bar = |text: &String| {
        let fields: Vec<_> = text.split(',').collect();
        (start + number(fields[0]) * 1_000_000, vendor_bar(&fields, dollars))
    };
    Some(lines(file).iter().map(|(_, text)| bar(text)).collect())
}

fn page(trades: &Trades) -> Core {
    let mut core = Core::new();
    core.set(trades, 0..trades.len());
    core
}

fn fold(session: &Session<'_>, timeframe: &str, segments: Segments, core: &Core) -> Vec<SessionBar> {
    let mut fold = SessionFold::new(session, Timeframe::parse(timeframe).expect("a timeframe"), segments);
    fold.push_core(core);
    let mut bars = Vec::new();
    fold.finish(&mut bars);
    bars
}

/// How many of the vendor's bars ours equal: in prices, and in volume.
fn compare(vendor: &BTreeMap<i64, VendorBar>, ours: &[SessionBar]) -> (f64, f64) {
    let ours: BTreeMap<i64, Bar> = ours.iter().map(|bar| (bar.open_at, bar.bar)).collect();
    let (mut prices, mut volumes) = (0, 0);
    for (at, bar) in vendor {
        let Some(our) = ours.get(at) else { continue };
        prices += usize::from(our.priced > 0 && ohlc(our) == bar[..4]);
        volumes += usize::from(units(our) == bar[4]);
    }
    let share = |count: usize| count as f64 / vendor.len() as f64;
    (share(prices), share(volumes))
}

#[test]
fn spy_bars_equal_the_vendors() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    for day in DAYS {
        let Some(trades) = spy_trades(day) else { return };
        let session = calendar.session(TradeDate::parse(day).expect("a date")).expect("known").expect("a session");
        // The vendor's seconds leave out volume that its minutes have, so only prices are compared there.
        for (timeframe, kind, least_prices, least_volumes) in
            [("1m", "minute", 0.996, 0.996), ("1s", "second", 0.9998, 0.9)]
        {
            let Some(vendor) = spy_bars(day, kind) else { return };
            let bars = fold(&session, timeframe, Segments::ETH, &page(&trades));
            let (prices, volumes) = compare(&vendor, &bars);
            println!("SPY {day} {timeframe}: {} bars, prices {prices:.5}, volume {volumes:.5}", vendor.len());
            assert!(prices >= least_prices, "{day} {timeframe} prices {prices}");
            assert!(volumes >= least_volumes, "{day} {timeframe} volume {volumes}");
        }
    }
}

#[test]
fn opening_prints_open_the_first_regular_bar() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    for day in DAYS {
        let Some(trades) = spy_trades(day) else { return };
        let session = calendar.session(TradeDate::parse(day).expect("a date")).expect("known").expect("a session");
        let open = session.open(Segments::RTH).expect("regular hours");
        for (timeframe, kind) in [("1m", "minute"), ("1s", "second")] {
            let Some(vendor) = spy_bars(day, kind) else { return };
            let bars = fold(&session, timeframe, Segments::RTH, &page(&trades));
            // The opening prints came 0.8 s late, behind trades at other prices.
            assert_eq!(ohlc(&bars[0].bar), vendor[&open][..4], "{day} {timeframe}");
        }
    }
}

#[test]
fn closing_prints_belong_to_the_last_regular_bar() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    for (day, volume) in [("2013-10-07", 670_233), ("2013-10-08", 932_825)] {
        let Some(trades) = spy_trades(day) else { return };
        let Some(vendor) = spy_bars(day, "minute") else { return };
        let session = calendar.session(TradeDate::parse(day).expect("a date")).expect("known").expect("a session");
        let close = session.close(Segments::RTH).expect("regular hours");
        let bars = fold(&session, "1m", Segments::ETH, &page(&trades));
        let at = |ts: i64| bars.iter().find(|bar| bar.open_at == ts).expect("a bar").bar;
        // What the vendor's minute from 16:00 holds, and what it leaves out (the data's README).
        assert_eq!(units(&at(close)), volume);
        assert_eq!(ohlc(&at(close)), vendor[&close][..4], "{day} 16:00");
        assert_eq!(ohlc(&at(close - MINUTE)), vendor[&(close - MINUTE)][..4], "{day} 15:59");
        // Prices agree on what closes the day. Of the volume of the closing prints the vendor counts none or the first.
        let closing = trades.iter().filter(|trade| trade.flags & AUCTION_CLOSE != 0 && trade.ts >= close);
        let closing: i64 = closing.map(|trade| trade.size / market::money::ONE).sum();
        let (ours, theirs) = (units(&at(close - MINUTE)), vendor[&(close - MINUTE)][4]);
        assert!((ours - closing..=ours - closing + 3500).contains(&theirs), "{day} 15:59: {theirs} of {ours}");
    }
}

#[test]
fn spy_daily_bars_equal_the_vendors() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    let Some(file) = data("spy/daily_spy_1998_2021.zip") else { return };
    let daily = lines(file);
    for day in DAYS {
        let Some(trades) = spy_trades(day) else { return };
        let date = TradeDate::parse(day).expect("a date");
        let session = calendar.session(date).expect("known").expect("a session");
        let compact = day.replace('-', "");
        let (_, text) = daily.iter().find(|(_, text)| text.starts_with(&compact)).expect("the day");
        let vendor = vendor_bar(&text.split(',').collect::<Vec<_>>(), dollars);
        let bars = fold(&session, "1d", Segments::RTH, &page(&trades));
        assert_eq!(bars.len(), 1);
        println!("SPY {day} daily: vendor {vendor:?}, ours {:?} {}", ohlc(&bars[0].bar), units(&bars[0].bar));
        // Open, high and close agree. The vendor's daily low of 2013-10-08 is 165.37, but its own minutes have 165.36.
        assert_eq!((bars[0].bar.open, bars[0].bar.high, bars[0].bar.close), (vendor[0], vendor[1], vendor[3]), "{day}");
        assert!((bars[0].bar.low - vendor[2]).abs() <= dollars("100"), "{day}");
        let minutes = spy_bars(day, "minute").expect("beside the trades");
        let open = session.open(Segments::RTH).expect("regular hours");
        let lows = minutes.range(open..open + 390 * MINUTE).map(|(_, bar)| bar[2]);
        assert_eq!(lows.min(), Some(bars[0].bar.low), "{day}");
    }
}

/// Every contract's trades of a day, by the contract in the file's name.
fn gold_trades(day: &str) -> Option<BTreeMap<String, Trades>> {
    let file = data(&format!("gc/{}_trade.zip", day.replace('-', "")))?;
    let mut contracts: BTreeMap<String, Trades> = BTreeMap::new();
    for (name, text) in lines(file) {
        let trades = contracts.entry(contract(&name)).or_default();
        let fields: Vec<_> = text.split(',').collect();
        trades.push(Trade {
            ts: midnight(day) + number(fields[0]) * 1_000_000,
            seq: trades.len() as i64,
            price: parse_decimal(fields[1]).expect("a price"),
            size: parse_decimal(fields[2]).expect("a size"),
            ..Trade::default()
        });
    }
    contracts.values_mut().for_each(Trades::sort_by_key);
    Some(contracts)
}

fn contract(name: &str) -> String {
    name.rsplit('_').next().unwrap_or(name).to_string()
}

/// The stretches of sorted trades that belong to one session each.
fn by_session(calendar: &Calendar, trades: &Trades) -> Vec<(TradeDate, Trades)> {
    let mut parts = Vec::new();
    let mut start = 0;
    while start < trades.len() {
        let session = calendar.session_at(trades.ts[start]).expect("a known date");
        let end = trades.lower_bound(session.till);
        parts.push((session.trade_date, trades.slice(start..end)));
        start = end;
    }
    parts
}

#[test]
fn every_gold_minute_equals_the_vendors() {
    let calendar = Calendar::builtin("CME_METALS").expect("a calendar");
    let request = OhlcRequest::new(Timeframe::parse("1m").expect("a timeframe"), Segments::ALL);
    for day in DAYS {
        let Some(contracts) = gold_trades(day) else { return };
        let Some(file) = data(&format!("gc/{}_minute_trade.zip", day.replace('-', ""))) else { return };
        let mut vendor: BTreeMap<String, BTreeMap<i64, VendorBar>> = BTreeMap::new();
        for (name, text) in lines(file) {
            let fields: Vec<_> = text.split(',').collect();
            let price = |text: &str| parse_decimal(text).expect("a price");
            let at = midnight(day) + number(fields[0]) * 1_000_000;
            vendor.entry(contract(&name)).or_default().insert(at, vendor_bar(&fields, price));
        }
        let (mut compared, mut ours) = (0, 0);
        for (contract, bars) in &vendor {
            let mut answer = Answer::new(&calendar, request.clone());
            for (date, trades) in by_session(&calendar, &contracts[contract]) {
                let session = calendar.session(date).expect("known").expect("a session");
                answer.add(&session, &fold(&session, "1m", Segments::ALL, &page(&trades))).expect("known dates");
            }
            let made: BTreeMap<i64, Bar> = answer.finish().iter().map(|bar| (bar.open_at, bar.bar)).collect();
            for (at, bar) in bars {
                let made = made.get(at).unwrap_or_else(|| panic!("{day} {contract}: no bar at {at}"));
                assert_eq!(ohlc(made), bar[..4], "{day} {contract} at {at}");
                compared += 1;
            }
            ours += made.len();
        }
        println!("gold {day}: {compared} of the vendor's minutes are equal; ours are {ours}");
        assert!(compared > 1000);
    }
}

#[test]
fn blocks_and_minute_bars_give_the_bars_of_the_trades() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    let day = DAYS[1];
    let Some(trades) = spy_trades(day) else { return };
    let session = calendar.session(TradeDate::parse(day).expect("a date")).expect("known").expect("a session");
    let payload = encode_session(&trades).expect("sorted trades");
    println!("SPY {day}: {:.2} bytes a trade", payload.len() as f64 / trades.len() as f64);
    let mut again = Trades::new();
    let mut minutes = MinuteFold::new(&session);
    let segments = [Segments::RTH, Segments::ETH, Segments::ALL];
    let cases: Vec<_> = ["1s", "1m", "7m", "1h", "1d"].into_iter().flat_map(|tf| segments.map(|s| (tf, s))).collect();
    let mut folds: Vec<_> = cases
        .iter()
        .map(|(timeframe, segments)| SessionFold::new(&session, Timeframe::parse(timeframe).expect("one"), *segments))
        .collect();
    let mut core = Core::new();
    for part in unpack_payload(&payload).expect("a payload") {
        let block = &payload[part];
        check_block(block, &mut again).expect("a block");
        let header = Header::parse(block).expect("a header");
        for page in 0..header.pages.len() {
            decode_core(&block[..header.core_end], &header, page, &mut core).expect("a page");
            minutes.push(&core);
            folds.iter_mut().for_each(|fold| fold.push_core(&core));
        }
    }
    assert_eq!(again, trades);
    let minutes = minutes.finish();
    for (of_blocks, (timeframe, segments)) in folds.into_iter().zip(cases) {
        let direct = fold(&session, timeframe, segments, &page(&trades));
        let mut bars = Vec::new();
        of_blocks.finish(&mut bars);
        assert_eq!(bars, direct, "{timeframe} {segments}");
        let parsed = Timeframe::parse(timeframe).expect("one");
        if OhlcRequest::new(parsed, segments).minutes_suffice(&session) {
            let mut of_minutes = SessionFold::new(&session, parsed, segments);
            of_minutes.push_minutes(&minutes);
            let mut bars = Vec::new();
            of_minutes.finish(&mut bars);
            assert_eq!(bars, direct, "{timeframe} {segments} of minute bars");
        } else {
            assert!(timeframe == "1s");
        }
    }
    // A second is a thousand milliseconds of the file, so some second holds many trades.
    assert!(fold(&session, "1s", Segments::RTH, &page(&trades)).iter().any(|bar| bar.close_at - bar.open_at == SECOND));
}
