//! Drafts: what the next version of a calendar will say. `calendar_define`, `calendar_except`, `calendar_toml`, `calendar_diff`.

use super::known::{self, named};
use crate::error::{OrRaise, raise, raise_with};
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, null, record, text, varlena};
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::{Sharing, invalid, lock_calendar};
use crate::{plans, time, v1};
use market::{Calendar, Change, Session, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(DRAFT, BASE, ONE, HIGHEST, EXCEPTIONS, DROP, INSERT, EXCEPT, RETRACT);
v1!(
    calendar_define => pg_finfo_calendar_define,
    calendar_except => pg_finfo_calendar_except,
    calendar_toml => pg_finfo_calendar_toml,
    calendar_diff => pg_finfo_calendar_diff,
);

/// The next version of a calendar.
pub struct Draft {
    /// The number it will have.
    pub version: i32,
    /// The calendar file, without exceptions.
    pub toml: String,
    /// The rows of its exceptions.
    pub exceptions: String,
    /// Whether the file is stored as a draft, not only made of what is in force and its exceptions.
    pub is_stored: bool,
    /// File and exceptions together.
    pub calendar: Calendar,
}

struct Base {
    version: i32,
    toml: String,
    exceptions: String,
}

fn base(c: &Conn, mode: Mode, cell: &'static spi::PlanCell, sql: &'static std::ffi::CStr, id: &str) -> Option<Base> {
    let mut found = None;
    c.run_planned_once(mode, cell, sql, &[Arg::text(id)], &mut |v, _| {
        // SAFETY: columns are int4, text, text, all NOT NULL.
        unsafe { found = Some(Base { version: v[0].value() as i32, toml: text(v[1]), exceptions: text(v[2]) }) }
    });
    found
}

/// What is in force: the user's newest published version, else the shipped calendar.
fn in_force(c: &Conn, mode: Mode, id: &str) -> Option<Base> {
    let sql = c"SELECT version, toml, exceptions FROM market.calendar_versions
                WHERE calendar = $1 AND state = 'published' ORDER BY version DESC LIMIT 1";
    base(c, mode, &BASE, sql, id).or_else(|| {
        let shipped = Calendar::builtin(id).ok()?;
        Some(Base { version: shipped.version() as i32, toml: shipped.toml().to_owned(), exceptions: String::new() })
    })
}

/// The number of the version after all there are.
fn next_version(c: &Conn, mode: Mode, id: &str) -> i32 {
    let mut highest = 0;
    let sql =
        c"SELECT coalesce(max(version), 0) FROM market.calendar_versions WHERE calendar = $1 AND state = 'published'";
    c.run_planned_once(mode, &HIGHEST, sql, &[Arg::text(id)], &mut |v, _| highest = v[0].value() as i32);
    highest.max(Calendar::builtin(id).map_or(0, |shipped| shipped.version() as i32)) + 1
}

/// The exceptions of a calendar as rows of its file; raises 22023 for one that says something else than hours.
fn exceptions(c: &Conn, mode: Mode, names: &[String]) -> String {
    let mut rows: Vec<(TradeDate, String, String)> = Vec::new();
    c.run_planned_once(
        mode,
        &EXCEPTIONS,
        c"SELECT trade_date, toml, coalesce(note, '') FROM market.calendar_exceptions
          WHERE calendar = ANY (pg_catalog.string_to_array($1, pg_catalog.chr(31))) AND kind = 'schedule' ORDER BY trade_date, calendar",
        &[Arg::text(&names.join("\u{1f}"))],
        &mut |v, _| {
            // SAFETY: columns are date, text (NOT NULL by a constraint of the kind), text.
            unsafe { rows.push((time::trade_date(v[0].value() as i32), text(v[1]), text(v[2]))) }
        },
    );
    rows.iter().map(|(date, toml, note)| market::calendar::exception(*date, toml, note).or_raise()).collect()
}

/// The file with its exceptions; an error in one of them is named by its day.
fn parse(toml: &str, exceptions: &str, version: i32) -> Calendar {
    match Calendar::versioned(&format!("{toml}{exceptions}"), version as u32) {
        Ok(calendar) => calendar,
        Err(error) if exceptions.is_empty() => raise(&error),
        Err(error) => {
            // the file alone is right, so an exception is wrong, or the two together
            Calendar::versioned(toml, version as u32).or_raise();
            let whole = format!("{toml}{exceptions}");
            let day = match &error {
                market::Error::InvalidSpec { line: Some(line), .. } => {
                    whole.lines().take(*line).filter_map(|line| line.strip_prefix("on = \"")?.strip_suffix('"')).last()
                }
                _ => None,
            };
            raise_with(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                &format!("with the exceptions of market.calendar_exceptions: {error}"),
                &day.map_or_else(String::new, |day| format!("look at the exception of {day}")),
            )
        }
    }
}

/// The next version of a calendar; `None` if it would say what is in force.
pub fn compose(c: &Conn, mode: Mode, id: &str) -> Option<Draft> {
    let sql = c"SELECT version, toml, exceptions FROM market.calendar_versions WHERE calendar = $1 AND state = 'draft'";
    let stored = base(c, mode, &DRAFT, sql, id);
    let current = in_force(c, mode, id);
    let (version, toml) = match (&stored, &current) {
        (Some(stored), _) => (stored.version, &stored.toml),
        (None, Some(current)) => (next_version(c, mode, id), &current.toml),
        (None, None) => return None,
    };
    // exceptions may be written under any name of the calendar
    let plain = Calendar::versioned(toml, version as u32).or_raise();
    let names: Vec<String> = std::iter::once(plain.id().to_owned()).chain(plain.aliases().iter().cloned()).collect();
    let exceptions = exceptions(c, mode, &names);
    let same = current.as_ref().is_some_and(|now| now.toml == *toml && now.exceptions == exceptions);
    if stored.is_none() && same {
        return None;
    }
    let calendar = if exceptions.is_empty() { plain } else { parse(toml, &exceptions, version) };
    let toml = toml.clone();
    Some(Draft { version, toml, exceptions, is_stored: stored.is_some(), calendar })
}

/// The id of the calendar that a name means, draft or in force; raises 42704.
pub fn id_of(c: &Conn, name: &str) -> String {
    let known = known::alias(c, Mode::Fresh, name);
    if let (None, Ok(shipped)) = (&known, Calendar::builtin(name)) {
        return shipped.id().to_owned();
    }
    let sql = c"SELECT version, toml, exceptions FROM market.calendar_versions WHERE calendar = $1 AND state = 'draft'";
    match known {
        Some(id) => id,
        None if base(c, Mode::Fresh, &DRAFT, sql, name).is_some() => name.to_owned(),
        None => named(name).id().to_owned(),
    }
}

/// `calendar_define(toml text, note text, OUT calendar, OUT version)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_define(fc: FunctionCallInfo) -> Datum {
    if arg_is_null(fc, 0) {
        invalid(
            "calendar_define: the file is NULL",
            "give the text of a calendar file; market.calendar_toml('XNYS') shows one",
        )
    }
    let toml = arg_text(fc, 0);
    let note = arg_option(fc, 1);
    let calendar = Calendar::from_toml(&toml).or_raise();
    let id = calendar.id().to_owned();
    lock_calendar(&id, Sharing::Exclusive);
    let version = spi::connect(|c| {
        refuse_taken_names(c, &calendar);
        let version = next_version(c, Mode::Fresh, &id);
        let sql = c"DELETE FROM market.calendar_versions WHERE calendar = $1 AND state = 'draft'";
        c.execute(Mode::Fresh, &DROP, sql, &[Arg::text(&id)]);
        c.insert(
            &INSERT,
            c"INSERT INTO market.calendar_versions (calendar, version, toml, aliases, note)
              VALUES ($1, $2, $3, pg_catalog.string_to_array($4, pg_catalog.chr(31)), $5)",
            &[
                Arg::text(&id),
                Arg::int4(version),
                Arg::text(&toml),
                Arg::text(&calendar.aliases().join("\u{1f}")),
                Arg::option(pg_sys::TEXTOID, note),
            ],
        );
        // with the exceptions there are it must be right as well
        compose(c, Mode::Fresh, &id);
        version
    });
    record(fc, &mut [varlena(id.as_bytes()), Datum::from(version)])
}

/// Raises 42710 if a name of the calendar is another one's.
fn refuse_taken_names(c: &Conn, calendar: &Calendar) {
    for name in std::iter::once(calendar.id()).chain(calendar.aliases().iter().map(String::as_str)) {
        let owner = known::alias(c, Mode::Fresh, name);
        let owner = owner.or_else(|| Calendar::builtin(name).ok().map(|shipped| shipped.id().to_owned()));
        if let Some(owner) = owner.filter(|owner| owner != calendar.id()) {
            raise_with(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                &format!("\"{name}\" is a name of calendar {owner}"),
                &format!("choose another id or alias, or define {owner} itself"),
            )
        }
    }
}

/// `calendar_except(calendar text, trade_date date, toml text, note text) -> int4`: the version that publishing will make
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_except(fc: FunctionCallInfo) -> Datum {
    if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
        invalid("calendar_except: calendar and trade_date must not be NULL", "see market.calendars")
    }
    let day = arg(fc, 1);
    let date = time::trade_date(day.value() as i32);
    let toml = arg_option(fc, 2).map(|d| text(d));
    let note = arg_option(fc, 3);
    let noted = note.map(|d| text(d)).unwrap_or_default();
    if let Some(toml) = &toml {
        market::calendar::exception(date, toml, &noted).or_raise();
    }
    let name = arg_text(fc, 0);
    spi::connect(|c| {
        let id = id_of(c, &name);
        lock_calendar(&id, Sharing::Exclusive);
        let key = [Arg::text(&id), Arg::new(pg_sys::DATEOID, day)];
        let sql =
            c"DELETE FROM market.calendar_exceptions WHERE calendar = $1 AND trade_date = $2 AND kind = 'schedule'";
        c.execute(Mode::Fresh, &RETRACT, sql, &key);
        if let Some(toml) = &toml {
            c.insert(
                &EXCEPT,
                c"INSERT INTO market.calendar_exceptions (calendar, trade_date, toml, note) VALUES ($1, $2, $3, $4)",
                &[key[0], key[1], Arg::text(toml), Arg::option(pg_sys::TEXTOID, note)],
            );
        }
        match compose(c, Mode::Fresh, &id) {
            Some(draft) => {
                draft.calendar.is_session(date).or_raise();
                Datum::from(draft.version)
            }
            // it was taken back before it was published, or says what is in force
            None => null(fc),
        }
    })
}

/// `calendar_toml(calendar text) -> text`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_toml(fc: FunctionCallInfo) -> Datum {
    let name = arg_text(fc, 0);
    let calendar = named(&name);
    // a user's version may have the number of the shipped one
    if name.ends_with("@shipped") {
        return varlena(calendar.toml().as_bytes());
    }
    let draft = name.ends_with("@draft");
    // without the exceptions, which stay in their table and are added again at the next publish
    let sql = c"SELECT version, toml, exceptions FROM market.calendar_versions
                WHERE calendar = $1 AND version = $2 AND state = 'published'";
    let file = spi::connect(|c| match draft {
        true => compose(c, Mode::SameSnapshot, calendar.id()).map(|draft| draft.toml),
        false => {
            let key = [Arg::text(calendar.id()), Arg::int4(calendar.version() as i32)];
            let mut found = None;
            // SAFETY: toml is text, NOT NULL.
            c.run_planned_once(Mode::SameSnapshot, &ONE, sql, &key, &mut |v, _| found = Some(unsafe { text(v[1]) }));
            found
        }
    });
    varlena(file.as_deref().unwrap_or(calendar.toml()).as_bytes())
}

/// `calendar_diff(a text, b text) -> setof (trade_date, change, old_spans, new_spans)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendar_diff(fc: FunctionCallInfo) -> Datum {
    let (old, new) = (named(&arg_text(fc, 0)), named(&arg_text(fc, 1)));
    let session = |c: &'_ Calendar, date, change| -> Option<Datum> {
        let session: Session<'_> = c.session(date).ok().flatten()?;
        let text = match change {
            Change::Rewindowed => c.describe_window(&session),
            _ => c.describe(&session),
        };
        Some(varlena(text.as_bytes()))
    };
    let mut rows = Rows::begin(fc, 4);
    for (date, change) in old.changes(&new) {
        rows.put([
            Some(Datum::from(time::pg_days(date))),
            Some(varlena(change.name().as_bytes())),
            session(&old, date, change),
            session(&new, date, change),
        ]);
    }
    null(fc)
}
