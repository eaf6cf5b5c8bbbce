//! fmgr glue: function manager version 1, arguments, varlena, and materialised result sets.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

/// Declares the info functions that PostgreSQL looks up beside each C function.
#[macro_export]
macro_rules! v1 {
    ($($function:ident => $info:ident),* $(,)?) => {$(
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $info() -> &'static pgrx::pg_sys::Pg_finfo_record {
            const RECORD: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }
    )*};
}

/// The value of argument `i`.
///
/// # Safety
/// `fc` is the call's own, with more than `i` arguments.
#[inline]
pub unsafe fn arg(fc: FunctionCallInfo, i: usize) -> Datum {
    require_args(fc, i);
    let args = (*fc).args.as_slice(i + 1);
    args[i].value
}

/// Whether argument `i` is NULL.
///
/// # Safety
/// As for `arg`.
#[inline]
pub unsafe fn arg_is_null(fc: FunctionCallInfo, i: usize) -> bool {
    require_args(fc, i);
    let args = (*fc).args.as_slice(i + 1);
    args[i].isnull
}

/// A function that was declared with fewer arguments was declared by an older version.
#[inline]
unsafe fn require_args(fc: FunctionCallInfo, i: usize) {
    if (*fc).nargs as usize <= i {
        older("a function of schema market has fewer arguments than its library expects");
    }
}

/// Raises 55000: what is declared in the database is not of this library.
#[cold]
pub fn older(what: &str) -> ! {
    crate::error::raise_with(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        what,
        "the library of bellwether is newer than the extension in this database: run ALTER EXTENSION bellwether UPDATE",
    )
}

/// Argument `i`, or `None` for NULL.
///
/// # Safety
/// As for `arg`.
#[inline]
pub unsafe fn arg_option(fc: FunctionCallInfo, i: usize) -> Option<Datum> {
    (!arg_is_null(fc, i)).then(|| arg(fc, i))
}

/// The text of argument `i`, which is not NULL. Copied, so that no detoasted memory has to be tracked.
///
/// # Safety
/// As for `arg`; the argument is `text`.
pub unsafe fn arg_text(fc: FunctionCallInfo, i: usize) -> String {
    text(arg(fc, i))
}

/// A `text` datum as a string.
///
/// # Safety
/// The datum is a `text` (or other varlena of characters), not NULL.
pub unsafe fn text(d: Datum) -> String {
    let bytes = Bytes::whole(d);
    String::from_utf8_lossy(bytes.get()).into_owned()
}

/// Returns NULL from a C function.
///
/// # Safety
/// `fc` is the call's own.
#[inline]
pub unsafe fn null(fc: FunctionCallInfo) -> Datum {
    (*fc).isnull = true;
    Datum::from(0usize)
}

/// A `float8` datum.
#[inline]
pub fn float8(v: f64) -> Datum {
    Datum::from(v.to_bits() as usize)
}

/// The value of a `float8` datum.
#[inline]
pub fn float8_of(d: Datum) -> f64 {
    f64::from_bits(d.value() as u64)
}

/// An `int8` or `timestamptz` datum.
#[inline]
pub fn int8(v: i64) -> Datum {
    Datum::from(v as usize)
}

/// A varlena with these bytes, allocated in the current memory context. PostgreSQL refuses more than 1 GB.
pub fn varlena(bytes: &[u8]) -> Datum {
    let total = bytes.len() + pg_sys::VARHDRSZ;
    // SAFETY: palloc returns at least `total` bytes or raises.
    unsafe {
        let p = pg_sys::palloc(total).cast::<u8>();
        pgrx::varlena::set_varsize_4b(p.cast(), total as i32);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), p.add(pg_sys::VARHDRSZ), bytes.len());
        Datum::from(p)
    }
}

/// Bytes of a varlena datum, wholly or a slice of it; frees what detoasting allocated.
pub struct Bytes {
    p: *mut pg_sys::varlena,
    own: bool,
}

impl Bytes {
    /// The whole value.
    ///
    /// # Safety
    /// The datum is a varlena, not NULL, and outlives the result.
    pub unsafe fn whole(d: Datum) -> Bytes {
        let v = d.cast_mut_ptr::<pg_sys::varlena>();
        let p = pg_sys::pg_detoast_datum_packed(v);
        Bytes { p, own: p != v }
    }

    /// `len` bytes from `first`; with STORAGE EXTERNAL only the chunks that overlap the slice are read.
    ///
    /// # Safety
    /// As for `whole`.
    pub unsafe fn slice(d: Datum, first: usize, len: usize) -> Bytes {
        Bytes { p: pg_sys::pg_detoast_datum_slice(d.cast_mut_ptr(), first as i32, len as i32), own: true }
    }

    /// The bytes.
    pub fn get(&self) -> &[u8] {
        // SAFETY: `p` is a detoasted varlena that lives as long as `self`.
        unsafe { pgrx::varlena::varlena_to_byte_slice(self.p) }
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        if self.own {
            // SAFETY: detoasting allocated it for us.
            unsafe { pg_sys::pfree(self.p.cast()) }
        }
    }
}

/// Size in bytes of a varlena datum's content, without detoasting it.
///
/// # Safety
/// The datum is a varlena, not NULL.
pub unsafe fn raw_size(d: Datum) -> usize {
    pg_sys::toast_raw_datum_size(d).saturating_sub(pg_sys::VARHDRSZ)
}

/// The elements of a one-dimensional `text[]` datum; raises 22023 for a NULL element.
///
/// # Safety
/// The datum is a `text[]`, not NULL.
pub unsafe fn text_array(d: Datum) -> Vec<String> {
    let array = pg_sys::pg_detoast_datum(d.cast_mut_ptr()).cast::<pg_sys::ArrayType>();
    let (mut values, mut nulls, mut n) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    let align = b'i' as std::ffi::c_char;
    pg_sys::deconstruct_array(array, pg_sys::TEXTOID, -1, false, align, &mut values, &mut nulls, &mut n);
    (0..n as usize)
        .map(|i| {
            if *nulls.add(i) {
                crate::error::raise_with(
                    PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                    "the list of symbols has a NULL in it",
                    "leave the NULL out",
                );
            }
            text(*values.add(i))
        })
        .collect()
}

/// A materialised result set under construction.
pub struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    desc: pg_sys::TupleDesc,
    /// Lives as long as the result: texts and the template are in it.
    context: pg_sys::MemoryContext,
    rows: u64,
    template: Option<Template>,
    /// Templates in a row that no further row fitted.
    wasted: u8,
}

/// A row without NULLs whose fixed columns are overwritten for the next one: forming a tuple anew costs more than the bar.
struct Template {
    slot: *mut pg_sys::TupleTableSlot,
    bytes: *mut u8,
    /// Column and offset of those of 8 bytes.
    wide: Vec<(usize, usize)>,
    /// Column, offset and width of the narrower ones.
    narrow: Vec<(usize, usize, usize)>,
    /// Column and value of the varlenas that the row holds.
    texts: Vec<(usize, usize)>,
}

/// Width, alignment and passing of a column, by its type: the descriptor's own layout changed with PostgreSQL 18.
unsafe fn attribute(desc: pg_sys::TupleDesc, i: usize) -> (i16, u8, bool) {
    let (mut len, mut by_value, mut align) = (0, false, 0);
    pg_sys::get_typlenbyvalalign(pg_sys::SPI_gettypeid(desc, i as i32 + 1), &mut len, &mut by_value, &mut align);
    (len, align as u8, by_value)
}

impl Template {
    /// Forms the row and finds where its columns lie; `None` for a type that is neither fixed and by value nor a varlena.
    unsafe fn form(desc: pg_sys::TupleDesc, values: &mut [Datum]) -> Option<Template> {
        const ALIGNED_HEADER: usize = std::mem::offset_of!(pg_sys::HeapTupleHeaderData, t_infomask2)
            - std::mem::offset_of!(pg_sys::MinimalTupleData, t_infomask2);
        let mut nulls = vec![false; values.len()];
        #[cfg(feature = "pg18")]
        let tuple = pg_sys::heap_form_minimal_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr(), 0);
        #[cfg(not(feature = "pg18"))]
        let tuple = pg_sys::heap_form_minimal_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        let bytes = tuple.cast::<u8>();
        let mut at = (*tuple).t_hoff as usize - ALIGNED_HEADER;
        let (mut wide, mut narrow, mut texts) = (Vec::with_capacity(values.len()), Vec::new(), Vec::new());
        for (i, value) in values.iter().enumerate() {
            let (len, align, by_value) = attribute(desc, i);
            let align = match align {
                b'd' => 8,
                b'i' => 4,
                b's' => 2,
                _ => 1,
            };
            let aligned = (at + align - 1) & !(align - 1);
            if len == -1 {
                // a short header is not aligned, and no long one begins with padding's zero
                at = if *bytes.add(at) != 0 { at } else { aligned };
                texts.push((i, value.value()));
                at += pgrx::varlena::varsize_any(bytes.add(at).cast());
                continue;
            }
            if !by_value || !matches!(len, 1 | 2 | 4 | 8) {
                return None;
            }
            match len {
                8 => wide.push((i, aligned)),
                _ => narrow.push((i, aligned, len as usize)),
            }
            at = aligned + len as usize;
        }
        let slot = pg_sys::MakeSingleTupleTableSlot(desc, &pg_sys::TTSOpsMinimalTuple);
        pg_sys::ExecStoreMinimalTuple(tuple, slot, false);
        Some(Template { slot, bytes, wide, narrow, texts })
    }

    /// Whether only fixed columns differ.
    #[inline]
    fn fits(&self, values: &[Datum]) -> bool {
        self.texts.iter().all(|&(i, text)| values[i].value() == text)
    }

    #[inline]
    unsafe fn fill(&mut self, values: &[Datum]) {
        for &(i, at) in &self.wide {
            self.bytes.add(at).cast::<u64>().write_unaligned(values[i].value() as u64);
        }
        for &(i, at, width) in &self.narrow {
            let (to, v) = (self.bytes.add(at), values[i].value());
            match width {
                4 => to.cast::<u32>().write_unaligned(v as u32),
                2 => to.cast::<u16>().write_unaligned(v as u16),
                _ => to.write(v as u8),
            }
        }
    }
}

/// Memory for a result before it goes to disk, in kB; `work_mem` where that is more. Bars are few, and a spill costs more
/// than making them.
const RESULT_KB: i32 = 64 << 10;

const MOST_WASTED: u8 = 8;

/// A result of so many rows is large.
const LARGE: u64 = 1 << 16;

static KEEP: GucSetting<i32> = GucSetting::<i32>::new(64 << 10);

/// Defines the setting of results; called once, when the library is loaded.
pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"bellwether.keep_memory",
        c"Memory that a backend keeps for its next large result instead of giving it back to the system, in kB; 0 gives it back.",
        c"Getting it anew costs a fifth of a large result. It takes effect with the first large block, result of 65,536 rows or seal.",
        &KEEP,
        0,
        1 << 20,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
}

/// Tells the C library to keep what a large result, the pages of a block, or a session that is sealed, frees. Once a backend.
pub fn keep_memory() {
    thread_local!(static KEPT: std::cell::Cell<bool> = const { std::cell::Cell::new(false) });
    let bytes = KEEP.get().saturating_mul(1024);
    if bytes == 0 || KEPT.replace(true) {
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // malloc.h of glibc
        const M_TRIM_THRESHOLD: std::ffi::c_int = -1;
        const M_MMAP_THRESHOLD: std::ffi::c_int = -3;
        // PostgreSQL's largest blocks of small pieces have 8 MB; what is larger still goes back at once.
        const LARGEST: std::ffi::c_int = 16 << 20;
        unsafe extern "C" {
            fn mallopt(parameter: std::ffi::c_int, value: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: sets two numbers of the allocator, which every allocation of this process shares.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, LARGEST);
            mallopt(M_TRIM_THRESHOLD, bytes);
        }
    }
}

impl Rows {
    /// Begins the result of a set-returning function with `columns` columns.
    ///
    /// # Safety
    /// `fc` is the call's own and lives until the function returns.
    pub unsafe fn begin(fc: FunctionCallInfo, columns: usize) -> Rows {
        let info = (*fc).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize as i32;
        if info.is_null()
            || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
            || (*info).allowedModes & materialize == 0
        {
            error!("set-returning function called in a place that cannot take a set");
        }
        let context = (*(*info).econtext).ecxt_per_query_memory;
        let old = pg_sys::MemoryContextSwitchTo(context);
        // the caller's own description saves catalog lookups; the copy is freed by the executor
        let desc = if (*info).expectedDesc.is_null() {
            let mut desc: pg_sys::TupleDesc = std::ptr::null_mut();
            if pg_sys::get_call_result_type(fc, std::ptr::null_mut(), &mut desc)
                != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE
            {
                error!("a row type is needed: write SELECT * FROM function(...)");
            }
            pg_sys::CreateTupleDescCopy(desc)
        } else {
            pg_sys::CreateTupleDescCopy((*info).expectedDesc)
        };
        if (*desc).natts as usize != columns {
            older(&format!("the function returns {columns} columns, and {} are declared", (*desc).natts));
        }
        let random = (*info).allowedModes & pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32 != 0;
        let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem.max(RESULT_KB));
        (*info).returnMode = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        (*info).setResult = store;
        (*info).setDesc = desc;
        pg_sys::MemoryContextSwitchTo(old);
        Rows { store, desc, context, rows: 0, template: None, wasted: 0 }
    }

    /// A text that stays where it is as long as the result, for rows in which it repeats.
    pub fn text(&self, text: &str) -> Datum {
        // SAFETY: the context outlives the result; the old one is put back.
        unsafe {
            let old = pg_sys::MemoryContextSwitchTo(self.context);
            let datum = varlena(text.as_bytes());
            pg_sys::MemoryContextSwitchTo(old);
            datum
        }
    }

    /// Adds a row without NULLs; see [`put`](Rows::put).
    #[inline]
    pub fn put_full<const N: usize>(&mut self, mut values: [Datum; N]) {
        debug_assert!(N > 0);
        // SAFETY: the description has as many columns as `begin` checked; the store copies the values.
        unsafe {
            match &mut self.template {
                Some(template) if template.fits(&values) => {
                    template.fill(&values);
                    self.wasted = 0;
                    pg_sys::tuplestore_puttupleslot(self.store, template.slot);
                }
                _ => self.form(&mut values, &mut [false; N]),
            }
        }
        self.count();
    }

    unsafe fn form(&mut self, values: &mut [Datum], nulls: &mut [bool]) {
        debug_assert_eq!((*self.desc).natts as usize, values.len());
        pg_sys::tuplestore_putvalues(self.store, self.desc, values.as_mut_ptr(), nulls.as_mut_ptr());
        // where every row has texts of its own, templates cost more than they save
        if !nulls.contains(&true) && self.wasted < MOST_WASTED {
            self.wasted += 1;
            let old = pg_sys::MemoryContextSwitchTo(self.context);
            self.template = Template::form(self.desc, values);
            pg_sys::MemoryContextSwitchTo(old);
        }
    }

    #[inline]
    fn count(&mut self) {
        self.rows += 1;
        if self.rows & 0x3fff == 0 {
            if self.rows == LARGE {
                keep_memory();
            }
            pg_sys::check_for_interrupts!();
        }
    }

    /// Adds a row; `None` is NULL. Texts that repeat should be the same datum: such rows are the cheap ones.
    pub fn put<const N: usize>(&mut self, values: [Option<Datum>; N]) {
        let mut datums = [Datum::from(0usize); N];
        let mut nulls = [true; N];
        for (i, v) in values.into_iter().enumerate() {
            if let Some(v) = v {
                (datums[i], nulls[i]) = (v, false);
            }
        }
        if !nulls.contains(&true) {
            return self.put_full(datums);
        }
        // SAFETY: as for `put_full`.
        unsafe { self.form(&mut datums, &mut nulls) }
        self.count();
    }
}

/// A row value of the function's declared OUT columns, none NULL.
///
/// # Safety
/// `fc` is the call's own, of a function with as many OUT columns as `values`.
pub unsafe fn record(fc: FunctionCallInfo, values: &mut [Datum]) -> Datum {
    let mut desc: pg_sys::TupleDesc = std::ptr::null_mut();
    if pg_sys::get_call_result_type(fc, std::ptr::null_mut(), &mut desc) != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
        error!("a row type is needed: write SELECT * FROM function(...)");
    }
    let desc = pg_sys::BlessTupleDesc(desc);
    let mut nulls = vec![false; values.len()];
    let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
    pg_sys::HeapTupleHeaderGetDatum((*tuple).t_data)
}
