//! What stands beside a session's blocks: its minute bars, its summary per segment, its digest and state.

use super::parts::Parts;
use crate::error::OrRaise;
use crate::fmgr::{int8, text};
use crate::spi::{Arg, Conn, Mode};
use crate::{plans, time};
use market::block::Core;
use market::digest::Digest;
use market::minute::{MinuteBar, MinuteFold, encode_minutes};
use market::ohlc::{SegmentBar, SessionFold};
use market::{Calendar, Nanos, Segments, Session, Timeframe, Trades, money};
use pgrx::pg_sys;

plans!(STATE, FINAL, STILL, GAP, NOTIFY, UPDATE_BARS, INSERT_BARS, DELETE_BARS, CLEAR, INSERT_SUMMARY, REVISION);

/// What is known of a session that was sealed before.
pub struct Sealed {
    /// Hash of its trades.
    pub digest: i64,
    /// Whether a bar of it was final.
    pub final_: bool,
    /// How often it was sealed again after it was final.
    pub revision: i32,
    /// Whether its calendar changed, so that its bars may differ though its trades do not.
    pub rekeyed: bool,
    /// Whether retention dropped its trades, so that nothing can be made of them.
    pub dropped: bool,
}

/// The state of a sealed session; `None` if it never was.
pub fn sealed(c: &Conn, instrument: i32, session: &Session<'_>) -> Option<Sealed> {
    let mut found = None;
    c.run_planned_once(
        Mode::Fresh,
        &STATE,
        c"SELECT digest, state, revision, trades_dropped_at IS NOT NULL FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2 LIMIT 1",
        &[Arg::int4(instrument), Arg::date(time::pg_days(session.trade_date))],
        &mut |v, _| {
            // SAFETY: state is text, NOT NULL.
            let state = unsafe { text(v[1]) };
            found = Some(Sealed {
                digest: v[0].value() as i64,
                final_: state != "provisional",
                revision: v[2].value() as i32,
                rekeyed: false,
                dropped: v[3].value() as u8 != 0,
            });
        },
    );
    found
}

/// Why a session cannot be final yet: it runs, or its feed has a gap that is still open. `None` if it can.
fn why_provisional(c: &Conn, instrument: i32, calendar: &Calendar, session: &Session<'_>) -> Option<String> {
    let over = session.close(Segments::ETH).unwrap_or(session.till).saturating_add(calendar.grace());
    if super::maintain::now() < over {
        return Some(format!("the session runs until {} with its grace", market::time::format_instant(over)));
    }
    let mut reason = None;
    c.run_planned_once(
        Mode::Fresh,
        &GAP,
        c"SELECT pg_catalog.format('feed %s has an open gap: %s to %s are missing', feed, first_missing, last_missing)
          FROM market.feed_gaps WHERE closed_at IS NULL AND instrument_id = $1
            AND coalesce(from_ts, till_ts, noticed_at) < $3 AND coalesce(till_ts, from_ts, noticed_at) >= $2
          ORDER BY id LIMIT 1",
        &[
            Arg::int4(instrument),
            Arg::timestamptz(time::micros_floor(session.from)),
            Arg::timestamptz(time::micros_floor(session.till)),
        ],
        // SAFETY: format() of NOT NULL columns is text and not NULL.
        &mut |v, _| reason = Some(unsafe { text(v[0]) }),
    );
    reason
}

/// Tells who listens that a session was sealed or revised.
fn notify(c: &Conn, key: [Arg; 2], state: &str, revision: i32) {
    c.run_planned_once(
        Mode::Fresh,
        &NOTIFY,
        c"SELECT pg_catalog.pg_notify('market_revisions', pg_catalog.json_build_object('symbol', symbol, 'trade_date', $2,
                 'state', $3, 'revision', $4)::pg_catalog.text) FROM market.instruments WHERE id = $1",
        &[key[0], key[1], Arg::text(state), Arg::int4(revision)],
        &mut |_, _| {},
    );
}

/// Makes a session final that was sealed while it ran and has nothing to add now that it is over.
pub fn finish_state(c: &Conn, instrument: i32, calendar: &Calendar, session: &Session<'_>, before: &Sealed) {
    if before.final_ {
        return;
    }
    let key = [Arg::int4(instrument), Arg::date(time::pg_days(session.trade_date))];
    if let Some(reason) = why_provisional(c, instrument, calendar, session) {
        let sql = c"UPDATE market.session_bars SET reason = $3
                    WHERE instrument_id = $1 AND trade_date = $2 AND state = 'provisional' AND reason IS DISTINCT FROM $3";
        c.execute(Mode::Fresh, &STILL, sql, &[key[0], key[1], Arg::text(&reason)]);
        return;
    }
    let sql = c"UPDATE market.session_bars SET state = 'final', reason = NULL, sealed_at = pg_catalog.now()
                WHERE instrument_id = $1 AND trade_date = $2 AND state = 'provisional'";
    c.execute(Mode::Fresh, &FINAL, sql, &key);
    revision(c, key, 0, calendar, before.digest, None);
    notify(c, key, "final", 0);
}

/// Writes down that a session became final, or was revised by changes that are known since an instant.
fn revision(c: &Conn, key: [Arg; 2], number: i32, calendar: &Calendar, digest: i64, changed: Option<Nanos>) {
    c.insert(
        &REVISION,
        c"INSERT INTO market.session_revisions (instrument_id, trade_date, revision, calendar_version, digest, known_from)
          VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        &[
            key[0],
            key[1],
            Arg::int4(number),
            Arg::int4(calendar.version() as i32),
            Arg::int8(digest),
            // beyond fixed point's range an instant is an infinity
            Arg::timestamptz(changed.map_or(i64::MIN, time::micros_floor)),
        ],
    );
}

/// Builds what stands beside the blocks, page by page in order.
pub struct Summary<'s> {
    minutes: MinuteFold<'s>,
    digest: Digest,
    core: Core,
    known: Option<(Nanos, Nanos)>,
}

impl<'s> Summary<'s> {
    /// For one session.
    pub fn new(session: &Session<'s>) -> Summary<'s> {
        Summary { minutes: MinuteFold::new(session), digest: Digest::new(), core: Core::new(), known: None }
    }

    /// Adds the trades of a part.
    pub fn push(&mut self, trades: &Trades) {
        self.digest.update(trades);
        let ends = self.known.into_iter().chain(trades.known_range());
        self.known = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        for from in (0..trades.len()).step_by(market::block::PAGE) {
            self.core.set(trades, from..(from + market::block::PAGE).min(trades.len()));
            self.minutes.push(&self.core);
            pg_sys::check_for_interrupts!();
        }
    }

    /// The digest so far.
    pub fn digest(&self) -> i64 {
        self.digest.finish() as i64
    }

    /// Writes minute bars and summaries over what was there. `before` decides between final and revised; `changed` says since
    /// when the first of the changes is known.
    pub fn write(
        self,
        c: &Conn,
        instrument: i32,
        calendar: &Calendar,
        session: &Session<'_>,
        before: Option<&Sealed>,
        changed: Option<Nanos>,
    ) {
        let digest = self.digest();
        let known = |at: Option<Nanos>| Arg::option(pg_sys::TIMESTAMPTZOID, at.map(|at| int8(time::micros(at))));
        let known = [known(self.known.map(|k| k.0)), known(self.known.map(|k| k.1))];
        let minutes = self.minutes.finish();
        let key = [Arg::int4(instrument), Arg::date(time::pg_days(session.trade_date))];
        if minutes.is_empty() {
            c.execute(
                Mode::Fresh,
                &DELETE_BARS,
                c"DELETE FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date = $2",
                &key,
            );
        } else {
            let args =
                [key[0], key[1], Arg::int4(minutes.len() as i32), Arg::bytea(&encode_minutes(&minutes).or_raise())];
            let update =
                c"UPDATE market.bar_blocks SET n = $3, payload = $4 WHERE instrument_id = $1 AND trade_date = $2";
            let insert =
                c"INSERT INTO market.bar_blocks (instrument_id, trade_date, n, payload) VALUES ($1, $2, $3, $4)";
            if before.is_none() || c.execute(Mode::Fresh, &UPDATE_BARS, update, &args) == 0 {
                c.execute(Mode::Fresh, &INSERT_BARS, insert, &args);
            }
            args[3].free();
        }
        if before.is_some() {
            let clear = c"DELETE FROM market.session_bars WHERE instrument_id = $1 AND trade_date = $2";
            c.run_planned_once(Mode::Fresh, &CLEAR, clear, &key, &mut |_, _| {});
        }
        let revision = before.map_or(0, |b| b.revision + i32::from(b.final_ && (b.rekeyed || b.digest != digest)));
        let reason = match before {
            Some(b) if b.final_ => None,
            _ => why_provisional(c, instrument, calendar, session),
        };
        let state = match before {
            Some(b) if b.final_ && revision > 0 => "revised",
            _ if reason.is_none() => "final",
            _ => "provisional",
        };
        if reason.is_none() {
            let changed = (revision > 0).then(|| changed.unwrap_or_else(super::maintain::now));
            self::revision(c, key, revision, calendar, digest, changed);
            notify(c, key, state, revision);
        }
        for SegmentBar { segment, opens_at, closes_at, bar } in market::ohlc::summaries(session, &minutes) {
            let mergeable = mergeable(session, segment, &minutes, &bar);
            let price = |p: i64| {
                Arg::option(pg_sys::FLOAT8OID, (bar.priced > 0).then(|| crate::fmgr::float8(money::to_f64(p))))
            };
            c.insert(
                &INSERT_SUMMARY,
                c"INSERT INTO market.session_bars (instrument_id, trade_date, segment, opens_at, closes_at, open, high, low, close,
                         volume, notional, trades, priced, state, revision, calendar_version, digest, mergeable, reason,
                         first_known_at, last_known_at)
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::pg_catalog.numeric, $11::text::pg_catalog.numeric, $12, $13, $14, $15, $16, $17, $18, $19,
                          $20, $21)",
                &[
                    key[0],
                    key[1],
                    Arg::text(segment.name()),
                    Arg::timestamptz(time::micros(opens_at)),
                    Arg::timestamptz(time::micros(closes_at)),
                    price(bar.open),
                    price(bar.high),
                    price(bar.low),
                    price(bar.close),
                    Arg::text(&decimal(bar.volume, 9)),
                    Arg::text(&decimal(bar.notional, 18)),
                    Arg::int8(bar.trades),
                    Arg::int8(bar.priced),
                    Arg::text(state),
                    Arg::int4(revision),
                    Arg::int4(calendar.version() as i32),
                    Arg::int8(digest),
                    Arg::new(pg_sys::BOOLOID, pg_sys::Datum::from(mergeable)),
                    reason.as_deref().map_or(Arg::null(pg_sys::TEXTOID), Arg::text),
                    known[0],
                    known[1],
                ],
            );
        }
    }
}

/// Whether the bar of several segments made of such bars is what their trades would give: settling lost nothing, because its
/// high and low came from trades that update them.
pub fn mergeable(
    session: &Session<'_>,
    segment: market::Segment,
    minutes: &[MinuteBar],
    settled: &market::Bar,
) -> bool {
    if settled.priced == 0 || settled.weak_close {
        return false;
    }
    let mut fold = SessionFold::new(session, Timeframe::Days(1), Segments::only(segment));
    let mut bars = Vec::new();
    fold.push_minutes(minutes);
    fold.finish(&mut bars);
    matches!(bars.as_slice(), [one] if one.bar == *settled)
}

/// Writes everything beside the parts anew: what a merge or a correction ends with.
pub fn rewrite(
    c: &Conn,
    instrument: i32,
    calendar: &Calendar,
    session: &Session<'_>,
    parts: &mut Parts,
    before: Option<&Sealed>,
    changed: Option<Nanos>,
) {
    parts.write(c, instrument, session.trade_date);
    let mut summary = Summary::new(session);
    for part in &parts.all {
        summary.push(&part.trades);
    }
    summary.write(c, instrument, calendar, session, before, changed);
}

/// A fixed-point number as decimal text: exact, and without trailing zeros.
pub fn decimal(raw: i128, decimals: usize) -> String {
    let digits = format!("{:0width$}", raw.unsigned_abs(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let fraction = fraction.trim_end_matches('0');
    let sign = if raw < 0 { "-" } else { "" };
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}
