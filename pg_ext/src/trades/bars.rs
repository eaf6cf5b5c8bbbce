//! Folds trades into groups where they are decoded: what a scan of `market.trades_scan` does when its grouping was handed to it.
//!
//! The groups are those of `ohlc`, `vwap` and `count(*)`, by whatever of symbol, instrument, trade date, calendar and
//! `session_bucket` the query groups by; see `group`.

use super::group::Output;
use super::reader::{Page, Reader, Source};
use crate::error::OrRaise;
use crate::fmgr::{float8, int8, text, varlena};
use crate::{aggregate, time};
use market::bar::BarBuilder;
use market::{BucketCursor, Calendar, Nanos, Segments, Timeframe, TradeDate};
use pgrx::pg_sys::{self, Datum};
use std::collections::HashMap;

/// The arguments of `session_bucket`, as the plan's expressions gave them.
pub struct Bucket {
    timeframe: Timeframe,
    /// `None`: each trade's own.
    calendar: Option<Calendar>,
    segments: Option<Segments>,
}

impl Bucket {
    /// `None` where an argument is NULL, and with it every bucket. `own` says that the calendar is each trade's own.
    ///
    /// # Safety
    /// The values are `text` or NULL.
    pub unsafe fn new(own: bool, values: [Option<Datum>; 3]) -> Option<Bucket> {
        let [timeframe, calendar, segments] = values.map(|value| value.map(|d| text(d)));
        let calendar = match own {
            true => None,
            false => Some(crate::calendar::named(&calendar?)),
        };
        Some(Bucket {
            timeframe: Timeframe::parse(&timeframe?).or_raise(),
            calendar,
            segments: segments.map(|segments| Segments::parse(&segments).or_raise()),
        })
    }
}

/// What a group's trades have in common; what the query does not group by is the same for all.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    source: usize,
    date: TradeDate,
    /// The bucket's open; `None` outside the segments.
    bucket: Option<Nanos>,
}

struct Group {
    key: Key,
    bar: BarBuilder,
}

/// Groups under way, and those ready to be returned.
pub struct Bars {
    outputs: Vec<Output>,
    bucket: Option<Bucket>,
    /// Only trades in a bucket are wanted.
    inside: bool,
    by_source: bool,
    by_date: bool,
    groups: Vec<Group>,
    index: HashMap<Key, usize>,
    /// The group returned next.
    at: usize,
    read: bool,
    /// Symbol and calendar of the sources seen, as text.
    names: Vec<[Datum; 2]>,
    bar_type: pg_sys::TupleDesc,
}

impl Bars {
    /// For these columns.
    ///
    /// # Safety
    /// `desc` describes them; the current memory context lives as long as the scan.
    pub unsafe fn new(outputs: Vec<Output>, bucket: Option<Bucket>, inside: bool, desc: pg_sys::TupleDesc) -> Bars {
        let has = |wanted: &[Output]| outputs.iter().any(|output| wanted.contains(output));
        let bar = outputs.iter().position(|output| *output == Output::Ohlc);
        let bar_type = match bar {
            Some(i) => aggregate::description(pg_sys::SPI_gettypeid(desc, i as i32 + 1)),
            None => std::ptr::null_mut(),
        };
        Bars {
            by_source: has(&[Output::Symbol, Output::Instrument, Output::Calendar]),
            by_date: has(&[Output::TradeDate]),
            outputs,
            bucket,
            inside,
            groups: Vec::new(),
            index: HashMap::new(),
            at: 0,
            read: false,
            names: Vec::new(),
            bar_type,
        }
    }

    /// Whether there is another group; makes it if need be. `context` lives as long as the scan.
    ///
    /// # Safety
    /// As for `new`.
    pub unsafe fn ready(&mut self, reader: &mut Reader, context: pg_sys::MemoryContext) -> bool {
        while self.at >= self.groups.len() {
            if self.read {
                return false;
            }
            self.groups.clear();
            self.index.clear();
            self.at = 0;
            // groups of one instrument are whole when it was read
            self.read = !self.read_next(reader, context);
            while !self.read && !self.by_source {
                self.read = !self.read_next(reader, context);
            }
        }
        true
    }

    unsafe fn read_next(&mut self, reader: &mut Reader, context: pg_sys::MemoryContext) -> bool {
        let Some(at) = reader.next_source() else { return false };
        let Source { symbol, calendar, .. } = &reader.sources[at];
        let old = pg_sys::MemoryContextSwitchTo(context);
        self.names.push([varlena(symbol.as_bytes()), varlena(calendar.id().as_bytes())]);
        pg_sys::MemoryContextSwitchTo(old);
        let calendar = calendar.clone();
        let bucket = self.bucket.take();
        let in_bucket = bucket.as_ref().map(|b| (b.calendar.as_ref().unwrap_or(&calendar), b.timeframe, b.segments));
        let mut cursor = in_bucket.map(|(calendar, timeframe, segments)| {
            BucketCursor::new(calendar, timeframe, segments.unwrap_or_else(|| calendar.main()))
        });
        let source = if self.by_source { at } else { 0 };
        reader.pages(at, &mut |page| self.fold(page, source, &calendar, cursor.as_mut()));
        self.bucket = bucket;
        true
    }

    fn fold(&mut self, page: &Page<'_>, source: usize, calendar: &Calendar, mut cursor: Option<&mut BucketCursor<'_>>) {
        let Page { core, seq, from, end } = *page;
        let mut i = from;
        while i < core.ts.len() && core.ts[i] < end {
            let ts = core.ts[i];
            let mut key = Key { source, date: TradeDate(0), bucket: None };
            let mut till = end;
            if self.by_date {
                let filing = calendar.filing(ts);
                key.date = filing.trade_date;
                till = till.min(filing.till);
            }
            if let Some(cursor) = cursor.as_mut() {
                key.bucket = cursor.bucket_at(ts).or_raise().map(|bucket| bucket.open);
                till = till.min(cursor.stretch().1);
            }
            if self.inside && key.bucket.is_none() {
                let till = till.max(ts + 1);
                i += core.ts[i..].partition_point(|&ts| ts < till);
                continue;
            }
            let bar = self.bar(key);
            i = bar.push_page(core, seq, i, till.max(ts + 1), time::micros_floor).or_raise();
        }
    }

    fn bar(&mut self, key: Key) -> &mut BarBuilder {
        let last = self.groups.len().wrapping_sub(1);
        let at = match self.groups.last() {
            Some(group) if group.key == key => last,
            _ => *self.index.entry(key).or_insert_with(|| {
                self.groups.push(Group { key, bar: BarBuilder::new() });
                self.groups.len() - 1
            }),
        };
        &mut self.groups[at].bar
    }

    /// Puts the next group into a slot's columns; what it allocates is in the current memory context.
    ///
    /// # Safety
    /// `ready` said that there is one; the slices have a place for each output.
    pub unsafe fn row(&mut self, reader: &Reader, values: &mut [Datum], nulls: &mut [bool]) {
        let Group { key, bar } = &self.groups[self.at];
        self.at += 1;
        let finished = bar.finish();
        for (i, output) in self.outputs.iter().enumerate() {
            let value = match output {
                Output::Symbol => self.names.get(key.source).map(|names| names[0]),
                Output::Calendar => self.names.get(key.source).map(|names| names[1]),
                Output::Instrument => reader.sources.get(key.source).map(|source| Datum::from(source.id)),
                Output::TradeDate => Some(Datum::from(time::pg_days(key.date))),
                Output::Bucket => key.bucket.map(|open| int8(time::micros(open))),
                Output::Ohlc => finished.as_ref().map(|bar| aggregate::form(self.bar_type, bar)),
                Output::Vwap => finished.as_ref().and_then(|keyed| keyed.bar.vwap()).map(float8),
                Output::Count => Some(int8(finished.as_ref().map_or(0, |keyed| keyed.bar.trades))),
            };
            nulls[i] = value.is_none();
            values[i] = value.unwrap_or(Datum::from(0usize));
        }
    }
}
