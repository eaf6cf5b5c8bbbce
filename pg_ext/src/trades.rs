//! The view `market.trades`: every trade wherever it lies, read by a scan that receives its quals and written by plain INSERT.
//!
//! The scan is a foreign table of our own wrapper. PostgreSQL hands a foreign table what the WHERE clause says about it,
//! and a join's parameters, so that only the blocks asked for are decoded; a function in a view would decode them all.

mod bars;
mod group;
mod insert;
mod plan;
mod quals;
mod reader;
mod scan;

use pgrx::pg_sys;

/// Columns of `market.trades_scan`, in order from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Column {
    Symbol = 1,
    Ts,
    Ns,
    Seq,
    Sub,
    Price,
    Size,
    Flags,
    Cond,
    TsRecv,
    TradeId,
    TradeDate,
    Segment,
    InstrumentId,
    Calendar,
}

/// How many there are.
pub const COLUMNS: usize = Column::Calendar as usize;

impl Column {
    const ALL: [Column; COLUMNS] = [
        Column::Symbol,
        Column::Ts,
        Column::Ns,
        Column::Seq,
        Column::Sub,
        Column::Price,
        Column::Size,
        Column::Flags,
        Column::Cond,
        Column::TsRecv,
        Column::TradeId,
        Column::TradeDate,
        Column::Segment,
        Column::InstrumentId,
        Column::Calendar,
    ];

    /// The column of an attribute number.
    pub fn from_number(number: i32) -> Option<Column> {
        Column::ALL.get(usize::try_from(number).ok()?.checked_sub(1)?).copied()
    }

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        [
            "symbol",
            "ts",
            "ns",
            "seq",
            "sub",
            "price",
            "size",
            "flags",
            "cond",
            "ts_recv",
            "trade_id",
            "trade_date",
            "segment",
            "instrument_id",
            "calendar",
        ][self as usize - 1]
    }
}

/// The pointer at `i` of a list; PostgreSQL has this as an inline function only.
///
/// # Safety
/// `list` is a list of pointers with more than `i` elements.
unsafe fn nth<T>(list: *mut pg_sys::List, i: i32) -> *mut T {
    (*(*list).elements.add(i as usize)).ptr_value.cast()
}

/// The integer at `i` of a list.
///
/// # Safety
/// `list` is a list of integers with more than `i` elements.
unsafe fn nth_int(list: *mut pg_sys::List, i: i32) -> i32 {
    (*(*list).elements.add(i as usize)).int_value
}

/// How many elements a list has; the empty list is a null pointer.
///
/// # Safety
/// `list` is a list or null.
unsafe fn length(list: *mut pg_sys::List) -> i32 {
    if list.is_null() { 0 } else { (*list).length }
}
