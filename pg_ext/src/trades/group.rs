//! Which groupings of trades are folded below the executor.
//!
//! `SELECT symbol, session_bucket('5m', ts, calendar), (ohlc(price, size, ts, seq)).* FROM trades ... GROUP BY ...` over
//! nothing but the view, with conditions that the scan applies exactly: then a page is folded where it was decoded, and no
//! trade becomes a row. Everything else is grouped by PostgreSQL, with the same answer.

use super::plan::elements;
use super::quals;
use super::{Column, length, nth};
use pgrx::pg_sys::{self, List, Node};
use pgrx::prelude::*;

/// What the scan returns in a column, as a number in the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Output {
    /// Group key: symbol.
    Symbol = 1,
    /// Group key: instrument.
    Instrument,
    /// Group key: trade date.
    TradeDate,
    /// Group key: calendar.
    Calendar,
    /// Group key: `session_bucket` with the arguments that the plan has.
    Bucket,
    /// `ohlc(price, size, ts, seq)`.
    Ohlc,
    /// `vwap(price, size)`.
    Vwap,
    /// `count(*)`.
    Count,
}

impl Output {
    /// The inverse of `as i32`.
    pub fn from_number(number: i32) -> Option<Output> {
        use Output::{Bucket, Calendar, Count, Instrument, Ohlc, Symbol, TradeDate, Vwap};
        let all = [Symbol, Instrument, TradeDate, Calendar, Bucket, Ohlc, Vwap, Count];
        all.into_iter().find(|output| *output as i32 == number)
    }
}

/// The first number in a plan of groups; a plan of rows begins with its columns, which are no negative number.
pub const GROUPS: i32 = -1;

/// A grouping that can be folded.
struct Grouping {
    tlist: *mut List,
    outputs: Vec<Output>,
    /// Timeframe, calendar (null: the trade's own), segments.
    bucket: Option<[*mut Node; 3]>,
    /// Trades outside every bucket are not wanted: `session_bucket(...) IS NOT NULL`.
    inside: bool,
}

/// Beside the bits of the bucket's arguments in a plan.
pub const INSIDE: i32 = 1 << 3;

unsafe fn is(node: *mut Node, tag: pg_sys::NodeTag) -> bool {
    !node.is_null() && (*node).type_ == tag
}

/// Whether a function is one of ours of this name.
unsafe fn is_ours(function: pg_sys::Oid, name: &std::ffi::CStr) -> bool {
    let found = pg_sys::get_func_name(function);
    if found.is_null() || std::ffi::CStr::from_ptr(found) != name {
        return false;
    }
    let namespace = pg_sys::get_namespace_name(pg_sys::get_func_namespace(function));
    !namespace.is_null() && std::ffi::CStr::from_ptr(namespace) == c"market"
}

/// Whether an expression has one value for the whole scan.
unsafe fn is_constant(node: *mut Node) -> bool {
    !pg_sys::contain_var_clause(node) && !pg_sys::contain_volatile_functions(node) && !pg_sys::contain_subplans(node)
}

/// The expression of `... IS NOT NULL`.
unsafe fn not_null(clause: *mut Node) -> Option<*mut Node> {
    if !is(clause, pg_sys::NodeTag::T_NullTest) {
        return None;
    }
    let test = clause.cast::<pg_sys::NullTest>();
    let plain = (*test).nulltesttype == pg_sys::NullTestType::IS_NOT_NULL && !(*test).argisrow;
    plain.then(|| (*test).arg.cast())
}

impl Grouping {
    unsafe fn of(root: *mut pg_sys::PlannerInfo, input: *mut pg_sys::RelOptInfo) -> Option<Grouping> {
        let parse = (*root).parse;
        let plain = (*input).reloptkind == pg_sys::RelOptKind::RELOPT_BASEREL
            && length((*parse).groupClause) > 0
            && length((*parse).groupingSets) == 0
            && (*parse).havingQual.is_null()
            && pg_sys::bms_num_members((*input).lateral_relids) == 0;
        if !plain {
            return None;
        }
        let mut inside = Vec::new();
        for info in elements::<pg_sys::RestrictInfo>((*input).baserestrictinfo) {
            let clause = (*info).clause.cast::<Node>();
            match quals::of_clause(root, clause, (*input).relid) {
                Some(qual) if qual.is_exact() => {}
                Some(_) => return None,
                None => inside.push(not_null(clause)?),
            }
        }
        let target = (*root).upper_targets[pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG as usize];
        let mut found =
            Grouping { tlist: std::ptr::null_mut(), outputs: Vec::new(), bucket: None, inside: !inside.is_empty() };
        let (mut keys, mut rest) = (0, Vec::new());
        for (i, expr) in elements::<Node>((*target).exprs).enumerate() {
            let refs = (*target).sortgrouprefs;
            let number = if refs.is_null() { 0 } else { *refs.add(i) };
            let grouped = number != 0 && !pg_sys::get_sortgroupref_clause_noerr(number, (*parse).groupClause).is_null();
            if grouped {
                found.key(expr, (*input).relid)?;
                keys += 1;
            } else {
                rest.push(expr);
            }
        }
        if keys != length((*parse).groupClause) {
            return None;
        }
        // the only condition of its own is on the bucket that is grouped by
        if !inside.iter().all(|bucket| found.has(*bucket, Output::Bucket)) {
            return None;
        }
        for expr in rest {
            let flags = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_PLACEHOLDERS;
            for part in elements::<Node>(pg_sys::pull_var_clause(expr, flags as i32)) {
                found.part(part, (*input).relid)?;
            }
        }
        Some(found)
    }

    /// Whether an expression is returned as this.
    unsafe fn has(&self, expr: *mut Node, output: Output) -> bool {
        let entry = pg_sys::tlist_member(expr.cast(), self.tlist);
        !entry.is_null() && self.outputs.get((*entry).resno as usize - 1) == Some(&output)
    }

    unsafe fn add(&mut self, expr: *mut Node, output: Output) {
        if pg_sys::tlist_member(expr.cast(), self.tlist).is_null() {
            let number = length(self.tlist) as i16 + 1;
            let copy = pg_sys::copyObjectImpl(expr.cast()).cast();
            let entry = pg_sys::makeTargetEntry(copy, number, std::ptr::null_mut(), false);
            self.tlist = pg_sys::lappend(self.tlist, entry.cast());
            self.outputs.push(output);
        }
    }

    /// A key of the grouping.
    unsafe fn key(&mut self, expr: *mut Node, relation: pg_sys::Index) -> Option<()> {
        let output = match quals::column(expr, relation) {
            Some(Column::Symbol) => Output::Symbol,
            Some(Column::InstrumentId) => Output::Instrument,
            Some(Column::TradeDate) => Output::TradeDate,
            Some(Column::Calendar) => Output::Calendar,
            Some(_) => return None,
            None => {
                let bucket = Self::bucket(expr, relation)?;
                let same = |a: *mut Node, b: *mut Node| pg_sys::equal(a.cast(), b.cast());
                match &self.bucket {
                    Some(known) if !(0..3).all(|i| same(known[i], bucket[i])) => return None,
                    _ => self.bucket = Some(bucket),
                }
                Output::Bucket
            }
        };
        self.add(expr, output);
        Some(())
    }

    /// The arguments of `session_bucket(timeframe, ts, calendar, segments)`.
    unsafe fn bucket(expr: *mut Node, relation: pg_sys::Index) -> Option<[*mut Node; 3]> {
        if !is(expr, pg_sys::NodeTag::T_FuncExpr) {
            return None;
        }
        let call = expr.cast::<pg_sys::FuncExpr>();
        if length((*call).args) != 4 || !is_ours((*call).funcid, c"session_bucket") {
            return None;
        }
        let [timeframe, ts, calendar, segments] = [0, 1, 2, 3].map(|i| nth::<Node>((*call).args, i));
        if quals::column(ts, relation) != Some(Column::Ts) || !is_constant(timeframe) || !is_constant(segments) {
            return None;
        }
        match quals::column(calendar, relation) {
            Some(Column::Calendar) => Some([timeframe, std::ptr::null_mut(), segments]),
            None if is_constant(calendar) => Some([timeframe, calendar, segments]),
            _ => None,
        }
    }

    /// An aggregate or a column in the rest of the output.
    unsafe fn part(&mut self, part: *mut Node, relation: pg_sys::Index) -> Option<()> {
        if !is(part, pg_sys::NodeTag::T_Aggref) {
            // only keys, which are there already
            return (!pg_sys::tlist_member(part.cast(), self.tlist).is_null()).then_some(());
        }
        let call = part.cast::<pg_sys::Aggref>();
        let simple = length((*call).aggdirectargs) == 0
            && length((*call).aggorder) == 0
            && length((*call).aggdistinct) == 0
            && (*call).aggfilter.is_null()
            && (*call).agglevelsup == 0
            && (*call).aggsplit == pg_sys::AggSplit::AGGSPLIT_SIMPLE;
        if !simple {
            return None;
        }
        let columns: Vec<Option<Column>> = elements::<pg_sys::TargetEntry>((*call).args)
            .map(|entry| quals::column((*entry).expr.cast(), relation))
            .collect();
        let priced = [Column::Price, Column::Size, Column::Ts, Column::Seq].map(Some);
        let output = if columns == priced && is_ours((*call).aggfnoid, c"ohlc") {
            Output::Ohlc
        } else if columns == priced[..2] && is_ours((*call).aggfnoid, c"vwap") {
            Output::Vwap
        } else if (*call).aggstar && (*call).aggfnoid == pg_sys::Oid::from(pg_sys::F_COUNT_) {
            Output::Count
        } else {
            return None;
        };
        self.add(part, output);
        Some(())
    }
}

/// How many trades are taken for a group, and what folding one costs beside a row of it.
const TRADES_A_GROUP: f64 = 50.0;
const PER_TRADE: f64 = 0.0002;

/// Offers to fold a grouping of trades.
#[pg_guard]
pub unsafe extern "C-unwind" fn paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    _extra: *mut std::ffi::c_void,
) {
    if stage != pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG {
        return;
    }
    let Some(grouping) = Grouping::of(root, input) else { return };
    let mut outputs: *mut List = pg_sys::lappend_int(std::ptr::null_mut(), (*input).relid as i32);
    for output in &grouping.outputs {
        outputs = pg_sys::lappend_int(outputs, *output as i32);
    }
    let mut bucket: *mut List = std::ptr::null_mut();
    for argument in grouping.bucket.iter().flatten() {
        bucket = pg_sys::lappend(bucket, (*argument).cast());
    }
    let mut private = pg_sys::lappend(std::ptr::null_mut(), grouping.tlist.cast());
    private = pg_sys::lappend(private, outputs.cast());
    private = pg_sys::lappend(private, bucket.cast());
    let inside = pg_sys::lappend_int(std::ptr::null_mut(), if grouping.inside { INSIDE } else { 0 });
    private = pg_sys::lappend(private, inside.cast());
    let target = (*root).upper_targets[pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG as usize];
    let rows = ((*input).rows / TRADES_A_GROUP).max(1.0);
    let (startup, total) = (25.0, 25.0 + (*input).rows * PER_TRADE + rows * 0.01);
    let none = std::ptr::null_mut();
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let path = pg_sys::create_foreign_upper_path(
        root,
        output,
        target,
        rows,
        startup,
        total,
        none,
        std::ptr::null_mut(),
        private,
    );
    #[cfg(feature = "pg17")]
    let path = pg_sys::create_foreign_upper_path(
        root,
        output,
        target,
        rows,
        startup,
        total,
        none,
        std::ptr::null_mut(),
        none,
        private,
    );
    #[cfg(feature = "pg18")]
    let path = pg_sys::create_foreign_upper_path(
        root,
        output,
        target,
        rows,
        0,
        startup,
        total,
        none,
        std::ptr::null_mut(),
        none,
        private,
    );
    pg_sys::add_path(output, path.cast());
}

/// The plan of a path that `paths` made: conditions as for rows, then what is returned, then the bucket's arguments.
///
/// # Safety
/// Called by the planner, with a path of ours.
pub unsafe fn plan(
    root: *mut pg_sys::PlannerInfo,
    path: *mut pg_sys::ForeignPath,
    targets: *mut List,
) -> *mut pg_sys::ForeignScan {
    let private = (*path).fdw_private;
    let (tlist, outputs, bucket) = (nth::<List>(private, 0), nth::<List>(private, 1), nth::<List>(private, 2));
    let relid = super::nth_int(outputs, 0);
    let input = *(*root).simple_rel_array.add(relid as usize);
    let mut values: *mut List = std::ptr::null_mut();
    let mut conditions: *mut List = std::ptr::null_mut();
    for info in elements::<pg_sys::RestrictInfo>((*input).baserestrictinfo) {
        if let Some(qual) = quals::of_clause(root, (*info).clause.cast(), relid as u32) {
            values = pg_sys::lappend(values, qual.value.cast());
            conditions = pg_sys::lappend_int(conditions, qual.column as i32);
            conditions = pg_sys::lappend_int(conditions, qual.op as i32);
        }
    }
    let mut numbers = pg_sys::lappend_int(std::ptr::null_mut(), GROUPS);
    numbers = pg_sys::lappend_int(numbers, length(values));
    numbers = pg_sys::list_concat(numbers, conditions);
    // the calendar that is the trade's own has no expression
    let mut present = super::nth_int(nth::<List>(private, 3), 0);
    for i in 0..length(bucket) {
        let argument: *mut Node = nth(bucket, i);
        if !argument.is_null() {
            values = pg_sys::lappend(values, argument.cast());
            present |= 1 << i;
        }
    }
    numbers = pg_sys::lappend_int(numbers, present);
    for i in 1..length(outputs) {
        numbers = pg_sys::lappend_int(numbers, super::nth_int(outputs, i));
    }
    let none = std::ptr::null_mut();
    pg_sys::make_foreignscan(targets, none, 0, values, numbers, tlist, none, std::ptr::null_mut())
}
