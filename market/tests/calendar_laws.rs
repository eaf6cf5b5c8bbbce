//! What holds for every calendar, instant, timeframe and selection, whatever the data says.

#![allow(clippy::unwrap_used, reason = "a test that cannot read its input has failed")]

use market::{
    Bucket, BucketCursor, Calendar, Segment, Segments, Session, Timeframe, TradeDate, bucket_at, buckets, group_of,
};
use proptest::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 1440 * MINUTE;

/// A calendar of ours, or one with hours that no exchange has.
fn calendar() -> impl Strategy<Value = Calendar> {
    let builtin = prop::sample::select(Calendar::builtin_ids()).prop_map(|id| Calendar::builtin(id).unwrap());
    prop_oneof![builtin, invented()]
}

/// Any number of breaks, any zone, half-hour summer times, sessions across midnight, odd weeks, auctions, rolls.
fn invented() -> impl Strategy<Value = Calendar> {
    const ZONES: [&str; 6] = [
        "America/Chicago",
        "Australia/Lord_Howe",
        "Africa/Casablanca",
        "Asia/Kolkata",
        "Pacific/Apia",
        "America/Sao_Paulo",
    ];
    let edges = prop::collection::btree_set(-7 * 60..24 * 60 - 1, 2..8);
    (prop::sample::select(&ZONES[..]), edges, any::<bool>(), any::<bool>(), 1..8u8, 0..4usize).prop_map(
        |(zone, edges, futures, restart, weekdays, segment)| {
            let edges: Vec<i32> = edges.into_iter().collect();
            let (first, last) = (edges[0], edges[edges.len() - 1]);
            // A session is at most a day long, so that it ends before the next begins.
            let edges: Vec<i32> = edges.into_iter().filter(|edge| *edge < first + 1300).collect();
            let edges = if edges.len() < 2 { vec![first, first + 600] } else { edges };
            let spans: Vec<String> =
                edges.chunks_exact(2).map(|pair| format!("{}-{}", clock(pair[0]), clock(pair[1]))).collect();
            let spans = spans.join(", ");
            let hours = match (futures, segment) {
                (true, 0) if last - first > 10 && edges.len() >= 2 => {
                    format!("ETH = \"{spans}\"\nRTH = \"{}-{}\"", clock(edges[0]), clock(edges[1]))
                }
                (true, _) => format!("ETH = \"{spans}\""),
                (false, n) => format!("{} = \"{spans}\"", ["ON", "PRE", "RTH", "POST"][n]),
            };
            let days = ["mon-fri", "mon-sun", "sun-thu", "sat", "mon,wed,fri", "tue-sat", "fri-mon"][usize::from(weekdays - 1)];
            let toml = format!(
                "schema = 1\nid = \"ODD\"\ntz = \"{zone}\"\nknown = [2010-01-01, 2013-12-31]\n\
                 restart_at_segments = {restart}\nmain = \"ETH\"\n[[hours]]\ndays = \"{days}\"\n{hours}\n\
                 [[special]]\nname = \"half\"\non = [\"2nd wed feb\", \"easter+1\"]\ntruncate = \"12:00\"\ntrade_date = \"next\"\n\
                 [holidays]\n\"X\" = \"jul 4 sat>fri sun>mon\"\n"
            );
            Calendar::from_toml(&toml).unwrap_or_else(|e| panic!("{e}\n{toml}"))
        },
    )
}

fn clock(minutes: i32) -> String {
    let (day, minutes) = (minutes.div_euclid(1440), minutes.rem_euclid(1440));
    let offset = if day == 0 { String::new() } else { format!("{day:+}d") };
    format!("{:02}:{:02}{offset}", minutes / 60, minutes % 60)
}

/// An instant of the calendar's known range, often at the edge of something.
fn instant(calendar: &Calendar, part: u64, nudge: i64) -> i64 {
    let (from, till) = calendar.window();
    let ts = from + ((u128::from(part) * (till - from) as u128) >> 64) as i64;
    let session = calendar.session_at(ts).unwrap();
    let edges = session.spans.iter().flat_map(|span| [span.open, span.close]).chain([session.from, session.till - 1]);
    let edge = edges.min_by_key(|edge| (edge - ts).abs()).unwrap();
    let near = if part.is_multiple_of(3) { ts } else { edge + nudge };
    near.clamp(from, till - 1)
}

fn segments() -> impl Strategy<Value = Segments> {
    prop::sample::select(&["RTH", "ETH", "ALL", "PRE+RTH", "ON", "POST", "ON+POST", "RTH+OFF", "OFF"])
        .prop_map(|text| Segments::parse(text).unwrap())
}

fn timeframe() -> impl Strategy<Value = Timeframe> {
    prop_oneof![
        (1..1440i64).prop_map(|minutes| Timeframe::Intraday(minutes * MINUTE)),
        (1..100_000i64).prop_map(|ms| Timeframe::Intraday(ms * 1_000_000 + 60_000_000_000)),
        (1..40u32).prop_map(Timeframe::Days),
        prop::sample::select(&[Timeframe::Week, Timeframe::Month, Timeframe::Quarter, Timeframe::Year]),
    ]
}

fn check_session(session: &Session<'_>) {
    assert!(!session.spans.is_empty());
    let mut edge = session.from;
    for span in session.spans {
        assert!(edge <= span.open && span.open < span.close && span.segment != Segment::Off, "{session:?}");
        edge = span.close;
        assert_eq!(session.segment_at(span.open), span.segment);
        assert_eq!(session.segment_at(span.close - 1), span.segment);
    }
    assert!(edge <= session.till && session.from < session.till, "{session:?}");
    let has_rth = session.spans.iter().any(|span| span.segment == Segment::Rth);
    if has_rth {
        let (open, close) = (session.open(Segments::RTH).unwrap(), session.close(Segments::RTH).unwrap());
        assert!(session.from <= session.open_auction_from && session.open_auction_from <= open, "{session:?}");
        assert!(close <= session.close_auction_until && session.close_auction_until <= session.till, "{session:?}");
    }
    let (pause, until) = session.break_auction;
    assert!(session.from <= pause && pause <= until && until <= session.till, "{session:?}");
    if pause < until {
        assert_eq!(session.segment_at(pause - 1), Segment::Rth, "{session:?}");
        assert_eq!(
            (session.segment_at(pause), session.segment_at(until - 1)),
            (Segment::Off, Segment::Off),
            "{session:?}"
        );
    }
    // The runs of everything are the storage window itself.
    let whole: i64 = session.runs(Segments::ALL).map(|(open, close)| close - open).sum();
    assert_eq!(whole, session.till - session.from, "{session:?}");
}

#[test]
fn shipped_sessions_are_well_formed() {
    for id in Calendar::builtin_ids() {
        let calendar = Calendar::builtin(id).unwrap();
        let (first, last) = calendar.known();
        let mut till = calendar.window().0;
        let mut previous: Option<TradeDate> = None;
        for session in calendar.sessions(first, last).unwrap() {
            check_session(&session);
            assert_eq!(session.from, till, "{id} {}", session.trade_date);
            assert!(session.clearing_date >= session.trade_date);
            let projected = calendar.projected_from().is_some_and(|from| from <= session.trade_date);
            assert_eq!(session.irregular || projected, !session.note.is_empty(), "{id} {}", session.trade_date);
            assert!(previous.is_none_or(|date| date < session.trade_date));
            (till, previous) = (session.till, Some(session.trade_date));
        }
        assert_eq!(till, calendar.window().1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn spans_partition_the_session(calendar in calendar(), part: u64) {
        let session = calendar.session_at(instant(&calendar, part, 0)).unwrap();
        check_session(&session);
        // Every instant of the session is in exactly one span, or OFF.
        let mut edge = session.from;
        for span in session.spans {
            if edge < span.open {
                prop_assert_eq!(session.segment_at(edge), Segment::Off);
                prop_assert_eq!(session.segment_at(span.open - 1), Segment::Off);
            }
            edge = span.close;
        }
    }

    #[test]
    fn every_instant_has_one_trade_date(calendar in calendar(), part: u64, nudge in -2..3i64) {
        let ts = instant(&calendar, part, nudge);
        let session = calendar.session_at(ts).unwrap();
        prop_assert!(session.from <= ts && ts < session.till);
        prop_assert_eq!(calendar.session(session.trade_date).unwrap(), Some(session));
        prop_assert_eq!(calendar.trade_date(ts).unwrap(), session.trade_date);
        // The windows tile time: the neighbours begin where this one ends.
        if session.till < calendar.window().1 {
            let next = calendar.session_at(session.till).unwrap();
            prop_assert_eq!(next.from, session.till);
            prop_assert!(next.trade_date > session.trade_date);
        }
        let filing = calendar.filing(ts);
        prop_assert!(!filing.projected);
        prop_assert_eq!((filing.trade_date, filing.from, filing.till), (session.trade_date, session.from, session.till));
    }

    #[test]
    fn every_instant_can_be_filed(calendar in calendar(), ts: i64) {
        let filing = calendar.filing(ts);
        prop_assert!(filing.from <= ts && (ts < filing.till || ts == i64::MAX), "{:?} {}", filing, ts);
        let (from, till) = calendar.window();
        prop_assert_eq!(filing.projected, ts < from || ts >= till);
        prop_assert!(calendar.session_at(ts).is_ok() != filing.projected);
    }

    #[test]
    fn every_instant_has_at_most_one_bucket(
        calendar in calendar(), part: u64, nudge in -2..3i64, timeframe in timeframe(), segments in segments(),
    ) {
        let ts = instant(&calendar, part, nudge);
        let session = calendar.session_at(ts).unwrap();
        let selected = segments.contains(session.segment_at(ts));
        let found = bucket_at(&calendar, timeframe, ts, segments).unwrap();
        prop_assert_eq!(found.is_some(), selected);
        let mut all = Vec::new();
        buckets(&session, timeframe, segments, &mut all);
        if timeframe.is_intraday() {
            let holding: Vec<Bucket> = all.into_iter().filter(|b| b.open <= ts && ts < b.close).collect();
            prop_assert_eq!(holding.first().copied(), found);
            prop_assert!(holding.len() <= 1);
        } else if let Some(bucket) = found {
            prop_assert!(bucket.open <= ts && ts < bucket.close);
            let (first, last) = group_of(&calendar, timeframe, session.trade_date).unwrap();
            prop_assert!((first..=last).contains(&session.trade_date));
            prop_assert_eq!(bucket.trade_date, first);
            // Every date of the group has the same group.
            prop_assert_eq!(group_of(&calendar, timeframe, first).unwrap(), (first, last));
            prop_assert_eq!(group_of(&calendar, timeframe, last).unwrap(), (first, last));
        }
    }

    #[test]
    fn buckets_tile_the_segments(calendar in calendar(), part: u64, timeframe in timeframe(), segments in segments()) {
        let session = calendar.session_at(instant(&calendar, part, 0)).unwrap();
        let mut all = Vec::new();
        buckets(&session, timeframe, segments, &mut all);
        if let Timeframe::Intraday(width) = timeframe {
            let mut rest = all.iter();
            for (open, close) in session.runs(segments) {
                let mut edge = open;
                while edge < close {
                    let bucket = rest.next().expect("a bucket for every part of a run");
                    prop_assert_eq!(bucket.open, edge);
                    prop_assert_eq!(bucket.close, (edge + width).min(close));
                    edge = bucket.close;
                }
            }
            prop_assert!(rest.next().is_none());
        } else {
            prop_assert!(all.len() <= 1);
        }
    }

    #[test]
    fn a_cursor_answers_like_the_calendar(calendar in calendar(), parts: Vec<u64>, timeframe in timeframe(), segments in segments()) {
        let mut cursor = calendar.cursor();
        let mut bucket_cursor = BucketCursor::new(&calendar, timeframe, segments);
        for part in parts {
            let ts = instant(&calendar, part, 1);
            prop_assert_eq!(cursor.session_at(ts), calendar.session_at(ts));
            prop_assert_eq!(cursor.segment(ts), calendar.segment(ts));
            prop_assert_eq!(cursor.trade_date(ts), calendar.trade_date(ts));
            prop_assert_eq!(bucket_cursor.bucket_at(ts), bucket_at(&calendar, timeframe, ts, segments));
        }
    }

    #[test]
    fn opens_and_closes_alternate(calendar in calendar(), part: u64) {
        let ts = instant(&calendar, part, 0);
        let (open, close) = (calendar.next_open(ts, Segments::ETH), calendar.next_close(ts, Segments::ETH));
        if let (Ok(open), Ok(close)) = (open, close) {
            prop_assert!(ts < open && ts < close);
            // Before the next close it trades; just before the next open it does not, unless a session touches it.
            prop_assert!(calendar.is_open(close - 1, Segments::ETH).unwrap());
            prop_assert!(calendar.is_open(open, Segments::ETH).unwrap());
            prop_assert_eq!(calendar.is_open(ts, Segments::ETH).unwrap(), close <= open);
        }
    }

    #[test]
    fn sessions_count_there_and_back(calendar in calendar(), part: u64, n in 1..400i32) {
        let date = calendar.trade_date(instant(&calendar, part, 0)).unwrap();
        prop_assert_eq!(calendar.next_session(date, 0).unwrap(), date);
        if let Ok(later) = calendar.next_session(date, n) {
            prop_assert_eq!(calendar.next_session(later, -n).unwrap(), date);
            prop_assert_eq!(calendar.sessions(date, later).unwrap().count() as i32, n + 1);
        }
    }
}

/// Every minute from 1990 to 2027 in order, as a stream of trades would ask. Calendars are dealt out to the processors.
#[test]
fn the_whole_world_minute_by_minute() {
    let (ids, next) = (Calendar::builtin_ids(), AtomicUsize::new(0));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    scan_every_minute(id);
                }
            });
        }
    });
}

fn scan_every_minute(id: &str) {
    let first = TradeDate::from_ymd(1990, 1, 1).unwrap();
    let (from, till) = (i64::from(first.0) * DAY, i64::from(TradeDate::from_ymd(2028, 1, 1).unwrap().0) * DAY);
    let calendar = Calendar::builtin(id).unwrap();
    let known = calendar.window();
    let (mut lookups, mut sessions, mut projected) = (0u64, 0u64, 0u64);
    let mut cursor = calendar.cursor();
    let mut filing = calendar.filing(from);
    let mut date = filing.trade_date;
    let mut minutes = [0u64; 5];
    let started = std::time::Instant::now();
    let mut ts = from;
    while ts < till {
        if ts >= filing.till {
            let next = calendar.filing(ts);
            assert_eq!(next.from, filing.till, "{id}: windows tile time, known or projected");
            assert!(next.trade_date > date, "{id}: {filing:?} then {next:?}");
            (filing, date) = (next, next.trade_date);
            projected += u64::from(next.projected);
            sessions += 1;
        }
        if known.0 <= ts && ts < known.1 {
            let session = cursor.session_at(ts).unwrap();
            assert_eq!(session.trade_date, date);
            minutes[session.segment_at(ts) as usize] += 1;
            lookups += 1;
        }
        ts += MINUTE;
    }
    // The minutes of each segment are those of the spans.
    let mut expected = [0u64; 5];
    for session in calendar.sessions(calendar.known().0, calendar.known().1).unwrap() {
        for span in session.spans {
            let (open, close) = (span.open.clamp(from, till), span.close.clamp(from, till));
            expected[span.segment as usize] += ((close - open) / MINUTE) as u64;
        }
    }
    assert_eq!(minutes[..4], expected[..4], "{id}");
    println!("{id:11} {lookups:9} lookups, {sessions} sessions ({projected} projected) in {:?}", started.elapsed());
}

/// New York's and London's segments by an independent reading of the clock on the wall.
#[test]
fn regular_days_read_as_the_clock_on_the_wall() {
    use chrono::{DateTime, Timelike};
    for (id, zone, pre, rth, post) in [
        ("XNYS", chrono_tz::America::New_York, 4 * 60, 9 * 60 + 30..16 * 60, 20 * 60),
        ("XLON", chrono_tz::Europe::London, 8 * 60, 8 * 60..16 * 60 + 30, 16 * 60 + 30),
    ] {
        let calendar = Calendar::builtin(id).unwrap();
        let mut cursor = calendar.cursor();
        let (from, till) = calendar.window();
        for ts in (from..till).step_by(7 * MINUTE as usize) {
            let local = DateTime::from_timestamp_nanos(ts).with_timezone(&zone);
            let (day, minute) = (TradeDate::new(local.date_naive()), local.hour() * 60 + local.minute());
            let session = cursor.session_at(ts).unwrap();
            // Late on a half day the next session's storage window has begun.
            let today = calendar.session(day).ok().flatten();
            if today.is_some_and(|session| session.irregular) {
                continue;
            }
            let is_session = calendar.is_session(day).unwrap_or(false);
            let expected = match minute {
                _ if !is_session => Segment::Off,
                minute if rth.contains(&minute) => Segment::Rth,
                minute if (pre..rth.start).contains(&minute) => Segment::Pre,
                minute if (rth.end..post).contains(&minute) => Segment::Post,
                _ => Segment::Off,
            };
            assert_eq!(session.segment_at(ts), expected, "{id} {local}");
        }
    }
}

/// Prints what a lookup and a first use cost; the bounds only catch a change of kind.
#[test]
fn locating_a_trade_costs_nanoseconds() {
    for id in Calendar::builtin_ids() {
        let text = Calendar::builtin(id).unwrap().toml().to_string();
        let started = std::time::Instant::now();
        let calendar = Calendar::from_toml(&text).unwrap();
        let built = started.elapsed();
        let (from, _) = calendar.window();
        // A stream of trades: mostly milliseconds apart, now and then out of order, over weeks.
        let count = 400_000i64;
        let instants: Vec<i64> =
            (0..count).map(|n| from + 10 * DAY + n * 1_300_000_000 - (n % 17) * 200_000_000).collect();
        let started = std::time::Instant::now();
        let mut cursor = calendar.cursor();
        let mut sum = 0i64;
        for ts in &instants {
            sum += i64::from(cursor.trade_date(*ts).unwrap().0);
        }
        let dates = started.elapsed();
        let started = std::time::Instant::now();
        let mut bucket_cursor = BucketCursor::new(&calendar, Timeframe::parse("5m").unwrap(), Segments::ETH);
        for ts in &instants {
            sum += bucket_cursor.bucket_at(*ts).unwrap().map_or(0, |bucket| bucket.open & 1);
        }
        let bars = started.elapsed();
        let started = std::time::Instant::now();
        for ts in &instants {
            sum += i64::from(calendar.segment(*ts).unwrap() as u8);
        }
        let searched = started.elapsed();
        let each = |time: std::time::Duration| time.as_nanos() as f64 / count as f64;
        println!(
            "{id:11} built in {built:8.2?}; a trade's date {:.1} ns, its 5m bucket {:.1} ns, its segment by binary search {:.1} ns ({sum})",
            each(dates),
            each(bars),
            each(searched)
        );
        assert!(each(dates) < 1000.0 && built.as_millis() < 1000);
    }
}
