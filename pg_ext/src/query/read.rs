//! What every reader does: blocks of an instrument in order, with the live rows that fall on them.

use crate::error::OrRaise;
use crate::fmgr::{Bytes, keep_memory, raw_size};
use crate::instrument::Instrument;
use crate::spi::{Arg, Conn, Mode};
use crate::store::{read_corrections, read_live, read_reported};
use crate::{plans, time};
use market::block::{self, Core, Header};
use market::ohlc::Wanted;
use market::{Key, LiveRows, Nanos, Op, Session, TradeDate, Trades, overlay};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::{self, Datum};
use std::ffi::CString;

plans!(BLOCKS);

static SOURCE: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c"auto"));

/// Where bars are read from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Session bars, minute bars or trades: the first that gives the exact answer.
    Auto,
    /// Minute bars where they give the exact answer, else trades.
    Minutes,
    /// Always trades.
    Trades,
}

/// Defines the settings of the readers; called once, when the library is loaded.
pub fn define_settings() {
    GucRegistry::define_string_guc(
        c"bellwether.source",
        c"Where session_ohlc() reads bars from: auto, minutes or trades. All give the same bars.",
        c"For measuring. auto takes session bars, minute bars or trades, whichever is the shortest way to the exact answer.",
        &SOURCE,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// The setting; raises 22023 for an unknown word.
pub fn source() -> Source {
    match SOURCE.get().as_ref().map(|s| s.to_string_lossy().into_owned()).as_deref() {
        None | Some("auto" | "") => Source::Auto,
        Some("minutes" | "bars") => Source::Minutes,
        Some("trades") => Source::Trades,
        Some(other) => {
            crate::store::invalid(&format!("invalid bellwether.source \"{other}\""), "use auto, minutes or trades")
        }
    }
}

/// The live rows of an instrument as readers see them: settled, with what `trade_corrections` says about rows that came
/// after their bust.
pub fn live_rows(c: &Conn, instrument: i32, from: Nanos, till: Nanos) -> LiveRows {
    let rows = read_live(c, Mode::SameSnapshot, instrument, from, till);
    corrected(c, instrument, from, till, rows)
}

/// Live rows with what `trade_corrections` says about them.
pub fn corrected(c: &Conn, instrument: i32, from: Nanos, till: Nanos, mut rows: LiveRows) -> LiveRows {
    if rows.ops.contains(&Op::Trade) {
        let corrections = read_corrections(c, Mode::SameSnapshot, instrument, from, till);
        if corrections.touch(&rows) {
            let reported = read_reported(c, Mode::SameSnapshot, instrument, from, till);
            corrections.apply(&mut rows, &reported);
        }
    }
    rows
}

/// The index ranges of live rows per session; `sessions` are in order.
pub fn rows_of_session(rows: &LiveRows, session: &Session<'_>) -> std::ops::Range<usize> {
    rows.trades.lower_bound(session.from)..rows.trades.lower_bound(session.till)
}

/// A sealed part, not fetched yet.
pub struct Sealed {
    /// Its trade date.
    pub trade_date: TradeDate,
    /// First instant of its first microsecond.
    pub from: Nanos,
    /// First instant after its last microsecond.
    pub till: Nanos,
    /// The block; alive until the closure returns.
    pub payload: Datum,
}

/// Streams the sealed parts of trade dates `first..=last`, ordered by trade date and first key.
pub fn each_block(c: &Conn, instrument: &Instrument, first: TradeDate, last: TradeDate, each: &mut dyn FnMut(&Sealed)) {
    c.run(
        Mode::SameSnapshot,
        &BLOCKS,
        c"SELECT trade_date, first_ts, last_ts, payload FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3
          ORDER BY trade_date, first_ts, first_ns, first_seq, first_sub",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            each(&Sealed {
                trade_date: time::trade_date(v[0].value() as i32),
                from: time::nanos_clamped(v[1].value() as i64),
                till: time::nanos_clamped(v[2].value() as i64).saturating_add(1000),
                payload: v[3],
            })
        },
    );
}

/// A block's bytes, as much of them as an answer needs.
pub struct Loaded {
    bytes: Bytes,
    /// Its header.
    pub header: Header,
    whole: bool,
    payload: Datum,
}

/// From this size on the header is read first, so that only the pages wanted are fetched.
const SLICE_FROM: usize = 32 << 10;

impl Loaded {
    /// Fetches the header and the core columns of the pages wanted; `ids` says whether identities are needed too.
    ///
    /// # Safety
    /// `payload` is a bytea datum that outlives the result.
    pub unsafe fn fetch(payload: Datum, ids: bool, wanted: Option<&Wanted>) -> Loaded {
        let size = raw_size(payload);
        if ids || size <= SLICE_FROM {
            let bytes = Bytes::whole(payload);
            let header = Header::parse(bytes.get()).or_raise();
            return Loaded { bytes, header, whole: true, payload };
        }
        keep_memory();
        let prefix = Bytes::slice(payload, 0, size.min(Header::MAX_PREFIX));
        let header = Header::parse(prefix.get()).or_raise();
        let last = header.pages.iter().rposition(|p| wanted.is_none_or(|w| w.page(p.first.ts, p.last.ts, p.plain)));
        let end = last.map_or(0, |p| header.core_span(0..p + 1).end);
        let bytes = if end <= prefix.get().len() { prefix } else { Bytes::slice(payload, 0, end) };
        Loaded { bytes, header, whole: false, payload }
    }

    /// Decodes the core columns of a page.
    pub fn core(&self, page: usize, out: &mut Core) {
        block::decode_core(self.bytes.get(), &self.header, page, out).or_raise();
    }

    /// Decodes all columns of a page, fetching the rest of the block the first time.
    pub fn page(&mut self, page: usize, out: &mut Trades) {
        if !self.whole {
            // SAFETY: `fetch` promised that the datum outlives us.
            self.bytes = unsafe { Bytes::whole(self.payload) };
            self.whole = true;
        }
        block::decode_page(self.bytes.get(), &self.header, page, out).or_raise();
    }
}

/// Merges the live rows of one session into its pages as they come by.
pub struct Overlay<'r> {
    rows: &'r LiveRows,
    next: usize,
    end: usize,
    until: Nanos,
    page: Trades,
    merged: Trades,
}

impl<'r> Overlay<'r> {
    /// For the live rows `range` of a session.
    pub fn new(rows: &'r LiveRows, range: std::ops::Range<usize>) -> Overlay<'r> {
        let (next, end) = (range.start, range.end);
        Overlay { rows, next, end, until: Nanos::MAX, page: Trades::new(), merged: Trades::new() }
    }

    /// Leaves out sealed trades that became known later. Every page has to be merged then.
    pub fn known(self, until: Option<Nanos>) -> Overlay<'r> {
        Overlay { until: until.unwrap_or(Nanos::MAX), ..self }
    }

    /// Whether a live row falls on something that ends before this instant.
    pub fn hits_before(&self, till: Nanos) -> bool {
        self.next < self.end && self.rows.trades.ts[self.next] < till
    }

    /// Whether a live row falls on a page that ends with this key.
    pub fn hits(&self, last: Key) -> bool {
        self.next < self.end && self.rows.trades.key(self.next) <= last
    }

    /// The page as readers see it.
    pub fn merge(&mut self, loaded: &mut Loaded, page: usize) -> &Trades {
        self.page.clear();
        self.merged.clear();
        loaded.page(page, &mut self.page);
        if self.until != Nanos::MAX {
            self.page.keep_known(self.until);
        }
        let till = self.rows.after(loaded.header.pages[page].last).min(self.end);
        overlay(&self.page, self.rows, self.next..till, &mut self.merged);
        self.next = till;
        &self.merged
    }

    /// The rows behind the last page, as far as bars need them.
    pub fn rest_core(&mut self, core: &mut Core) {
        let range = self.next..self.end;
        if self.rows.ops[range.clone()].contains(&Op::Bust) {
            let rest = self.rest();
            core.set(rest, 0..rest.len());
            return;
        }
        core.set(&self.rows.trades, range);
        self.next = self.end;
    }

    /// The rows behind the last page.
    pub fn rest(&mut self) -> &Trades {
        self.merged.clear();
        self.rows.visible(self.next..self.end, &mut self.merged);
        self.next = self.end;
        &self.merged
    }
}

/// Lets a long read be cancelled.
pub fn check_interrupts() {
    pg_sys::check_for_interrupts!();
}
