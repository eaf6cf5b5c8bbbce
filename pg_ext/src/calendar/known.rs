//! Which calendar a name means: the user's newest published version, else the shipped one. `ID@3`, `ID@draft` and
//! `ID@shipped` name others.
//!
//! Published versions never change, so they are parsed once. Which of them is in force depends on who asks: plain questions
//! ask under the catalog snapshot and keep the answer until the table changes; readers of stored trades ask under their
//! statement's snapshot, because trades and calendar changed together; writers ask again once they hold the calendar's lock.

use super::draft;
use crate::error::{OrRaise, raise, raise_with};
use crate::fmgr::text;
use crate::plans;
use crate::spi::{self, Arg, Conn, Mode};
use market::{Calendar, Error};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Names and versions that a backend keeps; beyond it they are forgotten and read again.
const KEPT: usize = 128;

#[derive(Default)]
struct Cache {
    relations: Vec<Oid>,
    by_name: HashMap<String, Calendar>,
    by_version: HashMap<(String, i32), Calendar>,
}

/// Bumped by every change of the tables, so that a fill that raced one is not kept. A backend has one thread; a static is
/// read by every call, and costs less than a thread's own.
static GENERATION: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::default();
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}
plans!(IN_FORCE, BY_ALIAS, FILE, VERSIONS, IDS);

#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: Datum, relation: Oid) {
    CACHE.with(|c| {
        // borrowed only while entries are copied; the generation tells that fill to start over
        let Ok(mut c) = c.try_borrow_mut() else {
            GENERATION.fetch_add(1, Relaxed);
            return;
        };
        if relation == pg_sys::InvalidOid || c.relations.contains(&relation) {
            // a version that was defined and rolled back comes again with another content
            c.by_name.clear();
            c.by_version.clear();
            GENERATION.fetch_add(1, Relaxed);
        }
    });
}

/// Grows whenever a calendar may have changed.
#[inline]
pub fn generation() -> u64 {
    GENERATION.load(Relaxed)
}

fn relation(name: &std::ffi::CStr) -> Option<Oid> {
    // SAFETY: both look names up in the catalog and return InvalidOid for unknown ones.
    let oid = unsafe {
        let namespace = pg_sys::get_namespace_oid(c"market".as_ptr(), true);
        if namespace == pg_sys::InvalidOid { namespace } else { pg_sys::get_relname_relid(name.as_ptr(), namespace) }
    };
    (oid != pg_sys::InvalidOid).then_some(oid)
}

/// Makes changes of the tables reach the cache. Their oids are looked up each time: the extension may have been made anew.
fn watch() -> Option<Oid> {
    if !REGISTERED.get() {
        // SAFETY: registered once per backend; the callback touches only thread locals.
        unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::from(0usize)) };
        REGISTERED.set(true);
    }
    let versions = relation(c"calendar_versions");
    let relations: Vec<Oid> = versions.into_iter().chain(relation(c"calendar_exceptions")).collect();
    CACHE.with(|c| {
        let mut c = c.borrow_mut();
        if c.relations != relations {
            *c = Cache { relations, ..Cache::default() };
            GENERATION.fetch_add(1, Relaxed);
        }
    });
    versions
}

/// Whether the table of versions has any pages. Most databases have no calendar of their own, and need no query.
fn any_versions(versions: Option<Oid>) -> bool {
    let Some(oid) = versions else { return false };
    // SAFETY: a relation that could be opened is closed again with the same lock.
    unsafe {
        let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as i32);
        if relation.is_null() {
            return false;
        }
        let pages = pg_sys::RelationGetNumberOfBlocksInFork(relation, pg_sys::ForkNumber::MAIN_FORKNUM);
        pg_sys::relation_close(relation, pg_sys::AccessShareLock as i32);
        pages > 0
    }
}

/// The calendar in force, for questions about time alone; raises 42704 with a near match.
pub fn named(name: &str) -> Calendar {
    if REGISTERED.get()
        && let Some(known) = CACHE.with(|c| c.borrow().by_name.get(name).cloned())
    {
        return known;
    }
    let versions = watch();
    let generation = generation();
    let found = if any_versions(versions) || Calendar::name_and_version(name).1.is_some() {
        // SAFETY: push and pop are paired; an error unwinds through the transaction's abort, which pops for us. Our own
        // table has no system cache, so the snapshot is made now and not one kept from an earlier lookup.
        unsafe {
            pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(versions.unwrap_or(pg_sys::InvalidOid)));
            let found = resolve(Mode::SameSnapshot, name);
            pg_sys::PopActiveSnapshot();
            found
        }
    } else {
        Calendar::builtin(name).or_raise()
    };
    CACHE.with(|c| {
        let mut c = c.borrow_mut();
        if GENERATION.load(Relaxed) == generation {
            if c.by_name.len() >= KEPT {
                c.by_name.clear();
            }
            c.by_name.insert(name.to_owned(), found.clone());
        }
    });
    found
}

/// The calendar in force for the statement's snapshot: what files the trades that the statement sees.
pub fn seen(name: &str) -> Calendar {
    let versions = watch();
    if any_versions(versions) { resolve(Mode::SameSnapshot, name) } else { Calendar::builtin(name).or_raise() }
}

/// The calendar in force now, for writers that hold its lock.
pub fn newest(name: &str) -> Calendar {
    let versions = watch();
    if any_versions(versions) { resolve(Mode::Fresh, name) } else { Calendar::builtin(name).or_raise() }
}

fn resolve(mode: Mode, name: &str) -> Calendar {
    let (id, version) = Calendar::name_and_version(name);
    spi::connect(|c| {
        let by_name = Calendar::builtin(id);
        // a name that a user gave stays the user's, also when the library ships a calendar of that name later
        let shipped_id = || by_name.as_ref().map_or_else(|_| id.to_owned(), |shipped| shipped.id().to_owned());
        let id = alias(c, mode, id).unwrap_or_else(shipped_id);
        let shipped = match by_name {
            Ok(named) if named.id() != id => Calendar::builtin_of_id(&id),
            other => other,
        };
        match version {
            None => match in_force(c, mode, &id) {
                Some(version) => stored(c, mode, &id, version),
                None => shipped.unwrap_or_else(|error| unknown(c, mode, &id, &error)),
            },
            Some("draft") => match draft::compose(c, mode, &id) {
                Some(draft) => draft.calendar,
                None => raise_with(
                    PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                    &format!("calendar {id} has no draft"),
                    "make one with market.calendar_define() or market.calendar_except()",
                ),
            },
            Some("shipped") => shipped.unwrap_or_else(|_| not_shipped(&id)),
            Some(number) => {
                let wanted = number.parse::<i32>().ok();
                if let Some(wanted) = wanted.filter(|wanted| published(c, mode, &id).contains(wanted)) {
                    return stored(c, mode, &id, wanted);
                }
                match shipped {
                    Ok(shipped) if Some(shipped.version() as i32) == wanted => shipped,
                    Err(error) if published(c, mode, &id).is_empty() => unknown(c, mode, &id, &error),
                    shipped => {
                        let mut all = published(c, mode, &id);
                        all.extend(shipped.ok().map(|shipped| shipped.version() as i32));
                        all.sort_unstable();
                        all.dedup();
                        let all: Vec<_> = all.iter().map(|version| format!("{id}@{version}")).collect();
                        raise_with(
                            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                            &format!("calendar {id} has no published version \"{number}\""),
                            &format!("ask for {}, or for {id}@draft", all.join(", ")),
                        )
                    }
                }
            }
        }
    })
}

fn not_shipped(id: &str) -> ! {
    raise_with(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        &format!("the library ships no calendar {id}"),
        "market.calendars shows which are in force",
    )
}

/// Raises 42704 with the nearest of all names.
fn unknown(c: &Conn, mode: Mode, id: &str, error: &Error) -> ! {
    let mut names = user_ids(c, mode);
    names.extend(Calendar::builtin_ids().iter().map(|id| (*id).to_owned()));
    let nearest = market::nearest::nearest(id, names.iter().map(String::as_str)).map(str::to_owned);
    match nearest {
        Some(nearest) => raise(&Error::Unknown { what: "calendar", name: id.to_owned(), nearest: Some(nearest) }),
        None => raise(error),
    }
}

/// The id of a user's calendar that has this id or alias.
pub fn alias(c: &Conn, mode: Mode, name: &str) -> Option<String> {
    let mut found = None;
    c.run_planned_once(
        mode,
        &BY_ALIAS,
        c"SELECT calendar FROM market.calendar_versions WHERE state = 'published' AND (calendar = $1 OR $1 = ANY (aliases))
          ORDER BY calendar = $1 DESC, version DESC LIMIT 1",
        &[Arg::text(name)],
        // SAFETY: the column is text and NOT NULL.
        &mut |v, _| found = Some(unsafe { text(v[0]) }),
    );
    found
}

/// The newest published version of an id.
pub fn in_force(c: &Conn, mode: Mode, id: &str) -> Option<i32> {
    let mut found = None;
    c.run_planned_once(
        mode,
        &IN_FORCE,
        c"SELECT version FROM market.calendar_versions WHERE calendar = $1 AND state = 'published' ORDER BY version DESC LIMIT 1",
        &[Arg::text(id)],
        &mut |v, _| found = Some(v[0].value() as i32),
    );
    found
}

fn published(c: &Conn, mode: Mode, id: &str) -> Vec<i32> {
    let mut all = Vec::new();
    let sql =
        c"SELECT version FROM market.calendar_versions WHERE calendar = $1 AND state = 'published' ORDER BY version";
    c.run_planned_once(mode, &VERSIONS, sql, &[Arg::text(id)], &mut |v, _| all.push(v[0].value() as i32));
    all
}

/// The ids of the user's published calendars, in order.
pub fn user_ids(c: &Conn, mode: Mode) -> Vec<String> {
    let mut all = Vec::new();
    let sql = c"SELECT DISTINCT calendar FROM market.calendar_versions WHERE state = 'published' ORDER BY calendar";
    // SAFETY: the column is text and NOT NULL.
    c.run_planned_once(mode, &IDS, sql, &[], &mut |v, _| all.push(unsafe { text(v[0]) }));
    all
}

/// A published version, parsed once.
fn stored(c: &Conn, mode: Mode, id: &str, version: i32) -> Calendar {
    let key = (id.to_owned(), version);
    if let Some(known) = CACHE.with(|cache| cache.borrow().by_version.get(&key).cloned()) {
        return known;
    }
    let generation = generation();
    let mut file = None;
    c.run_planned_once(
        mode,
        &FILE,
        c"SELECT toml || exceptions FROM market.calendar_versions WHERE calendar = $1 AND version = $2",
        &[Arg::text(id), Arg::int4(version)],
        // SAFETY: the column is text and NOT NULL.
        &mut |v, _| file = Some(unsafe { text(v[0]) }),
    );
    let file = file.unwrap_or_default();
    let found = Calendar::versioned(&file, version as u32).or_raise();
    CACHE.with(|cache| {
        let mut cache = cache.borrow_mut();
        if GENERATION.load(Relaxed) == generation {
            if cache.by_version.len() >= KEPT {
                cache.by_version.clear();
            }
            cache.by_version.insert(key, found.clone());
        }
    });
    found
}

/// Every calendar in force, by id.
pub fn all() -> Vec<Calendar> {
    let mut ids: Vec<String> = Calendar::builtin_ids().iter().map(|id| (*id).to_owned()).collect();
    if any_versions(watch()) {
        ids.extend(spi::connect(|c| user_ids(c, Mode::SameSnapshot)));
        ids.sort_unstable();
        ids.dedup();
    }
    ids.iter().map(|id| named(id)).collect()
}
