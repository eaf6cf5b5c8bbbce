//! Runs a scan of `market.trades_scan`: batches of trades from the reader, a row at a time to the executor.

use super::bars::{Bars, Bucket};
use super::group::{GROUPS, INSIDE, Output};
use super::quals::{Op, Wanted};
use super::reader::Reader;
use super::{COLUMNS, Column, length, nth, nth_int};
use crate::fmgr::{float8, int8, varlena};
use crate::time;
use market::{Calendar, NONE_I64, Nanos, Segment, Session, TradeDate, Trades, money};
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum, ForeignScanState, Oid, TupleTableSlot};
use pgrx::prelude::*;

/// A condition whose value is computed when the scan starts.
struct Bound {
    column: Column,
    op: Op,
    value: *mut pg_sys::ExprState,
    value_type: Oid,
}

struct Scan {
    columns: i32,
    /// The grouping that the scan does itself, if it was handed one.
    grouping: Option<Grouping>,
    bounds: Vec<Bound>,
    /// Made at the first row, and again when a parameter changes.
    reader: Option<Reader>,
    batch: Trades,
    at: usize,
    place: Place,
    /// `ON` ... `OFF` as text, made once.
    segments: [Datum; Segment::ALL.len()],
    context: pg_sys::MemoryContext,
    blocks: u64,
}

/// A grouping in the plan.
struct Grouping {
    outputs: Vec<Output>,
    /// Timeframe, calendar, segments of `session_bucket`, where the plan has them.
    bucket: [Option<*mut pg_sys::ExprState>; 3],
    /// Only trades in a bucket are wanted.
    inside: bool,
    /// Made with the reader.
    bars: Option<Bars>,
}

/// Where the current trades are: their instrument and the session of the last one.
struct Place {
    source: Option<usize>,
    instrument_id: i32,
    symbol: Datum,
    calendar_id: Datum,
    calendar: Option<Calendar>,
    from: Nanos,
    till: Nanos,
    trade_date: TradeDate,
    /// Lies in `calendar`'s shared memory, and is never used after it.
    session: Option<Session<'static>>,
}

impl Place {
    fn nowhere() -> Place {
        Place {
            source: None,
            instrument_id: 0,
            symbol: Datum::from(0usize),
            calendar_id: Datum::from(0usize),
            calendar: None,
            from: 0,
            till: 0,
            trade_date: TradeDate(0),
            session: None,
        }
    }

    /// Finds the session of an instant. Beyond the calendar's known range the trade date is where the trade is filed, and
    /// there is no session to name a segment of.
    fn move_to(&mut self, ts: Nanos) {
        if self.from <= ts && ts < self.till {
            return;
        }
        let Some(calendar) = &self.calendar else { return };
        // SAFETY: what a session borrows lies behind the calendar's Arc, of which `self` holds one as long as the session.
        let calendar = unsafe { &*std::ptr::from_ref(calendar) };
        let filing = calendar.filing(ts);
        (self.from, self.till, self.trade_date) = (filing.from, filing.till, filing.trade_date);
        self.session = if filing.projected { None } else { calendar.session_at(ts).ok() };
    }
}

unsafe fn scan<'a>(node: *mut ForeignScanState) -> Option<&'a mut Scan> {
    (*node).fdw_state.cast::<Scan>().as_mut()
}

#[pg_guard]
pub unsafe extern "C-unwind" fn begin(node: *mut ForeignScanState, _flags: i32) {
    let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
    let private = (*plan).fdw_private;
    let number = |i: i32| nth_int(private, i);
    let states = pg_sys::ExecInitExprList((*plan).fdw_exprs, node.cast());
    let grouped = number(0) == GROUPS;
    let (first, conditions) = if grouped { (2, number(1)) } else { (1, length(states)) };
    let grouping = grouped.then(|| {
        let at = first + 2 * conditions;
        let mut next = conditions;
        let bucket = [0, 1, 2].map(|i| {
            (number(at) & 1 << i != 0).then(|| {
                next += 1;
                nth(states, next - 1)
            })
        });
        let outputs = (at + 1..length(private)).filter_map(|i| Output::from_number(number(i))).collect();
        Grouping { outputs, bucket, inside: number(at) & INSIDE != 0, bars: None }
    });
    let bounds = (0..conditions)
        .filter_map(|i| {
            Some(Bound {
                column: Column::from_number(number(first + 2 * i))?,
                op: Op::from_number(number(first + 1 + 2 * i))?,
                value: nth(states, i),
                value_type: pg_sys::exprType(nth((*plan).fdw_exprs, i)),
            })
        })
        .collect();
    let context = (*(*node).ss.ps.state).es_query_cxt;
    let old = pg_sys::MemoryContextSwitchTo(context);
    let segments = Segment::ALL.map(|segment| varlena(segment.name().as_bytes()));
    pg_sys::MemoryContextSwitchTo(old);
    let state = Scan {
        columns: number(0),
        grouping,
        bounds,
        reader: None,
        batch: Trades::new(),
        at: 0,
        place: Place::nowhere(),
        segments,
        context,
        blocks: 0,
    };
    // Dropped with the query's memory, also when an error ends it.
    (*node).fdw_state = PgMemoryContexts::For(context).leak_and_drop_on_delete(state).cast();
}

#[pg_guard]
pub unsafe extern "C-unwind" fn rescan(node: *mut ForeignScanState) {
    if let Some(scan) = scan(node) {
        scan.reset();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn end(node: *mut ForeignScanState) {
    if let Some(scan) = scan(node) {
        scan.reset();
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn iterate(node: *mut ForeignScanState) -> *mut TupleTableSlot {
    let slot = (*node).ss.ss_ScanTupleSlot;
    // The executor clears the slot before; an empty one is the end.
    let Some(scan) = scan(node) else { return slot };
    if scan.grouping.is_some() {
        return scan.next_group(node, slot);
    }
    if scan.at >= scan.batch.len() && !scan.next_batch(node) {
        clear(slot);
        return slot;
    }
    clear(slot);
    let values = std::slice::from_raw_parts_mut((*slot).tts_values, COLUMNS);
    let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, COLUMNS);
    scan.row(values, nulls);
    scan.at += 1;
    pg_sys::ExecStoreVirtualTuple(slot)
}

/// PostgreSQL has this as an inline function only.
unsafe fn clear(slot: *mut TupleTableSlot) {
    if let Some(clear) = (*(*slot).tts_ops).clear {
        pg_sys::ffi::pg_guard_ffi_boundary(|| clear(slot));
    }
}

impl Scan {
    fn reset(&mut self) {
        if let Some(grouping) = &mut self.grouping {
            grouping.bars = None;
        }
        self.blocks += self.reader.take().map_or(0, |reader| reader.blocks);
        self.batch = Trades::new();
        self.at = 0;
        self.place = Place::nowhere();
    }

    /// The conditions with their values.
    unsafe fn wanted(&self, node: *mut ForeignScanState) -> Wanted {
        let mut wanted = Wanted::everything();
        for bound in &self.bounds {
            match Self::value(node, bound.value) {
                None => wanted.exclude_all(),
                Some(value) => wanted.narrow(bound.column, bound.op, value, bound.value_type),
            }
        }
        wanted
    }

    /// The value of an expression.
    unsafe fn value(node: *mut ForeignScanState, expression: *mut pg_sys::ExprState) -> Option<Datum> {
        let context = (*node).ss.ps.ps_ExprContext;
        let evaluate = (*expression).evalfunc?;
        let mut is_null = false;
        // A C function that may raise: only pgrx's boundary turns that into something Rust survives.
        let value = pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(expression, context, &mut is_null));
        (!is_null).then_some(value)
    }

    /// The next group, in a slot.
    unsafe fn next_group(&mut self, node: *mut ForeignScanState, slot: *mut TupleTableSlot) -> *mut TupleTableSlot {
        if self.reader.is_none() {
            self.reader = Some(Reader::new(self.wanted(node)));
        }
        let (Some(reader), Some(grouping)) = (&mut self.reader, &mut self.grouping) else { return slot };
        let desc = (*slot).tts_tupleDescriptor;
        let bars = match &mut grouping.bars {
            Some(bars) => bars,
            None => {
                let values = grouping.bucket.map(|expression| expression.and_then(|e| Self::value(node, e)));
                let own = grouping.bucket[1].is_none();
                let bucket = if grouping.outputs.contains(&Output::Bucket) { Bucket::new(own, values) } else { None };
                let old = pg_sys::MemoryContextSwitchTo(self.context);
                let bars = Bars::new(grouping.outputs.clone(), bucket, grouping.inside, desc);
                pg_sys::MemoryContextSwitchTo(old);
                grouping.bars.insert(bars)
            }
        };
        let ready = bars.ready(reader, self.context);
        clear(slot);
        if !ready {
            return slot;
        }
        let columns = grouping.outputs.len();
        let values = std::slice::from_raw_parts_mut((*slot).tts_values, columns);
        let nulls = std::slice::from_raw_parts_mut((*slot).tts_isnull, columns);
        bars.row(reader, values, nulls);
        pg_sys::ExecStoreVirtualTuple(slot)
    }

    unsafe fn next_batch(&mut self, node: *mut ForeignScanState) -> bool {
        if self.reader.is_none() {
            self.reader = Some(Reader::new(self.wanted(node)));
        }
        let Some(reader) = &mut self.reader else { return false };
        self.at = 0;
        let Some(index) = reader.fill(&mut self.batch) else { return false };
        if self.place.source != Some(index) {
            let source = &reader.sources[index];
            let old = pg_sys::MemoryContextSwitchTo(self.context);
            let symbol = varlena(source.symbol.as_bytes());
            let calendar_id = varlena(source.calendar.id().as_bytes());
            pg_sys::MemoryContextSwitchTo(old);
            self.place = Place {
                source: Some(index),
                instrument_id: source.id,
                symbol,
                calendar_id,
                calendar: Some(source.calendar.clone()),
                ..Place::nowhere()
            };
        }
        true
    }

    /// The columns that are used of the trade at `at`.
    #[inline]
    fn row(&mut self, values: &mut [Datum], nulls: &mut [bool]) {
        let (batch, at) = (&self.batch, self.at);
        let columns = self.columns;
        let uses = |column: Column| columns & 1 << column as u8 != 0;
        let mut put = |column: Column, value: Option<Datum>| {
            let at = column as usize - 1;
            nulls[at] = value.is_none();
            values[at] = value.unwrap_or(Datum::from(0usize));
        };
        let optional = |value: i64, datum: fn(i64) -> Datum| (value != NONE_I64).then(|| datum(value));
        let (micros, ns) = time::micros_and_ns(batch.ts[at]);
        put(Column::Ts, Some(int8(micros)));
        put(Column::Ns, Some(Datum::from(ns)));
        put(Column::Seq, Some(int8(batch.seq[at])));
        put(Column::Sub, Some(Datum::from(batch.sub[at] as i16)));
        put(Column::Flags, Some(Datum::from(batch.flags[at] as i32)));
        put(Column::Cond, Some(Datum::from(batch.cond[at] as i32)));
        put(Column::TsRecv, optional(batch.ts_recv[at], |ts| int8(time::micros(ts))));
        put(Column::TradeId, optional(batch.trade_id[at], int8));
        put(Column::Symbol, Some(self.place.symbol));
        put(Column::InstrumentId, Some(Datum::from(self.place.instrument_id)));
        put(Column::Calendar, Some(self.place.calendar_id));
        put(Column::Price, uses(Column::Price).then(|| float8(money::to_f64(batch.price[at]))));
        put(Column::Size, uses(Column::Size).then(|| float8(money::to_f64(batch.size[at]))));
        if uses(Column::TradeDate) || uses(Column::Segment) {
            self.place.move_to(batch.ts[at]);
        }
        put(Column::TradeDate, Some(Datum::from(time::pg_days(self.place.trade_date))));
        let segment = match uses(Column::Segment) {
            true => self.place.session.map_or(Segment::Off, |session| session.place(batch.ts[at], batch.flags[at]).0),
            false => Segment::Off,
        };
        put(Column::Segment, Some(self.segments[segment as usize]));
    }
}

#[pg_guard]
pub unsafe extern "C-unwind" fn explain(node: *mut ForeignScanState, state: *mut pg_sys::ExplainState) {
    let Some(scan) = scan(node) else { return };
    let narrowed: Vec<String> =
        scan.bounds.iter().map(|bound| format!("{} {}", bound.column.name(), bound.op.name())).collect();
    let narrowed = if narrowed.is_empty() { "nothing: every trade is read".into() } else { narrowed.join(", ") };
    if let Ok(narrowed) = std::ffi::CString::new(narrowed) {
        pg_sys::ExplainPropertyText(c"Narrowed by".as_ptr(), narrowed.as_ptr(), state);
    }
    if scan.grouping.is_some() {
        pg_sys::ExplainPropertyText(c"Bars".as_ptr(), c"folded where trades are decoded".as_ptr(), state);
    }
    if (*state).analyze {
        let blocks = scan.blocks + scan.reader.as_ref().map_or(0, |reader| reader.blocks);
        pg_sys::ExplainPropertyInteger(c"Blocks Read".as_ptr(), std::ptr::null(), blocks as i64, state);
    }
}
