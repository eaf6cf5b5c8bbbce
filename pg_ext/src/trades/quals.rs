//! Which conditions of a WHERE clause narrow a scan of trades, and to what.
//!
//! PostgreSQL checks every condition again on the rows, so a scan may return too much but never too little.

use super::{Column, length, nth};
use crate::fmgr::text;
use pgrx::pg_sys::{self, Datum, Node, Oid};

/// A comparison of a column with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    Eq,
    Lt,
    Le,
    Gt,
    Ge,
    /// `= ANY(array)`, which is what IN becomes.
    In,
}

impl Op {
    /// The inverse of `as u8`.
    pub fn from_number(number: i32) -> Option<Op> {
        [Op::Eq, Op::Lt, Op::Le, Op::Gt, Op::Ge, Op::In].get(usize::try_from(number).ok()?).copied()
    }

    fn from_name(name: &[u8]) -> Option<Op> {
        match name {
            b"=" => Some(Op::Eq),
            b"<" => Some(Op::Lt),
            b"<=" => Some(Op::Le),
            b">" => Some(Op::Gt),
            b">=" => Some(Op::Ge),
            _ => None,
        }
    }

    fn swapped(self) -> Op {
        match self {
            Op::Lt => Op::Gt,
            Op::Le => Op::Ge,
            Op::Gt => Op::Lt,
            Op::Ge => Op::Le,
            same => same,
        }
    }

    /// As written in SQL.
    pub fn name(self) -> &'static str {
        ["=", "<", "<=", ">", ">=", "IN"][self as usize]
    }
}

/// A condition the scan can use; `value` is an expression without columns of the scan.
#[derive(Clone, Copy, Debug)]
pub struct Qual {
    pub column: Column,
    pub op: Op,
    pub value: *mut Node,
}

unsafe fn is(node: *mut Node, tag: pg_sys::NodeTag) -> bool {
    !node.is_null() && (*node).type_ == tag
}

/// The column a node names, through the cast of a varchar to text.
///
/// # Safety
/// The node is an expression or null.
pub unsafe fn column(node: *mut Node, relation: pg_sys::Index) -> Option<Column> {
    let mut node = node;
    while is(node, pg_sys::NodeTag::T_RelabelType) {
        node = (*node.cast::<pg_sys::RelabelType>()).arg.cast();
    }
    if !is(node, pg_sys::NodeTag::T_Var) {
        return None;
    }
    let var = node.cast::<pg_sys::Var>();
    let ours = (*var).varno as u32 == relation && (*var).varlevelsup == 0;
    Column::from_number(i32::from((*var).varattno)).filter(|_| ours)
}

/// Whether values of a type can be compared with a column by the operators of `pg_catalog` that we know.
fn comparable(column: Column, value: Oid) -> bool {
    match column {
        Column::Symbol => value == pg_sys::TEXTOID,
        Column::InstrumentId => [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID].contains(&value),
        Column::TradeDate => value == pg_sys::DATEOID,
        Column::Ts => [pg_sys::TIMESTAMPTZOID, pg_sys::DATEOID, pg_sys::TIMESTAMPOID].contains(&value),
        _ => false,
    }
}

/// What a clause says about a scan of `relation`, if it is of a kind that helps.
///
/// # Safety
/// Called by the planner, with a clause of the query being planned.
pub unsafe fn of_clause(root: *mut pg_sys::PlannerInfo, clause: *mut Node, relation: pg_sys::Index) -> Option<Qual> {
    let (left, right, operator, collation, in_list) = if is(clause, pg_sys::NodeTag::T_OpExpr) {
        let op = clause.cast::<pg_sys::OpExpr>();
        let [left, right] = two((*op).args)?;
        (left, right, (*op).opno, (*op).inputcollid, false)
    } else if is(clause, pg_sys::NodeTag::T_ScalarArrayOpExpr) {
        let op = clause.cast::<pg_sys::ScalarArrayOpExpr>();
        let [left, right] = two((*op).args)?;
        if !(*op).useOr {
            return None;
        }
        (left, right, (*op).opno, (*op).inputcollid, true)
    } else {
        return None;
    };
    // Operators that users define may be called `=` and mean anything.
    if operator.to_u32() >= pg_sys::FirstNormalObjectId {
        return None;
    }
    let name = pg_sys::get_opname(operator);
    if name.is_null() {
        return None;
    }
    let op = Op::from_name(std::ffi::CStr::from_ptr(name).to_bytes())?;
    let (column, value, op) = match (column(left, relation), column(right, relation)) {
        (Some(column), None) => (column, right, if in_list { Op::In } else { op }),
        (None, Some(column)) if !in_list => (column, left, op.swapped()),
        _ => return None,
    };
    if in_list && Op::from_name(std::ffi::CStr::from_ptr(name).to_bytes()) != Some(Op::Eq) {
        return None;
    }
    let mut value_type = pg_sys::exprType(value);
    if in_list {
        value_type = pg_sys::get_element_type(value_type);
    }
    if !comparable(column, value_type) {
        return None;
    }
    match (column, op) {
        // A collation may hold different texts for equal, but the scan looks up bytes.
        (Column::Symbol, Op::Eq | Op::In)
            if collation != pg_sys::InvalidOid && pg_sys::get_collation_isdeterministic(collation) => {}
        (Column::Symbol, _) => return None,
        (Column::InstrumentId, Op::Eq | Op::In) => {}
        (Column::InstrumentId, _) => return None,
        _ => {}
    }
    let ours = pg_sys::bms_is_member(relation as i32, pg_sys::pull_varnos(root, value));
    if ours || pg_sys::contain_volatile_functions(value) || pg_sys::contain_subplans(value) {
        return None;
    }
    Some(Qual { column, op, value })
}

unsafe fn two(list: *mut pg_sys::List) -> Option<[*mut Node; 2]> {
    (length(list) == 2).then(|| [nth(list, 0), nth(list, 1)])
}

/// What the conditions come to when their values are known. Bounds include both ends.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// These symbols alone.
    pub symbols: Option<Vec<String>>,
    /// These instruments alone.
    pub ids: Option<Vec<i64>>,
    /// Trade dates, in PostgreSQL's days.
    pub dates: (i32, i32),
    /// Instants, in PostgreSQL's microseconds.
    pub micros: (i64, i64),
}

impl Qual {
    /// Whether a scan returns exactly what satisfies the condition, so that nobody need check it again.
    pub fn is_exact(&self) -> bool {
        match self.column {
            Column::Symbol | Column::InstrumentId => true,
            Column::TradeDate | Column::Ts => self.op != Op::In,
            _ => false,
        }
    }
}

impl Wanted {
    /// Every trade.
    pub fn everything() -> Wanted {
        Wanted { symbols: None, ids: None, dates: (i32::MIN, i32::MAX), micros: (i64::MIN, i64::MAX) }
    }

    /// Whether no trade can satisfy the conditions.
    pub fn is_nothing(&self) -> bool {
        self.dates.0 > self.dates.1
            || self.micros.0 > self.micros.1
            || self.symbols.as_ref().is_some_and(Vec::is_empty)
            || self.ids.as_ref().is_some_and(Vec::is_empty)
    }

    /// Makes it nothing: a comparison with NULL is never true.
    pub fn exclude_all(&mut self) {
        self.ids = Some(Vec::new());
    }

    /// Adds a condition.
    ///
    /// # Safety
    /// The value is not NULL and of a type that `of_clause` accepts for the column; for `In` an array of it.
    pub unsafe fn narrow(&mut self, column: Column, op: Op, value: Datum, value_type: Oid) {
        if op == Op::In {
            return self.narrow_to_list(column, value);
        }
        match column {
            Column::Symbol => self.keep_symbols(vec![text(value)]),
            Column::InstrumentId => self.keep_ids(vec![integer(value, value_type)]),
            Column::TradeDate => {
                let day = value.value() as i32;
                let (first, last) = (day.saturating_add(1), day.saturating_sub(1));
                bound(&mut self.dates, op, day, first, last);
            }
            Column::Ts => {
                let at = micros(value, value_type);
                bound(&mut self.micros, op, at, at.saturating_add(1), at.saturating_sub(1));
            }
            _ => {}
        }
    }

    unsafe fn narrow_to_list(&mut self, column: Column, array: Datum) {
        let array = pg_sys::pg_detoast_datum(array.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
        let element = (*array).elemtype;
        let (mut len, mut by_value, mut align) = (0i16, false, 0 as std::ffi::c_char);
        pg_sys::get_typlenbyvalalign(element, &mut len, &mut by_value, &mut align);
        let (mut values, mut nulls, mut n) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
        pg_sys::deconstruct_array(array, element, len.into(), by_value, align, &mut values, &mut nulls, &mut n);
        let present = (0..n as usize).filter(|&i| !*nulls.add(i)).map(|i| *values.add(i));
        match column {
            Column::Symbol => self.keep_symbols(present.map(|d| text(d)).collect()),
            Column::InstrumentId => self.keep_ids(present.map(|d| integer(d, element)).collect()),
            Column::TradeDate => {
                let days: Vec<i32> = present.map(|d| d.value() as i32).collect();
                match (days.iter().min(), days.iter().max()) {
                    (Some(first), Some(last)) => {
                        self.dates = (self.dates.0.max(*first), self.dates.1.min(*last));
                    }
                    _ => self.exclude_all(),
                }
            }
            _ => {}
        }
    }

    fn keep_symbols(&mut self, mut these: Vec<String>) {
        if let Some(before) = &self.symbols {
            these.retain(|symbol| before.contains(symbol));
        }
        these.sort();
        these.dedup();
        self.symbols = Some(these);
    }

    fn keep_ids(&mut self, mut these: Vec<i64>) {
        if let Some(before) = &self.ids {
            these.retain(|id| before.contains(id));
        }
        these.sort_unstable();
        these.dedup();
        self.ids = Some(these);
    }
}

fn bound<T: Copy + Ord>(range: &mut (T, T), op: Op, value: T, after: T, before: T) {
    match op {
        Op::Eq => *range = (range.0.max(value), range.1.min(value)),
        Op::Lt => range.1 = range.1.min(before),
        Op::Le => range.1 = range.1.min(value),
        Op::Gt => range.0 = range.0.max(after),
        Op::Ge => range.0 = range.0.max(value),
        Op::In => {}
    }
}

fn integer(value: Datum, value_type: Oid) -> i64 {
    match value_type {
        pg_sys::INT2OID => i64::from(value.value() as i16),
        pg_sys::INT4OID => i64::from(value.value() as i32),
        _ => value.value() as i64,
    }
}

/// A value that is compared with `ts`, as the operator reads it: dates and timestamps are local to the session's zone.
unsafe fn micros(value: Datum, value_type: Oid) -> i64 {
    let converted = match value_type {
        pg_sys::DATEOID => {
            pgrx::direct_function_call::<pgrx::datum::TimestampWithTimeZone>(pg_sys::date_timestamptz, &[Some(value)])
        }
        pg_sys::TIMESTAMPOID => pgrx::direct_function_call::<pgrx::datum::TimestampWithTimeZone>(
            pg_sys::timestamp_timestamptz,
            &[Some(value)],
        ),
        _ => return value.value() as i64,
    };
    converted.map_or(i64::MIN, i64::from)
}
