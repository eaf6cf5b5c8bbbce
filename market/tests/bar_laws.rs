//! Laws of bars: the order of pushes, merges and pages never matters, and every path gives the same bars.

use market::block::{Core, PAGE};
use market::flags::{AUCTION_CLOSE, AUCTION_OPEN, BUY, LAST_IF_FIRST, NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH};
use market::time::{MINUTE, SECOND};
use market::{
    Answer, Bar, BarBuilder, Calendar, Fill, LiveRows, MinuteBar, MinuteFold, OhlcRequest, Op, Segment, Segments,
    Session, SessionBar, SessionFold, Timeframe, Trade, TradeDate, Trades, decode_minutes, encode_minutes, overlay,
    summaries,
};
use proptest::collection::vec;
use proptest::prelude::*;

type Push = (Option<i64>, Option<i64>, i64, i64);

/// Few distinct times, so that ties happen.
fn push() -> impl Strategy<Value = Push> {
    let price = prop_oneof![4 => -1000i64..1000, 1 => any::<i64>()];
    let size = prop_oneof![4 => 0i64..1000, 1 => 0..i64::MAX];
    (proptest::option::weighted(0.9, price), proptest::option::weighted(0.9, size), 0i64..8, 0i64..4)
}

/// Sums that saturate in a part cannot be rolled up exactly; these do not.
fn small_push() -> impl Strategy<Value = Push> {
    push().prop_map(|(price, size, ts, seq)| (price.map(|price| price >> 20), size, ts, seq))
}

fn built(pushes: &[Push]) -> BarBuilder {
    let mut bar = BarBuilder::new();
    for &(price, size, ts, seq) in pushes {
        bar.push(price, size, ts, seq).expect("sizes are not negative");
    }
    bar
}

fn merged(mut a: BarBuilder, b: &BarBuilder) -> BarBuilder {
    a.merge(b);
    a
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn push_order_is_irrelevant(pushes in vec(push(), 0..40), seed in any::<u64>()) {
        let mut shuffled = pushes.clone();
        shuffled.sort_by_key(|push| {
            push.hash_with(seed)
        });
        prop_assert_eq!(built(&pushes), built(&shuffled));
    }

    #[test]
    fn merge_commutes_and_associates(
        a in vec(push(), 0..12), b in vec(push(), 0..12), c in vec(push(), 0..12)
    ) {
        let (x, y, z) = (built(&a), built(&b), built(&c));
        prop_assert_eq!(merged(x.clone(), &y), merged(y.clone(), &x));
        prop_assert_eq!(merged(merged(x.clone(), &y), &z), merged(x.clone(), &merged(y, &z)));
        let all: Vec<_> = a.into_iter().chain(b.clone()).chain(c.clone()).collect();
        prop_assert_eq!(merged(x, &merged(built(&b), &built(&c))), built(&all));
    }

    #[test]
    fn rollup_equals_direct(pushes in vec(small_push(), 1..40), cut in 0usize..40) {
        let (a, b) = pushes.split_at(cut.min(pushes.len()));
        let mut rolled = BarBuilder::new();
        for part in [b, a] {
            if let Some(bar) = built(part).finish() {
                rolled.push_bar(&bar);
            }
        }
        prop_assert_eq!(rolled.finish(), built(&pushes).finish());
    }

    #[test]
    fn a_run_is_its_pushes(pushes in vec(push(), 0..40), sorted in any::<bool>(), cut in 0usize..40) {
        let mut whole: Vec<(i64, i64, i64, i64)> =
            pushes.iter().filter_map(|&(price, size, ts, seq)| Some((price?, size?, ts, seq))).collect();
        if sorted {
            whole.sort_by_key(|&(_, _, ts, seq)| (ts, seq));
            whole.dedup_by_key(|&mut (_, _, ts, seq)| (ts, seq));
        }
        let expected: Vec<Push> = whole.iter().map(|&(price, size, ts, seq)| (Some(price), Some(size), ts, seq)).collect();
        let mut bar = BarBuilder::new();
        let (a, b) = whole.split_at(cut.min(whole.len()));
        for part in [a, b] {
            let column = |of: fn(&(i64, i64, i64, i64)) -> i64| part.iter().map(of).collect::<Vec<i64>>();
            let pushed = bar.push_run(&column(|t| t.0), &column(|t| t.1), &column(|t| t.2), &column(|t| t.3));
            prop_assert!(pushed.is_ok());
        }
        prop_assert_eq!(&bar, &built(&expected));
        let before = bar.clone();
        prop_assert!(bar.push_run(&[1, 1], &[1, -1], &[1, 2], &[0, 0]).is_err());
        prop_assert_eq!(bar, before);
    }

    #[test]
    fn groups_are_their_pushes(rows in vec((push(), 0usize..4, 0usize..20), 0..60), sorted in any::<bool>()) {
        let mut rows: Vec<((i64, i64, i64, i64), usize)> = rows
            .into_iter()
            .filter_map(|((price, size, ts, seq), group, again)| Some(vec![((price?, size?, ts, seq), group); again]))
            .flatten()
            .collect();
        if sorted {
            rows.iter_mut().enumerate().for_each(|(at, row)| (row.0.2, row.0.3) = (at as i64 / 3, at as i64));
        }
        let groups: Vec<usize> = rows.iter().map(|row| row.1).collect();
        let column = |of: fn(&(i64, i64, i64, i64)) -> i64| rows.iter().map(|row| of(&row.0)).collect::<Vec<i64>>();
        let (price, mut size, ts, seq) = (column(|t| t.0), column(|t| t.1), column(|t| t.2), column(|t| t.3));
        let mut bars = vec![BarBuilder::new(); 4];
        prop_assert!(BarBuilder::push_groups(&mut bars, &groups, &price, &size, &ts, &seq).is_ok());
        for (group, bar) in bars.iter().enumerate() {
            let own = rows.iter().filter(|row| row.1 == group);
            let own: Vec<Push> = own.map(|&((price, size, ts, seq), _)| (Some(price), Some(size), ts, seq)).collect();
            prop_assert_eq!(bar, &built(&own));
        }
        if let Some(last) = size.last_mut() {
            *last = -1;
            let before = bars.clone();
            prop_assert!(BarBuilder::push_groups(&mut bars, &groups, &price, &size, &ts, &seq).is_err());
            prop_assert_eq!(bars, before);
        }
    }

    #[test]
    fn bar_states_survive_their_bytes(pushes in vec(push(), 0..10)) {
        let bar = built(&pushes);
        prop_assert_eq!(BarBuilder::decode(&bar.encode()), Ok(bar));
    }

    #[test]
    fn any_bytes_are_a_bar_state_or_an_error(
        mut bytes in vec(any::<u8>(), BarBuilder::ENCODED_LEN), version in prop_oneof![Just(1u8), any::<u8>()], cut in 0usize..400
    ) {
        bytes[0] = version;
        bytes.truncate(cut);
        if let Ok(state) = BarBuilder::decode(&bytes) {
            let _ = merged(state.clone(), &state).finish();
        }
    }
}

trait HashWith {
    fn hash_with(&self, seed: u64) -> u64;
}

impl<T: std::hash::Hash> HashWith for T {
    fn hash_with(&self, seed: u64) -> u64 {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        BuildHasherDefault::<DefaultHasher>::default().hash_one((seed, self))
    }
}

// --- sessions ---

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

const TIMEFRAMES: [&str; 8] = ["1m", "5m", "7m", "30m", "65m", "4h", "1d", "1w"];

fn flags() -> impl Strategy<Value = u32> {
    let bits = [NO_LAST, NO_HIGH_LOW, NO_VOLUME, LAST_IF_FIRST, AUCTION_OPEN, AUCTION_CLOSE, NOT_IN_RTH, BUY];
    prop_oneof![
        3 => Just(0u32),
        2 => proptest::sample::select(bits.to_vec()),
        1 => (0u32..256).prop_map(move |mask| bits.iter().enumerate().map(|(i, bit)| if mask >> i & 1 == 1 { *bit } else { 0 }).sum()),
    ]
}

/// A trade: where in the window (per million, and seconds beside an edge of a span), price, size, flags.
type Draw = (u32, Option<(usize, i64)>, i64, i64, u32);

fn draw(plain: bool) -> impl Strategy<Value = Draw> {
    let near = proptest::option::weighted(0.6, (0usize..8, -90i64..400));
    let flags = if plain { Just(0u32).boxed() } else { flags().boxed() };
    let size = prop_oneof![8 => 0i64..1000, 1 => Just(1i64 << 50)];
    (0u32..1_000_000, near, -50i64..50, size, flags)
}

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    any::<bool>().prop_flat_map(|plain| vec(draw(plain), 1..120))
}

/// The sorted trades of a session.
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
            Trade { ts, seq: i as i64, price: price * 250_000_000, size: size * 1000, flags, ..Trade::default() }
        })
        .collect();
    all.sort_by_key();
    all
}

/// Pages of `step` trades, in different units, as blocks give them.
fn pages(trades: &Trades, step: usize) -> Vec<Core> {
    (0..trades.len())
        .step_by(step)
        .map(|start| {
            let mut core = Core::new();
            core.set(trades, start..trades.len().min(start + step));
            if start % 2 == 1 {
                core.price.iter_mut().for_each(|price| *price /= 250_000_000);
                core.size.iter_mut().for_each(|size| *size /= 1000);
                (core.price_unit, core.size_unit) = (250_000_000, 1000);
            }
            core
        })
        .collect()
}

fn minutes_of(session: &Session<'_>, pages: &[Core]) -> Vec<MinuteBar> {
    let mut fold = MinuteFold::new(session);
    pages.iter().for_each(|page| fold.push(page));
    fold.finish()
}

fn bars_of(session: &Session<'_>, timeframe: Timeframe, segments: Segments, pages: &[Core]) -> Vec<SessionBar> {
    let mut fold = SessionFold::new(session, timeframe, segments);
    pages.iter().for_each(|page| fold.push_core(page));
    let mut bars = Vec::new();
    fold.finish(&mut bars);
    bars
}

/// The rules of the design, trade by trade and slowly: for each bucket, its trades in the order that counts.
fn bars_by_the_book(
    session: &Session<'_>,
    timeframe: Timeframe,
    segments: Segments,
    trades: &Trades,
) -> Vec<(i64, Bar)> {
    let mut buckets = Vec::new();
    market::buckets(session, timeframe, segments, &mut buckets);
    let regular: Vec<_> = session.spans.iter().filter(|span| span.segment == Segment::Rth).collect();
    let mut bars = Vec::new();
    for bucket in buckets {
        let inside = |ts: i64| bucket.open <= ts && ts < bucket.close;
        let mut rows: Vec<(i64, u8, usize, Segment, Trade)> = Vec::new();
        for (i, trade) in trades.iter().enumerate() {
            let (segment, class) = session.place(trade.ts, trade.flags);
            if !segments.contains(segment) {
                continue;
            }
            // An auction's print stands at the edge of the regular hours it belongs to.
            let (at, order) = match class {
                market::Class::Open => (regular[0].open, 0),
                market::Class::Continuous => (trade.ts, 1),
                market::Class::Close => (regular[regular.len() - 1].close - 1, 2),
                market::Class::Break => (session.break_auction.0 - 1, 2),
            };
            if inside(at) {
                rows.push((at, order, i, segment, trade));
            }
        }
        rows.sort_by_key(|row| (row.0, row.1, row.2));
        let mut bar = Bar::EMPTY;
        for (_, _, _, segment, trade) in rows {
            let f = trade.flags;
            let unpriced = f & NOT_IN_RTH != 0 && segment == Segment::Rth;
            if f & NO_VOLUME == 0 {
                bar.volume += i128::from(trade.size);
                bar.notional += i128::from(trade.size) * i128::from(trade.price);
                bar.trades += 1;
            }
            if f & NO_HIGH_LOW == 0 && !unpriced {
                bar.high = bar.high.max(trade.price);
                bar.low = bar.low.min(trade.price);
            }
            if f & NO_LAST == 0 && !unpriced {
                bar.priced += 1;
                if bar.priced == 1 {
                    (bar.open, bar.close) = (trade.price, trade.price);
                } else if f & LAST_IF_FIRST == 0 {
                    bar.close = trade.price;
                }
            }
        }
        if !bar.is_empty() {
            bars.push((bucket.open, bar.settled()));
        }
    }
    bars
}

fn settled(bars: &[SessionBar]) -> Vec<(i64, Bar)> {
    bars.iter().map(|bar| (bar.open_at, Bar { weak_close: false, ..bar.bar.settled() })).collect()
}

fn selections() -> impl Strategy<Value = Segments> {
    let on = Segments::only;
    proptest::sample::select(vec![
        Segments::RTH,
        Segments::ETH,
        Segments::ALL,
        Segments::RTH.union(on(Segment::Post)),
        on(Segment::Pre).union(Segments::RTH),
        on(Segment::Off),
        on(Segment::Post),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_path_gives_the_bars_of_the_rules(
        which in 0..SESSIONS.len(), timeframe in 0..TIMEFRAMES.len(), segments in selections(),
        draws in draws(), step in 1usize..200
    ) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = calendar.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session");
        let timeframe = Timeframe::parse(TIMEFRAMES[timeframe]).expect("a timeframe");
        let trades = trades(&session, &draws);
        let pages = pages(&trades, step);
        let direct = bars_of(&session, timeframe, segments, &pages);
        prop_assert_eq!(settled(&direct), bars_by_the_book(&session, timeframe, segments, &trades));
        prop_assert!(direct.windows(2).all(|pair| pair[0].close_at <= pair[1].open_at));

        let minutes = minutes_of(&session, &pages);
        prop_assert_eq!(&minutes, &minutes_of(&session, &[pages_joined(&trades)]));
        if OhlcRequest::new(timeframe, segments).minutes_suffice(&session) {
            let mut fold = SessionFold::new(&session, timeframe, segments);
            fold.push_minutes(&minutes);
            let mut bars = Vec::new();
            fold.finish(&mut bars);
            prop_assert_eq!(bars, direct);
        }
    }

    #[test]
    fn minute_bars_survive_their_bytes(which in 0..SESSIONS.len(), draws in draws()) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = calendar.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session");
        let minutes = minutes_of(&session, &pages(&trades(&session, &draws), PAGE));
        let bytes = encode_minutes(&minutes).expect("sorted minutes");
        let mut again = Vec::new();
        decode_minutes(&bytes, &mut again).expect("what was encoded");
        prop_assert_eq!(again, minutes);
    }

    #[test]
    fn a_range_holds_the_bars_that_begin_in_it(
        which in 0..SESSIONS.len(), timeframe in 0..6usize, segments in selections(), draws in draws(),
        edges in (0i64..1500, 0i64..1500)
    ) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = calendar.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session");
        let timeframe = Timeframe::parse(TIMEFRAMES[timeframe]).expect("a timeframe");
        let trades = trades(&session, &draws);
        let range = session.from + edges.0 * MINUTE..session.from + edges.1 * MINUTE;
        let whole = OhlcRequest::new(timeframe, segments);
        let request = OhlcRequest { range: range.clone(), ..whole.clone() };
        let wanted = request.wanted(&session);
        // Small pages, so that many are left out.
        let kept: Vec<Core> = pages(&trades, 3)
            .into_iter()
            .filter(|page| wanted.page(page.ts[0], page.ts[page.len() - 1], page.flags.is_empty()))
            .collect();
        let answer = |request: &OhlcRequest, pages: &[Core]| {
            let mut answer = Answer::new(&calendar, request.clone());
            answer.add(&session, &bars_of(&session, timeframe, segments, pages)).expect("known dates");
            answer.finish()
        };
        let mut expected = answer(&whole, &pages(&trades, PAGE));
        expected.retain(|bar| range.contains(&bar.open_at));
        prop_assert_eq!(answer(&request, &kept), expected);
    }

    #[test]
    fn filling_completes_the_grid_and_changes_no_bar(
        which in 0..SESSIONS.len(), segments in selections(), draws in draws()
    ) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = calendar.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session");
        let timeframe = Timeframe::parse("5m").expect("a timeframe");
        let bars = bars_of(&session, timeframe, segments, &pages(&trades(&session, &draws), PAGE));
        let mut grid = Vec::new();
        market::buckets(&session, timeframe, segments, &mut grid);
        let answer = |fill| {
            let mut answer = Answer::new(&calendar, OhlcRequest { fill, ..OhlcRequest::new(timeframe, segments) });
            answer.add(&session, &bars).expect("known dates");
            answer.finish()
        };
        for fill in [Fill::Previous, Fill::Null] {
            let filled = answer(fill);
            prop_assert!(filled.iter().map(|bar| (bar.open_at, bar.close_at)).eq(grid.iter().map(|b| (b.open, b.close))));
            let real: Vec<_> = filled.iter().filter(|bar| !bar.filled).copied().collect();
            prop_assert_eq!(real, answer(Fill::None));
            let mut close = None;
            for bar in filled {
                if bar.filled {
                    prop_assert_eq!(bar.bar.volume, 0);
                    let shown = (bar.bar.priced > 0).then_some(bar.bar.close);
                    prop_assert_eq!(shown, if fill == Fill::Previous { close } else { None });
                } else if bar.bar.priced > 0 {
                    close = Some(bar.bar.close);
                }
            }
        }
    }

    #[test]
    fn summaries_add_up_to_the_session(which in 0..SESSIONS.len(), draws in draws()) {
        let (id, date) = SESSIONS[which];
        let calendar = Calendar::builtin(id).expect("a calendar");
        let session = calendar.session(TradeDate::parse(date).expect("a date")).expect("known").expect("a session");
        let trades = trades(&session, &draws);
        let minutes = minutes_of(&session, &pages(&trades, PAGE));
        let parts = summaries(&session, &minutes);
        let counted: Vec<Trade> = trades.iter().filter(|trade| trade.flags & NO_VOLUME == 0).collect();
        prop_assert_eq!(parts.iter().map(|part| part.bar.trades).sum::<i64>(), counted.len() as i64);
        prop_assert_eq!(parts.iter().map(|part| part.bar.volume).sum::<i128>(), counted.iter().map(|t| i128::from(t.size)).sum::<i128>());
        for part in parts {
            let direct = bars_by_the_book(&session, Timeframe::Days(1), Segments::only(part.segment), &trades);
            prop_assert_eq!(vec![(part.opens_at, Bar { weak_close: false, ..part.bar })], direct);
        }
    }

    #[test]
    fn an_overlay_is_corrections_over_blocks_over_live_rows(
        sealed in proptest::collection::btree_map((0i64..6, 0i64..6), 0i64..9, 0..20),
        live in vec(((0i64..6, 0i64..6), 0i64..9, 0u8..3), 0..20)
    ) {
        let trade = |(ts, seq): (i64, i64), price| Trade { ts, seq, price, size: 1, ..Trade::default() };
        let page: Trades = sealed.iter().map(|(key, price)| trade(*key, *price)).collect();
        let mut rows = LiveRows::default();
        // Slowly: a bust over the last correction over the sealed trade over the least of the live ones.
        let mut expected: std::collections::BTreeMap<(i64, i64), (u8, i64)> =
            sealed.iter().map(|(key, price)| (*key, (1, *price))).collect();
        for (key, price, op) in &live {
            let op = [Op::Trade, Op::Correction, Op::Bust][usize::from(*op)];
            rows.push(trade(*key, *price), op);
            let rank = match op { Op::Trade => 0, Op::Correction => 2, Op::Bust => 3 };
            let there = expected.entry(*key).or_insert((rank, *price));
            if rank > there.0 || (rank == 2 && there.0 == 2) {
                *there = (rank, *price);
            } else if rank == 0 && there.0 == 0 {
                there.1 = there.1.min(*price);
            }
        }
        rows.settle();
        let mut seen = Trades::new();
        overlay(&page, &rows, 0..rows.len(), &mut seen);
        let expected: Trades = expected.iter().filter(|(_, (rank, _))| *rank < 3).map(|(key, (_, price))| trade(*key, *price)).collect();
        prop_assert_eq!(seen, expected);
    }
}

fn pages_joined(trades: &Trades) -> Core {
    let mut core = Core::new();
    core.set(trades, 0..trades.len());
    core
}

#[test]
fn weeks_and_months_group_trade_dates() {
    let calendar = Calendar::builtin("XNYS").expect("a calendar");
    let date = |text| TradeDate::parse(text).expect("a date");
    let request = OhlcRequest::new(Timeframe::Week, Segments::RTH);
    // Thanksgiving week of 2024: Thursday is closed, Friday a half day.
    let dates = request.dates(&calendar, date("2024-11-27"), date("2024-11-27")).expect("known");
    assert_eq!(dates, (date("2024-11-25"), date("2024-11-29")));
    let mut answer = Answer::new(&calendar, request);
    let (mut opens, mut closes) = (Vec::new(), Vec::new());
    for (i, session) in calendar.sessions(dates.0, date("2024-12-02")).expect("known").enumerate() {
        let open = session.open(Segments::RTH).expect("regular hours");
        let price = 100 + i as i64;
        let day: Trades = [Trade { ts: open, price, size: 1, ..Trade::default() }].into_iter().collect();
        answer.add(&session, &bars_of(&session, Timeframe::Week, Segments::RTH, &pages(&day, PAGE))).expect("known");
        opens.push(open);
        closes.push(session.close(Segments::RTH).expect("regular hours"));
    }
    let bars = answer.finish();
    assert_eq!(bars.len(), 2);
    let week = bars[0];
    assert_eq!((week.trade_date, week.last_date), (date("2024-11-25"), date("2024-11-29")));
    assert_eq!((week.open_at, week.close_at), (opens[0], closes[3]));
    assert_eq!((week.bar.open, week.bar.close, week.bar.trades), (100, 103, 4));
    assert_eq!(bars[1].bar.open, 104);
}
