//! Instruments as a backend knows them: looked up by symbol or id, cached until the reference tables change.

use crate::error::{OrRaise, raise, raise_with};
use crate::fmgr::{arg_option, text};
use crate::spi::{self, Arg, Mode};
use crate::store::{Sharing, lock_calendar};
use crate::{calendar, plans, time, v1};
use market::{Calendar, Error, Symbol, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What the tables say of an instrument.
#[derive(Clone)]
struct Row {
    id: i32,
    symbol: Rc<str>,
    calendar: Rc<str>,
}

impl Row {
    /// With the calendar in force for the statement.
    fn seen(self) -> Instrument {
        let calendar = calendar::seen(&self.calendar);
        Instrument { id: self.id, symbol: self.symbol, calendar }
    }
}

/// What the readers and writers need of an instrument.
#[derive(Clone)]
pub struct Instrument {
    /// Key in every table.
    pub id: i32,
    /// The name to ask by.
    pub symbol: Rc<str>,
    /// The calendar that files its trades.
    pub calendar: Calendar,
}

struct Cache {
    relations: Vec<Oid>,
    // whose rows these are: row-level security may show another role others
    role: Oid,
    by_symbol: HashMap<String, Row>,
    by_id: HashMap<i32, Row>,
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache {
        relations: Vec::new(),
        role: pg_sys::InvalidOid,
        by_symbol: HashMap::new(),
        by_id: HashMap::new(),
    });
    // bumped by every invalidation, so that a fill that raced one is not kept
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}
plans!(BY_SYMBOL, BY_ID, SYMBOLS, RELATIONS, FRONT);

#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: Datum, relation: Oid) {
    CACHE.with(|c| {
        // borrowed only while rows are copied in; the generation tells that fill to start over
        if let Ok(mut c) = c.try_borrow_mut()
            && (relation == pg_sys::InvalidOid || c.relations.contains(&relation))
        {
            c.by_symbol.clear();
            c.by_id.clear();
        }
    });
    GENERATION.set(GENERATION.get() + 1);
}

fn register() {
    if REGISTERED.get() {
        return;
    }
    // SAFETY: registered once per backend; the callback touches only thread locals.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::from(0usize)) };
    let mut relations = Vec::new();
    spi::connect(|c| {
        c.run(
            Mode::SameSnapshot,
            &RELATIONS,
            c"SELECT oid FROM pg_catalog.pg_class WHERE oid IN ('market.instruments'::pg_catalog.regclass, 'market.instrument_symbols'::pg_catalog.regclass)",
            &[],
            &mut |v, _| relations.push(Oid::from(v[0].value() as u32)),
        );
    });
    CACHE.with(|c| c.borrow_mut().relations = relations);
    REGISTERED.set(true);
}

/// Runs the lookup under the catalog snapshot: a cache filled under an older statement snapshot could stay stale for ever.
fn under_catalog_snapshot<R>(f: impl FnOnce() -> R) -> R {
    // SAFETY: push and pop are paired; an error unwinds through the transaction's abort, which pops for us.
    unsafe {
        let relation = Oid::from(pg_sys::RelationRelationId.to_u32());
        pg_sys::PushActiveSnapshot(pg_sys::GetCatalogSnapshot(relation));
        let result = f();
        pg_sys::PopActiveSnapshot();
        result
    }
}

fn fetch(cell: &'static spi::PlanCell, sql: &'static std::ffi::CStr, args: &[Arg]) -> Option<Row> {
    let mut found: Option<(i32, String, String)> = None;
    let generation = GENERATION.get();
    // row-level security on instruments is the caller's: the query runs as the caller
    spi::connect(|c| {
        c.run(Mode::SameSnapshot, cell, sql, args, &mut |v, _| {
            // SAFETY: columns are int4, text, text, all NOT NULL.
            unsafe { found = Some((v[0].value() as i32, text(v[1]), text(v[2]))) }
        });
    });
    let (id, symbol, calendar) = found?;
    let instrument = Row { id, symbol: symbol.into(), calendar: calendar.into() };
    if GENERATION.get() == generation {
        CACHE.with(|c| {
            let mut c = c.borrow_mut();
            c.by_id.insert(id, instrument.clone());
            c.by_symbol.insert(instrument.symbol.to_string(), instrument.clone());
        });
    }
    Some(instrument)
}

/// What the cache knows for the current role.
fn cached(pick: impl FnOnce(&Cache) -> Option<&Row>) -> Option<Row> {
    register();
    // SAFETY: reads a global.
    let role = unsafe { pg_sys::GetUserId() };
    CACHE.with(|c| {
        let mut c = c.borrow_mut();
        if c.role != role {
            c.role = role;
            c.by_symbol.clear();
            c.by_id.clear();
        }
        pick(&c).cloned()
    })
}

fn exact(symbol: &str) -> Option<Row> {
    if let Some(known) = cached(|c| c.by_symbol.get(symbol)) {
        return Some(known);
    }
    under_catalog_snapshot(|| {
        fetch(
            &BY_SYMBOL,
            c"SELECT i.id, i.symbol, i.calendar FROM market.instruments AS i WHERE i.symbol = $1
              UNION ALL
              SELECT i.id, i.symbol, i.calendar FROM market.instrument_symbols AS s JOIN market.instruments AS i ON i.id = s.instrument_id
              WHERE s.symbol = $1 LIMIT 1",
            &[Arg::text(symbol)],
        )
    })
}

/// The instrument of an id; raises 42704 if there is none.
pub fn by_id(id: i32) -> Instrument {
    if let Some(known) = cached(|c| c.by_id.get(&id)) {
        return known.seen();
    }
    let found = under_catalog_snapshot(|| {
        fetch(&BY_ID, c"SELECT id, symbol, calendar FROM market.instruments WHERE id = $1", &[Arg::int4(id)])
    });
    found.map(Row::seen).unwrap_or_else(|| {
        raise_with(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            &format!("unknown instrument id {id}"),
            "see market.instruments; add one with market.add_instrument()",
        )
    })
}

/// The instrument of a symbol as a reader writes it: its own, another name of it, `ESZ5` for the year nearest to `near`, or
/// `ES.c.0` for the contract that is first by expiry at `near`. Raises 42704 with a near match.
pub fn by_symbol(symbol: &str, near: TradeDate) -> Instrument {
    if let Some(found) = exact(symbol) {
        return found.seen();
    }
    match Symbol::parse(symbol, near).or_raise() {
        future @ Symbol::Future { .. } => {
            if let Some(found) = exact(&future.to_string()) {
                return found.seen();
            }
        }
        Symbol::Continuous { root, rule: market::Roll::Calendar, rank } => {
            if let Some(found) = front(&root, rank, near) {
                return found.seen();
            }
        }
        Symbol::Continuous { rule, .. } => raise_with(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            &format!("the roll rule \"{}\" of \"{symbol}\" is not supported yet", rule.letter()),
            "use c (by the calendar), as in ES.c.0, or name the contract",
        ),
        Symbol::Plain(_) => {}
    }
    let symbols = all_symbols();
    let nearest = market::nearest::nearest(symbol, symbols.iter().map(String::as_str)).map(str::to_owned);
    if nearest.is_none() {
        raise_with(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            &format!("unknown symbol \"{symbol}\""),
            "see market.instruments; add one with market.add_instrument()",
        )
    }
    raise(&Error::Unknown { what: "symbol", name: symbol.to_owned(), nearest })
}

/// The instrument for who files trades under its calendar's dates: with the calendar in force now, which stays in force to
/// the end of the transaction. Before it takes a session's lock.
pub fn for_writing(find: impl Fn() -> Instrument) -> Instrument {
    let mut found = find();
    loop {
        lock_calendar(found.calendar.id(), Sharing::Shared);
        // while we waited, the instrument may have got another calendar
        let again = find();
        if again.calendar.id() == found.calendar.id() {
            let calendar = calendar::newest(again.calendar.id());
            return Instrument { calendar, ..again };
        }
        found = again;
    }
}

fn all_symbols() -> Vec<String> {
    let mut symbols = Vec::new();
    spi::connect(|c| {
        c.run(
            Mode::SameSnapshot,
            &SYMBOLS,
            c"SELECT symbol FROM market.instruments ORDER BY symbol LIMIT 10000",
            &[],
            &mut |v, _| {
                // SAFETY: the column is text and NOT NULL.
                unsafe { symbols.push(text(v[0])) }
            },
        );
    });
    symbols
}

/// The contract of a root that is `rank`-th by delivery month among those not yet past theirs at `near`.
fn front(root: &str, rank: u32, near: TradeDate) -> Option<Row> {
    let mut contracts: Vec<(i32, u32, String)> = Vec::new();
    spi::connect(|c| {
        let sql = c"SELECT symbol FROM market.instruments WHERE root = $1 AND kind = 'future'";
        c.run(Mode::SameSnapshot, &FRONT, sql, &[Arg::text(root)], &mut |v, _| {
            // SAFETY: the column is text and NOT NULL.
            let symbol = unsafe { text(v[0]) };
            if let Ok(Symbol::Future { month, year, .. }) = Symbol::parse(&symbol, near) {
                contracts.push((year, month, symbol));
            }
        });
    });
    contracts.sort();
    let now = near.year_month();
    let symbol = contracts.into_iter().filter(|(y, m, _)| (*y, *m) >= now).nth(rank as usize)?.2;
    exact(&symbol)
}

/// Today in UTC: what "nearest" means when the question has no date.
pub fn today() -> TradeDate {
    // SAFETY: reads the transaction's start.
    let now = time::nanos_clamped(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() });
    TradeDate((now.div_euclid(market::time::DAY)) as i32)
}

v1!(instrument_id => pg_finfo_instrument_id);

/// `instrument_id(symbol text, at date) -> int4`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn instrument_id(fc: FunctionCallInfo) -> Datum {
    let Some(symbol) = arg_option(fc, 0) else { return crate::fmgr::null(fc) };
    let near = arg_option(fc, 1).map_or_else(today, |d| time::trade_date(d.value() as i32));
    Datum::from(by_symbol(&text(symbol), near).id)
}
