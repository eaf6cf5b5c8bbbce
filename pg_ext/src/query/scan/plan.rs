//! Which calls of `session_ohlc` become a scan, and how it is planned.

use super::super::row;
use super::estimate::{self, Estimate, constant};
use super::run;
use crate::fmgr::text;
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::{self, CustomPath, FuncExpr, Index, List, NodeTag, Plan, PlannerInfo, RangeTblEntry, RelOptInfo};
use pgrx::prelude::*;

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);

/// The hook that was there before ours.
static mut BEFORE: pg_sys::set_rel_pathlist_hook_type = None;

/// A table of C functions: names and functions of this library, never written to.
struct Methods<T>(T);
// SAFETY: pointers to constants.
unsafe impl<T> Sync for Methods<T> {}

/// The name in EXPLAIN, and under which parallel workers find the methods.
pub const NAME: &std::ffi::CStr = c"Bellwether Bars";

static PATH: Methods<pg_sys::CustomPathMethods> = Methods(pg_sys::CustomPathMethods {
    CustomName: NAME.as_ptr(),
    PlanCustomPath: Some(plan),
    ReparameterizeCustomPathByChild: None,
});

static SCAN: Methods<pg_sys::CustomScanMethods> =
    Methods(pg_sys::CustomScanMethods { CustomName: NAME.as_ptr(), CreateCustomScanState: Some(run::create) });

/// Registers the scan; called once, when the library is loaded.
pub fn init() {
    GucRegistry::define_bool_guc(
        c"bellwether.bars_scan",
        c"Plans session_ohlc() as a scan whose bars stream and whose sessions parallel workers share.",
        c"Off: a function scan, which stores all bars before the first is read. The answers are the same.",
        &ENABLED,
        GucContext::Userset,
        GucFlags::default(),
    );
    // SAFETY: a backend has one thread; the hook that was there is called by ours.
    unsafe {
        pg_sys::RegisterCustomScanMethods(&raw const SCAN.0);
        BEFORE = pg_sys::set_rel_pathlist_hook;
        pg_sys::set_rel_pathlist_hook = Some(paths);
    }
}

/// The call that a range table entry is, if its sessions do not depend on each other.
unsafe fn call_of(entry: *mut RangeTblEntry) -> Option<*mut FuncExpr> {
    if (*entry).rtekind != pg_sys::RTEKind::RTE_FUNCTION || (*entry).funcordinality {
        return None;
    }
    let functions = (*entry).functions;
    if functions.is_null() || (*functions).length != 1 {
        return None;
    }
    let function = (*(*functions).elements).ptr_value.cast::<pg_sys::RangeTblFunction>();
    let node = (*function).funcexpr;
    if node.is_null() || (*node).type_ != NodeTag::T_FuncExpr {
        return None;
    }
    let call = node.cast::<FuncExpr>();
    let arguments = (*call).args;
    if !(*call).funcretset || arguments.is_null() || (*arguments).length != run::ARGUMENTS as i32 {
        return None;
    }
    let name = pg_sys::get_func_name((*call).funcid);
    if name.is_null() || std::ffi::CStr::from_ptr(name) != c"session_ohlc" {
        return None;
    }
    let schema = pg_sys::get_namespace_name(pg_sys::get_func_namespace((*call).funcid));
    if schema.is_null() || std::ffi::CStr::from_ptr(schema) != c"market" {
        return None;
    }
    estimate::overload(call)?;
    // fill, known_at, clock: what was there before the first session, or is read another way
    let is_constant = |at| {
        let node = estimate::argument(call, at);
        !node.is_null() && (*node).type_ == NodeTag::T_Const
    };
    let is_default = |at, default: &str| constant(call, at).is_none_or(|d| text(d) == default);
    let alone = is_constant(5) && is_constant(6) && is_constant(7);
    (alone && is_default(5, "none") && constant(call, 6).is_none() && is_default(7, "event")).then_some(call)
}

#[pg_guard]
unsafe extern "C-unwind" fn paths(root: *mut PlannerInfo, rel: *mut RelOptInfo, at: Index, entry: *mut RangeTblEntry) {
    // SAFETY: written once, in `init`.
    if let Some(before) = BEFORE {
        pg_sys::ffi::pg_guard_ffi_boundary(|| before(root, rel, at, entry));
    }
    if !ENABLED.get() || (*rel).reloptkind != pg_sys::RelOptKind::RELOPT_BASEREL {
        return;
    }
    let list = (*rel).pathlist;
    if (*rel).rtekind != pg_sys::RTEKind::RTE_FUNCTION || list.is_null() || (*list).length != 1 {
        return;
    }
    let function_scan = (*(*list).elements).ptr_value.cast::<pg_sys::Path>();
    if (*function_scan).pathtype != NodeTag::T_FunctionScan {
        return;
    }
    let Some(call) = call_of(entry) else { return };
    if wants_whole_rows(rel, at) {
        return;
    }
    let Some(estimate) = estimate::estimate(call) else { return };
    let path = path(rel, function_scan, estimate, 0);
    (*rel).pathlist = std::ptr::null_mut();
    pg_sys::add_path(rel, path.cast());
    let workers = (estimate.pieces - 1.0).min(f64::from(pg_sys::max_parallel_workers_per_gather)) as i32;
    if (*rel).consider_parallel && (*rel).lateral_relids.is_null() && workers > 0 {
        pg_sys::add_partial_path(rel, self::path(rel, function_scan, estimate, workers).cast());
    }
}

/// Whether an expression, or a list of them, uses a column; 0 is the whole row.
unsafe fn uses(expression: *mut pg_sys::Node, at: Index, column: i32) -> bool {
    let mut used: *mut pg_sys::Bitmapset = std::ptr::null_mut();
    pg_sys::pull_varattnos(expression, at, &mut used);
    pg_sys::bms_is_member(column - pg_sys::FirstLowInvalidHeapAttributeNumber, used)
}

/// Whether rows are asked for as values: a scan of no relation has columns only.
unsafe fn wants_whole_rows(rel: *mut RelOptInfo, at: Index) -> bool {
    let conditions = pg_sys::extract_actual_clauses((*rel).baserestrictinfo, false);
    uses((*(*rel).reltarget).exprs.cast(), at, 0) || uses(conditions.cast(), at, 0)
}

/// The scan in place of the function scan, alone or with so many workers.
unsafe fn path(
    rel: *mut RelOptInfo,
    function_scan: *mut pg_sys::Path,
    estimate: Estimate,
    workers: i32,
) -> *mut CustomPath {
    // the leader helps as long as it has not too many workers to serve: costsize.c
    let leader = if pg_sys::parallel_leader_participation { (1.0 - 0.3 * f64::from(workers)).max(0.0) } else { 0.0 };
    let share = if workers == 0 { 1.0 } else { f64::from(workers) + leader };
    let path = pg_sys::palloc0(size_of::<CustomPath>()).cast::<CustomPath>();
    (*path).path.type_ = NodeTag::T_CustomPath;
    (*path).path.pathtype = NodeTag::T_CustomScan;
    (*path).path.parent = rel;
    (*path).path.pathtarget = (*function_scan).pathtarget;
    (*path).path.param_info = (*function_scan).param_info;
    (*path).path.parallel_aware = workers > 0;
    (*path).path.parallel_safe = (*rel).consider_parallel;
    (*path).path.parallel_workers = workers;
    (*path).path.rows = ((*function_scan).rows / share).max(1.0);
    let each = (*function_scan).total_cost - (*function_scan).startup_cost;
    (*path).path.startup_cost = (*function_scan).startup_cost;
    (*path).path.total_cost = (*path).path.startup_cost + (each + estimate.work) / share;
    (*path).flags = pg_sys::CUSTOMPATH_SUPPORT_PROJECTION;
    (*path).methods = &raw const PATH.0;
    path
}

#[pg_guard]
unsafe extern "C-unwind" fn plan(
    root: *mut PlannerInfo,
    rel: *mut RelOptInfo,
    path: *mut CustomPath,
    targets: *mut List,
    clauses: *mut List,
    _plans: *mut List,
) -> *mut Plan {
    let entry = *(*root).simple_rte_array.add((*rel).relid as usize);
    let Some((call, (ends, many))) = call_of(entry).and_then(|call| Some((call, estimate::overload(call)?))) else {
        error!("the call of session_ohlc changed while it was planned");
    };
    let scan = pg_sys::palloc0(size_of::<pg_sys::CustomScan>()).cast::<pg_sys::CustomScan>();
    (*scan).scan.plan.type_ = NodeTag::T_CustomScan;
    (*scan).scan.plan.targetlist = targets;
    (*scan).scan.plan.qual = pg_sys::extract_actual_clauses(clauses, false);
    (*scan).flags = (*path).flags;
    (*scan).custom_exprs = pg_sys::copyObjectImpl((*call).args.cast()).cast();
    let private = pg_sys::lappend_int(std::ptr::null_mut(), u32::from((*call).funcid) as i32);
    let private = pg_sys::lappend_int(private, ends as i32);
    let private = pg_sys::lappend_int(private, i32::from(many));
    let vwap = run::columns(many).len() - row::COLUMNS + row::VWAP;
    // the targets are filled in later where the scan projects: what is used above it, the relation says
    let with_vwap = uses((*(*rel).reltarget).exprs.cast(), (*rel).relid as Index, vwap as i32 + 1)
        || uses((*scan).scan.plan.qual.cast(), (*rel).relid as Index, vwap as i32 + 1);
    (*scan).custom_private = pg_sys::lappend_int(private, i32::from(with_vwap));
    // a scan of no relation: its columns are said here
    for (at, kind) in run::columns(many).iter().enumerate() {
        let collation = if *kind == pg_sys::TEXTOID { pg_sys::DEFAULT_COLLATION_OID } else { pg_sys::InvalidOid };
        let number = at as i16 + 1;
        let column = pg_sys::makeVar((*rel).relid as _, number, *kind, -1, collation, 0);
        let target = pg_sys::makeTargetEntry(column.cast(), number, std::ptr::null_mut(), false);
        (*scan).custom_scan_tlist = pg_sys::lappend((*scan).custom_scan_tlist, target.cast());
    }
    (*scan).methods = &raw const SCAN.0;
    scan.cast()
}
