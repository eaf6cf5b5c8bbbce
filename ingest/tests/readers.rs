//! Every reader on real files, on files cut short, and on any bytes at all.

mod support;

use ingest::columns::{Mapping, Rules};
use ingest::feed::format::{Format, Reading};
use ingest::feed::{Batch, Broken, Names};
use ingest::input::{self, Input};
use market::money::{ONE, to_f64};
use market::trade::{NONE_I64, Trade, flags};
use proptest::prelude::*;
use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use support::testdata;

/// All of a file: trades with their symbols, refused lines, and how it ended.
#[derive(Default)]
struct All {
    trades: Vec<(String, Trade)>,
    rejects: Vec<(u64, String)>,
    end: Option<Broken>,
}

fn read(path: &Path, reading: &Reading) -> All {
    let mut all = All::default();
    let mut names = Names::new(HashMap::new());
    let result = input::open(path, &Default::default(), &mut |input| {
        let result = drain(input, reading, &mut names, &mut all);
        all.end = all.end.take().or(result.err());
        Ok(())
    });
    all.end = all.end.take().or(result.err());
    all
}

fn drain(input: Input<'_>, reading: &Reading, names: &mut Names, all: &mut All) -> Result<(), Broken> {
    let mut feed = reading.feed(input, names)?;
    loop {
        let mut batch = Batch::default();
        let result = feed.fill(&mut batch, names);
        let list = names.since(0);
        all.trades
            .extend(batch.names.iter().zip(batch.trades.iter()).map(|(n, t)| (list[*n as usize].symbol.clone(), t)));
        all.rejects.extend(batch.rejects.into_iter().map(|r| (r.line, r.reason)));
        if !result? {
            return Ok(());
        }
    }
}

fn format(format: Format) -> Reading {
    Reading { format: Some(format), ..Reading::default() }
}

fn temporary(bytes: &[u8], name: &str) -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(name);
    std::fs::File::create(&path).and_then(|mut f| f.write_all(bytes)).expect("room for a file");
    (dir, path)
}

#[test]
fn gold_futures_come_with_contract_and_day_from_their_names() {
    let Some(path) = testdata("ticks/gc/20131007_trade.zip") else { return };
    let all = read(&path, &format(Format::Lean));
    assert!(all.end.is_none() && all.rejects.is_empty());
    assert_eq!(all.trades.len(), 40_192);
    let december: Vec<&Trade> = all.trades.iter().filter(|(s, _)| s == "GCZ13").map(|(_, t)| t).collect();
    let first = december[0];
    assert_eq!(market::time::format_instant(first.ts), "2013-10-07T00:00:00.276Z");
    assert_eq!((first.price, first.size, first.seq, december[1].seq), (1_313_700_000_000, ONE, 1, 2));
    assert!(all.trades.iter().any(|(s, t)| s != "GCZ13" && t.size == 0), "zero sizes are kept");
    assert!(all.trades.iter().any(|(s, _)| s == "GCZ15"));
}

#[test]
fn spy_prices_times_and_conditions_are_leans() {
    let Some(path) = testdata("ticks/spy/20131007_tick.zip") else { return };
    let all = read(&path, &Reading::default());
    assert!(all.end.is_none() && all.rejects.is_empty());
    assert_eq!(all.trades.len(), 250_601);
    let (symbol, first) = &all.trades[0];
    // 04:00:00.464 in New York.
    assert_eq!((symbol.as_str(), market::time::format_instant(first.ts).as_str()), ("SPY", "2013-10-07T08:00:00.464Z"));
    assert_eq!((to_f64(first.price), first.cond), (167.41, 0x2000_2000));
    assert!(all.trades.iter().any(|(_, t)| t.flags & flags::AUCTION_CLOSE != 0));
    assert!(all.trades.iter().any(|(_, t)| t.flags & flags::NO_HIGH_LOW != 0));
}

#[test]
fn every_version_of_dbn_gives_the_same_trades() {
    let files = [
        "test_data.trades.dbn",
        "test_data.trades.v1.dbn.zst",
        "test_data.trades.v2.dbn.zst",
        "test_data.trades.v3.dbn.zst",
    ];
    let mut seen: Option<Vec<(String, Trade)>> = None;
    for file in files {
        let Some(path) = testdata(&format!("ticks/databento/dbn_versions/{file}")) else { return };
        let all = read(&path, &Reading::default());
        assert!(all.end.is_none() && all.rejects.is_empty() && all.trades.len() == 2, "{file}: {:?}", all.end);
        let (symbol, trade) = &all.trades[0];
        assert_eq!((symbol.as_str(), to_f64(trade.price), to_f64(trade.size)), ("ESH1", 3720.25, 5.0));
        assert!(trade.ts_recv > trade.ts && trade.seq > 0);
        assert_eq!(*seen.get_or_insert(all.trades.clone()), all.trades, "{file}");
    }
}

#[test]
fn a_schema_without_trades_is_named() {
    for (file, words) in [("test_data.ohlcv-1m.v3.dbn.zst", "ohlcv-1m"), ("test_data.trades.dbz", "DBZ")] {
        let Some(path) = testdata(&format!("ticks/databento/dbn_versions/{file}")) else { return };
        let end = read(&path, &Reading::default()).end.expect("no trades in it");
        assert!(end.reason.contains(words), "{file}: {}", end.reason);
    }
}

#[test]
fn records_of_one_message_get_an_ordinal() {
    let Some(path) = testdata("ticks/databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst") else { return };
    let all = read(&path, &Reading::default());
    assert_eq!((all.trades.len(), all.rejects.len()), (2973, 0));
    let mut pairs: Vec<_> = all.trades.iter().map(|(_, t)| (t.ts, t.seq)).collect();
    pairs.sort_unstable();
    pairs.dedup();
    assert!(pairs.len() < 2973, "(ts, sequence) alone merges trades");
    let mut keys: Vec<_> = all.trades.iter().map(|(_, t)| t.key()).collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 2973, "with the ordinal every trade is itself");
}

#[test]
fn a_binance_capture_keeps_ids_and_the_local_clock() {
    let Some(path) = testdata("ticks/binance/btcusdt_spot_20240809.ndjson.gz") else { return };
    let all = read(&path, &Reading::default());
    assert_eq!((all.trades.len(), all.rejects.len()), (10_147, 0));
    assert!(all.trades.windows(2).all(|w| w[1].1.seq == w[0].1.seq + 1));
    let (symbol, first) = &all.trades[0];
    assert_eq!((symbol.as_str(), first.trade_id, first.ts_recv), ("BTCUSDT", 3_735_693_016, 1_723_161_600_164_378_285));
}

#[test]
fn krakens_answer_is_read_to_the_tenth_of_a_microsecond() {
    let Some(path) = testdata("ticks/kraken/http_trades.json") else { return };
    let all = read(&path, &Reading::default());
    assert_eq!((all.trades.len(), all.rejects.len()), (1000, 0));
    let (symbol, last) = all.trades.last().expect("a thousand");
    assert_eq!((symbol.as_str(), last.ts, last.trade_id), ("XBTUSDT", 1_762_820_035_982_277_900, 10_219_207));
    assert_eq!((last.size, last.flags), (94_430, flags::SELL));
}

const CSV: &str = "\
ts,symbol,price,size,side,trade_id
2024-03-15 13:30:00.000001Z,ESH4,5100.25,3,buy,1
2024-03-15 13:30:00.000001Z,ESH4,5100.50,1,s,2
2024-03-15 13:30:01Z,ESH4,NaN,1,,3
2024-03-15 13:30:02Z,ESH4,5100.25,-1,,4
yesterday,ESH4,5100.25,1,,5
2024-03-15 13:30:03Z,ESH4
2024-03-15 13:30:04Z,ESH4,-37.63,0,,7
";

#[test]
fn csv_refuses_single_lines_with_number_and_reason() {
    let (_dir, path) = temporary(CSV.as_bytes(), "t.csv");
    let all = read(&path, &Reading::default());
    assert_eq!(all.end, None);
    let good: Vec<_> = all.trades.iter().map(|(s, t)| (s.as_str(), t.seq, to_f64(t.price), to_f64(t.size))).collect();
    assert_eq!(good, [("ESH4", 1, 5100.25, 3.0), ("ESH4", 2, 5100.5, 1.0), ("ESH4", 7, -37.63, 0.0)]);
    let lines: Vec<_> = all.rejects.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [4, 5, 6, 7]);
    for ((_, reason), words) in all.rejects.iter().zip(["price \"NaN\"", "negative", "time \"yesterday\"", "columns"]) {
        assert!(reason.contains(words), "{reason}");
    }
}

#[test]
fn csv_without_ids_is_numbered_by_line_and_columns_are_what_the_flags_say() {
    let mapping = Mapping {
        no_header: true,
        time_column: Some("1".into()),
        price_column: Some("2".into()),
        size_column: Some("3".into()),
        time_format: Some(ingest::clock::TimeFormat::MsOfDay),
        date: Some("2013-10-07".into()),
        zone: Some("America/New_York".into()),
        price_scale: Some("0.0001".into()),
        symbol: Some("SPY".into()),
        ..Mapping::default()
    };
    let reading = Reading { format: Some(Format::Csv), rules: mapping.check().expect("good flags") };
    let (_dir, path) = temporary(b"14400464,1674100,100\n14400464,1674100,100\n", "x.txt");
    let all = read(&path, &reading);
    let keys: Vec<_> = all.trades.iter().map(|(_, t)| t.seq).collect();
    assert_eq!((keys, all.trades[0].1.price), (vec![1, 2], 167_410_000_000));
    assert_eq!(market::time::format_instant(all.trades[0].1.ts), "2013-10-07T08:00:00.464Z");
}

#[test]
fn a_file_of_another_format_says_which() {
    let Some(path) = testdata("ticks/databento/glbx_trades.dbn.zst") else { return };
    let end = read(&path, &format(Format::Csv)).end.expect("not CSV");
    assert!(end.reason.contains("--format dbn"), "{}", end.reason);
    let (_dir, path) = temporary(CSV.as_bytes(), "t.csv");
    for (asked, words) in [
        (Format::Dbn, "not DBN"),
        (Format::Parquet, "Parquet"),
        (Format::Lean, "--format csv"),
        (Format::Kraken, "Kraken"),
    ] {
        let all = read(&path, &format(asked));
        let end = all.end.expect("another format");
        assert!(end.reason.contains(words) && all.trades.is_empty(), "{asked:?}: {}", end.reason);
    }
}

#[test]
fn a_file_cut_short_gives_its_beginning_and_an_error() {
    for (file, asked) in [
        ("ticks/gc/20131007_trade.zip", Format::Lean),
        ("ticks/databento/esh4-glbx-mdp3-20231225.mbo.dbn.zst", Format::Dbn),
        ("ticks/binance/btcusdt_spot_20240809.ndjson.gz", Format::Binance),
    ] {
        let Some(path) = testdata(file) else { return };
        let whole = read(&path, &format(asked)).trades;
        let bytes = std::fs::read(&path).expect("readable");
        let name = path.file_name().and_then(|n| n.to_str()).expect("a name");
        let (_dir, cut) = temporary(&bytes[..bytes.len() / 2], name);
        let part = read(&cut, &format(asked));
        assert!(part.end.is_some(), "{file} is reported");
        assert!(!part.trades.is_empty() && part.trades.len() < whole.len(), "{file}: {} trades", part.trades.len());
        assert!(part.rejects.is_empty(), "{file}: half a line is not a refused line");
    }
}

#[test]
fn a_plain_dbn_file_cut_inside_a_record_is_truncated() {
    let Some(path) = testdata("ticks/databento/dbn_versions/test_data.trades.dbn") else { return };
    let bytes = std::fs::read(&path).expect("readable");
    let (_dir, cut) = temporary(&bytes[..bytes.len() - 7], "t.dbn");
    let all = read(&cut, &Reading::default());
    assert_eq!(all.trades.len(), 1);
    assert!(all.end.expect("cut").reason.contains("truncated"));
}

mod parquet_files {
    use super::*;
    use arrow::array::{ArrayRef, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};
    use arrow::record_batch::RecordBatch;
    use std::sync::Arc;

    fn write(columns: Vec<(&str, ArrayRef)>) -> Vec<u8> {
        let rows =
            RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).expect("columns");
        let mut out = vec![];
        let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, rows.schema(), None).expect("memory");
        writer.write(&rows).expect("memory");
        writer.close().expect("memory");
        out
    }

    fn times(n: i64) -> ArrayRef {
        let base = 1_710_509_400_000_000_000;
        Arc::new(TimestampNanosecondArray::from_iter_values((0..n).map(|i| base + i)).with_timezone("UTC"))
    }

    #[test]
    fn the_benchmarks_columns_need_no_flags_and_bad_rows_are_refused_alone() {
        let bytes = write(vec![
            ("ts", times(4)),
            ("symbol", Arc::new(StringArray::from(vec![Some("ESH4"), Some("NQH4"), None, Some("ESH4")]))),
            ("price", Arc::new(Float64Array::from(vec![5100.25, f64::NAN, 1.0, 167.4225]))),
            ("size", Arc::new(Float64Array::from(vec![1.0, 1.0, 1.0, 2.0]))),
            ("trade_id", Arc::new(Int64Array::from(vec![11, 12, 13, 14]))),
        ]);
        let (_dir, path) = temporary(&bytes, "t.parquet");
        let all = read(&path, &Reading::default());
        assert_eq!(all.end, None);
        let good: Vec<_> = all.trades.iter().map(|(s, t)| (s.as_str(), t.seq, t.trade_id, t.price)).collect();
        assert_eq!(good, [("ESH4", 11, 11, 5_100_250_000_000), ("ESH4", 14, 14, 167_422_500_000)]);
        assert_eq!(all.rejects.iter().map(|r| r.0).collect::<Vec<_>>(), [2, 3]);
        assert!(all.rejects[0].1.contains("price") && all.rejects[1].1.contains("symbol is missing"));
    }

    #[test]
    fn decimals_text_and_epochs_are_read_exactly() {
        let price = Decimal128Array::from(vec![16_742_250i128, -3763]).with_precision_and_scale(20, 5).expect("fits");
        let bytes = write(vec![
            ("t", Arc::new(Int64Array::from(vec![1_710_509_400_123, 1_710_509_400_124]))),
            ("px", Arc::new(price)),
            ("qty", Arc::new(StringArray::from(vec!["0.00001", "2"]))),
        ]);
        let (_dir, path) = temporary(&bytes, "t.parquet");
        let mapping = Mapping { symbol: Some("BTC-USD".into()), ..Mapping::default() };
        let all = read(&path, &Reading { format: None, rules: mapping.check().expect("good flags") });
        assert_eq!(all.end, None);
        let rows: Vec<_> = all.trades.iter().map(|(_, t)| (t.ts, t.price, t.size, t.seq, t.trade_id)).collect();
        assert_eq!(rows[0], (1_710_509_400_123_000_000, 167_422_500_000, 10_000, 1, NONE_I64));
        assert_eq!(rows[1], (1_710_509_400_124_000_000, -37_630_000, 2 * ONE, 2, NONE_I64));
    }

    #[test]
    fn a_truncated_parquet_file_is_an_error() {
        let bytes = write(vec![("ts", times(2)), ("price", Arc::new(Float64Array::from(vec![1.0, 2.0])))]);
        let (_dir, path) = temporary(&bytes[..bytes.len() - 20], "t.parquet");
        assert!(read(&path, &Reading::default()).end.expect("cut").reason.contains("not a whole Parquet file"));
    }
}

/// A format's own beginning, so that random bytes get past the door.
fn seeds(format: Format) -> Vec<Vec<u8>> {
    let sample = |path: &str| {
        let data = std::env::var_os("BELLWETHER_TESTDATA").map(std::path::PathBuf::from);
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
        std::fs::read(data.unwrap_or(root).join(path)).unwrap_or_default()
    };
    match format {
        Format::Dbn => vec![sample("ticks/databento/dbn_versions/test_data.trades.dbn"), b"DBN\x01\x10\0\0\0".to_vec()],
        Format::Parquet => vec![b"PAR1".to_vec()],
        Format::Csv => vec![CSV.as_bytes().to_vec(), b"ts,price,size,symbol,seq,cond,ts_recv\n".to_vec()],
        Format::Lean => vec![b"276,1313.7,1,usa,,0\n14400464,1674100,100,P,20002000,0\n".to_vec()],
        Format::Binance => vec![
            b"1723161600164378285 {\"stream\":\"btcusdt@trade\",\"data\":{\"e\":\"trade\",\"s\":\"BTCUSDT\",\"t\":1,\"p\":\"1.5\",\"q\":\"2\",\"T\":1723161601437,\"m\":true}}\n".to_vec(),
            b"1,0.5,2,1,1723161601437,true,true\n".to_vec(),
        ],
        Format::Kraken => vec![br#"{"error":[],"result":{"XBTUSDT":[["1.5","0.2",1762795433.97,"b","l","",1]],"last":"1"}}"#.to_vec()],
    }
}

const FORMATS: [Format; 6] = [Format::Dbn, Format::Parquet, Format::Csv, Format::Lean, Format::Binance, Format::Kraken];

fn feed_bytes(asked: Format, bytes: &[u8], rules: Rules) {
    let reading = Reading { format: Some(asked), rules };
    for name in ["20131007_gc_tick_trade_201312.csv", "20131007_spy_Trade_Tick.csv", "BTCUSDT-trades-2024-08-09.csv"] {
        let mut all = All::default();
        let mut names = Names::new(HashMap::new());
        let input = Input { label: name.into(), name: name.into(), file: None, reader: Box::new(bytes) };
        let _ = drain(input, &reading, &mut names, &mut all);
        for (symbol, trade) in all.trades {
            assert!(!symbol.is_empty() && trade.size >= 0 && trade.ts != NONE_I64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_give_trades_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2000), at in 0usize..6) {
        feed_bytes(FORMATS[at], &bytes, Rules::default());
    }

    #[test]
    fn a_changed_file_gives_trades_or_an_error(
        at in 0usize..6,
        pick in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        tail in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let seeds = seeds(FORMATS[at]);
        let mut bytes = seeds[pick.index(seeds.len())].clone();
        for (place, value) in changes {
            if !bytes.is_empty() {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
        }
        if tail.len() % 2 == 0 {
            bytes.truncate(cut.index(bytes.len() + 1));
        }
        bytes.extend(tail);
        feed_bytes(FORMATS[at], &bytes, Rules::default());
    }

    #[test]
    fn any_bytes_in_any_packing_give_an_end(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in 0usize..4) {
        let magics: [&[u8]; 4] = [b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b""];
        let mut all = magics[magic].to_vec();
        all.extend(bytes);
        let (_dir, path) = temporary(&all, "t.csv");
        read(&path, &Reading::default());
    }
}
