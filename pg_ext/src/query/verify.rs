//! `verify_bars`: what is stored beside the trades, made again of the trades.

use crate::error::OrRaise;
use crate::fmgr::{Bytes, Rows, arg, arg_text, float8_of, null, text, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::{decimal, mergeable};
use crate::{plans, time, v1};
use market::block::{self, Core};
use market::digest::Digest;
use market::minute::{MinuteBar, MinuteFold, decode_minutes};
use market::ohlc::{SegmentBar, summaries};
use market::{Key, Nanos, Session, TradeDate, Trades, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(PARTS, MINUTES, SUMMARIES, DATES, DROPPED);
v1!(verify_bars => pg_finfo_verify_bars);

/// A difference: what it is about, what the trades say, what is stored.
struct Difference {
    what: String,
    expected: String,
    found: String,
}

struct Report {
    differences: Vec<Difference>,
}

impl Report {
    fn add(&mut self, what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) {
        self.differences.push(Difference { what: what.into(), expected: expected.into(), found: found.into() });
    }

    fn compare(&mut self, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.add(what, expected, found);
        }
    }
}

fn key_text(key: Key) -> String {
    format!("{} seq {} sub {}", market::time::format_instant(key.ts), key.seq, key.sub)
}

fn key_args(c: &Instrument, day: TradeDate) -> [Arg; 2] {
    [Arg::int4(c.id), Arg::date(time::pg_days(day))]
}

/// Reads every part strictly; what cannot be read is a difference, not an error.
fn check_parts(
    c: &Conn,
    instrument: &Instrument,
    session: &Session<'_>,
    report: &mut Report,
) -> (Vec<MinuteBar>, i64, usize, Option<String>) {
    let mut known: Option<(Nanos, Nanos)> = None;
    let mut minutes = MinuteFold::new(session);
    let (mut digest, mut core, mut trades) = (Digest::new(), Core::new(), Trades::new());
    let (mut last, mut total): (Option<Key>, usize) = (None, 0);
    c.run(
        Mode::SameSnapshot,
        &PARTS,
        c"SELECT part, n, payload, first_ts, first_ns, first_seq, first_sub, last_ts, last_ns, last_seq, last_sub FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2
          ORDER BY first_ts, first_ns, first_seq, first_sub",
        &key_args(instrument, session.trade_date),
        &mut |v, _| {
            let part = format!("block {}", v[0].value() as i32);
            // SAFETY: payload is a bytea, NOT NULL, alive until the closure returns.
            let bytes = unsafe { Bytes::whole(v[2]) };
            trades.clear();
            if let Err(e) = block::check_block(bytes.get(), &mut trades) {
                report.add(part, "a readable block", e.to_string());
                return;
            }
            if trades.is_empty() {
                report.add(part, "trades", "none");
                return;
            }
            let (first, end) = (trades.key(0), trades.key(trades.len() - 1));
            report.compare(&format!("{part} n"), &trades.len().to_string(), &(v[1].value() as i32).to_string());
            let key = |at: usize| Key {
                ts: time::nanos_clamped(v[at].value() as i64).saturating_add(i64::from(v[at + 1].value() as i16)),
                seq: v[at + 2].value() as i64,
                sub: i32::from(v[at + 3].value() as i16),
            };
            report.compare(&format!("{part} first trade"), &key_text(first), &key_text(key(3)));
            report.compare(&format!("{part} last trade"), &key_text(end), &key_text(key(7)));
            if last.is_some_and(|l| l >= first) {
                report.add(format!("{part} range"), "after the part before", "overlaps it");
            }
            if first.ts < session.from || end.ts >= session.till {
                report.add(format!("{part} range"), "inside the session's window", "outside");
            }
            last = Some(end);
            total += trades.len();
            digest.update(&trades);
            known = known.into_iter().chain(trades.known_range()).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
            for from in (0..trades.len()).step_by(block::PAGE) {
                core.set(&trades, from..(from + block::PAGE).min(trades.len()));
                minutes.push(&core);
                super::read::check_interrupts();
            }
        },
    );
    let known =
        known.map_or("none".to_owned(), |(first, last)| format!("{} to {}", whole_micros(first), whole_micros(last)));
    (minutes.finish(), digest.finish() as i64, total, Some(known))
}

/// The stored minute bars; `None`, with a difference, if they cannot be read.
fn read_minutes(c: &Conn, instrument: &Instrument, day: TradeDate, report: &mut Report) -> Option<Vec<MinuteBar>> {
    let mut stored: Vec<MinuteBar> = Vec::new();
    let mut readable = true;
    c.run(
        Mode::SameSnapshot,
        &MINUTES,
        c"SELECT n, payload FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date = $2",
        &key_args(instrument, day),
        &mut |v, _| {
            // SAFETY: as in `check_parts`.
            let bytes = unsafe { Bytes::whole(v[1]) };
            if let Err(e) = decode_minutes(bytes.get(), &mut stored) {
                readable = false;
                report.add("minute bars", "a readable block", e.to_string());
            } else {
                report.compare("minute bars n", &stored.len().to_string(), &(v[0].value() as i32).to_string());
            }
        },
    );
    readable.then_some(stored)
}

fn check_minutes(c: &Conn, instrument: &Instrument, day: TradeDate, expected: &[MinuteBar], report: &mut Report) {
    let Some(stored) = read_minutes(c, instrument, day, report) else { return };
    let show = |b: Option<&MinuteBar>| b.map_or("none".to_owned(), |b| format!("{:?}", b.bar));
    let (mut i, mut j) = (0, 0);
    while i < expected.len() || j < stored.len() {
        let (e, s) = (expected.get(i), stored.get(j));
        let place = |b: &MinuteBar| (b.minute, b.class);
        let (e, s) = match (e, s) {
            (Some(a), Some(b)) if place(a) < place(b) => (Some(a), None),
            (Some(a), Some(b)) if place(a) > place(b) => (None, Some(b)),
            both => both,
        };
        (i, j) = (i + usize::from(e.is_some()), j + usize::from(s.is_some()));
        if e != s
            && let Some(at) = e.or(s)
        {
            report.add(format!("minute {}", market::time::format_instant(at.minute)), show(e), show(s));
        }
    }
}

fn summary_text(b: &SegmentBar, digest: i64, mergeable: bool) -> String {
    let price = |p: i64| if b.bar.priced > 0 { money::to_f64(p).to_string() } else { "-".to_owned() };
    format!(
        "{} {} {} {} from {} to {} volume {} notional {} trades {} priced {} digest {digest} mergeable {mergeable}",
        price(b.bar.open),
        price(b.bar.high),
        price(b.bar.low),
        price(b.bar.close),
        whole_micros(b.opens_at),
        whole_micros(b.closes_at),
        decimal(b.bar.volume, 9),
        decimal(b.bar.notional, 18),
        b.bar.trades,
        b.bar.priced
    )
}

/// An instant as a timestamptz can say it.
fn whole_micros(ts: Nanos) -> String {
    // what is left of the earliest microsecond that nanoseconds can hold is no whole one
    market::time::format_instant(ts.saturating_sub(ts.rem_euclid(1000)))
}

/// What the trades of a session say.
struct Expected<'a> {
    minutes: &'a [MinuteBar],
    bars: &'a [SegmentBar],
    digest: i64,
    /// When the first and the last became known; `None` where retention dropped them.
    known: Option<&'a str>,
}

fn check_summaries(
    c: &Conn,
    instrument: &Instrument,
    session: &Session<'_>,
    trades: &Expected<'_>,
    report: &mut Report,
) {
    let Expected { minutes, bars: expected, digest, known } = *trades;
    let mut stored: Vec<(String, String)> = Vec::new();
    let mut marks: Vec<String> = Vec::new();
    let day = key_args(instrument, session.trade_date);
    c.run(
        Mode::SameSnapshot,
        &SUMMARIES,
        c"SELECT segment, ' volume ' || pg_catalog.trim_scale(volume) || ' notional ' || pg_catalog.trim_scale(notional)
                 || ' trades ' || trades || ' priced ' || priced || ' digest ' || digest || ' mergeable ' || mergeable,
                 open, high, low, close, opens_at, closes_at,
                 ((state = 'revised') = (revision > 0)) AND revision >= 0 AND calendar_version BETWEEN 1 AND $3,
                 state || ' ' || revision || ' calendar version ' || calendar_version, first_known_at, last_known_at
          FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2 ORDER BY segment",
        &[day[0], day[1], Arg::int4(instrument.calendar.version() as i32)],
        &mut |v, nulls| {
            // not as PostgreSQL prints them: it writes 1e-05 where we write 0.00001
            let price = |i: usize| if nulls[i] { "-".to_owned() } else { float8_of(v[i]).to_string() };
            let prices = [2, 3, 4, 5].map(price).join(" ");
            let instant = |i: usize| match nulls[i] {
                true => "-".to_owned(),
                false => whole_micros(time::nanos_clamped(v[i].value() as i64)),
            };
            let times = format!(" from {} to {}", instant(6), instant(7));
            // a version before this one did not keep these
            let kept = !(nulls[10] && nulls[11]);
            if let Some(known) = known.filter(|_| kept) {
                // SAFETY: text, NOT NULL.
                let segment = unsafe { text(v[0]) };
                report.compare(&format!("session bar {segment} known"), known, &format!("{} to {}", instant(10), instant(11)));
            }
            // SAFETY: text, NOT NULL.
            stored.push(unsafe { (text(v[0]), prices + &times + &text(v[1])) });
            if v[8].value() as u8 == 0 {
                // SAFETY: as above.
                marks.push(unsafe { text(v[9]) });
            }
        },
    );
    for bar in expected {
        let name = bar.segment.name();
        let want = summary_text(bar, digest, mergeable(session, bar.segment, minutes, &bar.bar));
        let have = stored.iter().position(|(segment, _)| segment == name).map(|at| stored.swap_remove(at).1);
        report.compare(&format!("session bar {name}"), &want, have.as_deref().unwrap_or("none"));
    }
    for (segment, have) in stored {
        report.add(format!("session bar {segment}"), "none", have);
    }
    let version = instrument.calendar.version();
    for mark in marks {
        report.add(
            "session bar state",
            format!("revised if its revision is above 0, calendar version 1 to {version}"),
            mark,
        );
    }
}

/// `verify_bars(symbol text, first date, last date) -> setof (trade_date, what, expected, found)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn verify_bars(fc: FunctionCallInfo) -> Datum {
    let (first, last) = (time::trade_date(arg(fc, 1).value() as i32), time::trade_date(arg(fc, 2).value() as i32));
    let instrument = instrument::by_symbol(&arg_text(fc, 0), last);
    let mut rows = Rows::begin(fc, 4);
    spi::connect(|c| {
        for day in stored_dates(c, &instrument, first, last) {
            let mut report = Report { differences: Vec::new() };
            match instrument.calendar.session(day).or_raise() {
                Some(session) => {
                    let (minutes, digest, n, known) = match dropped(c, &instrument, day) {
                        // session bars alone are left, and nothing to make them of
                        Some((_, true)) => continue,
                        // what is left to compare: the session bars with the minute bars
                        Some((digest, false)) => {
                            (read_minutes(c, &instrument, day, &mut report).unwrap_or_default(), digest, 1, None)
                        }
                        None => {
                            let found = check_parts(c, &instrument, &session, &mut report);
                            check_minutes(c, &instrument, day, &found.0, &mut report);
                            found
                        }
                    };
                    let expected = if n > 0 { summaries(&session, &minutes) } else { Vec::new() };
                    let trades = Expected { minutes: &minutes, bars: &expected, digest, known: known.as_deref() };
                    check_summaries(c, &instrument, &session, &trades, &mut report);
                }
                None => report.add("session", "a session of the calendar", "no session on this date"),
            }
            for d in report.differences {
                let string = |s: &str| Some(varlena(s.as_bytes()));
                rows.put([
                    Some(Datum::from(time::pg_days(day))),
                    string(&d.what),
                    string(&d.expected),
                    string(&d.found),
                ]);
            }
        }
    });
    null(fc)
}

/// The digest of a session whose trades retention dropped, and whether it dropped the minute bars too.
fn dropped(c: &Conn, instrument: &Instrument, day: TradeDate) -> Option<(i64, bool)> {
    let mut found = None;
    c.run_planned_once(
        Mode::SameSnapshot,
        &DROPPED,
        c"SELECT digest, minutes_dropped_at IS NOT NULL FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2 AND trades_dropped_at IS NOT NULL LIMIT 1",
        &key_args(instrument, day),
        &mut |v, _| found = Some((v[0].value() as i64, v[1].value() as u8 != 0)),
    );
    found
}

/// Every trade date that has anything stored.
fn stored_dates(c: &Conn, instrument: &Instrument, first: TradeDate, last: TradeDate) -> Vec<TradeDate> {
    let mut dates = Vec::new();
    c.run(
        Mode::SameSnapshot,
        &DATES,
        c"SELECT trade_date FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3
          UNION SELECT trade_date FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3
          UNION SELECT trade_date FROM market.session_bars WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3
          ORDER BY trade_date",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| dates.push(time::trade_date(v[0].value() as i32)),
    );
    dates
}
