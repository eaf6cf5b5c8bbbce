//! Reference data: the trigger that tells every backend that instruments changed.

use crate::v1;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(reference_changed => pg_finfo_reference_changed);

/// Statement trigger: sends the relcache invalidation that plain DML does not send.
///
/// # Safety
/// Called by PostgreSQL as a trigger.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn reference_changed(fc: FunctionCallInfo) -> Datum {
    let context = (*fc).context;
    if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
        error!("reference_changed is a trigger");
    }
    let data = context.cast::<pg_sys::TriggerData>();
    pg_sys::CacheInvalidateRelcacheByRelid((*(*data).tg_relation).rd_id);
    Datum::from(0usize)
}
