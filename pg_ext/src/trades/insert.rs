//! Plain INSERT into `market.trades`: the trigger that finds the instrument and says what is wrong with a trade.

use super::{COLUMNS, Column};
use crate::error::OrRaise;
use crate::fmgr::{float8, float8_of, text};
use crate::spi::{self, Arg};
use crate::store::invalid;
use crate::{instrument, plans, time, v1};
use market::{TradeDate, money};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(INSERT);
v1!(insert_trade => pg_finfo_insert_trade);

/// INSTEAD OF INSERT trigger of the view `market.trades`. Bulk loads should COPY into `market.live_trades`.
///
/// # Safety
/// Called by PostgreSQL as a trigger.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn insert_trade(fc: FunctionCallInfo) -> Datum {
    let context = (*fc).context;
    if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
        error!("insert_trade is a trigger");
    }
    let data = &*context.cast::<pg_sys::TriggerData>();
    let kind = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    if kind != pg_sys::TRIGGER_EVENT_INSERT {
        crate::error::raise_with(
            PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            "trades are not changed by UPDATE or DELETE",
            "use market.correct_trade() or market.bust_trade(), which keep a record of it",
        )
    }
    let desc = (*data.tg_relation).rd_att;
    if (*desc).natts as usize != COLUMNS {
        crate::fmgr::older("the view market.trades is not the one of this library");
    }
    let (mut values, mut nulls) = ([Datum::from(0usize); COLUMNS], [true; COLUMNS]);
    pg_sys::heap_deform_tuple(data.tg_trigtuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
    let get = |column: Column| {
        let at = column as usize - 1;
        (!nulls[at]).then(|| values[at])
    };
    insert(&get);
    Datum::from(data.tg_trigtuple)
}

fn required(value: Option<Datum>, column: &str, hint: &str) -> Datum {
    value.unwrap_or_else(|| invalid(&format!("{column} of a trade is NULL"), hint))
}

/// The instrument by symbol or id, which must agree if both are given.
fn instrument_of(get: &dyn Fn(Column) -> Option<Datum>, near: TradeDate) -> i32 {
    let id = get(Column::InstrumentId).map(|d| d.value() as i32);
    let Some(symbol) = get(Column::Symbol) else {
        let id = id.unwrap_or_else(|| {
            invalid("symbol of a trade is NULL", "name the instrument's symbol; see market.instruments")
        });
        return instrument::by_id(id).id;
    };
    // SAFETY: the view's column symbol is text; the datum is not NULL.
    let found = instrument::by_symbol(&unsafe { text(symbol) }, near).id;
    if id.is_some_and(|id| id != found) {
        invalid("symbol and instrument_id of a trade name different instruments", "leave instrument_id out")
    }
    found
}

fn insert(get: &dyn Fn(Column) -> Option<Datum>) {
    let micros = required(get(Column::Ts), "ts", "give the event time of the venue").value() as i64;
    let ns = get(Column::Ns).map_or(0, |d| d.value() as i16);
    let sub = get(Column::Sub).map_or(0, |d| d.value() as i16);
    if !(0..1000).contains(&ns) || sub < 0 {
        invalid(
            &format!("ns {ns} or sub {sub} of a trade is out of range"),
            "ns is the nanoseconds beyond ts, 0 to 999; sub counts from 0",
        )
    }
    let ts = time::nanos(micros);
    let instrument = instrument_of(get, TradeDate(ts.div_euclid(market::time::DAY) as i32));
    let seq = required(
        get(Column::Seq),
        "seq",
        "give the venue's sequence or the line number: trades with equal ts, ns, seq and sub are one trade",
    );
    let price = float8_of(required(get(Column::Price), "price", "give the price of the trade"));
    let size = float8_of(required(get(Column::Size), "size", "give the size of the trade; zero is legal"));
    money::price_from_f64(price).or_raise();
    money::size_from_f64(size).or_raise();
    let recv = get(Column::TsRecv);
    if let Some(recv) = recv {
        time::nanos(recv.value() as i64);
    }
    let int4 = |column| Arg::int4(get(column).map_or(0, |d| d.value() as i32));
    spi::connect(|c| {
        c.insert(
            &INSERT,
            c"INSERT INTO market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            &[
                Arg::int4(instrument),
                Arg::timestamptz(micros),
                Arg::int2(ns),
                Arg::int8(seq.value() as i64),
                Arg::int2(sub),
                Arg::new(pg_sys::FLOAT8OID, float8(price)),
                Arg::new(pg_sys::FLOAT8OID, float8(size)),
                int4(Column::Flags),
                int4(Column::Cond),
                Arg::option(pg_sys::TIMESTAMPTZOID, recv),
                Arg::option(pg_sys::INT8OID, get(Column::TradeId)),
            ],
        );
    });
}
