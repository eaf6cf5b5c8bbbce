//! Spoilt files of every kind: an answer or an error, never a panic, a hang, or more memory than there is.
//!
//! Whether an answer is right cannot be asked: plain Parquet has no checksums, and a changed digit of a CSV file is a digit.

#![allow(clippy::unwrap_used, reason = "a test that cannot make its files has failed")]

mod objects;

use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray};
use arrow::array::{BooleanArray, Date32Array, StructArray, TimestampNanosecondArray};
use arrow::datatypes::{Field, Int32Type};
use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use objects::Store;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use querycli::{Fault, Options, Session, run_sql};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Trades and what else columns can be.
fn rows(from: i64, count: i64) -> RecordBatch {
    let numbers = || from..from + count;
    let symbols: DictionaryArray<Int32Type> = numbers().map(|n| ["SPY", "QQQ", "IWM"][n as usize % 3]).collect();
    let ticks = numbers().map(|n| 1_764_340_200_000_000_000 + n * 1_000_003);
    let levels =
        ListArray::from_iter_primitive::<Int32Type, _, _>(numbers().map(|n| Some((0..n as i32 % 4).map(Some))));
    let inner: ArrayRef = Arc::new(Int64Array::from_iter(numbers().map(|n| (n % 5 > 0).then_some(n))));
    let venue = StructArray::from(vec![(Arc::new(Field::new("code", inner.data_type().clone(), true)), inner)]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("symbol", Arc::new(symbols)),
        ("ts", Arc::new(TimestampNanosecondArray::from_iter_values(ticks).with_timezone("UTC"))),
        ("seq", Arc::new(Int64Array::from_iter_values(numbers()))),
        (
            "price",
            Arc::new(Float64Array::from_iter(numbers().map(|n| (n % 7 > 0).then_some(680.0 + n as f64 / 100.0)))),
        ),
        ("size", Arc::new(Int64Array::from_iter_values(numbers().map(|n| n % 900)))),
        ("note", Arc::new(StringArray::from_iter(numbers().map(|n| (n % 3 > 0).then(|| format!("trade {n}")))))),
        ("day", Arc::new(Date32Array::from_iter_values(numbers().map(|n| 20_420 + n as i32 / 50)))),
        ("late", Arc::new(BooleanArray::from_iter(numbers().map(|n| Some(n % 2 == 0))))),
        ("levels", Arc::new(levels)),
        ("venue", Arc::new(venue)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true))).unwrap()
}

fn parquet(properties: WriterProperties) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, rows(0, 1).schema(), Some(properties)).unwrap();
    writer.write(&rows(0, 150)).unwrap();
    writer.flush().unwrap();
    writer.write(&rows(150, 50)).unwrap();
    writer.close().unwrap();
    bytes
}

fn arrow(options: IpcWriteOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FileWriter::try_new_with_options(&mut bytes, &rows(0, 1).schema(), options).unwrap();
    // one dictionary for both
    let all = rows(0, 60);
    writer.write(&all.slice(0, 40)).unwrap();
    writer.write(&all.slice(40, 20)).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn texts() -> (String, String) {
    let (mut csv, mut json) = ("symbol,ts,seq,price,size\n".to_owned(), String::new());
    for n in 0..40 {
        let (ts, price) = (format!("2025-11-28T14:30:{n:02}Z"), 680.0 + f64::from(n) / 100.0);
        csv.push_str(&format!("SPY,{ts},{n},{price},100\n"));
        json.push_str(&format!(
            "{{\"symbol\":\"SPY\",\"ts\":\"{ts}\",\"seq\":{n},\"price\":{price},\"in\":{{\"a\":[1]}}}}\n"
        ));
    }
    (csv, json)
}

/// Sound files of every kind.
fn whole() -> Vec<(&'static str, Vec<u8>)> {
    let (csv, json) = texts();
    let array = format!("[{}]", json.trim_end().replace('\n', ","));
    let gzip = |bytes: &[u8]| {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(bytes).unwrap();
        packed.finish().unwrap()
    };
    let plain = WriterProperties::builder();
    let small = || WriterProperties::builder().set_data_page_row_count_limit(40).set_write_batch_size(20);
    let zstd = Compression::ZSTD(ZstdLevel::default());
    let stream = {
        let mut bytes = Vec::new();
        let mut writer = StreamWriter::try_new(&mut bytes, &rows(0, 1).schema()).unwrap();
        writer.write(&rows(0, 40)).unwrap();
        writer.finish().unwrap();
        drop(writer);
        bytes
    };
    let packed = IpcWriteOptions::default().try_with_compression(Some(arrow::ipc::CompressionType::ZSTD)).unwrap();
    let mut files = vec![
        // dictionaries, statistics of pages and the index of pages
        (
            "zstd.parquet",
            parquet(small().set_compression(zstd).set_statistics_enabled(EnabledStatistics::Page).build()),
        ),
        (
            "snappy.parquet",
            parquet(small().set_compression(Compression::SNAPPY).set_bloom_filter_enabled(true).build()),
        ),
        (
            "bare.parquet",
            parquet(
                plain
                    .set_dictionary_enabled(false)
                    .set_statistics_enabled(EnabledStatistics::None)
                    .set_offset_index_disabled(true)
                    .build(),
            ),
        ),
        (
            "second.parquet",
            parquet(
                small()
                    .set_writer_version(WriterVersion::PARQUET_2_0)
                    .set_compression(Compression::LZ4_RAW)
                    .set_column_dictionary_enabled("seq".into(), false)
                    .set_column_encoding("seq".into(), Encoding::DELTA_BINARY_PACKED)
                    .set_column_dictionary_enabled("note".into(), false)
                    .set_column_encoding("note".into(), Encoding::DELTA_BYTE_ARRAY)
                    .build(),
            ),
        ),
        ("file.arrow", arrow(IpcWriteOptions::default())),
        ("stream.arrow", stream),
        ("text.csv", csv.clone().into_bytes()),
        ("lines.json", json.clone().into_bytes()),
        ("array.json", array.into_bytes()),
        ("packed.csv.gz", gzip(csv.as_bytes())),
        ("packed.json.zst", zstd::encode_all(json.as_bytes(), 1).unwrap()),
    ];
    files.push(("packed.arrow", arrow(packed)));
    let packed = zstd::encode_all(&files[0].1[..], 1).unwrap();
    files.push(("packed.parquet.zst", packed));
    files
}

/// SplitMix64: https://prng.di.unimi.it/splitmix64.c
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.roll() % limit.max(1) as u64) as usize
    }
}

/// A spoilt copy.
fn spoilt(whole: &[u8], seed: u64) -> Vec<u8> {
    let mut dice = Dice(seed);
    let mut bytes = whole.to_vec();
    // ends of files say where everything is
    let at = |dice: &mut Dice, bytes: &[u8]| {
        let from = if dice.below(2) == 0 { bytes.len().saturating_sub(1500) } else { 0 };
        from + dice.below(bytes.len() - from)
    };
    match dice.below(6) {
        0 => bytes.truncate(dice.below(whole.len())),
        1 => {
            let from = at(&mut dice, &bytes);
            let till = from + dice.below((bytes.len() - from).min(200));
            bytes.drain(from..till);
        }
        2 => {
            let from = at(&mut dice, &bytes);
            let piece = bytes[from..(from + 1 + dice.below(60)).min(bytes.len())].to_vec();
            let to = at(&mut dice, &bytes);
            bytes.splice(to..to, piece);
        }
        3 => {
            const EXTREME: [i64; 8] =
                [-1, 0, i64::MAX, i64::MIN, 0x7fff_ffff, 0x7fff_ffff_7fff_ffff, 0x0f0f_0f0f_0f0f_0fff, 1 << 40];
            let value = EXTREME[dice.below(8)].to_le_bytes();
            let (from, width) = (at(&mut dice, &bytes), [1, 4, 8][dice.below(3)]);
            let till = (from + width).min(bytes.len());
            bytes[from..till].copy_from_slice(&value[..till - from]);
        }
        _ => {
            for _ in 0..=dice.below(4) {
                let from = at(&mut dice, &bytes);
                bytes[from] ^= 1 << dice.below(8);
            }
        }
    }
    bytes
}

const QUESTIONS: [&str; 4] = [
    "SELECT * FROM t",
    "SELECT count(*) FROM t",
    "SELECT count(*), max(price), min(seq) FROM t WHERE seq >= 45 AND seq < 60",
    "SELECT 1 FROM t",
];

/// What became of a file; an error that is no such file's fault is told.
async fn ask(file: &Path) -> Result<&'static str, String> {
    let session = Session::open(Options { files: vec![file.to_owned()], ..Options::default() });
    let judged = |error: querycli::Error| match error.message.contains("the reader gave up") {
        _ if error.message.contains("a defect") => Err(error.to_string()),
        true => Ok("panics caught"),
        false
            if error.fault == Fault::World && error.message.contains(&*file.file_name().unwrap().to_string_lossy()) =>
        {
            Ok("errors")
        }
        // a column of another name or type
        false if error.message.starts_with("unknown column") || error.message.contains("Cannot cast string") => {
            Ok("errors")
        }
        false => Err(error.to_string()),
    };
    let session = match session.await {
        Ok(session) => session,
        Err(error) => return judged(error),
    };
    let mut worst = "answers";
    for sql in QUESTIONS {
        if let Err(error) = run_sql(&session, sql).await {
            worst = judged(error).map_err(|why| format!("{sql}: {why}"))?;
        }
    }
    Ok(worst)
}

/// The most memory that this program ever held, in MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// `BELLWETHER_SPOILT=3000` asks for more of each kind than the 80 that every run does; `BELLWETHER_SEED` for others,
/// `BELLWETHER_SPOIL=file.arrow` for one kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spoilt_files_are_answered_or_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (count, first) = (number("BELLWETHER_SPOILT").unwrap_or(80), number("BELLWETHER_SEED").unwrap_or(1));
    // those of readers are caught, and counted below
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.location().is_some_and(|place| place.file().ends_with("garbage.rs")) {
            usual(panic);
        }
    }));
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    let only = std::env::var("BELLWETHER_SPOIL").ok();
    for (name, whole) in whole().into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let path = dir.path().join(name);
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(ask(&path).await, Ok("answers"), "{name}");
        let mut outcomes = BTreeMap::<&str, u32>::new();
        for seed in first..first + count {
            std::fs::write(&path, spoilt(&whole, seed)).unwrap();
            // what ends the program leaves its name behind
            print!("{name} {seed}\r");
            let of = path.clone();
            let asked = tokio::spawn(async move { ask(&of).await });
            // no limit of speed: what hangs never ends
            match tokio::time::timeout(Duration::from_secs(300), asked).await {
                Ok(Ok(Ok(outcome))) => *outcomes.entry(outcome).or_default() += 1,
                Ok(Ok(Err(why))) => wrong.push(format!("{name}, seed {seed}: {why}")),
                Ok(Err(panic)) => wrong.push(format!("{name}, seed {seed}: {panic}")),
                Err(_) => wrong.push(format!("{name}, seed {seed}: hangs")),
            }
        }
        println!("{name}: {outcomes:?}, {} MB at most", peak());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // what sessions leave behind, beside the largest piece that was asked for
    let most = 400 + count * 13 / 20;
    assert!(peak() < most, "{} MB, and not {most}", peak());
}

/// What the program says of a spoilt file; `None` where all is well.
fn complaint(mut program: Command) -> Option<String> {
    let out = program.env_remove("RUST_BACKTRACE").output().unwrap();
    let told = String::from_utf8_lossy(&out.stderr).into_owned();
    let fine = match out.status.code() {
        Some(0) => told.is_empty(),
        Some(1) => {
            let known = ["cannot be read", "is no Parquet file", "is empty"];
            told.starts_with("error: ") && known.iter().any(|known| told.contains(known))
        }
        _ => false,
    };
    (!fine || told.contains("panicked")).then(|| format!("{:?} {told}", out.status))
}

#[test]
fn the_program_and_object_stores_tell_of_spoilt_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut objects = BTreeMap::new();
    let mut names = Vec::new();
    for (name, whole) in whole() {
        for seed in 1_000..1_008 {
            let spoilt = spoilt(&whole, seed);
            let name = format!("{seed}.{name}");
            std::fs::write(dir.path().join(&name), &spoilt).unwrap();
            objects.insert(format!("public/{name}"), spoilt);
            names.push(name);
        }
    }
    let store = Store::with(objects);
    let ask = |data: &str| objects::querycli(dir.path(), &store, &[data, "-c", "SELECT * FROM t"]);
    let wrong: Vec<String> = names
        .iter()
        .flat_map(|name| [name.clone(), format!("s3://public/{name}")])
        .filter_map(|data| complaint(ask(&data)).map(|told| format!("{data}: {told}")))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Of several objects the broken one is named, and so are files of a folder.
#[test]
fn a_broken_file_among_whole_ones_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let whole = parquet(WriterProperties::builder().build());
    let length = whole.len();
    let with = |at: usize, bytes: &[u8]| [&whole[..at], bytes, &whole[at + bytes.len()..]].concat();
    // the description's own length; a length in it that is more than memory has; the first page of data
    let broken: [(&str, Vec<u8>, &str); 6] = [
        ("cut", whole[..length - 5].to_vec(), "its end is missing"),
        ("short", b"PAR1".to_vec(), "is too short"),
        ("long", with(length - 8, &u32::MAX.to_le_bytes()), "its end is broken"),
        ("two_gb", with(length - 8, &0x7fff_ffff_u32.to_le_bytes()), "its end is broken"),
        ("garbage", with(length - 200, &[0xff; 150]), "its end is broken"),
        ("page", with(4, &[0xff; 40]), "cannot be read"),
    ];
    let mut objects = BTreeMap::new();
    for (case, bytes, _) in &broken {
        std::fs::create_dir(dir.path().join(case)).unwrap();
        for (name, bytes) in [("0", &whole), ("1", bytes), ("2", &whole)] {
            std::fs::write(dir.path().join(format!("{case}/{name}.parquet")), bytes).unwrap();
            objects.insert(format!("public/{case}/{name}.parquet"), bytes.clone());
        }
    }
    objects.insert("public/empty/0.parquet".into(), Vec::new());
    let store = Store::with(objects);
    let ask = |data: &str| {
        let out = objects::querycli(dir.path(), &store, &[data, "-c", "SELECT * FROM t"]).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for (case, _, told) in &broken {
        for place in ["", "s3://public/"] {
            let (code, error) = ask(&format!("{place}{case}/"));
            let named = format!("error: {place}{case}/1.parquet ");
            assert!(code == Some(1) && error.starts_with(&named) && error.contains(told), "{place}{case}: {error}");
        }
        let (code, error) = ask(&format!("s3://public/{case}/1.parquet"));
        assert!(code == Some(1) && error.contains(told), "{case}: {error}");
    }
    let (code, error) = ask("s3://public/empty/0.parquet");
    assert!(code == Some(1) && error.contains("is empty: nothing tells its columns"), "{error}");
}
