//! Laws of what is made of a session beside bars: levels, profile, flow, activity bars. Each is compared with the rules
//! written again, slowly and apart, and with the session's bars.

use market::activity::{Activity, ActivityBar, ActivityFold};
use market::flags::{
    AUCTION_CLOSE, AUCTION_OPEN, BUY, LAST_IF_FIRST, NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH, SELL,
};
use market::flow::{FlowAnswer, FlowFold};
use market::levels::{Close, Level, LevelsFold, LevelsRequest, prior_session};
use market::print::{Placer, Window};
use market::profile::{ProfileFold, ProfileRequest, ProfileRow, ValueArea};
use market::stat::{Stat, StatKind};
use market::time::{HOUR, MINUTE, SECOND};
use market::{
    Bar, Calendar, Class, MinuteFold, OhlcRequest, Segment, Segments, Session, SessionFold, Timeframe, Trade,
    TradeDate, Trades, block::Core, money,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Calendars and dates that force rules: auctions, lunch, overnight, half day, all day.
const SESSIONS: [(&str, &str); 7] = [
    ("XNYS", "2024-11-29"),
    ("XLON", "2024-07-04"),
    ("XHKG", "2024-07-04"),
    ("XTKS", "2024-07-04"),
    ("CME_EQUITY", "2024-03-11"),
    ("CME_METALS", "2013-10-08"),
    ("24/7", "2024-07-04"),
];

const TICK: i64 = 250_000_000;

/// A trade: where in the window, seconds beside an edge of a span, price in ticks, size, flags.
type Draw = (u32, Option<(usize, i64)>, i64, i64, u32);

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let bits =
        [NO_LAST, NO_HIGH_LOW, NO_VOLUME, LAST_IF_FIRST, AUCTION_OPEN, AUCTION_CLOSE, NOT_IN_RTH, BUY, SELL, BUY, SELL];
    let flags = prop_oneof![
        2 => Just(0u32),
        3 => proptest::sample::select(bits.to_vec()),
        1 => (0u32..2048).prop_map(move |mask| (0..bits.len()).filter(|i| mask >> i & 1 == 1).fold(0, |all, i| all | bits[i])),
    ];
    let near = proptest::option::weighted(0.5, (0usize..8, -90i64..400));
    vec((0u32..1_000_000, near, -40i64..60, 0i64..1000, flags), 1..150)
}

fn trades(session: &Session<'_>, draws: &[Draw]) -> Trades {
    let edges: Vec<i64> = session.spans.iter().flat_map(|span| [span.open, span.close]).collect();
    let mut all: Trades = draws
        .iter()
        .enumerate()
        .map(|(i, &(part, near, price, size, flags))| {
            let ts = match near {
                Some((edge, seconds)) => edges[edge % edges.len()] + seconds * SECOND + i64::from(part % 3),
                None => session.from + (session.till - session.from) / 1_000_000 * i64::from(part),
            };
            let ts = ts.clamp(session.from, session.till - 1);
            Trade { ts, seq: i as i64, price: price * TICK, size: size * 1000, flags, ..Trade::default() }
        })
        .collect();
    all.sort_by_key();
    all
}

fn selections() -> impl Strategy<Value = Segments> {
    let only = Segments::only;
    let mixed = only(Segment::Pre).union(Segments::RTH);
    proptest::sample::select(vec![Segments::RTH, Segments::ETH, Segments::ALL, mixed, only(Segment::Post)])
}

fn session_of(calendar: &Calendar, date: &str) -> Session<'static> {
    let leaked: &'static Calendar = Box::leak(Box::new(calendar.clone()));
    leaked.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session")
}

fn bars(session: &Session<'_>, timeframe: Timeframe, segments: Segments, trades: &Trades) -> Vec<(i64, Bar)> {
    let mut core = Core::new();
    core.set(trades, 0..trades.len());
    let mut fold = SessionFold::new(session, timeframe, segments);
    fold.push_core(&core);
    let mut bars = Vec::new();
    fold.finish(&mut bars);
    bars.iter().map(|bar| (bar.open_at, Bar { weak_close: false, ..bar.bar.settled() })).collect()
}

/// The selected trades at their places: (place, before or behind what is there, number, segment, trade).
fn placed(session: &Session<'_>, segments: Segments, trades: &Trades) -> Vec<(i64, u8, usize, Segment, Trade)> {
    let regular: Vec<_> = session.spans.iter().filter(|span| span.segment == Segment::Rth).collect();
    let mut all = Vec::new();
    for (i, trade) in trades.iter().enumerate() {
        let (segment, class) = session.place(trade.ts, trade.flags);
        let (at, turn) = match class {
            Class::Open => (regular[0].open, 0),
            Class::Continuous => (trade.ts, 1),
            Class::Close => (regular[regular.len() - 1].close - 1, 2),
            Class::Break => (session.break_auction.0 - 1, 2),
        };
        if segments.contains(segment) {
            all.push((at, turn, i, segment, trade));
        }
    }
    all.sort_by_key(|row| (row.0, row.1, row.2));
    all
}

/// Prices and times of open, high, low, close of trades in order; `None` without a price.
fn points(rows: &[(i64, u8, usize, Segment, Trade)]) -> Option<[(i64, i64); 4]> {
    let priced = |segment: Segment, t: &Trade| segment != Segment::Rth || t.flags & NOT_IN_RTH == 0;
    let able: Vec<_> = rows.iter().filter(|row| priced(row.3, &row.4)).map(|row| row.4).collect();
    let closes: Vec<_> = able.iter().filter(|t| t.flags & NO_LAST == 0).collect();
    let open = closes.first()?;
    let close = closes.iter().skip(1).rev().find(|t| t.flags & LAST_IF_FIRST == 0).unwrap_or(open);
    let ranged = able.iter().filter(|t| t.flags & NO_HIGH_LOW == 0);
    let first = |all: &mut dyn Iterator<Item = &Trade>, better: fn(i64, i64) -> bool| {
        let mut best: Option<(i64, i64)> = None;
        for t in all {
            if best.is_none_or(|b| better(t.price, b.0)) {
                best = Some((t.price, t.ts));
            }
        }
        best
    };
    let ends = [(open.price, open.ts), (close.price, close.ts)];
    let mut high = first(&mut ranged.clone(), |a, b| a > b);
    let mut low = first(&mut ranged.clone(), |a, b| a < b);
    for end in ends {
        if high.is_none_or(|h| end.0 > h.0) {
            high = Some(end);
        }
        if low.is_none_or(|l| end.0 < l.0) {
            low = Some(end);
        }
    }
    Some([ends[0], high?, low?, ends[1]])
}

fn level<'l>(levels: &'l [Level], name: &str) -> &'l Level {
    levels.iter().find(|level| level.name == name).unwrap_or_else(|| panic!("no {name} in {levels:?}"))
}

/// Rows by the rules, as two people would count them by hand.
fn area_by_hand(rows: &[i128], share: i128) -> Option<(usize, usize, usize)> {
    let filled: Vec<usize> = (0..rows.len()).filter(|row| rows[*row] > 0).collect();
    let (bottom, top) = (*filled.first()?, *filled.last()?);
    let middle = (bottom + top) as f64 / 2.0;
    let far = |row: usize| (row as f64 - middle).abs();
    let mut poc = bottom;
    for row in bottom..=top {
        if rows[row] > rows[poc] || (rows[row] == rows[poc] && far(row) < far(poc)) {
            poc = row;
        }
    }
    let total: i128 = rows.iter().sum();
    let mut area = vec![poc];
    while area.iter().map(|row| rows[*row]).sum::<i128>() * 1_000_000 < total * share {
        let up: Vec<usize> = (area[area.len() - 1] + 1..=top).take(2).collect();
        let down: Vec<usize> = (bottom..area[0]).rev().take(2).collect();
        let sum = |pair: &[usize]| pair.iter().map(|row| rows[*row]).sum::<i128>();
        let above = match (up.first(), down.first()) {
            (None, None) => break,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(u), Some(d)) => sum(&up) > sum(&down) || (sum(&up) == sum(&down) && far(*u) <= far(*d)),
        };
        if above {
            area.extend(up);
        } else {
            down.into_iter().for_each(|row| area.insert(0, row));
        }
    }
    Some((poc, area[0], area[area.len() - 1]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn prints_of_one_stretch_and_the_same_flags_have_one_place(which in 0..SESSIONS.len(), draws in draws()) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = session_of(&calendar, date);
        let trades = trades(&session, &draws);
        for trade in trades.iter() {
            let (from, till) = session.stretch_at(trade.ts);
            prop_assert!(from <= trade.ts && trade.ts < till);
            for other in trades.iter().map(|other| other.ts).chain([from, till - 1]) {
                if from <= other && other < till {
                    prop_assert_eq!(session.place(other, trade.flags), session.place(trade.ts, trade.flags));
                }
            }
        }
    }

    #[test]
    fn a_window_is_the_bar_of_its_prints_with_their_times(
        which in 0..SESSIONS.len(), segments in selections(), draws in draws(), cut in (0i64..1500, 1i64..600)
    ) {
        let (id, date) = SESSIONS[which];
        let session = session_of(&Calendar::builtin(id).expect("a calendar"), date);
        let trades = trades(&session, &draws);
        let placer = Placer::new(&session);
        let (from, till) = (session.from + cut.0 * MINUTE, session.from + (cut.0 + cut.1) * MINUTE);
        let mut whole = Window::whole(&session, segments);
        let mut part = Window::new(&session, segments, from, till);
        for trade in trades.iter() {
            whole.push(&placer.place(&trade));
            part.push(&placer.place(&trade));
        }
        let day = bars(&session, Timeframe::Days(1), segments, &trades);
        let found = whole.finish();
        prop_assert_eq!(
            day.first().map_or(Bar::EMPTY.settled(), |bar| bar.1),
            Bar { weak_close: false, ..found.bar }
        );
        let mut rows = placed(&session, segments, &trades);
        for (rows, found) in [
            (rows.clone(), found),
            ({ rows.retain(|row| from <= row.0 && row.0 < till); rows }, part.finish()),
        ] {
            let times = (found.bar.priced > 0).then_some([
                (found.bar.open, found.open_at), (found.bar.high, found.high_at),
                (found.bar.low, found.low_at), (found.bar.close, found.close_at),
            ]);
            prop_assert_eq!(times, points(&rows));
        }
        // What is left of trades that are gone gives the same prices, at the minute.
        if OhlcRequest::new(Timeframe::Days(1), segments).minutes_suffice(&session) {
            let mut core = Core::new();
            core.set(&trades, 0..trades.len());
            let mut minutes = MinuteFold::new(&session);
            minutes.push(&core);
            let mut again = Window::whole(&session, segments);
            minutes.finish().iter().for_each(|minute| again.push_minute(&placer, minute));
            prop_assert_eq!(again.finish().bar, found.bar);
        }
    }

    #[test]
    fn flow_is_the_volume_of_the_bars(
        which in 0..SESSIONS.len(), timeframe in 0..5usize, segments in selections(), draws in draws()
    ) {
        let (id, date) = SESSIONS[which];
        let session = session_of(&Calendar::builtin(id).expect("a calendar"), date);
        let timeframe = Timeframe::parse(["30s", "5m", "65m", "4h", "1d"][timeframe]).expect("a timeframe");
        let trades = trades(&session, &draws);
        let mut fold = FlowFold::new(&session, timeframe, segments);
        trades.iter().for_each(|trade| fold.push(&trade));
        let flow = fold.finish();
        let found: Vec<_> = flow.iter().map(|bar| (bar.open_at, bar.sides.volume(), bar.sides.trades)).collect();
        let traded = bars(&session, timeframe, segments, &trades).into_iter().filter(|bar| bar.1.trades > 0);
        prop_assert_eq!(found, traded.map(|bar| (bar.0, bar.1.volume, bar.1.trades)).collect::<Vec<_>>());
        // Sides, trade by trade.
        let (mut buy, mut sell) = (0i128, 0i128);
        for (_, _, _, _, trade) in placed(&session, segments, &trades) {
            let size = if trade.flags & NO_VOLUME == 0 { i128::from(trade.size) } else { 0 };
            match (trade.flags & BUY != 0, trade.flags & SELL != 0) {
                (true, false) => buy += size,
                (false, true) => sell += size,
                _ => {}
            }
        }
        prop_assert_eq!(flow.iter().map(|bar| bar.sides.buy).sum::<i128>(), buy);
        prop_assert_eq!(flow.iter().map(|bar| bar.sides.sell).sum::<i128>(), sell);
        prop_assert_eq!(flow.last().map_or(0, |bar| bar.session_delta), buy - sell);
    }

    #[test]
    fn activity_bars_end_with_the_trade_that_fills_them(
        which in 0..SESSIONS.len(), kind in 0..3usize, threshold in 1i64..3000, segments in selections(), draws in draws()
    ) {
        let (id, date) = SESSIONS[which];
        let session = session_of(&Calendar::builtin(id).expect("a calendar"), date);
        let trades = trades(&session, &draws);
        let (kind, threshold) = [("ticks", threshold % 20 + 1), ("volume", threshold), ("notional", threshold)][kind];
        // Sizes are in millionths here, so that the threshold is too.
        let asked = if kind == "ticks" { threshold as f64 } else { threshold as f64 / 1e6 };
        let mut fold = ActivityFold::new(&session, Activity::parse(kind, asked).expect("a threshold"), segments);
        trades.iter().for_each(|trade| fold.push(&trade));
        let found = fold.finish();
        // The rules again: in the order of identities, a bar after the other.
        let weight = |t: &Trade| match kind {
            _ if t.flags & NO_VOLUME != 0 => 0.0,
            "ticks" => 1.0,
            "volume" => money::to_f64(t.size),
            _ => (money::to_f64(t.price) * money::to_f64(t.size)).abs(),
        };
        let counts = |segment: Segment, t: &Trade| {
            let unpriced = t.flags & NOT_IN_RTH != 0 && segment == Segment::Rth;
            let silent = t.flags & (NO_LAST | NO_HIGH_LOW) == NO_LAST | NO_HIGH_LOW || unpriced;
            t.flags & NO_VOLUME == 0 || !silent
        };
        type Group = Vec<(i64, u8, usize, Segment, Trade)>;
        let mut groups: Vec<(Group, f64)> = Vec::new();
        let mut open = false;
        for trade in trades.iter() {
            let segment = session.place(trade.ts, trade.flags).0;
            if !segments.contains(segment) || !counts(segment, &trade) {
                continue;
            }
            if !open {
                groups.push((Vec::new(), 0.0));
            }
            let group = groups.last_mut().expect("pushed");
            group.0.push((0, 0, 0, segment, trade));
            group.1 += weight(&trade);
            open = group.1 < asked - 1e-12;
        }
        prop_assert_eq!(found.len(), groups.len());
        for (at, (ActivityBar { number, first_at, last_at, bar, complete, .. }, (rows, sum))) in found.iter().zip(&groups).enumerate() {
            prop_assert_eq!(*number as usize, at + 1);
            prop_assert_eq!((*first_at, *last_at), (rows[0].4.ts, rows[rows.len() - 1].4.ts));
            prop_assert_eq!(*complete, *sum >= asked - 1e-12);
            prop_assert!(*complete || at + 1 == groups.len(), "only the last bar of a session may be short");
            let prices = (bar.priced > 0).then_some([bar.open, bar.high, bar.low, bar.close]);
            prop_assert_eq!(prices, points(rows).map(|p| p.map(|p| p.0)));
        }
        let day = bars(&session, Timeframe::Days(1), segments, &trades);
        let sum = |of: fn(&Bar) -> i128| found.iter().map(|bar| of(&bar.bar)).sum::<i128>();
        prop_assert_eq!(sum(|bar| bar.volume), day.first().map_or(0, |bar| bar.1.volume));
        prop_assert_eq!(sum(|bar| i128::from(bar.trades)), day.first().map_or(0, |bar| i128::from(bar.1.trades)));
        prop_assert_eq!(sum(|bar| bar.notional), day.first().map_or(0, |bar| bar.1.notional));
    }

    #[test]
    fn a_profile_is_the_sessions_volume_by_price_and_its_periods(
        which in 0..SESSIONS.len(), bin in 1i64..5, segments in selections(), draws in draws(), share in 1u32..=100
    ) {
        let (id, date) = SESSIONS[which];
        let session = session_of(&Calendar::builtin(id).expect("a calendar"), date);
        let trades = trades(&session, &draws);
        let request = ProfileRequest::new(segments, bin as f64 / 4.0, "30m", f64::from(share) / 100.0).expect("asked");
        let mut fold = ProfileFold::new(&session, request);
        fold.push(&trades);
        let rows = fold.finish().expect("few rows");
        let day = bars(&session, Timeframe::Days(1), segments, &trades);
        prop_assert_eq!(
            rows.iter().map(|row| row.sides.volume()).sum::<i128>(), day.first().map_or(0, |bar| bar.1.volume)
        );
        let height = bin * TICK;
        let mut volume: BTreeMap<i64, i128> = BTreeMap::new();
        for (_, _, _, _, t) in placed(&session, segments, &trades) {
            if t.flags & NO_VOLUME == 0 {
                *volume.entry((t.price as f64 / height as f64).floor() as i64).or_default() += i128::from(t.size);
            }
        }
        let mut times: BTreeMap<i64, i32> = BTreeMap::new();
        for (_, bar) in bars(&session, Timeframe::parse("30m").expect("read"), segments, &trades) {
            if bar.priced > 0 {
                let row = |price: i64| (price as f64 / height as f64).floor() as i64;
                (row(bar.low)..=row(bar.high)).for_each(|row| *times.entry(row).or_default() += 1);
            }
        }
        let found: Vec<_> = rows.iter().map(|row| (row.price / height, row.sides.volume(), row.tpo)).collect();
        let keys: std::collections::BTreeSet<i64> = volume.keys().chain(times.keys()).copied().collect();
        let expected: Vec<_> = keys
            .iter()
            .map(|row| (*row, volume.get(row).copied().unwrap_or(0), times.get(row).copied().unwrap_or(0)))
            .collect();
        prop_assert_eq!(found, expected);
        prop_assert!(rows.iter().all(|row| row.periods.chars().count() == row.tpo as usize));
        // Both value areas, by hand over all rows, empty ones too.
        let (Some(low), Some(high)) = (keys.first().copied(), keys.last().copied()) else { return Ok(()) };
        let share = i128::from(share) * 10_000;
        for by_time in [false, true] {
            let all: Vec<i128> = (low..=high)
                .map(|row| match by_time {
                    true => i128::from(times.get(&row).copied().unwrap_or(0)),
                    false => volume.get(&row).copied().unwrap_or(0),
                })
                .collect();
            let hand = area_by_hand(&all, share);
            prop_assert_eq!(ValueArea::of(&all, share).map(|area| (area.poc, area.low, area.high)), hand);
            let poc = |row: &ProfileRow| if by_time { row.is_tpo_poc } else { row.is_poc };
            let inside = |row: &ProfileRow| if by_time { row.in_tpo_value_area } else { row.in_value_area };
            for row in &rows {
                let at = (row.price / height - low) as usize;
                prop_assert_eq!(poc(row), hand.is_some_and(|hand| hand.0 == at));
                prop_assert_eq!(inside(row), hand.is_some_and(|hand| (hand.1..=hand.2).contains(&at)));
            }
        }
    }

    #[test]
    fn levels_are_those_of_the_windows_they_name(
        which in 0..SESSIONS.len() - 1, draws in (draws(), draws()), minutes in 1i64..120, segments in selections()
    ) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = session_of(&calendar, date);
        let opening = LevelsRequest::opening(minutes).expect("minutes");
        let request = LevelsRequest { segments: Some(segments), opening, close: None, skip_shortened: false };
        let Some(mut fold) = LevelsFold::new(&calendar, session.trade_date, request).expect("known") else {
            prop_assert!(session.open(segments).is_none());
            return Ok(());
        };
        let prior = prior_session(&calendar, session.trade_date, segments, false).expect("known").expect("one before");
        prop_assert_eq!(fold.sessions().map(|s| s.trade_date).collect::<Vec<_>>(), [prior.trade_date, session.trade_date]);
        let (before, today) = (trades(&prior, &draws.0), trades(&session, &draws.1));
        before.iter().for_each(|trade| fold.push(0, &trade));
        today.iter().for_each(|trade| fold.push(1, &trade));
        let levels = fold.finish(&[]);
        let check = |names: [&str; 2], rows: Vec<(i64, u8, usize, Segment, Trade)>| {
            for (at, name) in names.iter().enumerate() {
                let expected = points(&rows).map(|p| (money::to_f64(p[at + 1].0), p[at + 1].1));
                let found = level(&levels, name);
                assert_eq!((found.value, found.at), (expected.map(|e| e.0), expected.map(|e| e.1)), "{name}");
            }
        };
        check(["prior_high", "prior_low"], placed(&prior, segments, &before));
        check(["high", "low"], placed(&session, segments, &today));
        let regular = session.spans.iter().find(|span| span.segment == Segment::Rth).expect("regular hours").open;
        let first = |length: i64| {
            let mut rows = placed(&session, Segments::RTH, &today);
            rows.retain(|row| regular <= row.0 && row.0 < regular + length);
            rows
        };
        check(["opening_range_high", "opening_range_low"], first(minutes * MINUTE));
        check(["initial_balance_high", "initial_balance_low"], first(HOUR));
        let night = Segments::only(Segment::On).union(Segments::only(Segment::Pre));
        if session.open(night).is_some() {
            check(["overnight_high", "overnight_low"], placed(&session, night, &today));
        }
        let close = points(&placed(&prior, segments, &before)).map(|p| p[3]);
        let open = points(&placed(&session, segments, &today)).map(|p| p[0]);
        let found = level(&levels, "prior_close");
        prop_assert_eq!((found.value, found.at), (close.map(|c| money::to_f64(c.0)), close.map(|c| c.1)));
        let gap = open.zip(close).map(|(open, close)| money::to_f64(open.0 - close.0));
        prop_assert_eq!(level(&levels, "gap").value, gap);
        let day = bars(&session, Timeframe::Days(1), segments, &today);
        prop_assert_eq!(level(&levels, "vwap").value, day.first().and_then(|bar| bar.1.vwap()));
    }
}

fn request() -> LevelsRequest {
    let opening = LevelsRequest::opening(30).expect("minutes");
    LevelsRequest { segments: None, opening, close: None, skip_shortened: false }
}

fn at(text: &str) -> i64 {
    chrono::DateTime::parse_from_rfc3339(text).expect("an instant").timestamp_nanos_opt().expect("in range")
}

#[test]
fn the_prior_session_skips_shortened_ones_only_when_asked() {
    let check = |id: &str, day: &str, skip: bool, expected: &str| {
        let calendar = Calendar::builtin(id).expect("a calendar");
        let request = LevelsRequest { skip_shortened: skip, ..request() };
        let fold =
            LevelsFold::new(&calendar, TradeDate::parse(day).expect("a date"), request).expect("known").expect("open");
        let dates: Vec<String> = fold.sessions().map(|s| s.trade_date.to_string()).collect();
        assert_eq!(dates, [expected, day], "{id} {day}");
    };
    // New York closed at 13:00 on Friday, November 29, and not at all on Thanksgiving.
    check("XNYS", "2024-12-02", false, "2024-11-29");
    check("XNYS", "2024-12-02", true, "2024-11-27");
    // Globex halted early on both days, and both were sessions.
    check("CME_EQUITY", "2024-12-02", false, "2024-11-29");
    check("CME_EQUITY", "2024-12-02", true, "2024-11-27");
    check("CME_EQUITY", "2024-11-29", false, "2024-11-28");
    // The golden week of Shanghai in 2024 was October 1 to 7.
    check("XSHG", "2024-10-08", false, "2024-09-30");
}

#[test]
fn the_opening_range_begins_at_the_scheduled_open_even_if_the_first_trade_is_late() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    let day = TradeDate::parse("2024-07-08").expect("a date");
    let mut fold = LevelsFold::new(&calendar, day, request()).expect("known").expect("a session");
    // 13:52 UTC is 9:52 in New York, 22 minutes late; the range ends at 10:00, the initial balance at 10:30.
    for (ts, price) in [("13:52:00", 101), ("13:59:59", 102), ("14:00:00", 103), ("14:29:59", 104), ("14:30:00", 105)] {
        let ts = at(&format!("2024-07-08T{ts}Z"));
        fold.push(1, &Trade { ts, price: price * money::ONE, size: money::ONE, ..Trade::default() });
    }
    let levels = fold.finish(&[]);
    let value = |name: &str| level(&levels, name).value;
    assert_eq!((value("opening_range_high"), value("opening_range_low")), (Some(102.0), Some(101.0)));
    assert_eq!((value("initial_balance_high"), value("initial_balance_low")), (Some(104.0), Some(101.0)));
    let range = level(&levels, "opening_range_low");
    assert_eq!((range.from, range.till), (at("2024-07-08T13:30:00Z"), at("2024-07-08T14:00:00Z")));
    // Without a trade a level is there and empty.
    assert_eq!((value("prior_high"), value("overnight_high"), value("gap")), (None, None, None));
    assert_eq!(value("high"), Some(105.0));
}

#[test]
fn the_prior_close_names_its_kind() {
    let calendar = Calendar::builtin("CME_EQUITY").expect("a calendar");
    let day = TradeDate::parse("2024-07-09").expect("a date");
    let close = |asked: Option<Close>, stats: &[(StatKind, i64)]| {
        let mut fold =
            LevelsFold::new(&calendar, day, LevelsRequest { close: asked, ..request() }).expect("known").expect("open");
        let ts = at("2024-07-08T20:59:00Z");
        fold.push(0, &Trade { ts, price: 5600 * money::ONE, size: money::ONE, ..Trade::default() });
        let ts = at("2024-07-08T22:00:00Z");
        fold.push(1, &Trade { ts, price: 5603 * money::ONE, size: money::ONE, ..Trade::default() });
        let stats: Vec<Stat> =
            stats.iter().map(|(kind, value)| Stat { kind: *kind, value: value * money::ONE, ts: None }).collect();
        let levels = fold.finish(&stats);
        let (close, gap) = (level(&levels, "prior_close"), level(&levels, "gap"));
        assert_eq!(close.kind, gap.kind);
        (close.kind, close.value, gap.value)
    };
    let settled =
        [(StatKind::Settlement, 5601), (StatKind::PreliminarySettlement, 5602), (StatKind::OfficialClose, 5599)];
    assert_eq!(close(None, &[]), ("last trade", Some(5600.0), Some(3.0)));
    assert_eq!(close(None, &settled), ("settlement", Some(5601.0), Some(2.0)));
    assert_eq!(close(None, &settled[1..]), ("preliminary settlement", Some(5602.0), Some(1.0)));
    assert_eq!(close(None, &settled[2..]), ("official close", Some(5599.0), Some(4.0)));
    assert_eq!(close(Some(Close::LastTrade), &settled), ("last trade", Some(5600.0), Some(3.0)));
    assert_eq!(close(Some(Close::Official), &settled), ("official close", Some(5599.0), Some(4.0)));
    // Asked for and not known is not something else.
    assert_eq!(close(Some(Close::Settlement), &[]), ("settlement", None, None));
}

#[test]
fn ties_for_the_point_of_control_go_to_the_row_nearest_the_middle() {
    let area = |rows: &[i128], share| ValueArea::of(rows, share).map(|a| (a.poc, a.low, a.high));
    assert_eq!(area(&[], 700_000), None);
    assert_eq!(area(&[0, 0], 700_000), None);
    assert_eq!(area(&[5], 700_000), Some((0, 0, 0)));
    // Rows 0 and 3 have most; the middle of 0..=4 is 2.
    assert_eq!(area(&[9, 1, 1, 9, 1], 400_000), Some((3, 3, 3)));
    // Rows 1 and 3 are equally near: the lower one.
    assert_eq!(area(&[1, 9, 1, 9, 1], 400_000), Some((1, 1, 1)));
    // 4 of 10; the pairs above and below have 3 each and the upper one is nearer to the middle: 7 of 10 are enough.
    assert_eq!(area(&[0, 1, 2, 4, 2, 1, 0, 0], 700_000), Some((3, 3, 5)));
    // One row is left below and is compared alone; both sides run out.
    assert_eq!(area(&[3, 5, 1, 1], 1_000_000), Some((1, 0, 3)));
}

#[test]
fn nonsense_is_refused_with_what_is_allowed() {
    for (kind, threshold) in [
        ("candles", 1.0),
        ("ticks", 0.0),
        ("ticks", 1.5),
        ("volume", -1.0),
        ("volume", f64::NAN),
        ("notional", 1e19),
        ("volume", 1e-12),
    ] {
        assert!(Activity::parse(kind, threshold).is_err(), "{kind} {threshold}");
    }
    for (bin, period, share) in
        [(0.0, "30m", 0.7), (0.25, "1d", 0.7), (0.25, "30s", 0.7), (0.25, "30m", 0.0), (0.25, "30m", 1.1)]
    {
        assert!(ProfileRequest::new(Segments::RTH, bin, period, share).is_err(), "{bin} {period} {share}");
    }
    assert!(LevelsRequest::opening(0).is_err());
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    let christmas = TradeDate::parse("2024-12-25").expect("a date");
    assert!(LevelsFold::new(&calendar, christmas, request()).expect("known").is_none());
    let unknown = TradeDate::parse("2060-01-04").expect("a date");
    assert!(LevelsFold::new(&calendar, unknown, request()).is_err());
    // A bin too small for the day says which would do.
    let session = session_of(&calendar, "2024-07-08");
    let mut fold = ProfileFold::new(&session, ProfileRequest::new(Segments::RTH, 1e-9, "30m", 0.7).expect("asked"));
    let trade = |second: i64, price: i64| Trade {
        ts: session.open(Segments::RTH).expect("regular hours") + second * SECOND,
        price: price * money::ONE,
        size: money::ONE,
        ..Trade::default()
    };
    fold.push(&[trade(0, 100), trade(1, 102)].into_iter().collect());
    let refused = fold.finish().expect_err("two billion rows").hint();
    assert!(refused.contains("at least 0.000002"), "{refused}");
}

#[test]
fn flow_of_longer_bars_is_grouped_as_the_bars_are() {
    let calendar = Calendar::builtin("CME_EQUITY").expect("a calendar");
    let date = |text: &str| TradeDate::parse(text).expect("a date");
    let timeframe = Timeframe::parse("1w").expect("read");
    let mut answer = FlowAnswer::new(&calendar, OhlcRequest::new(timeframe, Segments::ETH));
    for session in calendar.sessions(date("2024-07-01"), date("2024-07-12")).expect("known") {
        let mut fold = FlowFold::new(&session, timeframe, Segments::ETH);
        let ts = session.open(Segments::RTH).expect("regular hours");
        for (seq, flags) in [(1, BUY), (2, BUY), (3, SELL), (4, 0)] {
            fold.push(&Trade { ts, seq, price: money::ONE, size: money::ONE, flags, ..Trade::default() });
        }
        answer.add(&session, &fold.finish()).expect("known");
    }
    let weeks = answer.finish();
    let shown: Vec<_> = weeks
        .iter()
        .map(|w| {
            (
                w.trade_date.to_string(),
                w.last_date.to_string(),
                w.sides.trades,
                w.session_delta / i128::from(money::ONE),
            )
        })
        .collect();
    // Independence Day was a session too.
    let week = |first: &str, last: &str| (first.to_owned(), last.to_owned(), 20, 5);
    assert_eq!(shown, [week("2024-07-01", "2024-07-05"), week("2024-07-08", "2024-07-12")]);
}
