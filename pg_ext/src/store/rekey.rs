//! Sealed sessions under a new version of their calendar: which must be built anew, and their trades on their new dates.
//!
//! A trade's date is a function of the calendar, so a session that appears takes its trades from its neighbours, one that
//! vanishes gives them away, and one that moves may do both; a session of which only the storage window differs is touched
//! only if it has trades in the part that changed hands, or a bar of trades outside the hours, which is as long as the window.
//! Live rows need nothing: readers file them when they read.

use super::parts::Parts;
use super::put::{dead_letters, ensure_partitions};
use super::session::{Sealed, rewrite, sealed};
use crate::error::{OrRaise, raise_with};
use crate::spi::{Arg, Conn, Mode};
use crate::{plans, time};
use market::{Calendar, Change, Nanos, TradeDate, Trades};
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

plans!(STORED, SUMMARIES, DROP_BLOCKS, DROP_MINUTES, DROP_BARS, DROP_REVISIONS);

/// One sealed session of an instrument that is built anew.
pub struct Rekeyed {
    /// Its label.
    pub trade_date: TradeDate,
    /// How the calendar changed it.
    pub change: Change,
    /// Trades sealed under this label now.
    pub trades: i64,
    /// How many of them go to other labels.
    pub leaving: i64,
    /// How many come from others.
    pub arriving: i64,
    /// The first of its trades.
    first: Nanos,
}

/// What a new version of a calendar does to one instrument.
#[derive(Default)]
pub struct Rekeying {
    /// The sessions to build anew, in order; all others stay as they are.
    pub sessions: Vec<Rekeyed>,
    /// Changed sessions whose bars are stored but not their trades, so that nothing can be built of them.
    lost: Vec<TradeDate>,
}

struct Stored {
    date: TradeDate,
    first: Nanos,
    last: Nanos,
    n: i64,
}

/// The sealed sessions of an instrument between two dates: their first and last trade, and how many.
fn stored(c: &Conn, mode: Mode, instrument: i32, first: TradeDate, last: TradeDate) -> Vec<Stored> {
    let mut all = Vec::new();
    c.run(
        mode,
        &STORED,
        c"SELECT trade_date, min(first_ts), max(last_ts), sum(n)::pg_catalog.int8 FROM market.trade_blocks
          WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 GROUP BY trade_date ORDER BY trade_date",
        &[Arg::int4(instrument), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            all.push(Stored {
                date: time::trade_date(v[0].value() as i32),
                first: time::nanos(v[1].value() as i64),
                // whole microseconds, as the edges of windows are
                last: time::nanos(v[2].value() as i64),
                n: v[3].value() as i64,
            });
        },
    );
    all
}

/// The dates between two on which an instrument has bars, and whether one is of trades outside the hours.
fn with_bars(c: &Conn, mode: Mode, instrument: i32, first: TradeDate, last: TradeDate) -> BTreeMap<TradeDate, bool> {
    let mut all = BTreeMap::new();
    c.run(
        mode,
        &SUMMARIES,
        c"SELECT trade_date, bool_or(segment = 'OFF') FROM market.session_bars
          WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 GROUP BY trade_date",
        &[Arg::int4(instrument), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            all.insert(time::trade_date(v[0].value() as i32), v[1].value() != 0);
        },
    );
    all
}

/// The storage window of a date, if it has a session.
fn window(calendar: &Calendar, date: TradeDate) -> Option<(Nanos, Nanos)> {
    calendar.session(date).ok().flatten().map(|session| (session.from, session.till))
}

impl Rekeying {
    /// Finds what a new version changes of an instrument's sealed sessions; raises 22008 if it does not cover one of their
    /// trades. Sessions that only changed hours are told by their calendar, the others by their trades.
    pub fn plan(
        c: &Conn,
        mode: Mode,
        instrument: i32,
        new: &Calendar,
        changes: &BTreeMap<TradeDate, Change>,
    ) -> Rekeying {
        let (Some(first), Some(last)) = (changes.keys().next(), changes.keys().next_back()) else {
            return Rekeying::default();
        };
        let stored = stored(c, mode, instrument, *first, *last);
        let sealed: BTreeSet<TradeDate> = stored.iter().map(|s| s.date).collect();
        let bars = with_bars(c, mode, instrument, *first, *last);
        let has_off = |date: &TradeDate| bars.get(date).copied().unwrap_or(false);
        let matters = |date: &TradeDate, change: Change| change != Change::Rewindowed || has_off(date);
        let lost = bars.keys().filter(|date| !sealed.contains(date));
        let lost =
            lost.filter(|date| changes.get(date).is_some_and(|change| matters(date, *change))).copied().collect();
        let mut found: BTreeMap<TradeDate, Rekeyed> = BTreeMap::new();
        let mut arriving: BTreeMap<TradeDate, i64> = BTreeMap::new();
        for s in &stored {
            let Some(change) = changes.get(&s.date).copied() else { continue };
            let mut leaving = 0;
            if window(new, s.date).is_none_or(|(from, till)| s.first < from || s.last >= till) {
                for part in &Parts::read(c, mode, instrument, s.date).all {
                    for (target, n) in count(new, &part.trades).into_iter().filter(|(target, _)| *target != s.date) {
                        leaving += n;
                        *arriving.entry(target).or_default() += n;
                    }
                    pg_sys::check_for_interrupts!();
                }
            }
            if leaving > 0 || matters(&s.date, change) {
                let session = Rekeyed { trade_date: s.date, change, trades: s.n, leaving, arriving: 0, first: s.first };
                found.insert(s.date, session);
            }
        }
        for (date, n) in arriving {
            let known = stored.iter().find(|s| s.date == date);
            let (trades, first) = known.map_or((0, Nanos::MAX), |s| (s.n, s.first));
            // trades go only where the windows changed
            let change = changes.get(&date).copied().unwrap_or(Change::Rewindowed);
            let session = Rekeyed { trade_date: date, change, trades, leaving: 0, arriving: 0, first };
            found.entry(date).or_insert(session).arriving = n;
        }
        Rekeying { sessions: found.into_values().collect(), lost }
    }

    /// Raises 55000 if bars would stay that the new calendar contradicts.
    pub fn refuse_lost(&self, symbol: &str, calendar: &Calendar) {
        let (Some(first), Some(last)) = (self.lost.first(), self.lost.last()) else { return };
        raise_with(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            &format!(
                "version {} of calendar {} changes {} sessions of {symbol} between {first} and {last} whose trades are no longer stored",
                calendar.version(),
                calendar.id(),
                self.lost.len()
            ),
            "their bars cannot be built anew: load their trades again, or leave these days as they are (see market.calendar_diff())",
        )
    }

    /// Moves the trades and builds the sessions anew; returns how many trades moved. The calendar's lock is held.
    pub fn apply(&self, c: &Conn, instrument: i32, new: &Calendar) -> i64 {
        let mut moved = 0;
        let mut pending: BTreeMap<TradeDate, Trades> = BTreeMap::new();
        let mut written = vec![false; self.sessions.len()];
        for (i, session) in self.sessions.iter().enumerate() {
            if session.leaving > 0 {
                for part in &Parts::read(c, Mode::Fresh, instrument, session.trade_date).all {
                    moved += give_away(new, session.trade_date, &part.trades, &mut pending);
                    pg_sys::check_for_interrupts!();
                }
            }
            // a session is complete when no later one can have trades for it, so that only neighbours wait in memory
            let next = self.sessions[i + 1..].iter().find(|later| later.leaving > 0).map_or(Nanos::MAX, |s| s.first);
            for (earlier, written) in self.sessions.iter().zip(&mut written).take(i + 1) {
                let date = earlier.trade_date;
                let complete = window(new, date).is_none_or(|(_, till)| till <= next);
                if !*written && (complete || next == Nanos::MAX) {
                    let arrived = pending.remove(&date).unwrap_or_default();
                    write(c, instrument, new, date, arrived);
                    *written = true;
                }
            }
        }
        // what only arrives may come after its givers
        debug_assert!(pending.is_empty());
        moved
    }
}

/// How many trades fall on each date.
fn count(calendar: &Calendar, trades: &Trades) -> Vec<(TradeDate, i64)> {
    let mut cursor = calendar.cursor();
    let mut counts: Vec<(TradeDate, i64)> = Vec::new();
    for ts in &trades.ts {
        let date = cursor.trade_date(*ts).or_raise();
        match counts.last_mut() {
            Some((last, n)) if *last == date => *n += 1,
            _ => counts.push((date, 1)),
        }
    }
    counts
}

/// Copies the trades of other dates to where they wait.
fn give_away(new: &Calendar, own: TradeDate, trades: &Trades, pending: &mut BTreeMap<TradeDate, Trades>) -> i64 {
    let mut moved = 0;
    let mut from = 0;
    for (date, n) in count(new, trades) {
        let till = from + n as usize;
        if date != own {
            pending.entry(date).or_default().append_range(trades, from..till);
            moved += n;
        }
        from = till;
    }
    moved
}

/// Builds a session of the trades it keeps and those that arrived; drops what is stored under a date that is no more.
fn write(c: &Conn, instrument: i32, new: &Calendar, date: TradeDate, mut arrived: Trades) {
    let Some(session) = new.session(date).ok().flatten() else {
        let key = [Arg::int4(instrument), Arg::date(time::pg_days(date))];
        let sql = c"DELETE FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2";
        c.execute(Mode::Fresh, &DROP_BLOCKS, sql, &key);
        let sql = c"DELETE FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date = $2";
        c.execute(Mode::Fresh, &DROP_MINUTES, sql, &key);
        let sql = c"DELETE FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2";
        c.execute(Mode::Fresh, &DROP_BARS, sql, &key);
        let sql = c"DELETE FROM market.session_revisions WHERE instrument_id = $1 AND trade_date = $2";
        c.execute(Mode::Fresh, &DROP_REVISIONS, sql, &key);
        return;
    };
    ensure_partitions(c, &session);
    let before = sealed(c, instrument, &session).map(|before| Sealed { rekeyed: true, ..before });
    let mut parts = Parts::read(c, Mode::Fresh, instrument, date);
    parts.keep(c, instrument, date, session.from, session.till);
    if !arrived.is_empty() {
        arrived.sort_by_key();
        let done = parts.merge(&arrived);
        dead_letters(c, instrument, "calendar_publish", &done.conflicts);
    }
    rewrite(c, instrument, new, &session, &mut parts, before.as_ref(), Some(super::maintain::now()));
    pg_sys::check_for_interrupts!();
}
