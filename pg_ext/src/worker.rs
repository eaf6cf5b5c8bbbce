//! Who calls `market.maintain()` when nobody does: one launcher for the server, started where `shared_preload_libraries`
//! names the library, and one short-lived worker a database, which runs what is due and ends.
//!
//! The launcher connects to no database, as PostgreSQL's own do: it needs none to be there and keeps none from being dropped.
//! Nothing starts before recovery ends, nor in pg_upgrade.

use crate::fmgr::{int8, null};
use crate::spi::{self, Mode};
use crate::{plans, v1};
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, BgWorkerStartTime};
use pgrx::bgworkers::{DynamicBackgroundWorker, SignalWakeFlags};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo, Oid};
use pgrx::prelude::*;
use pgrx::{IntoDatum, PgAtomic, pg_shmem_init};
use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

plans!(INSTALLED);
v1!(worker_refused_at => pg_finfo_worker_refused_at);

static ENABLED: GucSetting<bool> = GucSetting::<bool>::new(true);
static INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60);
static ONLY: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));

/// When no worker could be started for want of a slot, in PostgreSQL's microseconds; 0 if the last attempt went well.
// SAFETY: the only shared memory of this name.
static REFUSED_AT: PgAtomic<AtomicI64> = unsafe { PgAtomic::new(c"bellwether_worker_refused_at") };
/// Whether the shared memory is there: the library was preloaded.
static PRELOADED: AtomicBool = AtomicBool::new(false);

/// How many databases are maintained at once.
const AT_ONCE: usize = 3;

/// Defines the settings and, while libraries are preloaded, registers the launcher.
pub fn init() {
    GucRegistry::define_bool_guc(
        c"bellwether.maintenance",
        c"Whether the background worker runs maintenance.",
        c"Off, only CALL market.maintain() does, such as from cron.",
        &ENABLED,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"bellwether.maintenance_interval",
        c"How often the background worker looks for maintenance that is due.",
        c"market.jobs says how often each job is.",
        &INTERVAL,
        1,
        86_400,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_string_guc(
        c"bellwether.maintenance_databases",
        c"Databases that the background worker maintains, separated by commas; empty: all that have the extension.",
        c"Naming them saves it from looking into the others.",
        &ONLY,
        GucContext::Sighup,
        GucFlags::default(),
    );
    // SAFETY: reads globals that are set before libraries are loaded.
    if unsafe { !pg_sys::process_shared_preload_libraries_in_progress || pg_sys::IsBinaryUpgrade } {
        return;
    }
    pg_shmem_init!(REFUSED_AT = AtomicI64::new(0));
    PRELOADED.store(true, Ordering::Relaxed);
    BackgroundWorkerBuilder::new("bellwether launcher")
        .set_type("bellwether launcher")
        .set_library("bellwether")
        .set_function("bellwether_launcher")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(Some(Duration::from_secs(10)))
        .load();
}

/// The databases to look into, by number. Without a database there are no queries: the catalog that all share is read as it lies.
fn databases() -> Vec<Oid> {
    let only = ONLY.get().map(|names| names.to_string_lossy().into_owned()).unwrap_or_default();
    let only: Vec<&str> = only.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let mut found = BackgroundWorker::transaction(|| {
        let mut found = Vec::new();
        // SAFETY: inside a transaction; the scan and the table are closed again, and a row is copied before the next one.
        unsafe {
            let lock = pg_sys::AccessShareLock as i32;
            let table = pg_sys::table_open(Oid::from(pg_sys::DatabaseRelationId.to_u32()), lock);
            let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN | pg_sys::ScanOptions::SO_ALLOW_STRAT;
            let (snapshot, none) = (pg_sys::GetActiveSnapshot(), std::ptr::null_mut());
            let scan = pg_sys::heap_beginscan(table, snapshot, 0, none, std::ptr::null_mut(), flags);
            loop {
                let row = pg_sys::heap_getnext(scan, pg_sys::ScanDirection::ForwardScanDirection);
                if row.is_null() {
                    break;
                }
                let head = (*row).t_data;
                let row = &*head.cast::<u8>().add((*head).t_hoff as usize).cast::<pg_sys::FormData_pg_database>();
                let name = CStr::from_ptr(row.datname.data.as_ptr()).to_string_lossy();
                // one whose DROP was interrupted has the limit -2
                let usable = row.datallowconn && !row.datistemplate && row.datconnlimit >= -1;
                if usable && (only.is_empty() || only.contains(&name.as_ref())) {
                    found.push(row.oid);
                }
            }
            pg_sys::heap_endscan(scan);
            pg_sys::table_close(table, lock);
        }
        found
    });
    found.sort_unstable_by_key(|oid| oid.to_u32());
    found
}

fn start(database: Oid) -> Option<DynamicBackgroundWorker> {
    BackgroundWorkerBuilder::new("bellwether maintenance")
        .set_type("bellwether maintenance")
        .set_library("bellwether")
        .set_function("bellwether_maintenance")
        .enable_spi_access()
        .set_start_time(BgWorkerStartTime::RecoveryFinished)
        .set_restart_time(None)
        .set_argument(database.into_datum())
        // SAFETY: reads a global; the launcher's latch is set when the worker starts or ends.
        .set_notify_pid(unsafe { pg_sys::MyProcPid })
        .load_dynamic()
        .ok()
}

/// Waits, and reads the settings anew where asked to; `false` when it is time to end.
fn wait(time: Duration) -> bool {
    let go_on = BackgroundWorker::wait_latch(Some(time));
    if BackgroundWorker::sighup_received() {
        // SAFETY: between transactions, as in any backend.
        unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) };
    }
    go_on
}

/// The launcher.
///
/// # Safety
/// Called by the postmaster.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bellwether_launcher(_argument: Datum) {
    BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
    BackgroundWorker::connect_worker_to_spi(None, None);
    let mut running: Vec<(Oid, DynamicBackgroundWorker)> = Vec::new();
    let mut next = std::time::Instant::now();
    loop {
        // a latch set by an ending worker wakes us early
        let left = next.saturating_duration_since(std::time::Instant::now());
        if !left.is_zero() {
            if !wait(left.min(Duration::from_secs(INTERVAL.get().max(1) as u64))) {
                return;
            }
            continue;
        }
        next = std::time::Instant::now() + Duration::from_secs(INTERVAL.get().max(1) as u64);
        if !ENABLED.get() {
            continue;
        }
        for database in databases() {
            loop {
                running.retain(|(_, worker)| !matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped)));
                if running.len() < AT_ONCE {
                    break;
                }
                if !wait(Duration::from_millis(500)) {
                    return;
                }
            }
            if running.iter().any(|(of, _)| *of == database) {
                continue;
            }
            match start(database) {
                Some(worker) => {
                    running.push((database, worker));
                    REFUSED_AT.get().store(0, Ordering::Relaxed);
                }
                None => {
                    REFUSED_AT.get().store(pg_sys::GetCurrentTimestamp(), Ordering::Relaxed);
                    log!("bellwether: no free slot for a maintenance worker; raise max_worker_processes");
                    break;
                }
            }
        }
    }
}

unsafe extern "C-unwind" {
    /// PostgreSQL's own handler of SIGTERM: the next check for interrupts ends the process.
    safe fn die(signal: std::ffi::c_int);
}

#[pg_guard]
unsafe extern "C-unwind" fn end(signal: std::ffi::c_int) {
    die(signal);
}

/// One run in one database.
///
/// # Safety
/// Called by the postmaster with the database's oid.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn bellwether_maintenance(argument: Datum) {
    #[cfg(not(feature = "pg18"))]
    pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(end));
    #[cfg(feature = "pg18")]
    pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(end));
    pg_sys::BackgroundWorkerUnblockSignals();
    pg_sys::BackgroundWorkerInitializeConnectionByOid(Oid::from(argument.value() as u32), pg_sys::InvalidOid, 0);
    let mut installed = false;
    BackgroundWorker::transaction(std::panic::AssertUnwindSafe(|| {
        spi::connect(|c| {
            let sql = c"SELECT FROM pg_catalog.pg_extension WHERE extname = 'bellwether'
                        AND pg_catalog.to_regprocedure('market.maintain(text, interval, boolean)') IS NOT NULL";
            installed = c.run(Mode::SameSnapshot, &INSTALLED, sql, &[], &mut |_, _| {}) > 0;
        });
    }));
    if installed {
        let path = c"pg_catalog, pg_temp";
        let (user, set) = (pg_sys::GucContext::PGC_USERSET, pg_sys::GucSource::PGC_S_OVERRIDE);
        pg_sys::SetConfigOption(c"search_path".as_ptr(), path.as_ptr(), user, set);
        let isolation = c"default_transaction_isolation";
        pg_sys::SetConfigOption(isolation.as_ptr(), c"read committed".as_ptr(), user, set);
        call(c"CALL market.maintain(due => true)");
    }
}

/// Runs a procedure that commits, as a client's statement would be run: it needs a portal of its own.
unsafe fn call(sql: &CStr) {
    pg_sys::SetCurrentStatementStartTimestamp();
    pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_RUNNING, sql.as_ptr());
    pg_sys::StartTransactionCommand();
    // what is planned here must outlive the procedure's commits; the process ends soon after
    let old = pg_sys::MemoryContextSwitchTo(pg_sys::TopMemoryContext);
    let parsed = pg_sys::pg_parse_query(sql.as_ptr());
    pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
    let statement = (*(*parsed).elements).ptr_value.cast::<pg_sys::RawStmt>();
    let none = std::ptr::null_mut();
    let analyzed =
        pg_sys::pg_analyze_and_rewrite_fixedparams(statement, sql.as_ptr(), std::ptr::null(), 0, std::ptr::null_mut());
    let plans = pg_sys::pg_plan_queries(analyzed, sql.as_ptr(), 0, std::ptr::null_mut());
    pg_sys::PopActiveSnapshot();
    let portal = pg_sys::CreatePortal(c"".as_ptr(), true, true);
    (*portal).visible = false;
    let tag = pg_sys::CommandTag::CMDTAG_CALL;
    pg_sys::PortalDefineQuery(portal, std::ptr::null(), sql.as_ptr(), tag, plans, std::ptr::null_mut());
    pg_sys::PortalStart(portal, std::ptr::null_mut(), 0, std::ptr::null_mut());
    let nowhere = pg_sys::CreateDestReceiver(pg_sys::CommandDest::DestNone);
    let all = i64::MAX;
    #[cfg(not(feature = "pg18"))]
    pg_sys::PortalRun(portal, all, true, true, nowhere, nowhere, none);
    #[cfg(feature = "pg18")]
    pg_sys::PortalRun(portal, all, true, nowhere, nowhere, none);
    pg_sys::PortalDrop(portal, false);
    pg_sys::MemoryContextSwitchTo(old);
    pg_sys::CommitTransactionCommand();
    pg_sys::pgstat_report_activity(pg_sys::BackendState::STATE_IDLE, std::ptr::null());
}

/// `worker_refused_at() -> timestamptz`: since when workers find no slot; `-infinity` if they do, NULL without preload
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn worker_refused_at(fc: FunctionCallInfo) -> Datum {
    if !PRELOADED.load(Ordering::Relaxed) {
        return null(fc);
    }
    match REFUSED_AT.get().load(Ordering::Relaxed) {
        0 => int8(i64::MIN),
        at => int8(at),
    }
}
