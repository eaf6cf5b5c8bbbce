//! The right table in memory: its rows by key and instant, found by a step from where the last one was.

use super::exec::Pairing;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;
use datafusion::common::hash_utils::RandomState;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::logical_expr::Operator;
use datafusion::physical_plan::PhysicalExpr;
use std::collections::HashMap;
use std::sync::Arc;

/// Whether instants of this type are integers inside, which the index compares.
pub fn takes(kind: &DataType) -> bool {
    matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::UInt32)
        || kind.is_signed_integer()
}

/// The values of an expression over a batch as integers.
fn integers(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<Int64Array> {
    let values = expr.evaluate(batch)?.into_array(batch.num_rows())?;
    // Not every type has a way to 64 bits at once.
    let values = match values.data_type() {
        DataType::Date32 => cast(&values, &DataType::Int32)?,
        _ => values,
    };
    Ok(cast(&values, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

/// The number of each row's key by `number`, which is asked once for neighbours that are equal; `NONE` for a key with NULL.
/// Without a converter there are no keys: then all rows are of one.
fn numbers(
    rows: Option<&RowConverter>,
    columns: &[ArrayRef],
    n: usize,
    mut number: impl FnMut(&[u8]) -> u32,
) -> Result<Vec<u32>> {
    let Some(rows) = rows else { return Ok(vec![0; n]) };
    let rows = rows.convert_columns(columns)?;
    let nulls: Vec<_> = columns.iter().filter(|column| column.is_nullable()).collect();
    let mut numbers = Vec::with_capacity(n);
    let mut before: Option<(&[u8], u32)> = None;
    for (at, row) in rows.iter().enumerate() {
        let key = row.data();
        let id = match before {
            Some((same, id)) if same == key => id,
            _ if nulls.iter().any(|column| column.is_null(at)) => NONE,
            _ => number(key),
        };
        before = Some((key, id));
        numbers.push(id);
    }
    Ok(numbers)
}

/// No key has this number.
const NONE: u32 = u32::MAX;

/// See the module.
pub struct Index {
    /// None if there are no keys.
    rows: Option<RowConverter>,
    ids: HashMap<Box<[u8]>, u32, RandomState>,
    /// Where the rows of each key begin; one more than there are keys.
    starts: Vec<usize>,
    /// The rows' instants, by key and in order.
    at: Vec<i64>,
    /// The columns that are asked for, in the same order.
    columns: Vec<ArrayRef>,
    op: Operator,
    /// Held as long as the rows are.
    _memory: MemoryReservation,
}

impl Index {
    /// Of a table's rows; `columns` are those that will be asked for. There are less than 2^32 rows.
    pub fn new(table: &RecordBatch, pairing: &Pairing, columns: &[usize], memory: MemoryReservation) -> Result<Index> {
        let n = table.num_rows();
        let found = values(pairing.keys.iter().map(|(_, right)| right), table)?;
        let fields: Vec<_> = found.iter().map(|column| SortField::new(column.data_type().clone())).collect();
        let rows = if fields.is_empty() { None } else { Some(RowConverter::new(fields)?) };
        let mut ids = HashMap::<Box<[u8]>, u32, RandomState>::default();
        let numbers = numbers(rows.as_ref(), &found, n, |key| {
            let next = ids.len() as u32;
            match ids.get(key) {
                Some(id) => *id,
                None => *ids.entry(key.into()).or_insert(next),
            }
        })?;
        let instants = integers(&pairing.at.1, table)?;
        let ties = pairing.ties.iter().map(|tie| integers(tie, table)).collect::<Result<Vec<_>>>()?;
        let counts = |at: &usize| numbers[*at] != NONE && instants.is_valid(*at);

        // By key, and within it as they come; then sorted where they did not come in order.
        let known = if rows.is_some() { ids.len() } else { 1 };
        let mut starts = vec![0; known + 1];
        (0..n).filter(counts).for_each(|at| starts[numbers[at] as usize + 1] += 1);
        (0..known).for_each(|key| starts[key + 1] += starts[key]);
        let mut order = vec![0u32; starts[known]];
        let mut next = starts.clone();
        for at in (0..n).filter(counts) {
            let place = &mut next[numbers[at] as usize];
            order[*place] = at as u32;
            *place += 1;
        }
        // NULL is the last choice: before all others where the last row is taken, behind them where the first is.
        let missing = if backward(pairing.op) { i64::MIN } else { i64::MAX };
        let tie = |ties: &Int64Array, at: usize| {
            if ties.is_null(at) { (missing, 0) } else { (ties.value(at), i64::from(missing < 0)) }
        };
        let compare = |a: &u32, b: &u32| {
            let (a, b) = (*a as usize, *b as usize);
            let mut order = instants.value(a).cmp(&instants.value(b));
            for ties in &ties {
                order = order.then_with(|| tie(ties, a).cmp(&tie(ties, b)));
            }
            order
        };
        for key in 0..known {
            let rows = &mut order[starts[key]..starts[key + 1]];
            if !rows.is_sorted_by(|a, b| compare(a, b).is_le()) {
                rows.sort_by(compare);
            }
        }
        let at: Vec<i64> = order.iter().map(|row| instants.value(*row as usize)).collect();
        let order = UInt32Array::from(order);
        let columns = columns.iter().map(|column| Ok(take(table.column(*column), &order, None)?));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        memory.resize(8 * order.len() + columns.iter().map(|column| column.get_array_memory_size()).sum::<usize>());
        Ok(Index { rows, ids, starts, at, columns, op: pairing.op, _memory: memory })
    }

    /// Where a search of the rows of each key begins.
    pub fn hints(&self) -> Vec<usize> {
        self.starts[..self.starts.len() - 1].to_vec()
    }

    /// The row that belongs to each row of `table`; `hints` are where the last ones were found.
    pub fn find(&self, table: &RecordBatch, pairing: &Pairing, hints: &mut [usize]) -> Result<UInt32Array> {
        let n = table.num_rows();
        let columns = values(pairing.keys.iter().map(|(left, _)| left), table)?;
        let numbers = numbers(self.rows.as_ref(), &columns, n, |key| self.ids.get(key).copied().unwrap_or(NONE))?;
        let instants = integers(&pairing.at.0, table)?;
        let found = numbers.iter().enumerate().map(|(row, &key)| {
            let (Some(hint), false) = (hints.get_mut(key as usize), instants.is_null(row)) else { return None };
            let (first, end, t) = (self.starts[key as usize], self.starts[key as usize + 1], instants.value(row));
            let rows = &self.at[..end];
            *hint = match self.op {
                Operator::GtEq | Operator::Lt => point(rows, first, *hint, |at| at <= t),
                _ => point(rows, first, *hint, |at| at < t),
            };
            match backward(self.op) {
                true => hint.checked_sub(1).filter(|at| *at >= first),
                false => Some(*hint).filter(|at| *at < end),
            }
        });
        Ok(found.map(|at| at.map(|at| at as u32)).collect())
    }

    /// A column of the rows that were found.
    pub fn take(&self, column: usize, rows: &UInt32Array) -> Result<ArrayRef> {
        Ok(take(&self.columns[column], rows, None)?)
    }
}

/// Whether the last right row of those that fit is wanted, not the first.
fn backward(op: Operator) -> bool {
    matches!(op, Operator::GtEq | Operator::Gt)
}

/// The values of expressions over a table.
fn values<'a>(exprs: impl Iterator<Item = &'a Arc<dyn PhysicalExpr>>, table: &RecordBatch) -> Result<Vec<ArrayRef>> {
    exprs.map(|expr| expr.evaluate(table)?.into_array(table.num_rows())).collect()
}

/// The first place from `first` on that does not fit, as all before it do and none behind. Looked for near `hint`, then in
/// steps twice as long each time: rows that come in the order of time are a step apart.
fn point(sorted: &[i64], first: usize, hint: usize, fits: impl Fn(i64) -> bool) -> usize {
    let n = sorted.len();
    let mut step = 1;
    let (low, high) = if hint < n && fits(sorted[hint]) {
        let mut low = hint + 1;
        while low + step <= n && fits(sorted[low + step - 1]) {
            low += step;
            step *= 2;
        }
        (low, (low + step).min(n))
    } else {
        let mut high = hint.min(n);
        while high >= first + step && !fits(sorted[high - step]) {
            high -= step;
            step *= 2;
        }
        (high.saturating_sub(step).max(first), high)
    };
    low + sorted[low..high].partition_point(|at| fits(*at))
}

#[cfg(test)]
mod tests {
    use super::point;

    #[test]
    fn every_hint_finds_the_same_place() {
        let sorted = [1, 1, 2, 4, 4, 4, 9, 12, 12, 30];
        for first in 0..=sorted.len() {
            for hint in first..=sorted.len() {
                for t in 0..32 {
                    let expected = first + sorted[first..].iter().filter(|at| **at < t).count();
                    assert_eq!(point(&sorted, first, hint, |at| at < t), expected, "{first} {hint} {t}");
                }
            }
        }
    }
}
