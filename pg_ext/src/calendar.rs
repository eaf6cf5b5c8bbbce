//! Calendar questions in SQL: sessions, trade dates, segments, buckets.

use crate::error::{OrRaise, raise_with};
use crate::fmgr::{Bytes, Rows, arg, arg_is_null, arg_option, arg_text, null, text, varlena};
use crate::{time, v1};
use market::{BucketCursor, Calendar, Nanos, Segment, Segments, Session, Timeframe, TradeDate};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    // Leaked on purpose: at most one entry per calendar name, for the life of the backend.
    static CALENDARS: RefCell<HashMap<String, &'static Calendar>> = RefCell::new(HashMap::new());
    static SITES: RefCell<Vec<Site>> = const { RefCell::new(Vec::new()) };
}

/// The calendar of an id or alias; raises 42704 with a near match.
pub fn calendar(id: &str) -> &'static Calendar {
    CALENDARS.with(|c| {
        if let Some(known) = c.borrow().get(id) {
            return *known;
        }
        let found: &'static Calendar = Box::leak(Box::new(Calendar::builtin(id).or_raise()));
        c.borrow_mut().insert(id.to_owned(), found);
        found
    })
}

/// The segments an argument names, or the calendar's main ones for NULL.
fn segments_or_main(fc: FunctionCallInfo, i: usize, calendar: &Calendar) -> Segments {
    // SAFETY: the SQL declaration has at least `i + 1` arguments, this one of type text.
    match unsafe { arg_option(fc, i) } {
        Some(d) => Segments::parse(&unsafe { text(d) }).or_raise(),
        None => calendar.main(),
    }
}

/// A call site's arguments, read: most statements use one or two.
struct Site {
    timeframe: Vec<u8>,
    calendar: Vec<u8>,
    segments: Option<Vec<u8>>,
    cursor: BucketCursor<'static>,
}

const SITES_KEPT: usize = 8;

v1!(
    calendars => pg_finfo_calendars,
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
    for id in Calendar::builtin_ids() {
        let c = calendar(id);
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

/// One row a span: what `sessions` and `session_of` share.
fn put_spans(rows: &mut Rows, session: &Session<'_>, segments: Segments, only_at: Option<Nanos>) {
    for span in session.spans {
        let hit = only_at.is_none_or(|ts| span.open <= ts && ts < span.close);
        if !hit || !segments.contains(span.segment) {
            continue;
        }
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

/// `sessions(calendar, first date, last date, segments) -> setof (trade_date, clearing_date, segment, opens_at, closes_at, irregular, note)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn sessions(fc: FunctionCallInfo) -> Datum {
    let c = calendar(&arg_text(fc, 0));
    let (first, last) = (time::trade_date(arg(fc, 1).value() as i32), time::trade_date(arg(fc, 2).value() as i32));
    if first > last {
        raise_with(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            &format!("the first date {first} is after the last date {last}"),
            "name the earlier date first; both are included",
        )
    }
    let segments = segments_or_main(fc, 3, c);
    let mut rows = Rows::begin(fc, 7);
    for session in c.sessions(first, last).or_raise() {
        put_spans(&mut rows, &session, segments, None);
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
    let session = calendar(&arg_text(fc, 1)).session_at(ts).or_raise();
    let inside = session.spans.iter().find(|s| s.open <= ts && ts < s.close).copied();
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
    with_site(b"1d", fc, 1, None, |site| {
        let ts = time::nanos(arg(fc, 0).value() as i64);
        date(site.cursor.session_at(ts).or_raise().trade_date)
    })
}

/// `segment(ts, calendar) -> text`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn segment(fc: FunctionCallInfo) -> Datum {
    with_site(b"1d", fc, 1, None, |site| {
        let ts = time::nanos(arg(fc, 0).value() as i64);
        varlena(site.cursor.session_at(ts).or_raise().segment_at(ts).name().as_bytes())
    })
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
    let c = calendar(&arg_text(fc, 1));
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
    Datum::from(calendar(&arg_text(fc, 1)).is_session(day).or_raise())
}

/// `next_session(day, calendar, n) -> date`
///
/// # Safety
/// Called by PostgreSQL; STRICT.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn next_session(fc: FunctionCallInfo) -> Datum {
    let day = time::trade_date(arg(fc, 0).value() as i32);
    date(calendar(&arg_text(fc, 1)).next_session(day, arg(fc, 2).value() as i32).or_raise())
}

fn next_edge(fc: FunctionCallInfo, edge: fn(&Calendar, Nanos, Segments) -> market::Result<Nanos>) -> Datum {
    // SAFETY: both callers are declared with (timestamptz, text, text).
    unsafe {
        if arg_is_null(fc, 0) || arg_is_null(fc, 1) {
            return null(fc);
        }
        let c = calendar(&arg_text(fc, 1));
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

/// Runs `f` with the call site of these arguments, reading them the first time only: a calendar lookup by name and the
/// parsing of a timeframe cost more than the question itself.
unsafe fn with_site<R>(
    timeframe: &[u8],
    fc: FunctionCallInfo,
    calendar_arg: usize,
    segments_arg: Option<usize>,
    f: impl FnOnce(&mut Site) -> R,
) -> R {
    let name = Bytes::whole(arg(fc, calendar_arg));
    let chosen = segments_arg.and_then(|i| arg_option(fc, i)).map(|d| Bytes::whole(d));
    SITES.with(|sites| {
        let mut sites = sites.borrow_mut();
        let same = |s: &Site| {
            s.timeframe == timeframe
                && s.calendar == name.get()
                && s.segments.as_deref() == chosen.as_ref().map(Bytes::get)
        };
        let at = match sites.iter().position(same) {
            Some(at) => at,
            None => {
                let utf8 = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
                let c = calendar(&utf8(name.get()));
                let segments = match &chosen {
                    Some(s) => Segments::parse(&utf8(s.get())).or_raise(),
                    None => c.main(),
                };
                let width = Timeframe::parse(&utf8(timeframe)).or_raise();
                sites.truncate(SITES_KEPT - 1);
                let site = Site {
                    timeframe: timeframe.to_vec(),
                    calendar: name.get().to_vec(),
                    segments: chosen.as_ref().map(|s| s.get().to_vec()),
                    cursor: BucketCursor::new(c, width, segments),
                };
                sites.insert(0, site);
                0
            }
        };
        f(&mut sites[at])
    })
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
    let timeframe = Bytes::whole(arg(fc, 0));
    let bucket = with_site(timeframe.get(), fc, 2, Some(3), |site| {
        site.cursor.bucket_at(time::nanos(arg(fc, 1).value() as i64)).or_raise()
    });
    match bucket {
        Some(bucket) => timestamptz(bucket.open),
        None => null(fc),
    }
}
