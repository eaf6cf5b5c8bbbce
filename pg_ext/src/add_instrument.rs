//! `add_instrument`: a new instrument from its symbol, with the terms of its root where the root is known.

use crate::error::{OrRaise, raise_with};
use crate::fmgr::{arg_option, text};
use crate::spi::{self, Arg, Mode};
use crate::{instrument, plans, v1};
use market::{Kind, Product, Symbol, TradeDate};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

plans!(KNOWN, INSERT, TERMS);
v1!(add_instrument => pg_finfo_add_instrument);

/// What is asked for, after the root's terms have filled the gaps.
struct Wanted {
    symbol: String,
    kind: &'static str,
    calendar: String,
    root: Option<String>,
    currency: Option<String>,
    venue: Option<String>,
    expiry: Option<TradeDate>,
}

fn invalid(message: &str, hint: &str) -> ! {
    raise_with(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, hint)
}

/// Completes what the caller said with what the root implies.
fn complete(
    symbol: &str,
    calendar: Option<String>,
    currency: Option<String>,
    venue: Option<String>,
    kind: Option<String>,
) -> (Wanted, Option<&'static Product>) {
    let parsed = Symbol::parse(symbol, instrument::today()).or_raise();
    if matches!(parsed, Symbol::Continuous { .. }) {
        invalid(
            &format!("\"{symbol}\" is a continuous future, not an instrument"),
            "add the contracts, such as ESZ25; ES.c.0 then finds the front one",
        );
    }
    let root = parsed.root().map(str::to_owned);
    let product = root.as_deref().or(Some(symbol)).and_then(market::product);
    let calendar = calendar.or_else(|| product.map(|p| p.calendar.clone()));
    // A share's hours are its venue's: ARCX is another name of XNYS.
    let calendar = calendar.or_else(|| venue.clone()).unwrap_or_else(|| {
        invalid(
            &format!("\"{symbol}\" needs a calendar: its root is not a known product"),
            "name one, or its venue: market.add_instrument('SPY', calendar => 'XNYS'); see market.calendars",
        )
    });
    let calendar = crate::calendar::newest(&calendar);
    let kind = match kind {
        Some(kind) => Kind::parse(&kind).or_raise(),
        None if product.is_some() => Kind::Future,
        None if calendar.id().starts_with("24/7") || symbol.contains(['-', '/']) => Kind::Pair,
        None => Kind::Equity,
    };
    // Not known for months that the product does not have, and beyond what its calendar covers.
    let expiry = match (&parsed, product) {
        (Symbol::Future { year, month, .. }, Some(product)) => product.expiry(*year, *month).ok().flatten(),
        _ => None,
    };
    let wanted = Wanted {
        expiry,
        symbol: parsed.to_string(),
        kind: kind.name(),
        calendar: calendar.id().to_owned(),
        root: root.or_else(|| product.map(|p| p.root.clone())),
        currency: currency.or_else(|| product.map(|p| p.currency.clone())),
        venue: venue.or_else(|| product.map(|p| p.venue.clone())),
    };
    (wanted, product)
}

/// The root's terms, each from its date, where what the caller says leaves a difference between them.
fn terms(
    product: Option<&'static Product>,
    tick_said: bool,
    multiplier_said: bool,
) -> Vec<(Option<TradeDate>, Option<f64>, Option<f64>)> {
    let mut rows: Vec<(Option<TradeDate>, Option<f64>, Option<f64>)> = Vec::new();
    for terms in product.into_iter().flat_map(|product| &product.terms) {
        let row = (terms.from, (!tick_said).then_some(terms.tick_size), (!multiplier_said).then_some(terms.multiplier));
        if rows.last().is_none_or(|last| (last.1, last.2) != (row.1, row.2)) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        rows.push((None, None, None));
    }
    rows
}

/// Raises if the instrument exists with other terms; `Some(id)` if it exists with these.
fn existing(c: &spi::Conn, w: &Wanted) -> Option<i32> {
    let mut id = None;
    let sql = c"SELECT id, kind, calendar FROM market.instruments WHERE symbol = $1";
    c.run(Mode::Fresh, &KNOWN, sql, &[Arg::text(&w.symbol)], &mut |v, _| {
        // SAFETY: int4, text, text, NOT NULL.
        let (kind, calendar) = unsafe { (text(v[1]), text(v[2])) };
        if kind != w.kind || calendar != w.calendar {
            raise_with(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                &format!(
                    "instrument \"{}\" exists as {kind} on calendar {calendar}, not as {} on {}",
                    w.symbol, w.kind, w.calendar
                ),
                "change market.instruments if that is wrong",
            )
        }
        id = Some(v[0].value() as i32);
    });
    id
}

/// `add_instrument(symbol, calendar, tick_size numeric, multiplier numeric, currency, venue, kind) -> int4`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn add_instrument(fc: FunctionCallInfo) -> Datum {
    let string = |i| arg_option(fc, i).map(|d| text(d));
    let Some(symbol) = string(0) else { invalid("the symbol is NULL", "name it: market.add_instrument('ESZ25')") };
    let (tick_size, multiplier) = (arg_option(fc, 2), arg_option(fc, 3));
    let (w, product) = complete(&symbol, string(1), string(4), string(5), string(6));
    let text_or_null = |v: &Option<String>| v.as_deref().map_or(Arg::null(pg_sys::TEXTOID), Arg::text);
    spi::connect(|c| {
        if let Some(id) = existing(c, &w) {
            return Datum::from(id);
        }
        let mut id = None;
        c.run(
            Mode::Fresh,
            &INSERT,
            c"INSERT INTO market.instruments (symbol, kind, calendar, root, currency, venue, expiry) VALUES ($1, $2, $3, $4, $5, $6, $7)
              ON CONFLICT (symbol) DO NOTHING RETURNING id",
            &[
                Arg::text(&w.symbol),
                Arg::text(w.kind),
                Arg::text(&w.calendar),
                text_or_null(&w.root),
                text_or_null(&w.currency),
                text_or_null(&w.venue),
                Arg::option(pg_sys::DATEOID, w.expiry.map(|date| Datum::from(crate::time::pg_days(date)))),
            ],
            &mut |v, _| id = Some(v[0].value() as i32),
        );
        // someone else's transaction added it in between
        let Some(id) = id.or_else(|| existing(c, &w)) else {
            raise_with(
                PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
                "the instrument was added and removed meanwhile",
                "try again",
            )
        };
        for (from, of_tick, of_multiplier) in terms(product, tick_size.is_some(), multiplier.is_some()) {
            c.execute(
                Mode::Fresh,
                &TERMS,
                c"INSERT INTO market.instrument_terms (instrument_id, from_date, tick_size, multiplier)
                  SELECT $1, coalesce($6, '-infinity'), coalesce($2, $4::numeric), coalesce($3, $5::numeric)
                  WHERE coalesce($2, $4::numeric, $3, $5::numeric) IS NOT NULL ON CONFLICT DO NOTHING",
                &[
                    Arg::int4(id),
                    Arg::option(pg_sys::NUMERICOID, tick_size),
                    Arg::option(pg_sys::NUMERICOID, multiplier),
                    Arg::option(pg_sys::FLOAT8OID, of_tick.map(crate::fmgr::float8)),
                    Arg::option(pg_sys::FLOAT8OID, of_multiplier.map(crate::fmgr::float8)),
                    Arg::option(pg_sys::DATEOID, from.map(|date| Datum::from(crate::time::pg_days(date)))),
                ],
            );
        }
        Datum::from(id)
    })
}
