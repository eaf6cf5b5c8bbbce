//! Calendar questions in SQL: sessions, trade dates, segments, buckets.

use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Bytes, Rows, arg, arg_is_null, arg_option, arg_text, null, text, varlena};
use crate::{time, v1};
use market::{BucketCursor, Calendar, Nanos, Segment, Segments, Session, Timeframe, TradeDate};
use pgrx::memcxt::PgMemoryContexts;
use pgrx::pg_sys::{self, Datum, FunctionCallInfo};
use pgrx::prelude::*;

mod auctions;
mod draft;
mod halts;
mod known;
mod publish;

pub use known::{named, newest, seen};

/// The segments an argument names, or the calendar's main ones for NULL.
fn segments_or_main(fc: FunctionCallInfo, i: usize, calendar: &Calendar) -> Segments {
    // SAFETY: the SQL declaration has at least `i + 1` arguments, this one of type text.
    match unsafe { arg_option(fc, i) } {
        Some(d) => Segments::parse(&unsafe { text(d) }).or_raise(),
        None => calendar.main(),
    }
}

/// What a call site asks again and again: its arguments, read, and where it was.
struct Site {
    timeframe: Vec<u8>,
    calendar: Vec<u8>,
    segments: Option<Vec<u8>>,
    // before the calendar, so that it is dropped first
    cursor: BucketCursor<'static>,
    _calendar: Box<Calendar>,
}

/// The sites behind one call in one statement, the last one used in front. Most calls have one.
struct Sites {
    /// The arguments that choose a site are constants of the statement, so the first site is always the right one.
    constant: bool,
    /// The calendars it was filled from: PL/pgSQL keeps a call's state over statements.
    generation: u64,
    all: Vec<Site>,
    /// `ON` ... `OFF` as text, made once.
    names: [Datum; Segment::ALL.len()],
}

const SITES_KEPT: usize = 8;

v1!(
    calendars => pg_finfo_calendars,
    shipped_calendars => pg_finfo_shipped_calendars,
    sessions => pg_finfo_sessions,
    session_of => pg_finfo_session_of,
    trade_date => pg_finfo_trade_date,
    segment => pg_finfo_segment,
    is_open => pg_finfo_is_open,
    is_session => pg_finfo_is_session,
    next_session => pg_finfo_next_session,
    next_open => pg_finfo_next_open,
    next_close => pg_finfo_next_close,
    session_bucket => pg_finfo_session_bucket,
);

fn timestamptz(ts: Nanos) -> Datum {
    crate::fmgr::int8(time::micros(ts))
}

fn date(d: TradeDate) -> Datum {
    Datum::from(time::pg_days(d))
}

/// `calendars() -> setof (id, name, time_zone, main_segments, known_from, known_to, version, source)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn calendars(fc: FunctionCallInfo) -> Datum {
    let mut rows = Rows::begin(fc, 8);
    for c in known::all() {
        let (from, to) = c.known();
        let string = |s: &str| Some(varlena(s.as_bytes()));
        rows.put([
            string(c.id()),
            string(c.name()),
            string(c.time_zone()),
            string(&c.main().to_string()),
            Some(date(from)),
            Some(date(to)),
            Some(Datum::from(c.version() as i32)),
            string(c.source()),
        ]);
    }
    null(fc)
}

/// `shipped_calendars() -> setof (id, version)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn shipped_calendars(fc: FunctionCallInfo) -> Datum {
    let mut rows = Rows::begin(fc, 2);
    for id in Calendar::builtin_ids() {
        let shipped = Calendar::builtin(id).or_raise();
        rows.put([Some(varlena(id.as_bytes())), Some(Datum::from(shipped.version() as i32))]);
    }
    null(fc)
}

/// Raises 22023 for dates that run backwards.
fn refuse_backwards(first: TradeDate, last: TradeDate) {
    if first > last {
        raise_with(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!("the first date {first} is after the last date {last}"),
            "name the earlier date first; both are included",
        )
    }
}

/// One row a span.
fn put_spans(rows: &mut Rows, session: &Session<'_>, segments: Segments) {
    for span in session.spans.iter().filter(|span| segments.contains(span.segment)) {
        rows.put([
            Some(date(session.trade_date)),
            Some(date(session.clearing_date)),
            Some(varlena(span.segment.name().as_bytes())),
            Some(timestamptz(span.open)),
            Some(timestamptz(span.close)),
            Some(Datum::from(session.irregular)),
            (!session.note.is_empty()).then(|| varlena(session.note.as_bytes())),
        ]);
    }
}

/// `sessions(calendar, first date, last date, segments, hours) -> setof (trade_date, clearing_date, segment, opens_at, closes_at, irregular, note)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn sessions(fc: FunctionCallInfo) -> Datum {
    let c = &named(&arg_text(fc, 0));
    let (first, last) = (time::trade_date(arg(fc, 1).value() as i32), time::trade_date(arg(fc, 2).value() as i32));
    refuse_backwards(first, last);
    let segments = segments_or_main(fc, 3, c);
    let hours = arg_text(fc, 4);
    let actual = match hours.as_str() {
        "scheduled" => None,
        "actual" => Some(c.actual(first, last, &halts::of(c, first, last)).or_raise()),
        other => raise_with(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!("invalid hours \"{other}\""),
            "use scheduled, or actual for what outages and halts left of the schedule",
        ),
    };
    let mut rows = Rows::begin(fc, 7);
    for (at, session) in c.sessions(first, last).or_raise().enumerate() {
        match actual.as_ref().map(|actual| &actual[at]) {
            None => put_spans(&mut rows, &session, segments),
            Some(actual) => {
                let irregular = session.irregular || actual.differs;
                let session = Session { spans: (&actual.spans).into(), irregular, note: &actual.note, ..session };
                put_spans(&mut rows, &session, segments);
            }
        }
    }
    null(fc)
}

/// `session_of(ts, calendar) -> setof (trade_date, segment, opens_at, closes_at)`: one row, of the span or the `OFF` stretch
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_of(fc: FunctionCallInfo) -> Datum {
    let ts = time::nanos(arg(fc, 0).value() as i64);
    let calendar = named(&arg_text(fc, 1));
    let session = calendar.session_at(ts).or_raise();
    let inside = session.spans.iter().find(|s| s.open <= ts && ts < s.close);
    let (segment, open, close) = match inside {
        Some(span) => (span.segment, span.open, span.close),
        None => {
            let open = session.spans.iter().map(|s| s.close).filter(|close| *close <= ts).max().unwrap_or(session.from);
            let close = session.spans.iter().map(|s| s.open).filter(|open| *open > ts).min().unwrap_or(session.till);
            (Segment::Off, open, close)
        }
    };
    let mut rows = Rows::begin(fc, 4);
    rows.put([
        Some(date(session.trade_date)),
        Some(varlena(segment.name().as_bytes())),
        Some(timestamptz(open)),
        Some(timestamptz(close)),
    ]);
    null(fc)
}

/// `trade_date(ts, calendar) -> date`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn trade_date(fc: FunctionCallInfo) -> Datum {
    let sites = sites(fc, &BY_CALENDAR);
    date(sites.all[0].cursor.trade_date(time::nanos(arg(fc, 0).value() as i64)).or_raise())
}

/// `segment(ts, calendar) -> text`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn segment(fc: FunctionCallInfo) -> Datum {
    let sites = sites(fc, &BY_CALENDAR);
    let ts = time::nanos(arg(fc, 0).value() as i64);
    sites.names[sites.all[0].cursor.segment(ts).or_raise() as usize]
}

/// `is_open(ts, calendar, segments) -> bool`
///
/// # Safety
/// Called by PostgreSQL; NULL segments mean the main ones.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn is_open(fc: FunctionCallInfo) -> Datum {
    if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
        return null(fc);
    }
    let c = &named(&arg_text(fc, 1));
    let segments = segments_or_main(fc, 2, c);
    Datum::from(c.is_open(time::nanos(arg(fc, 0).value() as i64), segments).or_raise())
}

/// `is_session(day, calendar) -> bool`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn is_session(fc: FunctionCallInfo) -> Datum {
    let day = time::trade_date(arg(fc, 0).value() as i32);
    Datum::from(named(&arg_text(fc, 1)).is_session(day).or_raise())
}

/// `next_session(day, calendar, n) -> date`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn next_session(fc: FunctionCallInfo) -> Datum {
    let day = time::trade_date(arg(fc, 0).value() as i32);
    date(named(&arg_text(fc, 1)).next_session(day, arg(fc, 2).value() as i32).or_raise())
}

fn next_edge(fc: FunctionCallInfo, edge: fn(&Calendar, Nanos, Segments) -> market::Result<Nanos>) -> Datum {
    // SAFETY: both callers are declared with (timestamptz, text, text).
    unsafe {
        if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
            return null(fc);
        }
        let c = &named(&arg_text(fc, 1));
        let segments = segments_or_main(fc, 2, c);
        timestamptz(edge(c, time::nanos(arg(fc, 0).value() as i64), segments).or_raise())
    }
}

/// `next_open(ts, calendar, segments) -> timestamptz`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn next_open(fc: FunctionCallInfo) -> Datum {
    next_edge(fc, Calendar::next_open)
}

/// `next_close(ts, calendar, segments) -> timestamptz`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn next_close(fc: FunctionCallInfo) -> Datum {
    next_edge(fc, Calendar::next_close)
}

/// Which arguments of a function choose its site; without a timeframe it is a day.
struct Choice {
    timeframe: Option<usize>,
    calendar: usize,
    segments: Option<usize>,
}

/// `trade_date(ts, calendar)` and `segment(ts, calendar)`.
const BY_CALENDAR: Choice = Choice { timeframe: None, calendar: 1, segments: None };
/// `session_bucket(timeframe, ts, calendar, segments)`.
const BY_BUCKET: Choice = Choice { timeframe: Some(0), calendar: 2, segments: Some(3) };

/// The call's site. Finding a calendar by name and parsing a timeframe cost ten times the question itself, so they are
/// done once a statement where the arguments are constants, and once per combination where they are not.
#[inline]
unsafe fn sites<'a>(fc: FunctionCallInfo, choice: &Choice) -> &'a mut Sites {
    let extra = (*(*fc).flinfo).fn_extra.cast::<Sites>();
    if !extra.is_null() && (*extra).constant && (*extra).generation == known::generation() {
        return &mut *extra;
    }
    find_site(fc, choice)
}

unsafe fn find_site<'a>(fc: FunctionCallInfo, choice: &Choice) -> &'a mut Sites {
    let info = (*fc).flinfo;
    if (*info).fn_extra.is_null() {
        let old = pg_sys::MemoryContextSwitchTo((*info).fn_mcxt);
        let names = Segment::ALL.map(|segment| varlena(segment.name().as_bytes()));
        pg_sys::MemoryContextSwitchTo(old);
        let sites = Sites { constant: false, generation: 0, all: Vec::new(), names };
        (*info).fn_extra = PgMemoryContexts::For((*info).fn_mcxt).leak_and_drop_on_delete(sites).cast();
    }
    let sites = &mut *(*info).fn_extra.cast::<Sites>();
    if sites.generation != known::generation() {
        sites.all.clear();
    }
    let bytes = |i: usize| arg_option(fc, i).map(|d| Bytes::whole(d));
    let timeframe = choice.timeframe.and_then(bytes);
    let timeframe = timeframe.as_ref().map_or(b"1d".as_slice(), Bytes::get);
    let name = Bytes::whole(arg(fc, choice.calendar));
    let segments = choice.segments.and_then(bytes);
    let segments = segments.as_ref().map(Bytes::get);
    let same = |s: &Site| s.timeframe == timeframe && s.calendar == name.get() && s.segments.as_deref() == segments;
    match sites.all.iter().position(same) {
        Some(at) => sites.all.swap(0, at),
        None => {
            let utf8 = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let c = Box::new(named(&utf8(name.get())));
            // asking may have made changes known
            if sites.generation != known::generation() {
                sites.all.clear();
                sites.generation = known::generation();
            }
            let selection = segments.map_or_else(|| c.main(), |text| Segments::parse(&utf8(text)).or_raise());
            let width = Timeframe::parse(&utf8(timeframe)).or_raise();
            sites.all.truncate(SITES_KEPT - 1);
            // the box does not move when the site does, and outlives the cursor beside it
            let borrowed: &'static Calendar = &*std::ptr::from_ref(c.as_ref());
            let site = Site {
                timeframe: timeframe.to_vec(),
                calendar: name.get().to_vec(),
                segments: segments.map(<[u8]>::to_vec),
                cursor: BucketCursor::new(borrowed, width, selection),
                _calendar: c,
            };
            sites.all.insert(0, site);
        }
    }
    let is_constant = |i: usize| pg_sys::get_fn_expr_arg_stable(info, i as i32);
    sites.constant = is_constant(choice.calendar)
        && choice.timeframe.is_none_or(is_constant)
        && choice.segments.is_none_or(is_constant);
    sites
}

/// `session_bucket(timeframe, ts, calendar, segments) -> timestamptz`: the bar's open, NULL outside
///
/// # Safety
/// Called by PostgreSQL; NULL segments mean the main ones.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_bucket(fc: FunctionCallInfo) -> Datum {
    if arg_is_null(fc, 0) || arg_is_null(fc, 1) || arg_is_null(fc, 2) {
        return null(fc);
    }
    let bucket = sites(fc, &BY_BUCKET).all[0].cursor.bucket_at(time::nanos(arg(fc, 1).value() as i64)).or_raise();
    match bucket {
        Some(bucket) => timestamptz(bucket.open),
        None => null(fc),
    }
}
