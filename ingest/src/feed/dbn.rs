//! Databento Binary Encoding, versions 1 to 3.
//!
//! The metadata is read by Databento's crate. Records are framed here, from the published layout, for two reasons: the
//! crate's decoder takes a file cut inside a record for a complete one, and a trade is 48 bytes at fixed places, the
//! same in all three versions.

use super::statistics::{Published, statistic};
use super::{Batch, Broken, Feed, Names, Ordinal, Reject};
use market::money::ONE;
use market::trade::{NONE_I64, Trade, flags};
use std::collections::HashMap;
use std::io::{BufReader, Read};

const UNDEF_TIME: u64 = u64::MAX;
const UNDEF_PRICE: i64 = i64::MAX;
/// Metadata names every instrument of a request; more than this is no metadata.
const LARGEST_METADATA: u32 = 256 << 20;

mod rtype {
    pub const MBP_0: u8 = 0x00;
    pub const MBP_1: u8 = 0x01;
    pub const MBO: u8 = 0xa0;
    pub const SYMBOL_MAPPING: u8 = 0x16;
    pub const STATISTICS: u8 = 0x18;
}

/// From when until when (ns, half-open) an instrument id means a name.
#[derive(Clone, Copy)]
struct Meaning {
    from: u64,
    till: u64,
    name: u32,
}

#[derive(Default)]
struct Instrument {
    meanings: Vec<Meaning>,
    at: usize,
    ordinal: Ordinal,
}

/// A DBN source.
pub struct Dbn<'r> {
    reader: BufReader<Box<dyn Read + 'r>>,
    instruments: HashMap<u32, Instrument>,
    /// `--symbol`: one name for every instrument id.
    only: Option<u32>,
    record: Vec<u8>,
    number: u64,
}

impl<'r> Dbn<'r> {
    /// Reads the metadata.
    ///
    /// # Errors
    /// Bytes that are no DBN, a version we do not know, a schema without trades.
    pub fn new(reader: Box<dyn Read + 'r>, symbol: Option<&str>, names: &mut Names) -> Result<Dbn<'r>, Broken> {
        let mut reader = BufReader::with_capacity(1 << 18, reader);
        let mut prelude = [0u8; 8];
        reader.read_exact(&mut prelude).map_err(|_| Broken::new("is not DBN: it is shorter than a DBN header"))?;
        match prelude {
            [b'D', b'B', b'N', 1..=3, ..] => {}
            [b'D', b'B', b'N', version, ..] => {
                return Err(Broken::new(format!("is DBN version {version}; versions 1 to 3 are read")));
            }
            _ => return Err(Broken::new("is not DBN: it does not begin with \"DBN\"; say its --format")),
        }
        let length = u32::from_le_bytes([prelude[4], prelude[5], prelude[6], prelude[7]]);
        if length > LARGEST_METADATA {
            return Err(Broken::new(format!("is corrupt: it claims {length} bytes of metadata")));
        }
        let mut bytes = prelude.to_vec();
        (&mut reader).take(u64::from(length)).read_to_end(&mut bytes).map_err(|e| Broken::read(0, &e))?;
        if bytes.len() != 8 + length as usize {
            return Err(Broken::new("is truncated inside its metadata"));
        }
        let metadata = dbn::decode::DbnMetadataDecoder::new(&bytes[..])
            .decode()
            .map_err(|e| Broken::new(format!("has corrupt metadata: {e}")))?;
        use dbn::Schema;
        if let Some(schema) = metadata.schema
            && !matches!(schema, Schema::Trades | Schema::Mbo | Schema::Tbbo | Schema::Mbp1 | Schema::Statistics)
        {
            return Err(Broken::new(format!(
                "has the schema {schema}, which holds no trades; download the schema trades (mbo, tbbo and mbp-1 are read too, and statistics)"
            )));
        }
        let only = match symbol {
            Some(symbol) => Some(names.id(symbol.as_bytes()).map_err(Broken::new)?),
            None => None,
        };
        let mut instruments: HashMap<u32, Instrument> = HashMap::new();
        // A live capture has no mappings in its metadata but mapping records on the way.
        if only.is_none() && !metadata.mappings.is_empty() {
            let map = metadata.symbol_map().map_err(|e| {
                Broken::new(format!(
                    "its symbols cannot be mapped to instrument ids ({e}); say --symbol for all its trades"
                ))
            })?;
            let mut ids: Vec<_> = map.inner().iter().collect();
            ids.sort_by_key(|(id, _)| **id);
            for (id, intervals) in ids {
                let instrument = instruments.entry(*id).or_default();
                for interval in intervals.intervals() {
                    let name = names.id(interval.symbol.as_bytes()).map_err(Broken::new)?;
                    instrument.meanings.push(Meaning { from: interval.start_ts, till: interval.end_ts, name });
                }
            }
        }
        Ok(Dbn { reader, instruments, only, record: vec![0; 1024], number: 0 })
    }

    /// Reads the next record into `self.record`; its length, or `None` at a clean end.
    fn next_record(&mut self) -> Result<Option<usize>, Broken> {
        let number = self.number;
        let cut = |e: std::io::Error| Broken { line: Some(number), ..Broken::read(number, &e) };
        let mut first = [0u8; 1];
        loop {
            match self.reader.read(&mut first) {
                Ok(0) => return Ok(None),
                Ok(_) => break,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cut(e)),
            }
        }
        // Lengths are in units of four bytes; a header has sixteen.
        let length = usize::from(first[0]) * 4;
        if length < 16 {
            return Err(Broken::at(number + 1, format!("is corrupt: record {} claims {length} bytes", number + 1)));
        }
        self.record[0] = first[0];
        self.reader.read_exact(&mut self.record[1..length]).map_err(cut)?;
        self.number += 1;
        Ok(Some(length))
    }

    fn trade(&mut self, length: usize) -> Result<Option<(u32, Trade)>, String> {
        let r = &self.record[..length];
        let (price_at, size_at, flags_at, action_at, side_at, recv_at, sequence_at) = match r[1] {
            rtype::MBP_0 | rtype::MBP_1 => (16, 24, 30, 28, 29, 32, 44),
            rtype::MBO => (24, 32, 36, 38, 39, 40, 52),
            _ => return Ok(None),
        };
        if length < sequence_at + 4 {
            return Err(format!("record has {length} bytes, too few for a trade"));
        }
        // In mbo a trade is reported as T (the aggressor) and F (the resting orders it filled): T alone is the trade.
        if r[action_at] != b'T' {
            return Ok(None);
        }
        let u32_at = |at: usize| u32::from_le_bytes([r[at], r[at + 1], r[at + 2], r[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (id, event, recv) = (u32_at(4), u64_at(8), u64_at(recv_at));
        let price = u64_at(price_at) as i64;
        if price == UNDEF_PRICE {
            return Err("price is undefined".into());
        }
        if event == UNDEF_TIME {
            return Err("ts_event is undefined".into());
        }
        let ts = i64::try_from(event).map_err(|_| format!("ts_event {event} is out of range"))?;
        let ts_recv = if recv == UNDEF_TIME { NONE_I64 } else { i64::try_from(recv).unwrap_or(NONE_I64) };
        let seq = i64::from(u32_at(sequence_at));
        let side = match r[side_at] {
            b'B' => flags::BUY,
            b'A' => flags::SELL,
            _ => 0,
        };
        let cond = u32::from(r[flags_at]);
        // Databento's index time is the time of receipt, which the mappings go by.
        let index = if recv == UNDEF_TIME { event } else { recv };
        let size = i64::from(u32_at(size_at)) * ONE;
        let name = self.name(id, index)?;
        let sub = self.instruments.entry(id).or_default().ordinal.of(ts, seq);
        Ok(Some((name, Trade { ts, seq, sub, price, size, flags: side, cond, ts_recv, trade_id: NONE_I64 })))
    }

    /// The name of an instrument id at an instant.
    fn name(&mut self, id: u32, index: u64) -> Result<u32, String> {
        if let Some(name) = self.only {
            return Ok(name);
        }
        self.instruments.entry(id).or_default().name(index).ok_or_else(|| {
            format!("instrument id {id} has no symbol in the file's metadata; say --symbol for all its trades")
        })
    }

    /// A statistics record, if it is of a kind that is kept.
    fn statistic(&mut self, length: usize) -> Result<Option<(u32, Published)>, String> {
        let Some(found) = statistic(&self.record[..length])? else { return Ok(None) };
        let r = &self.record;
        let id = u32::from_le_bytes([r[4], r[5], r[6], r[7]]);
        let index = found.received.unwrap_or(found.ts).unsigned_abs();
        Ok(Some((self.name(id, index)?, found)))
    }

    /// A symbol mapping record of a live capture: what the id means from now on.
    fn mapping(&mut self, length: usize, names: &mut Names) -> Result<(), String> {
        let r = &self.record[..length];
        let symbol = match length {
            80 => &r[38..60],
            176 => &r[89..160],
            _ => return Err(format!("symbol mapping has {length} bytes, neither version 1's nor 2's")),
        };
        let symbol = &symbol[..symbol.iter().position(|b| *b == 0).unwrap_or(symbol.len())];
        let id = u32::from_le_bytes([r[4], r[5], r[6], r[7]]);
        let name = names.id(symbol)?;
        self.instruments.entry(id).or_default().meanings = vec![Meaning { from: 0, till: u64::MAX, name }];
        Ok(())
    }
}

impl Instrument {
    fn name(&mut self, ts: u64) -> Option<u32> {
        let holds = |m: &Meaning| m.from <= ts && ts < m.till;
        if let Some(meaning) = self.meanings.get(self.at).filter(|m| holds(m)) {
            return Some(meaning.name);
        }
        self.at = self.meanings.iter().position(holds)?;
        Some(self.meanings[self.at].name)
    }
}

impl Feed for Dbn<'_> {
    fn fill(&mut self, batch: &mut Batch, names: &mut Names) -> Result<bool, Broken> {
        while !batch.is_full() {
            let Some(length) = self.next_record()? else { return Ok(false) };
            let result = if self.record[1] == rtype::SYMBOL_MAPPING && self.only.is_none() {
                self.mapping(length, names).map(|()| None)
            } else if self.record[1] == rtype::STATISTICS {
                self.statistic(length).map(|found| {
                    batch.stats.extend(found);
                    None
                })
            } else {
                self.trade(length)
            };
            match result {
                Ok(Some((name, trade))) => batch.push(name, trade),
                Ok(None) => {}
                Err(reason) => {
                    let raw: String = self.record[..length.min(64)].iter().map(|b| format!("{b:02x}")).collect();
                    batch.rejects.push(Reject::new(self.number, reason, raw.as_bytes()));
                }
            }
        }
        Ok(true)
    }
}
