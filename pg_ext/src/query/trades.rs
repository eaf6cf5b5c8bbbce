//! Trades as readers see them: sealed ones with live rows over them, by instrument and range.

use super::read::{self, Loaded, Overlay};
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, float8, int8, null, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Conn, Mode};
use crate::store::read_as_of;
use crate::{time, v1};
use market::{Filing, LiveRows, NONE_I64, Nanos, Segment, Session, Trade, TradeDate, Trades, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(trades_between => pg_finfo_trades_between);

/// Calls `each` with sorted runs of the trades of an instrument with `from <= ts < till`, in order.
///
/// Only blocks and pages that reach into the range are fetched. `known` asks for them as they were known at an instant.
pub fn read_trades_known(
    c: &Conn,
    instrument: &Instrument,
    (from, till): (Nanos, Nanos),
    known: Option<Nanos>,
    each: &mut dyn FnMut(&Trades),
) {
    if from >= till {
        return;
    }
    let rows = match known {
        Some(until) => read_as_of(c, Mode::SameSnapshot, instrument.id, from, till, until).rows,
        None => read::live_rows(c, instrument.id, from, till),
    };
    read_over(c, instrument, Overlay::new(&rows, 0..rows.len()).known(known), (from, till), known.is_some(), each);
}

/// As they are now, where the live rows of the range are read already.
pub fn read_trades_under(
    c: &Conn,
    instrument: &Instrument,
    rows: &LiveRows,
    from: Nanos,
    till: Nanos,
    each: &mut dyn FnMut(&Trades),
) {
    read_over(c, instrument, Overlay::new(rows, 0..rows.len()), (from, till), false, each);
}

/// As they were known at an instant, where what lies over sealed trades then is read already.
pub fn read_trades_as_of(
    c: &Conn,
    instrument: &Instrument,
    rows: &LiveRows,
    range: (Nanos, Nanos),
    until: Nanos,
    each: &mut dyn FnMut(&Trades),
) {
    read_over(c, instrument, Overlay::new(rows, 0..rows.len()).known(Some(until)), range, true, each);
}

/// `filtered` says whether every page has to be merged.
fn read_over(
    c: &Conn,
    instrument: &Instrument,
    mut overlay: Overlay<'_>,
    (from, till): (Nanos, Nanos),
    filtered: bool,
    each: &mut dyn FnMut(&Trades),
) {
    let calendar = &instrument.calendar;
    let (first, last) = (calendar.filing(from).trade_date, calendar.filing(till.saturating_sub(1)).trade_date);
    let mut page = Trades::new();
    let mut emit = |trades: &Trades| {
        let range = trades.lower_bound(from)..trades.lower_bound(till);
        if range.len() == trades.len() {
            each(trades);
        } else if !range.is_empty() {
            each(&trades.slice(range));
        }
    };
    read::each_block(c, instrument, first, last, &mut |part| {
        if (part.from >= till || part.till <= from) && !overlay.hits_before(part.till) {
            return;
        }
        // SAFETY: the datum lives until the closure returns, and so does `loaded`.
        let mut loaded = unsafe { Loaded::fetch(part.payload, true, None) };
        for at in 0..loaded.header.pages.len() {
            let p = &loaded.header.pages[at];
            let wanted = p.first.ts < till && p.last.ts >= from;
            if overlay.hits(p.last) || (wanted && filtered) {
                emit(overlay.merge(&mut loaded, at));
            } else if wanted {
                page.clear();
                loaded.page(at, &mut page);
                emit(&page);
            }
            read::check_interrupts();
        }
    });
    emit(overlay.rest());
}

/// Finds trade date and segment of sorted trades; beyond the known range they are `OFF` of their projected trade date.
pub struct Places<'c> {
    instrument: &'c Instrument,
    session: Option<Session<'c>>,
    filing: Option<Filing>,
}

impl<'c> Places<'c> {
    /// For one instrument.
    pub fn new(instrument: &'c Instrument) -> Places<'c> {
        Places { instrument, session: None, filing: None }
    }

    /// Where a trade belongs: auction prints belong to `RTH`, whatever the clock says.
    pub fn place(&mut self, trade: &Trade) -> (TradeDate, Segment) {
        if let Some(s) = &self.session
            && s.from <= trade.ts
            && trade.ts < s.till
        {
            return (s.trade_date, s.place(trade.ts, trade.flags).0);
        }
        if let Ok(session) = self.instrument.calendar.session_at(trade.ts) {
            self.session = Some(session);
            return (session.trade_date, session.place(trade.ts, trade.flags).0);
        }
        let filing = match self.filing {
            Some(f) if f.from <= trade.ts && trade.ts < f.till => f,
            _ => self.instrument.calendar.filing(trade.ts),
        };
        self.filing = Some(filing);
        (filing.trade_date, Segment::Off)
    }
}

/// The columns of a trade after its symbol: ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id.
pub fn columns(t: &Trade) -> [Option<Datum>; 10] {
    let (micros, ns) = time::micros_and_ns(t.ts);
    [
        Some(int8(micros)),
        Some(Datum::from(ns)),
        Some(int8(t.seq)),
        Some(Datum::from(t.sub as i16)),
        Some(float8(money::to_f64(t.price))),
        Some(float8(money::to_f64(t.size))),
        Some(Datum::from(t.flags as i32)),
        Some(Datum::from(t.cond as i32)),
        (t.ts_recv != NONE_I64).then(|| int8(time::micros(t.ts_recv))),
        (t.trade_id != NONE_I64).then(|| int8(t.trade_id)),
    ]
}

/// `trades_between(symbol text, first timestamptz, last timestamptz, known_at timestamptz)`: half-open
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn trades_between(fc: FunctionCallInfo) -> Datum {
    if (0..3).any(|i| arg_is_null(fc, i)) {
        Rows::begin(fc, 12);
        return null(fc);
    }
    let known = arg_option(fc, 3).map(|d| time::end_of_micro(d.value() as i64));
    let (from, till) = (time::nanos_clamped(arg(fc, 1).value() as i64), time::nanos_clamped(arg(fc, 2).value() as i64));
    let near =
        if till == Nanos::MAX { instrument::today() } else { TradeDate(till.div_euclid(market::time::DAY) as i32) };
    let instrument = instrument::by_symbol(&arg_text(fc, 0), near);
    let mut rows = Rows::begin(fc, 12);
    let names = Segment::ALL.map(|s| varlena(s.name().as_bytes()));
    let mut places = Places::new(&instrument);
    spi::connect(|c| {
        read_trades_known(c, &instrument, (from, till), known, &mut |trades| {
            for t in trades.iter() {
                let (day, segment) = places.place(&t);
                let mut all = [None; 12];
                all[..10].copy_from_slice(&columns(&t));
                all[10] = Some(names[segment as usize]);
                all[11] = Some(Datum::from(time::pg_days(day)));
                rows.put(all);
            }
        });
    });
    null(fc)
}
