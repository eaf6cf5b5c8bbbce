//! How a scan of `market.trades_scan` is planned: which conditions it takes, what it may cost, what it hands to the executor.

use super::quals::{self, Op};
use super::{COLUMNS, Column, group, length, nth, scan};
use crate::v1;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, List, Node, Oid};
use pgrx::prelude::*;

v1!(trades_wrapper => pg_finfo_trades_wrapper);

/// `trades_wrapper() -> fdw_handler`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn trades_wrapper(_fc: FunctionCallInfo) -> Datum {
    let routine = pg_sys::palloc0(size_of::<pg_sys::FdwRoutine>()).cast::<pg_sys::FdwRoutine>();
    (*routine).type_ = pg_sys::NodeTag::T_FdwRoutine;
    (*routine).GetForeignRelSize = Some(estimate);
    (*routine).GetForeignPaths = Some(paths);
    (*routine).GetForeignPlan = Some(plan);
    (*routine).GetForeignUpperPaths = Some(group::paths);
    (*routine).BeginForeignScan = Some(scan::begin);
    (*routine).IterateForeignScan = Some(scan::iterate);
    (*routine).ReScanForeignScan = Some(scan::rescan);
    (*routine).EndForeignScan = Some(scan::end);
    (*routine).ExplainForeignScan = Some(scan::explain);
    (*routine).IsForeignScanParallelSafe = Some(parallel_safe);
    Datum::from(routine)
}

#[pg_guard]
unsafe extern "C-unwind" fn parallel_safe(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _rte: *mut pg_sys::RangeTblEntry,
) -> bool {
    true
}

/// The elements of a list.
pub unsafe fn elements<T>(list: *mut List) -> impl Iterator<Item = *mut T> {
    (0..length(list)).map(move |i| nth(list, i))
}

/// Share of all trades that the clauses leave. Guesses: what matters is that a named symbol and a day are cheap.
unsafe fn share(root: *mut pg_sys::PlannerInfo, relid: pg_sys::Index, clauses: *mut List) -> f64 {
    let mut share = 1.0f64;
    for info in elements::<pg_sys::RestrictInfo>(clauses) {
        share *= match quals::of_clause(root, (*info).clause.cast(), relid).map(|qual| (qual.column, qual.op)) {
            Some((Column::Symbol | Column::InstrumentId, Op::Eq)) => 0.01,
            Some((Column::Symbol | Column::InstrumentId, _)) => 0.05,
            Some((Column::TradeDate | Column::Ts, Op::Eq)) => 0.005,
            Some(_) => 0.2,
            None => 1.0,
        };
    }
    share
}

/// What is taken for the number of all trades, which nobody counts.
const ALL_TRADES: f64 = 10_000_000.0;
/// Cost of finding what to read, and of decoding a trade, in pages read sequentially.
const STARTUP: f64 = 25.0;
const PER_TRADE: f64 = 0.002;

#[pg_guard]
unsafe extern "C-unwind" fn estimate(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, _table: Oid) {
    (*rel).rows = (ALL_TRADES * share(root, (*rel).relid, (*rel).baserestrictinfo)).max(1.0);
}

unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    outer: pg_sys::Relids,
    rows: f64,
    read: f64,
) {
    let none = std::ptr::null_mut();
    let (startup, total) = (STARTUP, STARTUP + read * PER_TRADE);
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let path = pg_sys::create_foreignscan_path(
        root,
        rel,
        std::ptr::null_mut(),
        rows,
        startup,
        total,
        none,
        outer,
        std::ptr::null_mut(),
        none,
    );
    #[cfg(feature = "pg17")]
    let path = pg_sys::create_foreignscan_path(
        root,
        rel,
        std::ptr::null_mut(),
        rows,
        startup,
        total,
        none,
        outer,
        std::ptr::null_mut(),
        none,
        none,
    );
    #[cfg(feature = "pg18")]
    let path = pg_sys::create_foreignscan_path(
        root,
        rel,
        std::ptr::null_mut(),
        rows,
        0,
        startup,
        total,
        none,
        outer,
        std::ptr::null_mut(),
        none,
        none,
    );
    pg_sys::add_path(rel, path.cast());
}

#[pg_guard]
unsafe extern "C-unwind" fn paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, _table: Oid) {
    // A joined relation read through LATERAL must be there first.
    add_path(root, rel, (*rel).lateral_relids, (*rel).rows, (*rel).rows);
    let mut done: Vec<pg_sys::Relids> = Vec::new();
    for info in join_clauses(root, rel) {
        if quals::of_clause(root, (*info).clause.cast(), (*rel).relid).is_none() {
            continue;
        }
        let outer = pg_sys::bms_union((*info).clause_relids, (*rel).lateral_relids);
        let outer = pg_sys::bms_del_member(outer, (*rel).relid as i32);
        if pg_sys::bms_num_members(outer) == 0 || done.iter().any(|other| pg_sys::bms_equal(*other, outer)) {
            continue;
        }
        done.push(outer);
        let param = pg_sys::get_baserel_parampathinfo(root, rel, outer);
        let read = (*rel).rows * share(root, (*rel).relid, (*param).ppi_clauses);
        add_path(root, rel, outer, (*param).ppi_rows.min(read.max(1.0)), read);
    }
}

/// The join clauses that could be parameters of a scan: `i.id = t.instrument_id` becomes a look-up for each `i`.
unsafe fn join_clauses(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo) -> Vec<*mut pg_sys::RestrictInfo> {
    let mut clauses: Vec<_> = elements::<pg_sys::RestrictInfo>((*rel).joininfo)
        .filter(|info| pg_sys::join_clause_is_movable_to(*info, rel))
        .collect();
    if (*rel).has_eclass_joins {
        let implied = pg_sys::generate_implied_equalities_for_column(
            root,
            rel,
            Some(is_key),
            std::ptr::null_mut(),
            (*rel).lateral_referencers,
        );
        clauses.extend(elements::<pg_sys::RestrictInfo>(implied));
    }
    clauses
}

/// Whether a member of an equivalence class is a column whose value narrows a scan.
#[pg_guard]
unsafe extern "C-unwind" fn is_key(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    _argument: *mut std::ffi::c_void,
) -> bool {
    let node = (*member).em_expr.cast::<Node>();
    if node.is_null() || (*node).type_ != pg_sys::NodeTag::T_Var {
        return false;
    }
    let var = node.cast::<pg_sys::Var>();
    (*var).varno as u32 == (*rel).relid
        && matches!(
            Column::from_number(i32::from((*var).varattno)),
            Some(Column::Symbol | Column::InstrumentId | Column::TradeDate)
        )
}

/// Which columns anyone looks at, as bits by attribute number.
unsafe fn columns_used(rel: *mut pg_sys::RelOptInfo, clauses: *mut List) -> i32 {
    let mut used: *mut pg_sys::Bitmapset = std::ptr::null_mut();
    pg_sys::pull_varattnos((*(*rel).reltarget).exprs.cast(), (*rel).relid, &mut used);
    pg_sys::pull_varattnos(clauses.cast(), (*rel).relid, &mut used);
    let is_used = |number: i32| pg_sys::bms_is_member(number - pg_sys::FirstLowInvalidHeapAttributeNumber, used);
    // A reference to the whole row needs every column.
    if is_used(0) {
        return (2 << COLUMNS) - 2;
    }
    (1..=COLUMNS as i32).filter(|number| is_used(*number)).fold(0, |bits, number| bits | 1 << number)
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _table: Oid,
    path: *mut pg_sys::ForeignPath,
    targets: *mut List,
    clauses: *mut List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    if (*rel).reloptkind == pg_sys::RelOptKind::RELOPT_UPPER_REL {
        return group::plan(root, path, targets);
    }
    let clauses = pg_sys::extract_actual_clauses(clauses, false);
    let mut values: *mut List = std::ptr::null_mut();
    // Columns used, then column and operator of each value: all that `scan` needs to know.
    let mut private = pg_sys::lappend_int(std::ptr::null_mut(), columns_used(rel, clauses));
    for clause in elements::<Node>(clauses) {
        if let Some(qual) = quals::of_clause(root, clause, (*rel).relid) {
            values = pg_sys::lappend(values, qual.value.cast());
            private = pg_sys::lappend_int(private, qual.column as i32);
            private = pg_sys::lappend_int(private, qual.op as i32);
        }
    }
    let none = std::ptr::null_mut();
    pg_sys::make_foreignscan(targets, clauses, (*rel).relid, values, private, none, none, outer_plan)
}
