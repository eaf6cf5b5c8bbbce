//! `calendar_preview` and `calendar_publish`: a new version of a calendar comes into force, and the sessions it changes are
//! built anew in the same transaction.
//!
//! The calendar's lock stands for the locks of all its sessions: every writer holds it shared from before it looks up a
//! trade date to the end of its transaction, so a publish may change any number of sessions.

use super::draft::{self, Draft};
use super::known;
use crate::error::raise_with;
use crate::fmgr::{Rows, arg_is_null, arg_option, arg_text, int8, null, record, text, varlena};
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::{Rekeying, Sharing, invalid, lock_calendar, require_read_committed};
use crate::{instrument, plans, time, v1};
use market::{Calendar, Change, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::collections::BTreeMap;

plans!(INSTRUMENTS, PUBLISH, INSERT, AUDIT);
v1!(
    calendar_preview => pg_finfo_calendar_preview,
    calendar_publish => pg_finfo_calendar_publish,
);

/// What a draft changes.
struct Changes {
    draft: Draft,
    /// What is in force; `None` for a new calendar, which has no instruments yet.
    old: Option<Calendar>,
    by_date: BTreeMap<TradeDate, Change>,
}

fn changes(c: &Conn, mode: Mode, id: &str) -> Changes {
    let Some(draft) = draft::compose(c, mode, id) else {
        raise_with(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            &format!("calendar {id} has nothing to publish"),
            "make a draft with market.calendar_define(), or correct a day with market.calendar_except()",
        )
    };
    let exists = known::in_force(c, mode, id).is_some() || Calendar::builtin(id).is_ok();
    let old = exists.then(|| if mode == Mode::Fresh { known::newest(id) } else { known::seen(id) });
    let by_date = old.as_ref().map(|old| old.changes(&draft.calendar).collect()).unwrap_or_default();
    Changes { draft, old, by_date }
}

/// The instruments of a calendar, in the order of their ids.
fn instruments(c: &Conn, mode: Mode, changes: &Changes) -> Vec<(i32, String)> {
    let calendar = changes.old.as_ref().unwrap_or(&changes.draft.calendar);
    let names: Vec<&str> =
        std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str)).collect();
    let mut all = Vec::new();
    c.run_planned_once(
        mode,
        &INSTRUMENTS,
        c"SELECT id, symbol FROM market.instruments WHERE calendar = ANY (pg_catalog.string_to_array($1, pg_catalog.chr(31))) ORDER BY id",
        &[Arg::text(&names.join("\u{1f}"))],
        // SAFETY: columns are int4 and text, NOT NULL.
        &mut |v, _| all.push((v[0].value() as i32, unsafe { text(v[1]) })),
    );
    all
}

/// `calendar_preview(calendar text) -> setof (symbol, trade_date, change, trades, leaving, arriving)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_preview(fc: FunctionCallInfo) -> Datum {
    let name = arg_text(fc, 0);
    let mut found = Vec::new();
    require_all_instruments("calendar_preview");
    spi::connect(|c| {
        let id = draft::id_of(c, &name);
        let changes = changes(c, Mode::SameSnapshot, &id);
        for (instrument, symbol) in instruments(c, Mode::SameSnapshot, &changes) {
            let plan = Rekeying::plan(c, Mode::SameSnapshot, instrument, &changes.draft.calendar, &changes.by_date);
            found.push((symbol, plan));
        }
    });
    let mut rows = Rows::begin(fc, 6);
    for (symbol, plan) in &found {
        for session in &plan.sessions {
            rows.put([
                Some(varlena(symbol.as_bytes())),
                Some(Datum::from(time::pg_days(session.trade_date))),
                Some(varlena(session.change.name().as_bytes())),
                Some(int8(session.trades)),
                Some(int8(session.leaving)),
                Some(int8(session.arriving)),
            ]);
        }
    }
    null(fc)
}

/// `calendar_publish(calendar text, note text, OUT version, OUT sessions_changed, OUT sessions_rebuilt, OUT trades_moved)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_publish(fc: FunctionCallInfo) -> Datum {
    require_read_committed("calendar_publish");
    if arg_is_null(fc, 0) {
        invalid("calendar_publish: the calendar is NULL", "name the calendar whose draft shall be in force")
    }
    let name = arg_text(fc, 0);
    let note = arg_option(fc, 1);
    require_all_instruments("calendar_publish");
    let (version, changed, rebuilt, moved) = spi::connect(|c| {
        let id = draft::id_of(c, &name);
        lock_calendar(&id, Sharing::Exclusive);
        let changes = changes(c, Mode::Fresh, &id);
        let (mut rebuilt, mut moved) = (0, 0);
        if !changes.by_date.is_empty() {
            for (instrument, symbol) in instruments(c, Mode::Fresh, &changes) {
                let plan = Rekeying::plan(c, Mode::Fresh, instrument, &changes.draft.calendar, &changes.by_date);
                plan.refuse_lost(&symbol, &changes.draft.calendar);
                moved += plan.apply(c, instrument, &changes.draft.calendar);
                rebuilt += plan.sessions.len() as i64;
            }
        }
        put_in_force(c, &id, &changes.draft, note);
        audit(c, &id, &changes, rebuilt, moved);
        (changes.draft.version, changes.by_date.len() as i32, rebuilt, moved)
    });
    record(fc, &mut [Datum::from(version), Datum::from(changed), int8(rebuilt), int8(moved)])
}

/// Raises 42501 where row-level security may hide instruments: their trades would stay under dates that are no more.
fn require_all_instruments(what: &str) {
    if instrument::some_are_hidden() {
        raise_with(
            PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
            &format!("{what} needs to see every instrument of the calendar, and row-level security may hide some"),
            "ask a role that no policy of market.instruments holds for: their owner, or one with BYPASSRLS",
        )
    }
}

fn put_in_force(c: &Conn, id: &str, draft: &Draft, note: Option<Datum>) {
    let note = Arg::option(pg_sys::TEXTOID, note);
    let (id, version, exceptions) = (Arg::text(id), Arg::int4(draft.version), Arg::text(&draft.exceptions));
    if draft.is_stored {
        c.execute(
            Mode::Fresh,
            &PUBLISH,
            c"UPDATE market.calendar_versions SET state = 'published', exceptions = $3, note = coalesce($4, note),
                     published_at = pg_catalog.now(), published_by = session_user
              WHERE calendar = $1 AND version = $2 AND state = 'draft'",
            &[id, version, exceptions, note],
        );
    } else {
        c.insert(
            &INSERT,
            c"INSERT INTO market.calendar_versions
                (calendar, version, exceptions, note, toml, aliases, state, published_at, published_by)
              VALUES ($1, $2, $3, $4, $5, pg_catalog.string_to_array($6, pg_catalog.chr(31)), 'published', pg_catalog.now(), session_user)",
            &[id, version, exceptions, note, Arg::text(&draft.toml), Arg::text(&draft.calendar.aliases().join("\u{1f}"))],
        );
    }
}

fn audit(c: &Conn, id: &str, changes: &Changes, rebuilt: i64, moved: i64) {
    let count = |change: Change| Arg::int8(changes.by_date.values().filter(|c| **c == change).count() as i64);
    c.insert(
        &AUDIT,
        c"INSERT INTO market.audit_log (action, detail)
          VALUES ('calendar_publish', pg_catalog.jsonb_build_object('calendar', $1, 'old_version', $2, 'new_version', $3,
            'appeared', $4, 'vanished', $5, 'moved', $6, 'rewindowed', $7, 'sessions_rebuilt', $8, 'trades_moved', $9))",
        &[
            Arg::text(id),
            Arg::option(pg_sys::INT4OID, changes.old.as_ref().map(|old| Datum::from(old.version() as i32))),
            Arg::int4(changes.draft.version),
            count(Change::Appeared),
            count(Change::Vanished),
            count(Change::Moved),
            count(Change::Rewindowed),
            Arg::int8(rebuilt),
            Arg::int8(moved),
        ],
    );
}
