//! Writing sealed sessions: put_trades, seal, and the corrections that outrank them.
//!
//! A block and its bars, summaries and digest change in one transaction, under the session's lock, or not at all.

mod correct;
mod live;
mod parts;
mod put;
mod seal;
mod session;

pub use live::{read_corrections, read_live};
pub use session::{decimal, mergeable};

use crate::error::raise_with;
use market::TradeDate;
use pgrx::pg_sys;
use pgrx::prelude::*;

/// A class of our own, so that a session's lock never meets an advisory lock of the user's.
const LOCK_CLASS: u16 = 0xBE;

/// Takes the lock of a session, held to the end of the transaction. Take several in ascending order.
pub fn lock_session(instrument: i32, trade_date: TradeDate) {
    // SAFETY: the tag is plain data, filled completely.
    unsafe {
        let mut tag: pg_sys::LOCKTAG = std::mem::zeroed();
        tag.locktag_field1 = pg_sys::MyDatabaseId.to_u32();
        tag.locktag_field2 = instrument as u32;
        tag.locktag_field3 = trade_date.0 as u32;
        tag.locktag_field4 = LOCK_CLASS;
        tag.locktag_type = pg_sys::LockTagType::LOCKTAG_ADVISORY as u8;
        tag.locktag_lockmethodid = pg_sys::USER_LOCKMETHOD as u8;
        pg_sys::LockAcquire(&tag, pg_sys::ExclusiveLock as i32, false, false);
    }
}

/// Raises 25001 unless the transaction is READ COMMITTED: a writer must see what the lock's last holder committed.
pub fn require_read_committed(what: &str) {
    // SAFETY: reads a global.
    if unsafe { pg_sys::XactIsoLevel } != pg_sys::XACT_READ_COMMITTED as i32 {
        raise_with(
            PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION,
            &format!("{what} needs a READ COMMITTED transaction"),
            "run it outside the REPEATABLE READ or SERIALIZABLE transaction",
        )
    }
}

/// Raises 22023.
pub fn invalid(message: &str, hint: &str) -> ! {
    raise_with(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, hint)
}
