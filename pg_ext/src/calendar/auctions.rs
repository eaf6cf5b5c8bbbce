//! The declared auctions of a calendar's sessions.

use super::known::named;
use super::{date, refuse_backwards, timestamptz};
use crate::error::OrRaise;
use crate::fmgr::{Rows, arg, arg_text, null, varlena};
use crate::{time, v1};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(auctions => pg_finfo_auctions);

/// `auctions(calendar, first date, last date) -> setof (trade_date, auction, opens_at, closes_at)`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn auctions(fc: FunctionCallInfo) -> Datum {
    let c = &named(&arg_text(fc, 0));
    let (first, last) = (time::trade_date(arg(fc, 1).value() as i32), time::trade_date(arg(fc, 2).value() as i32));
    refuse_backwards(first, last);
    let mut rows = Rows::begin(fc, 4);
    for session in c.sessions(first, last).or_raise() {
        for auction in session.auctions() {
            rows.put([
                Some(date(session.trade_date)),
                Some(varlena(auction.kind.name().as_bytes())),
                Some(timestamptz(auction.opens_at)),
                Some(timestamptz(auction.closes_at)),
            ]);
        }
    }
    null(fc)
}
