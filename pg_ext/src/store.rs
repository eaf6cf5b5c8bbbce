//! Writing sealed sessions: put_trades, seal, and the corrections that outrank them.
//!
//! A block and its bars, summaries and digest change in one transaction, under the session's lock, or not at all.

mod correct;
mod live;
mod maintain;
mod parts;
mod put;
mod rebuild;
mod rekey;
mod reported;
mod ring;
mod seal;
mod session;

pub use live::{any_live, live_instruments, read_as_of, read_corrections, read_live, read_live_of, read_reported};
pub use rekey::Rekeying;
pub use ring::Span;
pub use session::{decimal, mergeable};

use crate::error::raise_with;
use market::TradeDate;
use pgrx::pg_sys;
use pgrx::prelude::*;
use std::ffi::CStr;

/// Defines the settings of the store; called once, when the library is loaded.
pub fn define_settings() {
    parts::define_settings();
    live::define_settings();
}

/// A class of our own, so that a session's lock never meets an advisory lock of the user's.
const LOCK_CLASS: u16 = 0xBE;

/// Beside it, the class of calendars' locks.
const CALENDAR_LOCK_CLASS: u16 = 0xBF;

/// How a calendar's lock is held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// By who files trades under its dates.
    Shared,
    /// By who changes it: nobody files meanwhile.
    Exclusive,
}

/// Takes the lock of a calendar, held to the end of the transaction. It comes before the locks of its sessions.
pub fn lock_calendar(id: &str, sharing: Sharing) {
    // two calendars of one hash wait for each other, which is harmless
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let mode = if sharing == Sharing::Shared { pg_sys::ShareLock } else { pg_sys::ExclusiveLock };
    lock(CALENDAR_LOCK_CLASS, (hash >> 32) as u32, hash as u32, mode as i32);
    // SAFETY: what the lock's last holder committed is news to our caches.
    unsafe { pg_sys::AcceptInvalidationMessages() };
}

/// Takes the lock of a session, held to the end of the transaction. Take several in ascending order, and before them the
/// calendar's: see `instrument::for_writing`.
pub fn lock_session(instrument: i32, trade_date: TradeDate) {
    lock(LOCK_CLASS, instrument as u32, trade_date.0 as u32, pg_sys::ExclusiveLock as i32);
}

/// As `lock_session`, but `false` at once if somebody else holds it.
pub fn try_lock_session(instrument: i32, trade_date: TradeDate) -> bool {
    acquire(LOCK_CLASS, instrument as u32, trade_date.0 as u32, pg_sys::ExclusiveLock as i32, true)
}

fn lock(class: u16, field2: u32, field3: u32, mode: i32) {
    acquire(class, field2, field3, mode, false);
}

fn acquire(class: u16, field2: u32, field3: u32, mode: i32, only_if_free: bool) -> bool {
    // SAFETY: the tag is plain data, filled completely.
    let result = unsafe {
        let mut tag: pg_sys::LOCKTAG = std::mem::zeroed();
        tag.locktag_field1 = pg_sys::MyDatabaseId.to_u32();
        tag.locktag_field2 = field2;
        tag.locktag_field3 = field3;
        tag.locktag_field4 = class;
        tag.locktag_type = pg_sys::LockTagType::LOCKTAG_ADVISORY as u8;
        tag.locktag_lockmethodid = pg_sys::USER_LOCKMETHOD as u8;
        pg_sys::LockAcquire(&tag, mode, false, only_if_free)
    };
    result != pg_sys::LockAcquireResult::LOCKACQUIRE_NOT_AVAIL
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

/// Raises 25006 in a READ ONLY transaction and on a standby: what writes below the executor must ask itself.
pub fn require_writable(command: &CStr) {
    // SAFETY: raises or returns; the name is copied.
    unsafe {
        pg_sys::PreventCommandIfReadOnly(command.as_ptr());
        pg_sys::PreventCommandDuringRecovery(command.as_ptr());
    }
}

/// Runs `f` with the rights of the store's owner: for tables that nobody else may read, because rows of instruments that a policy
/// hides lie between the others. The caller's right to the instrument is checked before, and what runs is our own SQL.
pub fn as_owner<R>(f: impl FnOnce() -> R) -> R {
    let owner = owner();
    // SAFETY: as for any change of the user inside a statement: what runs meanwhile cannot change it again, and an error's abort
    // undoes it.
    unsafe {
        let (mut caller, mut context) = (pg_sys::InvalidOid, 0);
        pg_sys::GetUserIdAndSecContext(&mut caller, &mut context);
        pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
        let result = f();
        pg_sys::SetUserIdAndSecContext(caller, context);
        result
    }
}

/// Who owns the store: the owner of `market.instruments`.
fn owner() -> pg_sys::Oid {
    // SAFETY: the relation is opened and closed; its lock goes with the transaction's others.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"market".as_ptr(), false);
        let oid = pg_sys::get_relname_relid(c"instruments".as_ptr(), schema);
        let relation = pg_sys::relation_open(oid, pg_sys::AccessShareLock as i32);
        let owner = (*(*relation).rd_rel).relowner;
        pg_sys::relation_close(relation, pg_sys::NoLock as i32);
        owner
    }
}

/// Raises 22023.
pub fn invalid(message: &str, hint: &str) -> ! {
    raise_with(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message, hint)
}
