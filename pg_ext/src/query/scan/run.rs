//! Runs the scan: a few sessions of bars at a time, a row at a time to the executor.

use super::super::ask::{Ask, Ends};
use super::super::batch::{Asked, Shared};
use super::super::ohlc::{bars_of, questions};
use super::super::read;
use super::super::row::{self, StateOf};
use super::super::state::State;
use crate::error::OrRaise;
use crate::fmgr::{text_array, varlena};
use crate::spi;
use market::{Nanos, TradeDate};
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::{self, CustomScan, CustomScanState, Datum, FunctionCallInfo, Node, Oid, TupleTableSlot};
use pgrx::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many arguments every overload of `session_ohlc` has.
pub const ARGUMENTS: usize = 9;

const COLUMNS: usize = row::COLUMNS + 1;

/// The types of the result's columns; with many symbols, the symbol is the first.
pub const fn columns(many: bool) -> &'static [Oid] {
    const ALL: [Oid; COLUMNS] = [
        pg_sys::TEXTOID,
        pg_sys::DATEOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::TIMESTAMPTZOID,
        pg_sys::FLOAT8OID,
        pg_sys::FLOAT8OID,
        pg_sys::FLOAT8OID,
        pg_sys::FLOAT8OID,
        pg_sys::FLOAT8OID,
        pg_sys::INT8OID,
        pg_sys::FLOAT8OID,
        pg_sys::TEXTOID,
    ];
    if many { &ALL } else { ALL.split_at(1).1 }
}

/// So many sessions are made at a time that their bars stay in the processor's cache on the way to the executor.
pub fn sessions_together(width: Nanos) -> usize {
    const BARS: Nanos = 12_000;
    (BARS * width.max(1) / 86_400_000_000_000).clamp(1, 64) as usize
}

/// So many symbols are read together: what is shared of them is held in memory.
const TOGETHER: usize = 64;

/// A piece of the work.
#[derive(Clone, Copy)]
enum Piece {
    /// All that is asked of the symbols of a group.
    Group(usize),
    /// Some sessions of one symbol of a group.
    Sessions(usize, usize, TradeDate, TradeDate),
}

/// What is asked, taken apart. Every process of a parallel scan comes to the same.
struct Work {
    groups: Vec<Vec<Asked>>,
    pieces: Vec<Piece>,
    /// What was read for the group in hand.
    shared: Option<(usize, Shared)>,
    /// The symbols as text, by group and place.
    symbols: Vec<Vec<Datum>>,
}

/// A bar on its way to the executor.
struct Row {
    values: [Datum; COLUMNS],
    nulls: [bool; COLUMNS],
}

struct Scan {
    arguments: *mut pg_sys::List,
    ends: Ends,
    many: bool,
    with_vwap: bool,
    context: pg_sys::MemoryContext,
    /// Made at the first row, and again when a parameter changes.
    work: Option<Work>,
    /// The next piece, and the one that processes share.
    next: u64,
    together: *const AtomicU64,
    rows: Vec<Row>,
    at: usize,
    /// The states met so far, as text.
    states: Vec<(State, Datum)>,
    pieces_done: u64,
}

/// What PostgreSQL keeps of the scan: its own part first.
#[repr(C)]
struct Place {
    node: CustomScanState,
    scan: *mut Scan,
}

static METHODS: Methods = Methods(pg_sys::CustomExecMethods {
    CustomName: super::plan::NAME.as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(execute),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: Some(shared_size),
    InitializeDSMCustomScan: Some(share),
    ReInitializeDSMCustomScan: Some(share_again),
    InitializeWorkerCustomScan: Some(join),
    ShutdownCustomScan: None,
    ExplainCustomScan: Some(explain),
});

struct Methods(pg_sys::CustomExecMethods);
// SAFETY: pointers to constants.
unsafe impl Sync for Methods {}

#[pg_guard]
pub unsafe extern "C-unwind" fn create(_plan: *mut CustomScan) -> *mut Node {
    let place = pg_sys::palloc0(size_of::<Place>()).cast::<Place>();
    (*place).node.ss.ps.type_ = pg_sys::NodeTag::T_CustomScanState;
    (*place).node.methods = &raw const METHODS.0;
    place.cast()
}

unsafe fn scan_of<'a>(node: *mut CustomScanState) -> Option<&'a mut Scan> {
    (*node.cast::<Place>()).scan.as_mut()
}

#[pg_guard]
unsafe extern "C-unwind" fn begin(node: *mut CustomScanState, estate: *mut pg_sys::EState, _flags: i32) {
    let plan = (*node).ss.ps.plan.cast::<CustomScan>();
    let number = |at: usize| (*(*(*plan).custom_private).elements.add(at)).int_value;
    let function = Oid::from(number(0) as u32);
    check_may_execute(function);
    let ends = [Ends::Dates, Ends::Instants, Ends::Texts].into_iter().find(|ends| *ends as i32 == number(1));
    let scan = Scan {
        arguments: pg_sys::ExecInitExprList((*plan).custom_exprs, node.cast()),
        ends: ends.unwrap_or(Ends::Texts),
        many: number(2) != 0,
        with_vwap: number(3) != 0,
        context: (*estate).es_query_cxt,
        work: None,
        next: 0,
        together: std::ptr::null(),
        rows: Vec::new(),
        at: 0,
        states: Vec::new(),
        pieces_done: 0,
    };
    // Dropped with the query's memory, also when an error ends it.
    (*node.cast::<Place>()).scan = PgMemoryContexts::For(scan.context).leak_and_drop_on_delete(scan).cast();
}

/// The executor asks it of the functions that it calls; here nobody else does.
unsafe fn check_may_execute(function: Oid) {
    let user = pg_sys::GetUserId();
    #[cfg(feature = "pg15")]
    let allowed = pg_sys::pg_proc_aclcheck(function, user, pg_sys::ACL_EXECUTE);
    #[cfg(not(feature = "pg15"))]
    let allowed = pg_sys::object_aclcheck(pg_sys::ProcedureRelationId, function, user, pg_sys::ACL_EXECUTE.into());
    if allowed != pg_sys::AclResult::ACLCHECK_OK {
        let name = pg_sys::get_func_name(function);
        pg_sys::aclcheck_error(allowed, pg_sys::ObjectType::OBJECT_FUNCTION, name);
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn rescan(node: *mut CustomScanState) {
    if let Some(scan) = scan_of(node) {
        scan.reset();
    }
    pg_sys::ExecScanReScan(&raw mut (*node).ss);
}

#[pg_guard]
unsafe extern "C-unwind" fn end(node: *mut CustomScanState) {
    if let Some(scan) = scan_of(node) {
        scan.reset();
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn shared_size(
    _node: *mut CustomScanState,
    _context: *mut pg_sys::ParallelContext,
) -> pg_sys::Size {
    size_of::<AtomicU64>()
}

#[pg_guard]
unsafe extern "C-unwind" fn share(
    node: *mut CustomScanState,
    _context: *mut pg_sys::ParallelContext,
    memory: *mut std::ffi::c_void,
) {
    memory.cast::<AtomicU64>().write(AtomicU64::new(0));
    join(node, std::ptr::null_mut(), memory);
}

#[pg_guard]
unsafe extern "C-unwind" fn share_again(
    _node: *mut CustomScanState,
    _context: *mut pg_sys::ParallelContext,
    memory: *mut std::ffi::c_void,
) {
    (*memory.cast::<AtomicU64>()).store(0, Relaxed);
}

#[pg_guard]
unsafe extern "C-unwind" fn join(
    node: *mut CustomScanState,
    _contents: *mut pg_sys::shm_toc,
    memory: *mut std::ffi::c_void,
) {
    if let Some(scan) = scan_of(node) {
        scan.together = memory.cast();
    }
}

type Access = unsafe extern "C-unwind" fn(*mut pg_sys::ScanState) -> *mut TupleTableSlot;
type Recheck = unsafe extern "C-unwind" fn(*mut pg_sys::ScanState, *mut TupleTableSlot) -> bool;

unsafe extern "C-unwind" {
    /// `executor.h`. pgrx's own declaration saves the signal mask for every row.
    fn ExecScan(node: *mut pg_sys::ScanState, access: Option<Access>, recheck: Option<Recheck>) -> *mut TupleTableSlot;
}

/// Conditions and projection are the executor's. An error that PostgreSQL raises in them jumps over this frame, which holds
/// nothing to drop; the errors of `next` are caught by its own guard.
unsafe extern "C-unwind" fn execute(node: *mut CustomScanState) -> *mut TupleTableSlot {
    ExecScan(&raw mut (*node).ss, Some(next), Some(recheck))
}

#[pg_guard]
unsafe extern "C-unwind" fn recheck(_node: *mut pg_sys::ScanState, _slot: *mut TupleTableSlot) -> bool {
    true
}

#[pg_guard]
unsafe extern "C-unwind" fn next(node: *mut pg_sys::ScanState) -> *mut TupleTableSlot {
    let slot = (*node).ss_ScanTupleSlot;
    let Some(scan) = scan_of(node.cast()) else { return slot };
    while scan.at >= scan.rows.len() {
        if !scan.make(node) {
            // Of a virtual tuple nothing but the marks is to be cleared, and `tuptable.h` has it as an inline function.
            (*slot).tts_flags |= pg_sys::TTS_FLAG_EMPTY as u16;
            (*slot).tts_nvalid = 0;
            return slot;
        }
    }
    let row = &scan.rows[scan.at];
    scan.at += 1;
    let columns = columns(scan.many).len();
    let skipped = COLUMNS - columns;
    std::ptr::copy_nonoverlapping(row.values[skipped..].as_ptr(), (*slot).tts_values, columns);
    std::ptr::copy_nonoverlapping(row.nulls[skipped..].as_ptr(), (*slot).tts_isnull, columns);
    (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
    (*slot).tts_nvalid = columns as i16;
    slot
}

impl Scan {
    fn reset(&mut self) {
        self.work = None;
        self.next = 0;
        self.rows.clear();
        self.at = 0;
    }

    /// Makes the bars of the next piece; `false` if there is none.
    unsafe fn make(&mut self, node: *mut pg_sys::ScanState) -> bool {
        if self.work.is_none() {
            self.work = Some(self.begin_work(node));
        }
        let at = match self.together.as_ref() {
            Some(together) => together.fetch_add(1, Relaxed),
            None => {
                self.next += 1;
                self.next - 1
            }
        };
        let Some(work) = &mut self.work else { return false };
        let Some(piece) = usize::try_from(at).ok().and_then(|at| work.pieces.get(at)).copied() else { return false };
        self.pieces_done += 1;
        self.rows.clear();
        self.at = 0;
        let (rows, states, context, with_vwap) = (&mut self.rows, &mut self.states, self.context, self.with_vwap);
        spi::connect(|c| {
            let source = read::source();
            let group = match piece {
                Piece::Group(group) | Piece::Sessions(group, ..) => group,
            };
            let questions = &work.groups[group];
            if work.shared.as_ref().is_none_or(|(of, _)| *of != group) {
                let sessions = source == read::Source::Auto
                    && questions.iter().all(|asked| !asked.request.timeframe.is_intraday());
                work.shared = Some((group, Shared::read(c, questions, sessions, matches!(piece, Piece::Sessions(..)))));
            }
            let Some((_, shared)) = &work.shared else { return };
            let mut bars = |place: usize, asked: &Asked| {
                let symbol = work.symbols[group][place];
                let mut state_of = StateOf::default();
                let mut last = None;
                bars_of(c, asked, shared, source, &mut |known, bar| {
                    let state_of_bar = state_of.bar(known, bar);
                    let state = match last {
                        Some((of, datum)) if of == state_of_bar => datum,
                        _ => state_text(states, context, state_of_bar),
                    };
                    last = Some((state_of_bar, state));
                    let columns = row::columns(bar, state, with_vwap);
                    let mut row = Row { values: [symbol; COLUMNS], nulls: [false; COLUMNS] };
                    for (at, value) in columns.into_iter().enumerate() {
                        row.nulls[at + 1] = value.is_none();
                        row.values[at + 1] = value.unwrap_or(Datum::from(0usize));
                    }
                    rows.push(row);
                });
            };
            match piece {
                Piece::Group(_) => questions.iter().enumerate().for_each(|(place, asked)| bars(place, asked)),
                Piece::Sessions(_, place, first, last) => {
                    bars(place, &Asked { first, last, ..questions[place].clone() })
                }
            }
        });
        true
    }

    unsafe fn begin_work(&self, node: *mut pg_sys::ScanState) -> Work {
        let (symbols, ask) = self.ask(node);
        let mut work = Work { groups: Vec::new(), pieces: Vec::new(), shared: None, symbols: Vec::new() };
        for symbols in symbols.chunks(TOGETHER) {
            let group = work.groups.len();
            let questions = questions(symbols, &ask);
            let names = questions.iter().map(|asked| lasting(self.context, &asked.instrument.symbol)).collect();
            for (place, asked) in questions.iter().enumerate() {
                let market::Timeframe::Intraday(width) = asked.request.timeframe else {
                    work.pieces.push(Piece::Group(group));
                    break;
                };
                let dates: Vec<TradeDate> = asked
                    .instrument
                    .calendar
                    .sessions(asked.first, asked.last)
                    .or_raise()
                    .map(|session| session.trade_date)
                    .collect();
                let pieces = dates.chunks(sessions_together(width));
                work.pieces.extend(pieces.map(|dates| Piece::Sessions(group, place, dates[0], dates[dates.len() - 1])));
            }
            work.groups.push(questions);
            work.symbols.push(names);
        }
        work
    }

    /// The arguments, evaluated and read as the function itself reads them.
    unsafe fn ask(&self, node: *mut pg_sys::ScanState) -> (Vec<String>, Ask) {
        let size = std::mem::offset_of!(pg_sys::FunctionCallInfoBaseData, args)
            + ARGUMENTS * size_of::<pg_sys::NullableDatum>();
        let fc: FunctionCallInfo = pg_sys::palloc0(size).cast();
        (*fc).nargs = ARGUMENTS as i16;
        let context = (*node).ps.ps_ExprContext;
        for (at, slot) in (*fc).args.as_mut_slice(ARGUMENTS).iter_mut().enumerate() {
            let expression = (*(*self.arguments).elements.add(at)).ptr_value.cast::<pg_sys::ExprState>();
            if let Some(evaluate) = (*expression).evalfunc {
                // A C function that may raise: only pgrx's boundary turns that into something Rust survives.
                slot.value = pg_sys::ffi::pg_guard_ffi_boundary(|| evaluate(expression, context, &mut slot.isnull));
            }
        }
        let ask = Ask::read(fc, self.ends);
        if !ask.view.is_plain() {
            error!("bars as they were known are not read by this scan");
        }
        let first = crate::fmgr::arg(fc, 0);
        let symbols = if self.many { text_array(first) } else { vec![crate::fmgr::text(first)] };
        pg_sys::pfree(fc.cast());
        (symbols, ask)
    }
}

/// A state as text that stays as long as the query. There are few: provisional, final, and as many revisions as there were.
fn state_text(known: &mut Vec<(State, Datum)>, context: pg_sys::MemoryContext, state: State) -> Datum {
    if let Some((_, text)) = known.iter().find(|(of, _)| *of == state) {
        return *text;
    }
    let text = lasting(context, &state.text());
    known.push((state, text));
    text
}

/// A text that stays as long as the query.
fn lasting(context: pg_sys::MemoryContext, text: &str) -> Datum {
    // SAFETY: the query's own context; the old one is put back.
    unsafe {
        let old = pg_sys::MemoryContextSwitchTo(context);
        let datum = varlena(text.as_bytes());
        pg_sys::MemoryContextSwitchTo(old);
        datum
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn explain(
    node: *mut CustomScanState,
    _ancestors: *mut pg_sys::List,
    state: *mut pg_sys::ExplainState,
) {
    let Some(scan) = scan_of(node) else { return };
    if (*state).analyze {
        pg_sys::ExplainPropertyInteger(c"Pieces".as_ptr(), std::ptr::null(), scan.pieces_done as i64, state);
    }
}
