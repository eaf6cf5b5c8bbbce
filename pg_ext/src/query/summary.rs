//! Bars of whole sessions as they are stored: `session_bars`, read once for all symbols of a call.

use super::batch::Asked;
use super::state::State;
use crate::error::OrRaise;
use crate::fmgr::{Bytes, float8_of};
use crate::instrument::Instrument;
use crate::spi::{Arg, Conn, Mode};
use crate::{numeric, plans, time};
use market::{Bar, Segment, Segments, TradeDate, money};
use pgrx::pg_sys;
use std::collections::HashMap;

plans!(SUMMARIES, LAST_CLOSE);

/// The bar of one segment of a session.
pub struct Row {
    /// Its session.
    pub date: TradeDate,
    opens_at: i64,
    segment: Segment,
    /// Its bar, settled.
    pub bar: Bar,
    /// Whether it may be merged with others.
    pub mergeable: bool,
    /// State of the session.
    pub state: State,
}

/// Stored bars of one instrument.
#[derive(Default)]
pub struct Stored {
    /// By trade date and time.
    rows: Vec<Row>,
    /// A sum among them does not fit what bars are made of.
    inexact: bool,
}

/// Stored bars of several instruments.
pub struct Summaries {
    of: HashMap<i32, Stored>,
}

/// Whether stored bars can answer for these segments: `OFF` lies before, between and behind the other segments, and of
/// their bars alone nobody can tell which trade was last.
pub fn answer_for(segments: Segments) -> bool {
    !segments.contains(Segment::Off) || segments == Segments::only(Segment::Off)
}

/// The last close of session bars, where retention left nothing else to make one of.
pub fn last_close(c: &Conn, of: &Instrument, segments: Segments, first: TradeDate, last: TradeDate) -> Option<i64> {
    let names: Vec<&str> = Segment::ALL.into_iter().filter(|s| segments.contains(*s)).map(Segment::name).collect();
    let mut found = None;
    c.run_planned_once(
        Mode::SameSnapshot,
        &LAST_CLOSE,
        c"SELECT close FROM market.session_bars WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3
            AND segment = ANY (pg_catalog.string_to_array($4, ',')) AND close IS NOT NULL
          ORDER BY trade_date DESC, opens_at DESC LIMIT 1",
        &[
            Arg::int4(of.id),
            Arg::date(time::pg_days(first)),
            Arg::date(time::pg_days(last)),
            Arg::text(&names.join(",")),
        ],
        &mut |v, _| found = Some(money::price_from_f64(float8_of(v[0])).or_raise()),
    );
    found
}

impl Summaries {
    /// Reads what is stored for these questions.
    pub fn read(c: &Conn, asked: &[Asked]) -> Summaries {
        let mut of: HashMap<i32, Stored> = HashMap::with_capacity(asked.len());
        let usable = || asked.iter().filter(|a| answer_for(a.request.segments));
        let segments: Vec<Segments> = usable().map(|a| a.request.segments).collect();
        let wanted = |s: Segment| segments.iter().any(|selection| selection.contains(s));
        let (Some(first), Some(last)) = (usable().map(|a| a.first).min(), usable().map(|a| a.last).max()) else {
            return Summaries { of };
        };
        let ids: Vec<i32> = usable().map(|a| a.instrument.id).collect();
        let names: Vec<&str> = Segment::ALL.into_iter().filter(|s| wanted(*s)).map(Segment::name).collect();
        let days = [Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))];
        c.run_planned_once(
            Mode::SameSnapshot,
            &SUMMARIES,
            c"SELECT instrument_id, trade_date, segment, opens_at, open, high, low, close, volume, notional, trades, priced, mergeable,
                     CASE state WHEN 'provisional' THEN -1 WHEN 'final' THEN 0 ELSE revision END
              FROM market.session_bars
              WHERE instrument_id = ANY ($1) AND trade_date BETWEEN $2 AND $3 AND segment = ANY ($4)",
            &[Arg::int4_array(&ids), days[0], days[1], Arg::text_array(&names)],
            &mut |v, nulls| {
                let stored = of.entry(v[0].value() as i32).or_default();
                // SAFETY: segment is text, volume and notional are numeric; NOT NULL and alive until the closure returns.
                match unsafe { row(v, nulls) } {
                    Some(row) => stored.rows.push(row),
                    None => stored.inexact = true,
                }
            },
        );
        for stored in of.values_mut() {
            stored.rows.sort_unstable_by_key(|row| (row.date, row.opens_at, row.segment as u8));
        }
        Summaries { of }
    }

    /// The rows of one question, by session and time; `None` where they do not give the exact answer.
    pub fn of(&self, asked: &Asked) -> Option<Vec<&Row>> {
        let segments = asked.request.segments;
        if !answer_for(segments) {
            return None;
        }
        let Some(stored) = self.of.get(&asked.instrument.id) else { return Some(Vec::new()) };
        let from = stored.rows.partition_point(|row| row.date < asked.first);
        let till = stored.rows.partition_point(|row| row.date <= asked.last);
        let rows: Vec<&Row> = stored.rows[from..till].iter().filter(|row| segments.contains(row.segment)).collect();
        // a row alone is the answer whatever it is; of several each must be what the trades would give
        let several = asked.request.groups();
        let exact = |g: &[&Row]| (!several && g.len() == 1) || g.iter().all(|row| row.mergeable);
        (!stored.inexact && rows.chunk_by(|a, b| a.date == b.date).all(exact)).then_some(rows)
    }
}

/// `None` if a sum has more digits than bars have, or does not fit.
unsafe fn row(v: &[pg_sys::Datum], nulls: &[bool]) -> Option<Row> {
    let price = |i: usize| if nulls[i] { Some(0) } else { money::price_from_f64(float8_of(v[i])).ok() };
    let name = Bytes::whole(v[2]);
    let segment = Segment::ALL.into_iter().find(|s| s.name().as_bytes() == name.get())?;
    let bar = Bar {
        open: price(4)?,
        high: price(5)?,
        low: price(6)?,
        close: price(7)?,
        volume: numeric::value_of("volume", v[8], 9).ok()?,
        notional: numeric::value_of("notional", v[9], 18).ok()?,
        trades: v[10].value() as i64,
        priced: v[11].value() as i64,
        weak_close: false,
    };
    Some(Row {
        date: time::trade_date(v[1].value() as i32),
        opens_at: if nulls[3] { i64::MAX } else { v[3].value() as i64 },
        segment,
        bar,
        mergeable: v[12].value() as u8 != 0,
        state: State::of_revision(v[13].value() as i32),
    })
}
