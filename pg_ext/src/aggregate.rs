//! `ohlc`, `rollup` and `vwap`: bars of any table, in any plan. The state is `market`'s `BarBuilder`, so neither the order
//! of rows nor the number of workers changes a bit of the answer.

use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Bytes, float8, float8_of, int8, null, varlena};
use crate::{numeric, v1};
use market::bar::{Bar, BarBuilder, KeyedBar};
use market::{Error, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, NullableDatum};
use pgrx::prelude::*;

v1!(
    ohlc_push => pg_finfo_ohlc_push,
    rollup_push => pg_finfo_rollup_push,
    vwap_push => pg_finfo_vwap_push,
    bar_combine => pg_finfo_bar_combine,
    bar_serialize => pg_finfo_bar_serialize,
    bar_deserialize => pg_finfo_bar_deserialize,
    bar_finish => pg_finfo_bar_finish,
    vwap_finish => pg_finfo_vwap_finish,
    bar_vwap => pg_finfo_bar_vwap,
);

/// Columns of the type `market.bar`.
const COLUMNS: usize = 12;
/// Decimals of volume and notional.
const DECIMALS: [u32; 2] = [9, 18];

#[inline]
unsafe fn args<'a>(fc: FunctionCallInfo, n: usize) -> &'a [NullableDatum] {
    (*fc).args.as_slice(n)
}

/// The aggregate's state, made at the first row of a group.
#[inline]
unsafe fn state<'a>(fc: FunctionCallInfo) -> &'a mut BarBuilder {
    let given = args(fc, 1)[0];
    match given.isnull {
        true => new_state(fc),
        false => &mut *given.value.cast_mut_ptr::<BarBuilder>(),
    }
}

#[cold]
unsafe fn new_state<'a>(fc: FunctionCallInfo) -> &'a mut BarBuilder {
    let mut context: pg_sys::MemoryContext = std::ptr::null_mut();
    if pg_sys::AggCheckCallContext(fc, &mut context) == 0 {
        raise_with(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a transition function was called outside an aggregate",
            "use market.ohlc(), market.rollup() or market.vwap()",
        )
    }
    &mut *place(context, BarBuilder::new())
}

/// Puts a state into a memory context. PostgreSQL aligns to 8 bytes, 128-bit sums want 16.
unsafe fn place(context: pg_sys::MemoryContext, state: BarBuilder) -> *mut BarBuilder {
    const ALIGN: usize = align_of::<BarBuilder>();
    let raw = pg_sys::MemoryContextAlloc(context, size_of::<BarBuilder>() + ALIGN).cast::<u8>();
    let aligned = raw.add(raw.align_offset(ALIGN)).cast::<BarBuilder>();
    aligned.write(state);
    aligned
}

/// The state of an argument that may be NULL.
unsafe fn state_of<'a>(argument: NullableDatum) -> Option<&'a BarBuilder> {
    (!argument.isnull).then(|| &*argument.value.cast_mut_ptr::<BarBuilder>())
}

#[inline]
fn number(argument: NullableDatum) -> Option<f64> {
    (!argument.isnull).then(|| float8_of(argument.value))
}

/// Gives back the state as it came: the row adds nothing.
unsafe fn unchanged(fc: FunctionCallInfo) -> Datum {
    let given = args(fc, 1)[0];
    (*fc).isnull = given.isnull;
    given.value
}

/// `ohlc_push(internal, price float8, size float8, ts timestamptz, seq int8) -> internal`
///
/// Times are only compared, so PostgreSQL's own microseconds will do and no instant is out of range.
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn ohlc_push(fc: FunctionCallInfo) -> Datum {
    let a = args(fc, 5);
    if a[3].isnull || (a[1].isnull && a[2].isnull) {
        return unchanged(fc);
    }
    let seq = if a[4].isnull { 0 } else { a[4].value.value() as i64 };
    let bar = state(fc);
    bar.push_f64(number(a[1]), number(a[2]), a[3].value.value() as i64, seq).or_raise();
    Datum::from(std::ptr::from_mut(bar))
}

/// `vwap_push(internal, price float8, size float8) -> internal`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn vwap_push(fc: FunctionCallInfo) -> Datum {
    let a = args(fc, 3);
    if a[1].isnull || a[2].isnull {
        return unchanged(fc);
    }
    let bar = state(fc);
    bar.push_f64(number(a[1]), number(a[2]), 0, 0).or_raise();
    Datum::from(std::ptr::from_mut(bar))
}

/// `rollup_push(internal, market.bar) -> internal`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn rollup_push(fc: FunctionCallInfo) -> Datum {
    let a = args(fc, 2);
    if a[1].isnull {
        return unchanged(fc);
    }
    let bar = read(fc, a[1].value).or_raise();
    let all = state(fc);
    all.push_bar(&bar);
    Datum::from(std::ptr::from_mut(all))
}

/// `bar_combine(internal, internal) -> internal`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bar_combine(fc: FunctionCallInfo) -> Datum {
    let Some(other) = state_of(args(fc, 2)[1]) else { return unchanged(fc) };
    let all = state(fc);
    all.merge(other);
    Datum::from(std::ptr::from_mut(all))
}

/// `bar_serialize(internal) -> bytea`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bar_serialize(fc: FunctionCallInfo) -> Datum {
    aggregates_only(fc);
    match state_of(args(fc, 1)[0]) {
        Some(bar) => varlena(&bar.encode()),
        None => null(fc),
    }
}

/// `bar_deserialize(bytea, internal) -> internal`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bar_deserialize(fc: FunctionCallInfo) -> Datum {
    aggregates_only(fc);
    let bytes = Bytes::whole(args(fc, 1)[0].value);
    Datum::from(place(pg_sys::CurrentMemoryContext, BarBuilder::decode(bytes.get()).or_raise()))
}

unsafe fn aggregates_only(fc: FunctionCallInfo) {
    if pg_sys::AggCheckCallContext(fc, std::ptr::null_mut()) == 0 {
        raise_with(
            PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            "a support function of an aggregate was called by itself",
            "use market.ohlc(), market.rollup() or market.vwap()",
        )
    }
}

/// `bar_finish(internal) -> market.bar`: NULL if there was no trade.
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bar_finish(fc: FunctionCallInfo) -> Datum {
    match state_of(args(fc, 1)[0]).and_then(BarBuilder::finish) {
        Some(bar) => write(fc, &bar),
        None => null(fc),
    }
}

/// `vwap_finish(internal) -> float8`: NULL without volume.
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn vwap_finish(fc: FunctionCallInfo) -> Datum {
    match state_of(args(fc, 1)[0]).and_then(BarBuilder::finish).and_then(|keyed| keyed.bar.vwap()) {
        Some(price) => float8(price),
        None => null(fc),
    }
}

/// `vwap(market.bar) -> float8`: NULL without volume.
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bar_vwap(fc: FunctionCallInfo) -> Datum {
    match read(fc, args(fc, 1)[0].value).or_raise().bar.vwap() {
        Some(price) => float8(price),
        None => null(fc),
    }
}

/// The row type's description, looked up once per call site.
unsafe fn cached(fc: FunctionCallInfo, find: impl FnOnce() -> pg_sys::TupleDesc) -> pg_sys::TupleDesc {
    let info = (*fc).flinfo;
    if (*info).fn_extra.is_null() {
        let old = pg_sys::MemoryContextSwitchTo((*info).fn_mcxt);
        (*info).fn_extra = pg_sys::BlessTupleDesc(find()).cast();
        pg_sys::MemoryContextSwitchTo(old);
    }
    (*info).fn_extra.cast()
}

unsafe fn write(fc: FunctionCallInfo, keyed: &KeyedBar) -> Datum {
    let desc = cached(fc, || {
        let mut desc: pg_sys::TupleDesc = std::ptr::null_mut();
        let class = pg_sys::get_call_result_type(fc, std::ptr::null_mut(), &mut desc);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE || (*desc).natts as usize != COLUMNS {
            error!("type market.bar is not the one of this library; run ALTER EXTENSION bellwether UPDATE");
        }
        pg_sys::CreateTupleDescCopy(desc)
    });
    form(desc, keyed)
}

/// The description of the row type `market.bar`, in the current memory context.
///
/// # Safety
/// `bar` is the type's oid.
pub unsafe fn description(bar: pg_sys::Oid) -> pg_sys::TupleDesc {
    let desc = pg_sys::lookup_rowtype_tupdesc_copy(bar, -1);
    if (*desc).natts as usize != COLUMNS {
        error!("type market.bar is not the one of this library; run ALTER EXTENSION bellwether UPDATE");
    }
    pg_sys::BlessTupleDesc(desc)
}

/// A `market.bar` datum, in the current memory context.
///
/// # Safety
/// `desc` is its description.
pub unsafe fn form(desc: pg_sys::TupleDesc, keyed: &KeyedBar) -> Datum {
    let KeyedBar { bar, first, last } = keyed;
    let mut values = [
        float8(money::to_f64(bar.open)),
        float8(money::to_f64(bar.high)),
        float8(money::to_f64(bar.low)),
        float8(money::to_f64(bar.close)),
        numeric::numeric(bar.volume, DECIMALS[0]),
        numeric::numeric(bar.notional, DECIMALS[1]),
        int8(bar.trades),
        int8(bar.priced),
        int8(first.0),
        int8(first.1),
        int8(last.0),
        int8(last.1),
    ];
    let unpriced = bar.priced == 0;
    let mut nulls = [false; COLUMNS];
    for column in [0, 1, 2, 3, 8, 9, 10, 11] {
        nulls[column] = unpriced;
    }
    let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
    pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
}

/// A `market.bar` datum. Users can make bars by hand, so nothing about it is taken for granted.
unsafe fn read(fc: FunctionCallInfo, datum: Datum) -> market::Result<KeyedBar> {
    let header = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
    let desc = cached(fc, || {
        let row = (*header).t_choice.t_datum;
        let shared = pg_sys::lookup_rowtype_tupdesc_copy(row.datum_typeid, row.datum_typmod);
        if (*shared).natts as usize != COLUMNS {
            error!("type market.bar is not the one of this library; run ALTER EXTENSION bellwether UPDATE");
        }
        shared
    });
    let mut tuple: pg_sys::HeapTupleData = std::mem::zeroed();
    tuple.t_len = pgrx::varlena::varsize_4b(header.cast()) as u32;
    tuple.t_data = header;
    let (mut values, mut nulls) = ([Datum::from(0usize); COLUMNS], [true; COLUMNS]);
    pg_sys::heap_deform_tuple(&mut tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());

    let invalid = |input: &str, allowed: &str| Error::Invalid {
        what: "bar",
        input: input.into(),
        allowed: format!("{allowed}, as market.ohlc() makes them"),
    };
    let long = |column: usize| if nulls[column] { 0 } else { values[column].value() as i64 };
    let sum = |column: usize, what| match nulls[column] {
        true => Ok(0),
        false => unsafe { numeric::value_of(what, values[column], DECIMALS[column - 4]) },
    };
    let priced = long(7);
    let mut price = [0; 4];
    if priced > 0 {
        if nulls[..4].contains(&true) || nulls[8..].contains(&true) {
            return Err(invalid("with trades but a NULL price, time or sequence", "complete bars"));
        }
        for (price, datum) in price.iter_mut().zip(values) {
            *price = money::price_from_f64(float8_of(datum))?;
        }
    }
    let [open, high, low, close] = price;
    let bar = Bar {
        open,
        high,
        low,
        close,
        volume: sum(4, "volume")?,
        notional: sum(5, "notional")?,
        trades: long(6),
        priced,
        weak_close: false,
    };
    if bar.trades < 0 || priced < 0 || bar.volume < 0 || high < open.max(close) || low > open.min(close) {
        return Err(invalid("that contradicts itself", "bars with low <= open, close <= high and no negative count"));
    }
    Ok(KeyedBar { bar, first: (long(8), long(9)), last: (long(10), long(11)) })
}
