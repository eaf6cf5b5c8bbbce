//! Instruments as a backend knows them: looked up by symbol or id, cached until the reference tables change.

use crate::error::{OrRaise, raise, raise_with};
use crate::fmgr::{arg_option, text};
use crate::spi::{self, Arg, Mode};
use crate::store::{Sharing, lock_calendar};
use crate::{calendar, plans, time, v1};
use market::{Calendar, Error, Roll, Symbol, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_int};
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

/// Who looks: row-level security may show another role other instruments, and one role others in its next statement, where a
/// policy goes by a setting.
#[derive(Clone, Copy, PartialEq)]
struct Viewer {
    role: Oid,
    /// When the statement began that was last looked at.
    statement: i64,
    /// Whether a policy holds for the role.
    restricted: bool,
}

struct Cache {
    relations: Vec<Oid>,
    viewer: Viewer,
    by_symbol: HashMap<String, Row>,
    by_id: HashMap<i32, Row>,
    /// Ids that the viewer sees no row of.
    hidden: HashSet<i32>,
}

impl Cache {
    fn clear(&mut self) {
        self.by_symbol.clear();
        self.by_id.clear();
        self.hidden.clear();
    }
}

thread_local! {
    static CACHE: RefCell<Cache> = RefCell::new(Cache {
        relations: Vec::new(),
        viewer: Viewer { role: pg_sys::InvalidOid, statement: 0, restricted: false },
        by_symbol: HashMap::new(),
        by_id: HashMap::new(),
        hidden: HashSet::new(),
    });
    // bumped by every invalidation, so that a fill that raced one is not kept
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
}
plans!(BY_SYMBOL, BY_ID, SYMBOLS, RELATIONS, INSTALLED, BY_VOLUME, BY_OPEN_INTEREST, FRONT);

#[pg_guard]
unsafe extern "C-unwind" fn forget(_argument: Datum, relation: Oid) {
    CACHE.with(|c| {
        // borrowed only while rows are copied in; the generation tells that fill to start over
        if let Ok(mut c) = c.try_borrow_mut()
            && (relation == pg_sys::InvalidOid || c.relations.contains(&relation))
        {
            c.clear();
        }
    });
    GENERATION.set(GENERATION.get() + 1);
}

/// The version of the SQL that this library belongs to: that of sql/bellwether.control.
const VERSION: &str = "0.2.0";

/// Raises 55000 where the extension in the database is an older one: what its functions expect is not there.
fn require_version(c: &spi::Conn) {
    let mut installed = None;
    c.run(
        Mode::SameSnapshot,
        &INSTALLED,
        c"SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'bellwether'",
        &[],
        // SAFETY: the column is text and NOT NULL.
        &mut |v, _| installed = Some(unsafe { text(v[0]) }),
    );
    if let Some(installed) = installed.filter(|installed| installed != VERSION) {
        crate::fmgr::older(&format!("the extension bellwether is version {installed} here, its library {VERSION}"));
    }
}

fn register() {
    if REGISTERED.get() {
        return;
    }
    // SAFETY: registered once per backend; the callback touches only thread locals.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(forget), Datum::from(0usize)) };
    let mut relations = Vec::new();
    spi::connect(|c| {
        require_version(c);
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

/// Whether row-level security of a table of ours holds for the current role.
pub fn is_restricted(table: &CStr) -> bool {
    // SAFETY: names of ours; 0 stands for the current role, and nothing is raised where a policy holds.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"market".as_ptr(), false);
        let table = pg_sys::get_relname_relid(table.as_ptr(), schema);
        pg_sys::check_enable_rls(table, pg_sys::InvalidOid, true) == pg_sys::CheckEnableRlsResult::RLS_ENABLED as c_int
    }
}

/// Who looks now; what the cache knows of another is forgotten.
fn viewer() -> Viewer {
    register();
    // SAFETY: reads globals.
    let (role, statement) = unsafe { (pg_sys::GetUserId(), pg_sys::GetCurrentStatementStartTimestamp()) };
    let before = CACHE.with(|c| c.borrow().viewer);
    if before.role == role && before.statement == statement {
        return before;
    }
    let restricted = is_restricted(c"instruments");
    let now = Viewer { role, statement, restricted };
    CACHE.with(|c| {
        let mut c = c.borrow_mut();
        if before.role != role || before.restricted || restricted {
            c.clear();
        }
        c.viewer = now;
    });
    now
}

/// What the cache knows for who looks now.
fn cached(pick: impl FnOnce(&Cache) -> Option<&Row>) -> Option<Row> {
    viewer();
    CACHE.with(|c| pick(&c.borrow()).cloned())
}

/// Whether row-level security may hide instruments from the current role.
pub fn some_are_hidden() -> bool {
    viewer().restricted
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

fn row_of(id: i32) -> Option<Row> {
    if let Some(known) = cached(|c| c.by_id.get(&id)) {
        return Some(known);
    }
    if CACHE.with(|c| c.borrow().hidden.contains(&id)) {
        return None;
    }
    let generation = GENERATION.get();
    let found = under_catalog_snapshot(|| {
        fetch(&BY_ID, c"SELECT id, symbol, calendar FROM market.instruments WHERE id = $1", &[Arg::int4(id)])
    });
    if found.is_none() && GENERATION.get() == generation {
        CACHE.with(|c| c.borrow_mut().hidden.insert(id));
    }
    found
}

/// The instrument of an id, if there is one that the current role may see.
pub fn find(id: i32) -> Option<Instrument> {
    row_of(id).map(Row::seen)
}

/// The instrument of an id; raises 42704 if there is none.
pub fn by_id(id: i32) -> Instrument {
    find(id).unwrap_or_else(|| {
        raise_with(
            PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
            &format!("unknown instrument id {id}"),
            "see market.instruments; add one with market.add_instrument()",
        )
    })
}

/// The instrument of a symbol as a reader writes it: its own, another name of it, `ESZ5` for the year nearest to `near`, or
/// `ES.c.0` for the contract that is first by expiry at `near`, `ES.v.0` and `ES.n.0` by volume and open interest of the
/// session before. Raises 42704 with a near match.
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
        Symbol::Continuous { root, rule, rank } => {
            let found = match rule {
                Roll::Calendar => front(&root, rank, near),
                Roll::Volume => ranked(&BY_VOLUME, VOLUME, &root, rank, near),
                Roll::OpenInterest => ranked(&BY_OPEN_INTEREST, OPEN_INTEREST, &root, rank, near),
            };
            match found {
                Some(found) => return found.seen(),
                None => no_contract(symbol, &root, rule, near),
            }
        }
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

/// The contract of a root that is `rank`-th by expiry among those that still trade at `near`. One whose expiry is not known
/// trades until the end of its delivery month.
fn front(root: &str, rank: u32, near: TradeDate) -> Option<Row> {
    let mut contracts: Vec<(TradeDate, String)> = Vec::new();
    spi::connect(|c| {
        let sql = c"SELECT symbol, expiry FROM market.instruments WHERE root = $1 AND kind = 'future'";
        c.run(Mode::SameSnapshot, &FRONT, sql, &[Arg::text(root)], &mut |v, null| {
            // SAFETY: the column is text and NOT NULL.
            let symbol = unsafe { text(v[0]) };
            let expiry = match null[1] {
                false => Some(time::trade_date(v[1].value() as i32)),
                true => match Symbol::parse(&symbol, near) {
                    Ok(Symbol::Future { month, year, .. }) => end_of_month(year, month),
                    _ => None,
                },
            };
            contracts.extend(expiry.filter(|expiry| *expiry >= near).map(|expiry| (expiry, symbol)));
        });
    });
    contracts.sort();
    let symbol = contracts.into_iter().nth(rank as usize)?.1;
    exact(&symbol)
}

fn end_of_month(year: i32, month: u32) -> Option<TradeDate> {
    let next = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    TradeDate::from_ymd(next.0, next.1, 1).ok().map(|first| first.plus(-1))
}

// Both rank by the last session before the asked one that any contract of the root has values of, so that the answer is
// known when that session opens and does not change while it trades.
const VOLUME: &std::ffi::CStr = c"SELECT i.symbol
    FROM market.instruments AS i JOIN market.session_bars AS b ON b.instrument_id = i.id
    WHERE i.root = $1 AND i.kind = 'future' AND (i.expiry IS NULL OR i.expiry >= $2)
      AND b.trade_date = (SELECT pg_catalog.max(p.trade_date) FROM market.session_bars AS p JOIN market.instruments AS o ON o.id = p.instrument_id
                          WHERE o.root = $1 AND o.kind = 'future' AND p.trade_date < $2)
    GROUP BY i.symbol, i.expiry ORDER BY pg_catalog.sum(b.volume) DESC, i.expiry, i.symbol OFFSET $3 LIMIT 1";
const OPEN_INTEREST: &std::ffi::CStr = c"SELECT l.symbol
    FROM (SELECT DISTINCT ON (i.symbol) i.symbol, i.expiry, s.value
          FROM market.instruments AS i JOIN market.session_stats AS s ON s.instrument_id = i.id AND s.kind = 'open_interest'
          WHERE i.root = $1 AND i.kind = 'future' AND (i.expiry IS NULL OR i.expiry >= $2)
            AND s.trade_date = (SELECT pg_catalog.max(p.trade_date) FROM market.session_stats AS p JOIN market.instruments AS o ON o.id = p.instrument_id
                                WHERE o.root = $1 AND o.kind = 'future' AND p.kind = 'open_interest' AND p.trade_date < $2)
          ORDER BY i.symbol, s.known_at DESC) AS l
    ORDER BY l.value DESC, l.expiry, l.symbol OFFSET $3 LIMIT 1";

/// The contract of a root that is `rank`-th by what a query says of the session before `near`.
fn ranked(
    cell: &'static spi::PlanCell,
    sql: &'static std::ffi::CStr,
    root: &str,
    rank: u32,
    near: TradeDate,
) -> Option<Row> {
    let mut symbol = None;
    spi::connect(|c| {
        let args = [Arg::text(root), Arg::date(time::pg_days(near)), Arg::int8(i64::from(rank))];
        c.run(Mode::SameSnapshot, cell, sql, &args, &mut |v, _| {
            // SAFETY: the column is text and NOT NULL.
            symbol = Some(unsafe { text(v[0]) });
        });
    });
    exact(&symbol?)
}

/// Raises 42704: which rule found no contract, and what it needs.
fn no_contract(symbol: &str, root: &str, rule: Roll, near: TradeDate) -> ! {
    let (by, hint) = match rule {
        Roll::Calendar => ("expiry", "add its contracts with market.add_instrument()"),
        Roll::Volume => {
            ("the volume of the session before", "it needs sealed sessions: see market.seal() and market.session_bars")
        }
        Roll::OpenInterest => {
            ("the open interest of the session before", "it needs rows of kind open_interest in market.session_stats")
        }
    };
    raise_with(
        PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
        &format!("no contract of {root} is \"{symbol}\" on {near}, by {by}"),
        hint,
    )
}

/// Today in UTC: what "nearest" means when the question has no date.
pub fn today() -> TradeDate {
    // SAFETY: reads the transaction's start.
    let now = time::nanos_clamped(unsafe { pg_sys::GetCurrentTransactionStartTimestamp() });
    TradeDate((now.div_euclid(market::time::DAY)) as i32)
}

v1!(
    instrument_id => pg_finfo_instrument_id,
    callers_instrument => pg_finfo_callers_instrument,
    may_see => pg_finfo_may_see,
);

/// `may_see(instrument int4) -> boolean`: whether the policies of `instruments`, if there are any, show it to the current role
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn may_see(fc: FunctionCallInfo) -> Datum {
    // not what is there decides where nothing is hidden: bars of an instrument that is gone stay readable
    Datum::from(!some_are_hidden() || row_of(crate::fmgr::arg(fc, 0).value() as i32).is_some())
}

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

/// `callers_instrument(symbol text, at date) -> int4`: as `instrument_id`, as the role sees it that asked from outside
///
/// Inside a SECURITY DEFINER function the owner sees every instrument; whoever called it may not.
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn callers_instrument(fc: FunctionCallInfo) -> Datum {
    let (symbol, near) = (crate::fmgr::arg_text(fc, 0), time::trade_date(crate::fmgr::arg(fc, 1).value() as i32));
    let (mut owner, mut context) = (pg_sys::InvalidOid, 0);
    pg_sys::GetUserIdAndSecContext(&mut owner, &mut context);
    // as for any change of the user inside a statement: what runs meanwhile cannot change it again, and an error undoes it
    let local = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
    pg_sys::SetUserIdAndSecContext(pg_sys::GetOuterUserId(), local);
    let id = by_symbol(&symbol, near).id;
    pg_sys::SetUserIdAndSecContext(owner, context);
    Datum::from(id)
}
