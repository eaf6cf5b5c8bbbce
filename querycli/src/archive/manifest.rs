//! What an archived session is: its files with their hashes, its trades' digest, its bars and its state.
//!
//! The manifest is the commit: files that no manifest names are not in the archive. It is JSON in one fixed spelling, with a
//! hash over itself, so that any changed byte is noticed.

use super::place::Place;
use crate::error::{Error, Result};
use market::TradeDate;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The version of the layout that this program writes. Version 1 had neither halts nor the calendars that come with the program.
pub const FORMAT: u32 = 2;
/// The folder of the manifests.
pub const SESSIONS: &str = "sessions";
/// The folder of the trades.
pub const TRADES: &str = "trades";
/// The folder of the minute bars.
pub const MINUTES: &str = "minutes";
/// The folder of the calendars that users published.
pub const CALENDARS: &str = "calendars";

/// A session of an instrument, archived.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout.
    pub format: u32,
    /// The instrument's own symbol.
    pub symbol: String,
    /// `2025-11-28`.
    pub trade_date: String,
    /// How many trades.
    pub n: u64,
    /// `market::digest` of the trades, 16 hex digits: what `session_bars.digest` holds.
    pub digest: String,
    /// Time of the first trade, nanoseconds since 1970.
    pub first_ts: i64,
    /// Time of the last one.
    pub last_ts: i64,
    /// `provisional`, `final` or `revised`, as the database had it.
    pub state: String,
    /// How often the session was sealed again after it was final.
    pub revision: i32,
    /// When it was sealed, as text.
    pub sealed_at: String,
    /// Version of the calendar its bars are made with.
    pub calendar_version: i32,
    /// The instrument's terms.
    pub instrument: Terms,
    /// Where it came from.
    pub origin: Origin,
    /// The Parquet file.
    pub trades: Content,
    /// The block of minute bars; none if no trade counts for a bar.
    pub minutes: Option<Content>,
    /// The calendar; none for one that comes with the program, in version 1 or where it is made of its name alone.
    pub calendar: Option<Content>,
    /// The session's bars, one a segment.
    pub bars: Vec<SegmentRow>,
    /// When trading stopped; none in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halts: Option<Halts>,
    /// xxh3 of the manifest with this field empty.
    pub checksum: String,
}

/// A file of the archive.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Its name from the archive's root.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// xxh3 (128 bits) of its bytes, 32 hex digits.
    pub xxh3: String,
}

/// An instrument as `market.instruments` has it, numbers as text.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "the columns of market.instruments and market.instrument_terms")]
pub struct Terms {
    pub kind: String,
    pub calendar: String,
    pub venue: Option<String>,
    pub root: Option<String>,
    pub expiry: Option<String>,
    pub currency: Option<String>,
    pub tick_size: Option<String>,
    pub multiplier: Option<String>,
}

/// The database that a session was read from.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `pg_control_system().system_identifier`.
    pub system_identifier: String,
    /// The timeline: another one after a point-in-time recovery.
    pub timeline: i32,
    /// The database's name.
    pub database: String,
}

/// A row of `market.session_bars`, as PostgreSQL prints it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct SegmentRow {
    pub segment: String,
    pub opens_at: Option<String>,
    pub closes_at: Option<String>,
    pub open: Option<String>,
    pub high: Option<String>,
    pub low: Option<String>,
    pub close: Option<String>,
    pub volume: String,
    pub notional: String,
    pub trades: i64,
    pub priced: i64,
}

/// The halts of a session, and of the days before it that have none.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct Halts {
    /// When the database was asked.
    pub known_at: String,
    /// The instrument's session before, as the database had it: what ended by its end is not here. None: its first.
    pub after: Option<String>,
    /// `market.session_halts`, in its order.
    pub noted: Vec<HaltRow>,
}

/// A halt as `market.calendar_exceptions` has it, times as PostgreSQL prints them in UTC.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(deny_unknown_fields)]
pub struct HaltRow {
    pub calendar: String,
    pub trade_date: String,
    pub whole_market: bool,
    pub kind: String,
    pub from_ts: String,
    pub till_ts: Option<String>,
    pub note: Option<String>,
    pub source: String,
}

impl Content {
    /// Of bytes that are to be written under a name.
    pub fn of(file: String, bytes: &[u8]) -> Content {
        Content { file, bytes: bytes.len() as u64, xxh3: hash(bytes) }
    }

    /// Whether these are the bytes.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        if self.bytes != bytes.len() as u64 {
            return Err(changed(&self.file, &format!("it has {} bytes, not {}", bytes.len(), self.bytes)));
        }
        match hash(bytes) == self.xxh3 {
            true => Ok(()),
            false => Err(changed(&self.file, "its bytes are not those that were written")),
        }
    }

    /// Its bytes, checked.
    ///
    /// # Errors
    /// A file that is gone or changed.
    pub fn read(&self, place: &Place) -> Result<bytes::Bytes> {
        self.checked(place.read(&self.file)?)
    }

    /// What was read of it, checked.
    ///
    /// # Errors
    /// A file that is gone or changed.
    pub fn checked(&self, read: Option<bytes::Bytes>) -> Result<bytes::Bytes> {
        let bytes = read.ok_or_else(|| changed(&self.file, "it is not there"))?;
        self.check(&bytes)?;
        Ok(bytes)
    }
}

fn hash(bytes: &[u8]) -> String {
    format!("{:032x}", xxh3_128(bytes))
}

/// An archived file is not what was written.
pub fn changed(file: &str, how: &str) -> Error {
    Error::world(
        format!("archived file {file}: {how}"),
        "bring it back from a copy, or push the session again from a database that has its trades",
    )
}

impl Manifest {
    /// The bytes to write; the checksum is made here.
    ///
    /// # Errors
    /// None that a manifest of ours can have.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let spell = |manifest: &Manifest| -> Result<Vec<u8>> {
            let mut bytes = serde_json::to_vec_pretty(manifest)
                .map_err(|error| Error::world(format!("a manifest cannot be written: {error}"), ""))?;
            bytes.push(b'\n');
            Ok(bytes)
        };
        let bare = Manifest { checksum: String::new(), ..self.clone() };
        let checksum = hash(&spell(&bare)?);
        spell(&Manifest { checksum, ..bare })
    }

    /// Reads and checks one; `file` is its name.
    ///
    /// # Errors
    /// Any byte that is not as it was written; a layout this program does not know.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Manifest> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|error| match format_of(bytes) {
            Some(format) if format > FORMAT => Error::world(
                format!("archived file {file} is of format {format}; this querycli reads up to {FORMAT}"),
                "use a newer querycli",
            ),
            _ => changed(file, &format!("it is no manifest: {error}")),
        })?;
        // written again it must be the same, to the last space
        if manifest.to_bytes()? != bytes {
            return Err(changed(file, "its checksum is wrong"));
        }
        if !(1..=FORMAT).contains(&manifest.format) || (manifest.format == 1) != manifest.halts.is_none() {
            return Err(changed(file, "its format is not what it holds"));
        }
        if manifest.file()? != file {
            return Err(changed(file, &format!("it is the manifest of {}", manifest.name())));
        }
        Ok(manifest)
    }

    /// The session's trade date.
    ///
    /// # Errors
    /// A manifest without one.
    pub fn day(&self) -> Result<TradeDate> {
        Ok(TradeDate::parse(&self.trade_date)?)
    }

    /// The digest as the database stores it.
    ///
    /// # Errors
    /// A manifest without one.
    pub fn digest(&self) -> Result<u64> {
        u64::from_str_radix(&self.digest, 16).map_err(|_| changed(&self.name(), "its digest cannot be read"))
    }

    /// `ESZ25 2025-11-28`.
    pub fn name(&self) -> String {
        format!("{} {}", self.symbol, self.trade_date)
    }

    /// Its own name in the archive.
    ///
    /// # Errors
    /// A manifest without a trade date.
    pub fn file(&self) -> Result<String> {
        Ok(manifest_file(&self.symbol, self.day()?))
    }

    /// Every file it names.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        std::iter::once(&self.trades).chain(&self.minutes).chain(&self.calendar)
    }
}

fn format_of(bytes: &[u8]) -> Option<u32> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    value.get("format")?.as_u64()?.try_into().ok()
}

/// The name of a session's manifest.
pub fn manifest_file(symbol: &str, day: TradeDate) -> String {
    format!("{SESSIONS}/{}/{day}.json", symbol_folder(symbol))
}

/// The name of a session's trades; the digest in it lets a revised session come beside the old one before it replaces it.
pub fn trades_file(symbol: &str, day: TradeDate, digest: u64) -> String {
    format!("{TRADES}/{}/trade_date={day}/{digest:016x}.parquet", symbol_folder(symbol))
}

/// The name of a session's minute bars.
pub fn minutes_file(symbol: &str, day: TradeDate, hash: u64) -> String {
    format!("{MINUTES}/{}/{day}-{hash:016x}.bars", symbol_folder(symbol))
}

/// `symbol=BTC-USD`, with whatever a path or a URL could take amiss as `%2F`.
pub fn symbol_folder(symbol: &str) -> String {
    let mut folder = String::from("symbol=");
    for byte in symbol.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => folder.push(byte as char),
            _ => folder.push_str(&format!("%{byte:02X}")),
        }
    }
    folder
}

/// The symbol of a folder's name; `None` for one that [`symbol_folder`] does not make.
pub fn symbol_of_folder(folder: &str) -> Option<String> {
    let encoded = folder.strip_prefix("symbol=")?;
    let mut bytes = Vec::new();
    let mut rest = encoded.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let (hex, tail) = tail.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    let symbol = String::from_utf8(bytes).ok()?;
    (symbol_folder(&symbol) == folder).then_some(symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let content = |file: &str| Content::of(file.into(), b"some bytes");
        Manifest {
            format: FORMAT,
            symbol: "BTC/USD".into(),
            trade_date: "2025-11-28".into(),
            n: 12,
            digest: "00ff00ff00ff00ff".into(),
            first_ts: -5,
            last_ts: 7,
            state: "revised".into(),
            revision: 2,
            sealed_at: "2025-11-29 00:00:00+00".into(),
            calendar_version: 1,
            instrument: Terms { kind: "pair".into(), calendar: "24/7".into(), ..Terms::default() },
            origin: Origin { system_identifier: "7571".into(), timeline: 1, database: "market".into() },
            trades: content("trades/x"),
            minutes: Some(content("minutes/x")),
            calendar: None,
            bars: vec![SegmentRow { segment: "RTH".into(), volume: "1.5".into(), ..SegmentRow::default() }],
            halts: Some(Halts {
                known_at: "2025-11-29 00:00:01+00".into(),
                after: Some("2025-11-27".into()),
                noted: vec![HaltRow { calendar: "24/7".into(), note: Some("\"news\"".into()), ..HaltRow::default() }],
            }),
            checksum: String::new(),
        }
    }

    #[test]
    fn a_manifest_reads_back_and_any_flipped_bit_is_noticed() -> Result<()> {
        let bytes = manifest().to_bytes()?;
        let file = manifest().file()?;
        let read = Manifest::from_bytes(&file, &bytes)?;
        assert_eq!(Manifest { checksum: String::new(), ..read }, manifest());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut broken = bytes.clone();
                broken[at] ^= 1 << bit;
                assert!(Manifest::from_bytes(&file, &broken).is_err(), "bit {bit} of byte {at}");
            }
        }
        for end in 0..bytes.len() {
            assert!(Manifest::from_bytes(&file, &bytes[..end]).is_err(), "cut at {end}");
        }
        Ok(())
    }

    /// What the release with format 1 wrote is read, is written again as it was, and has no halts.
    #[test]
    fn a_manifest_of_format_1_is_read() -> Result<()> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/archive-1/");
        for day in ["2025-11-26", "2025-11-28"] {
            let file = format!("sessions/symbol=GOLD/{day}.json");
            let bytes =
                std::fs::read(format!("{folder}{file}")).map_err(|error| Error::world(error.to_string(), ""))?;
            let read = Manifest::from_bytes(&file, &bytes)?;
            assert_eq!((read.format, read.halts.as_ref(), read.calendar.as_ref()), (1, None, None));
            assert_eq!(read.to_bytes()?, bytes);
            // no later format, and none that says it is another
            for format in [0, 2, 3] {
                let bytes = Manifest { format, ..read.clone() }.to_bytes()?;
                assert!(Manifest::from_bytes(&file, &bytes).is_err(), "{format}");
            }
            let halts = Some(Halts::default());
            assert!(Manifest::from_bytes(&file, &Manifest { halts, ..read }.to_bytes()?).is_err());
        }
        Ok(())
    }

    #[test]
    fn a_manifest_in_another_ones_place_is_refused() -> Result<()> {
        let bytes = manifest().to_bytes()?;
        let error = Manifest::from_bytes("sessions/symbol=X/2025-11-28.json", &bytes).unwrap_err();
        assert!(error.message.contains("it is the manifest of BTC/USD 2025-11-28"), "{error}");
        Ok(())
    }

    #[test]
    fn any_symbol_is_a_folder_and_comes_back() {
        for symbol in ["ESZ25", "BTC-USD", "BRK/B", "..", "a b", "ÆØÅ", "100%", "x=y"] {
            let folder = symbol_folder(symbol);
            assert!(!folder.contains('/') && folder != "..", "{folder}");
            assert_eq!(symbol_of_folder(&folder).as_deref(), Some(symbol), "{folder}");
        }
        for folder in ["symbol=%", "symbol=%4", "symbol=%41", "trades", "symbol=a/b"] {
            assert_eq!(symbol_of_folder(folder), None, "{folder}");
        }
    }
}
