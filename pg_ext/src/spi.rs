//! The only door to SPI.
//!
//! pgrx chooses SPI's read-only flag by whether the transaction has an xid, which gives a reader after an INSERT a new
//! snapshot per query: racing a seal it counted 2,000 trades for 1,000. Here the flag is always said. Rows stream into a
//! closure through a DestReceiver; nothing is copied into an SPI tuple table.

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use std::cell::Cell;
use std::ffi::CStr;
use std::thread::LocalKey;

/// Which snapshot a query runs under.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// Readers: the statement's own snapshot for every query.
    SameSnapshot,
    /// Writers, only after the session lock is held: a new snapshot per query, own changes visible.
    Fresh,
}

/// A prepared plan kept for the life of the backend. One per call site, in a thread local.
#[derive(Clone, Copy)]
pub struct Plan(pg_sys::SPIPlanPtr);

/// Where a call site keeps its plan.
pub type PlanCell = LocalKey<Cell<Option<Plan>>>;

/// Declares the plan cells of call sites.
#[macro_export]
macro_rules! plans {
    ($($name:ident),* $(,)?) => {
        thread_local! { $(static $name: std::cell::Cell<Option<$crate::spi::Plan>> = const { std::cell::Cell::new(None) };)* }
    };
}

/// A parameter: its type, its value, whether it is NULL.
#[derive(Clone, Copy)]
pub struct Arg {
    type_oid: Oid,
    value: Datum,
    is_null: bool,
}

impl Arg {
    /// A value of the type.
    pub fn new(type_oid: Oid, value: Datum) -> Arg {
        Arg { type_oid, value, is_null: false }
    }

    /// A NULL of the type.
    pub fn null(type_oid: Oid) -> Arg {
        Arg { type_oid, value: Datum::from(0usize), is_null: true }
    }

    /// The value, or NULL for none.
    pub fn option(type_oid: Oid, value: Option<Datum>) -> Arg {
        value.map_or_else(|| Arg::null(type_oid), |v| Arg::new(type_oid, v))
    }

    /// `int4`.
    pub fn int4(v: i32) -> Arg {
        Arg::new(pg_sys::INT4OID, Datum::from(v))
    }

    /// `int8`.
    pub fn int8(v: i64) -> Arg {
        Arg::new(pg_sys::INT8OID, Datum::from(v))
    }

    /// `int2`.
    pub fn int2(v: i16) -> Arg {
        Arg::new(pg_sys::INT2OID, Datum::from(v))
    }

    /// `date`, in PostgreSQL's days.
    pub fn date(pg_days: i32) -> Arg {
        Arg::new(pg_sys::DATEOID, Datum::from(pg_days))
    }

    /// `timestamptz`, in PostgreSQL's microseconds.
    pub fn timestamptz(pg_micros: i64) -> Arg {
        Arg::new(pg_sys::TIMESTAMPTZOID, Datum::from(pg_micros))
    }

    /// `text`, allocated in the current memory context.
    pub fn text(v: &str) -> Arg {
        Arg::new(pg_sys::TEXTOID, crate::fmgr::varlena(v.as_bytes()))
    }

    /// `bytea`, allocated in the current memory context.
    pub fn bytea(v: &[u8]) -> Arg {
        Arg::new(pg_sys::BYTEAOID, crate::fmgr::varlena(v))
    }

    /// `int4[]`, allocated in the current memory context.
    pub fn int4_array(values: &[i32]) -> Arg {
        let mut datums: Vec<Datum> = values.iter().map(|v| Datum::from(*v)).collect();
        Arg::new(pg_sys::INT4ARRAYOID, array(&mut datums, pg_sys::INT4OID, 4, true, b'i'))
    }

    /// `text[]`, allocated in the current memory context.
    pub fn text_array(values: &[&str]) -> Arg {
        let mut datums: Vec<Datum> = values.iter().map(|v| crate::fmgr::varlena(v.as_bytes())).collect();
        Arg::new(pg_sys::TEXTARRAYOID, array(&mut datums, pg_sys::TEXTOID, -1, false, b'i'))
    }

    /// Frees a `text` or `bytea` parameter early; big ones would pile up until SPI finishes.
    pub fn free(self) {
        debug_assert!(self.type_oid == pg_sys::BYTEAOID || self.type_oid == pg_sys::TEXTOID);
        // SAFETY: `text` and `bytea` allocated it, and the statement that used it is over.
        unsafe { pg_sys::pfree(self.value.cast_mut_ptr()) }
    }
}

fn array(elements: &mut [Datum], element: Oid, len: i32, by_value: bool, align: u8) -> Datum {
    // SAFETY: as many elements as said, of the type described.
    unsafe {
        let n = elements.len() as i32;
        Datum::from(pg_sys::construct_array(
            elements.as_mut_ptr(),
            n,
            element,
            len,
            by_value,
            align as std::ffi::c_char,
        ))
    }
}

/// An open SPI connection.
pub struct Conn(());

/// Runs `f` with an SPI connection. What `f` allocates in the current memory context is gone afterwards.
pub fn connect<R>(f: impl FnOnce(&Conn) -> R) -> R {
    // SAFETY: connect and finish are paired; on an error the (sub)transaction's abort cleans SPI up.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            error!("SPI_connect failed");
        }
        let result = f(&Conn(()));
        pg_sys::SPI_finish();
        result
    }
}

#[repr(C)]
struct Receiver<'a> {
    public: pg_sys::DestReceiver,
    columns: i32,
    seen: u32,
    each: &'a mut dyn FnMut(&[Datum], &[bool]),
}

#[pg_guard]
unsafe extern "C-unwind" fn receive_slot(slot: *mut pg_sys::TupleTableSlot, dest: *mut pg_sys::DestReceiver) -> bool {
    // SAFETY: `dest` is the Receiver that `run` made and that outlives the execution; the slot is the executor's.
    unsafe {
        let r = &mut *(dest as *mut Receiver);
        if r.columns == 0 {
            r.columns = (*(*slot).tts_tupleDescriptor).natts;
        }
        if i32::from((*slot).tts_nvalid) < r.columns {
            pg_sys::slot_getsomeattrs_int(slot, r.columns);
        }
        r.seen = r.seen.wrapping_add(1);
        if r.seen & 0xfff == 0 {
            pg_sys::check_for_interrupts!();
        }
        let n = r.columns as usize;
        (r.each)(std::slice::from_raw_parts((*slot).tts_values, n), std::slice::from_raw_parts((*slot).tts_isnull, n));
        true
    }
}
unsafe extern "C-unwind" fn receive_start(_: *mut pg_sys::DestReceiver, _: std::ffi::c_int, _: pg_sys::TupleDesc) {}
unsafe extern "C-unwind" fn receive_end(_: *mut pg_sys::DestReceiver) {}

impl Conn {
    fn prepare(&self, sql: &CStr, args: &[Arg], options: u32) -> Plan {
        let types: Vec<Oid> = args.iter().map(|a| a.type_oid).collect();
        // SAFETY: SPI is connected; the plan is kept for the backend's life.
        unsafe {
            let types_ptr = types.as_ptr() as *mut Oid;
            let plan = pg_sys::SPI_prepare_cursor(sql.as_ptr(), types.len() as i32, types_ptr, options as i32);
            if plan.is_null() {
                let code = pg_sys::SPI_result;
                error!("SPI_prepare failed ({code})");
            }
            pg_sys::SPI_keepplan(plan);
            Plan(plan)
        }
    }

    /// Runs a call site's query, preparing it the first time. `each` gets every row's values and null flags; values by
    /// reference live until it returns. Returns the number of rows processed.
    ///
    /// The types of `args` must be the same at every call of one cell.
    pub fn run(
        &self,
        mode: Mode,
        cell: &'static PlanCell,
        sql: &CStr,
        args: &[Arg],
        each: &mut dyn FnMut(&[Datum], &[bool]),
    ) -> u64 {
        // a generic plan over a partitioned table locks every partition; a custom plan is pruned first
        self.run_planned(mode, cell, sql, args, pg_sys::CURSOR_OPT_CUSTOM_PLAN, each)
    }

    /// As `run`, planned once and not per call: for tables without partitions to prune, where planning would take longer
    /// than the query.
    pub fn run_planned_once(
        &self,
        mode: Mode,
        cell: &'static PlanCell,
        sql: &CStr,
        args: &[Arg],
        each: &mut dyn FnMut(&[Datum], &[bool]),
    ) -> u64 {
        self.run_planned(mode, cell, sql, args, pg_sys::CURSOR_OPT_GENERIC_PLAN, each)
    }

    /// As `execute` in mode `Fresh`, for an INSERT of one row: it has nothing to prune, so it is planned once and not per row.
    pub fn insert(&self, cell: &'static PlanCell, sql: &CStr, args: &[Arg]) -> u64 {
        self.run_planned(Mode::Fresh, cell, sql, args, pg_sys::CURSOR_OPT_GENERIC_PLAN, &mut |_, _| {})
    }

    /// Makes a call site plan anew the next time.
    pub fn forget(&self, cell: &'static PlanCell) {
        if let Some(plan) = cell.take() {
            // SAFETY: the plan was kept by `prepare`, is used by this cell alone and is not running.
            unsafe { pg_sys::SPI_freeplan(plan.0) };
        }
    }

    fn run_planned(
        &self,
        mode: Mode,
        cell: &'static PlanCell,
        sql: &CStr,
        args: &[Arg],
        options: u32,
        each: &mut dyn FnMut(&[Datum], &[bool]),
    ) -> u64 {
        let plan = cell.with(|c| {
            c.get().unwrap_or_else(|| {
                let plan = self.prepare(sql, args, options);
                c.set(Some(plan));
                plan
            })
        });
        // SAFETY: the parameter list is filled for every argument; the receiver outlives the execution, during which
        // alone `each` is called.
        unsafe {
            let params = if args.is_empty() { std::ptr::null_mut() } else { pg_sys::makeParamList(args.len() as i32) };
            if !params.is_null() {
                for (p, a) in (*params).params.as_mut_slice(args.len()).iter_mut().zip(args) {
                    p.value = a.value;
                    p.isnull = a.is_null;
                    p.pflags = pg_sys::PARAM_FLAG_CONST as u16;
                    p.ptype = a.type_oid;
                }
            }
            let mut receiver = Receiver {
                public: std::mem::zeroed(),
                columns: 0,
                seen: 0,
                each: std::mem::transmute::<&mut dyn FnMut(&[Datum], &[bool]), &mut dyn FnMut(&[Datum], &[bool])>(each),
            };
            receiver.public.receiveSlot = Some(receive_slot);
            receiver.public.rStartup = Some(receive_start);
            receiver.public.rShutdown = Some(receive_end);
            receiver.public.rDestroy = Some(receive_end);
            receiver.public.mydest = pg_sys::CommandDest::DestNone;
            let mut execute: pg_sys::SPIExecuteOptions = std::mem::zeroed();
            execute.params = params;
            execute.read_only = mode == Mode::SameSnapshot;
            execute.dest = (&raw mut receiver).cast::<pg_sys::DestReceiver>();
            let code = pg_sys::SPI_execute_plan_extended(plan.0, &execute);
            if code < 0 {
                error!("SPI_execute_plan failed ({code})");
            }
            pg_sys::SPI_processed
        }
    }

    /// As `run`, for statements whose rows are not wanted.
    pub fn execute(&self, mode: Mode, cell: &'static PlanCell, sql: &CStr, args: &[Arg]) -> u64 {
        self.run(mode, cell, sql, args, &mut |_, _| {})
    }
}
