//! `put_trades`: a packed session into the store, once however often it is sent.

use super::parts::{self, Parts};
use super::reported::Reports;
use super::session::{Sealed, Summary, finish_state, rewrite, sealed};
use super::{invalid, live, lock_session, require_read_committed};
use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Bytes, arg, keep_memory};
use crate::spi::{self, Arg, Conn, Mode};
use crate::{instrument, plans, time, v1};
use market::block::{self, Header};
use market::trade::earlier;
use market::{Session, Trade, Trades, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::ops::Range;

plans!(COUNT, ENSURE, DEAD);
v1!(put_trades => pg_finfo_put_trades);

/// The largest payload taken in one call.
const MAX_BYTES: usize = 64 << 20;
/// The most trades taken in one call.
const MAX_TRADES: usize = 4 << 20;

/// A payload that was decoded and checked.
struct Checked {
    parts: Vec<(Range<usize>, Header)>,
    trades: Vec<Trades>,
}

fn check(bytes: &[u8]) -> Checked {
    if bytes.len() > MAX_BYTES {
        invalid(
            &format!("the payload has {} bytes", bytes.len()),
            "send at most 64 MB of one session in a call, the rest in further calls",
        )
    }
    let mut checked = Checked { parts: Vec::new(), trades: Vec::new() };
    let mut last = None;
    let mut total = 0;
    for range in block::unpack_payload(bytes).or_raise() {
        let mut trades = Trades::new();
        let header = block::check_block(&bytes[range.clone()], &mut trades).or_raise();
        total += header.n;
        if total > MAX_TRADES {
            invalid(
                &format!("the payload has more than {MAX_TRADES} trades"),
                "send the rest of the session in further calls",
            )
        }
        if last.is_some_and(|last| header.first <= last) {
            invalid("the parts of the payload are not in order", "pack a session with market::block::encode_session")
        }
        if let Some(bad) = trades.iter().find_map(|t| t.check().err()) {
            crate::error::raise(&bad)
        }
        if let Some(sub) = trades.sub.iter().find(|sub| i16::try_from(**sub).is_err() || **sub < 0) {
            raise_with(
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                &format!("sub {sub} of a trade is out of range"),
                "sub counts the records of one message, from 0 to 32767",
            )
        }
        last = Some(header.last);
        checked.parts.push((range, header));
        checked.trades.push(trades);
        pg_sys::check_for_interrupts!();
    }
    checked
}

/// Makes the partitions of a trade date.
pub fn ensure_partitions(c: &Conn, session: &Session<'_>) {
    let day = Arg::date(time::pg_days(session.trade_date));
    c.execute(Mode::Fresh, &ENSURE, c"SELECT market.ensure_partitions($1)", &[day]);
}

/// Why a trade of a session whose trades retention dropped is refused.
pub const DROPPED: &str = "retention dropped the trades of its session";

/// Keeps what was refused: the same identity came with other content.
pub fn dead_letters(c: &Conn, instrument: i32, source: &str, conflicts: &[Trade]) {
    let reason = "a trade of this identity is stored with other content";
    refuse(c, instrument, source, reason, conflicts.iter().copied());
}

/// Keeps trades that were refused, with the reason, once.
pub fn refuse(c: &Conn, instrument: i32, source: &str, reason: &str, trades: impl Iterator<Item = Trade>) {
    for t in trades {
        let raw = format!(
            "ts={} seq={} sub={} price={} size={} flags={}",
            market::time::format_instant(t.ts),
            t.seq,
            t.sub,
            money::to_f64(t.price),
            money::to_f64(t.size),
            t.flags
        );
        c.execute(
            Mode::Fresh,
            &DEAD,
            c"INSERT INTO market.dead_letters (source, instrument_id, reason, raw) SELECT $1, $2, $4, $3
              WHERE NOT EXISTS (SELECT FROM market.dead_letters WHERE source = $1 AND instrument_id = $2 AND raw = $3)",
            &[Arg::text(source), Arg::int4(instrument), Arg::text(&raw), Arg::text(reason)],
        );
    }
}

/// `put_trades(instrument int4, payload bytea, OUT trade_date, OUT added, OUT known, OUT conflicts)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn put_trades(fc: FunctionCallInfo) -> Datum {
    require_read_committed("put_trades");
    keep_memory();
    let instrument = instrument::for_writing(|| instrument::by_id(arg(fc, 0).value() as i32));
    let payload = Bytes::whole(arg(fc, 1));
    let checked = check(payload.get());
    let (Some((_, first)), Some((_, last))) = (checked.parts.first(), checked.parts.last()) else {
        invalid("the payload has no trades", "send at least one")
    };
    let session = instrument.calendar.session_at(first.first.ts).or_raise();
    if last.last.ts >= session.till {
        raise_with(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!(
                "the payload reaches beyond trade date {}: its last trade is at {}",
                session.trade_date,
                market::time::format_instant(last.last.ts)
            ),
            "send each session in a call of its own",
        )
    }
    lock_session(instrument.id, session.trade_date);
    let (added, known, conflicts) = spi::connect(|c| store(c, &instrument, &session, &checked, payload.get()));
    let day = Datum::from(time::pg_days(session.trade_date));
    crate::fmgr::record(
        fc,
        &mut [day, crate::fmgr::int8(added), crate::fmgr::int8(known), crate::fmgr::int8(conflicts)],
    )
}

fn store(
    c: &Conn,
    instrument: &instrument::Instrument,
    session: &Session<'_>,
    checked: &Checked,
    bytes: &[u8],
) -> (i64, i64, i64) {
    let total: usize = checked.trades.iter().map(Trades::len).sum();
    let before = sealed(c, instrument.id, session);
    let corrections = live::read_corrections(c, Mode::Fresh, instrument.id, session.from, session.till);
    let mut summary = Summary::new(session);
    for trades in &checked.trades {
        summary.push(trades);
    }
    // the digest alone would not notice that a block is gone, which sending the trades again repairs
    let whole = |b: &&Sealed| b.digest == summary.digest() && count(c, instrument.id, session) == total as i64;
    if let Some(before) = before.as_ref().filter(whole) {
        finish_state(c, instrument.id, &instrument.calendar, session, before);
        return (0, total as i64, 0);
    }
    // what is known first stays, also while it is a row: a trade of the same identity waits for its seal
    let live = live::read_apart(c, Mode::Fresh, instrument.id, session.from, session.till).trades;
    // trades that count for nothing leave blocks without a summary, so blocks are looked for in any case
    let mut all = Parts::read(c, Mode::Fresh, instrument.id, session.trade_date);
    if before.is_none() && corrections.is_empty() && live.is_empty() && all.all.is_empty() {
        ensure_partitions(c, session);
        for (number, (range, h)) in checked.parts.iter().enumerate() {
            parts::write_part(
                c,
                instrument.id,
                session.trade_date,
                number as i32,
                h.n,
                (h.first, h.last),
                &bytes[range.clone()],
                false,
            );
            pg_sys::check_for_interrupts!();
        }
        summary.write(c, instrument.id, &instrument.calendar, session, None, None);
        return (total as i64, 0, 0);
    }
    ensure_partitions(c, session);
    let (mut added, mut known, mut conflicts, mut changed) = (0, 0, Vec::new(), None);
    let mut reports = Reports::read(c, instrument.id, session, &corrections);
    for trades in &checked.trades {
        // a row is what readers see; its twin in a file changes nothing of it
        reports.keep(c, &corrections, &all, &[&live, trades], None);
        // a corrected identity is stored already, or was busted: either way it is known
        let (news, settled) = reports.split(trades, &corrections, &all);
        let (news, twins) = split_live(news, &live, &all, &mut conflicts);
        known += twins;
        let done = all.merge(&news);
        added += done.added;
        known += done.known + settled;
        changed = earlier(changed, done.first_known);
        conflicts.extend(done.conflicts);
        pg_sys::check_for_interrupts!();
    }
    let corrected = all.correct(&corrections);
    if let Some(before) = before.as_ref().filter(|before| before.dropped) {
        require_restored(&all, before, session);
    }
    if added > 0 || corrected.is_some() {
        let changed = earlier(changed, corrected);
        rewrite(c, instrument.id, &instrument.calendar, session, &mut all, before.as_ref(), changed);
    }
    dead_letters(c, instrument.id, "put_trades", &conflicts);
    (added as i64, known as i64, conflicts.len() as i64)
}

/// Raises 55000 unless these are exactly the trades that retention dropped: bars are made of all trades or of none.
fn require_restored(all: &Parts, before: &Sealed, session: &Session<'_>) {
    let mut summary = Summary::new(session);
    for part in &all.all {
        summary.push(&part.trades);
    }
    if summary.digest() != before.digest {
        raise_with(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            &format!(
                "retention dropped the trades of trade date {}, and these are not all of them",
                session.trade_date
            ),
            "load the whole session in one call, as it was; its bars are still there",
        )
    }
}

/// How many trades lie in a session's blocks.
fn count(c: &Conn, instrument: i32, session: &Session<'_>) -> i64 {
    let mut n = 0;
    c.run(
        Mode::Fresh,
        &COUNT,
        c"SELECT coalesce(sum(n), 0)::pg_catalog.int8 FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2",
        &[Arg::int4(instrument), Arg::date(time::pg_days(session.trade_date))],
        &mut |v, _| n = v[0].value() as i64,
    );
    n
}

/// The trades that live rows leave to merge, and how many are such a row already; those with other content are conflicts.
fn split_live(trades: Trades, live: &Trades, stored: &Parts, conflicts: &mut Vec<Trade>) -> (Trades, usize) {
    if live.is_empty() {
        return (trades, 0);
    }
    let mut news = Trades::with_capacity(trades.len());
    let mut twins = 0;
    for t in trades.iter() {
        match live.find(t.key()).map(|at| live.get(at)) {
            // a sealed trade outranks its row, here as for readers
            Some(_) if stored.get(t.key()).is_some() => news.push(t),
            Some(row) if row.same_report(&t) => twins += 1,
            Some(_) => conflicts.push(t),
            None => news.push(t),
        }
    }
    (news, twins)
}
