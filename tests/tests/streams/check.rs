//! Reads of today: every one equals the ledger's.

use crate::calendars::Known;
use crate::stream::{Stream, symbol};
use anyhow::Result;
use market::{NONE_I64, Segments, Trade, TradeDate, money};
use std::collections::BTreeMap;
use tests::ledger::{Book, State};
use tests::model::{self, Gaps, Width};
use tests::store;
use tokio_postgres::Row;

const MINUTE: i64 = 60_000_000_000;

/// What a session bar's question says, and what the model needs to answer it.
pub struct Question(pub &'static str, pub Width, pub &'static str, pub Gaps);

pub const QUESTIONS: [Question; 16] = [
    Question("5m", Width::Time(5 * MINUTE), "RTH", Gaps::None),
    Question("1h", Width::Time(60 * MINUTE), "ETH", Gaps::None),
    Question("65m", Width::Time(65 * MINUTE), "ETH", Gaps::Previous),
    Question("30s", Width::Time(MINUTE / 2), "RTH", Gaps::None),
    Question("1m", Width::Time(MINUTE), "ALL", Gaps::None),
    Question("90m", Width::Time(90 * MINUTE), "RTH", Gaps::Null),
    Question("15m", Width::Time(15 * MINUTE), "POST", Gaps::Previous),
    Question("4h", Width::Time(240 * MINUTE), "ALL", Gaps::None),
    Question("2h", Width::Time(120 * MINUTE), "OFF", Gaps::None),
    Question("1d", Width::Day, "RTH", Gaps::None),
    Question("1d", Width::Day, "ETH", Gaps::Previous),
    Question("1d", Width::Day, "ALL", Gaps::None),
    Question("1d", Width::Day, "OFF", Gaps::Null),
    Question("1w", Width::Week, "RTH", Gaps::None),
    Question("1w", Width::Week, "ETH", Gaps::Previous),
    Question("1w", Width::Week, "ALL", Gaps::Null),
];

impl Stream {
    /// Reads of a connection, all or some that chance takes, equal the ledger's.
    pub async fn check(&mut self, at: usize, book: usize, reads: Reads) -> Result<()> {
        let one_in = |n: i64| if reads == Reads::All { 1 } else { n };
        self.check_trades(at, book).await?;
        if self.chance.once_in(one_in(3)) {
            self.check_range(at, book).await?;
        }
        if self.chance.once_in(one_in(4)) {
            self.check_grouped(at, book).await?;
        }
        if self.chance.once_in(one_in(4)) {
            self.check_verified(at, book).await?;
        }
        let source = ["auto", "minutes", "trades"][self.chance.within(0, 3) as usize];
        self.connections[at].query("SELECT set_config('bellwether.source', $1, false)", &[&source]).await?;
        for _ in 0..if reads == Reads::All { QUESTIONS.len() } else { 1 } {
            self.check_bars(at, book, source).await?;
        }
        Ok(())
    }

    async fn check_trades(&mut self, at: usize, book: usize) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let visible = view.books[book].visible();
        let symbol = symbol(book);
        let connection = &mut self.connections[at];
        let expected: Vec<String> = visible.iter().map(|t| trade_text(known, t)).collect();
        let sql = "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size, flags, cond,
                          (EXTRACT(epoch FROM ts_recv) * 1000000)::int8, trade_id, trade_date::text, segment
                   FROM market.trades WHERE symbol = $1 ORDER BY ts, ns, seq, sub";
        let found: Vec<String> = connection.query(sql, &[&symbol]).await?.iter().map(row_text).collect();
        store::same(&what(book, at, "market.trades"), &found, &expected);
        Ok(())
    }

    async fn check_range(&mut self, at: usize, book: usize) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let visible = view.books[book].visible();
        let symbol = symbol(book);
        let mut ends = [0; 2].map(|_| {
            let at = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
            at.div_euclid(1000) + self.chance.within(-1, 2)
        });
        ends.sort_unstable();
        let sql = "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size, flags, cond,
                          (EXTRACT(epoch FROM ts_recv) * 1000000)::int8, trade_id, trade_date::text, segment
                   FROM market.trades_between($1, timestamptz 'epoch' + $2::int8 * interval '1 microsecond',
                                              timestamptz 'epoch' + $3::int8 * interval '1 microsecond')";
        let found: Vec<String> =
            self.connections[at].query(sql, &[&symbol, &ends[0], &ends[1]]).await?.iter().map(row_text).collect();
        let inside = |t: &&Trade| ends[0] * 1000 <= t.ts && t.ts < ends[1] * 1000;
        let expected: Vec<String> = visible.iter().filter(inside).map(|t| trade_text(known, t)).collect();
        store::same(&what(book, at, "trades_between"), &found, &expected);
        Ok(())
    }

    async fn check_grouped(&mut self, at: usize, book: usize) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let visible = view.books[book].visible();
        let sql = "SELECT trade_date::text, (b).open, (b).high, (b).low, (b).close, (b).volume::float8, (b).trades
                   FROM (SELECT trade_date, market.ohlc(price, size, ts, seq) AS b FROM market.trades WHERE symbol = $1
                         GROUP BY trade_date) AS d ORDER BY 1";
        let found: Vec<String> = self.connections[at]
            .query(sql, &[&symbol(book)])
            .await?
            .iter()
            .map(|r| {
                let prices = [1, 2, 3, 4].map(|i| price(r, i));
                format!("{} {prices:?} {:?} {}", r.get::<_, String>(0), r.get::<_, f64>(5), r.get::<_, i64>(6))
            })
            .collect();
        store::same(&what(book, at, "the aggregate ohlc"), &found, &aggregates(known, &visible));
        Ok(())
    }

    async fn check_verified(&mut self, at: usize, book: usize) -> Result<()> {
        let sql =
            "SELECT trade_date::text, what, expected, found FROM market.verify_bars($1, '2025-11-10', '2025-12-19')";
        let found: Vec<String> = self.connections[at]
            .query(sql, &[&symbol(book)])
            .await?
            .iter()
            .map(|r| [0, 1, 2, 3].map(|i| r.get::<_, String>(i)).join(" | "))
            .collect();
        store::same(&what(book, at, "verify_bars"), &found, &[]);
        Ok(())
    }

    async fn check_bars(&mut self, at: usize, book: usize, source: &str) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let book_view = &view.books[book];
        let visible = book_view.visible();
        let symbol = symbol(book);
        let q = &QUESTIONS[self.chance.within(0, QUESTIONS.len() as i64) as usize];
        let days = [0; 2].map(|_| {
            let at = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
            known.windows[known.at(at)].date + self.chance.within(-1, 2) as i32
        });
        let days =
            if self.chance.once_in(4) { (days[0], days[0]) } else { (days[0].min(days[1]), days[0].max(days[1])) };
        let asked = [days.0, days.1].map(|d| TradeDate(d).to_string());
        let fill = match q.3 {
            Gaps::None => "none",
            Gaps::Previous => "previous",
            Gaps::Null => "null",
        };
        let sql = "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, (EXTRACT(epoch FROM bar_end) * 1000000)::int8,
                          open, high, low, close, volume, trades, vwap, state
                   FROM market.session_ohlc($1, $2, $3::text::date, $4::text::date, segments => $5, fill => $6) ORDER BY 2";
        let rows = self.connections[at].query(sql, &[&symbol, &q.0, &asked[0], &asked[1], &q.2, &fill]).await?;
        let segments = Segments::parse(q.2)?;
        let bars = model::bars(&known.sessions, &visible, q.1, segments, q.3, days);
        let expected: Vec<String> = bars
            .iter()
            .map(|bar| {
                let date = TradeDate::parse(&bar.date).expect("a date").0;
                let dates: Vec<i32> = match q.1 {
                    Width::Week => {
                        known.windows.iter().map(|w| w.date).filter(|d| model::week(*d) == model::week(date)).collect()
                    }
                    _ => vec![date],
                };
                let prices = bar.prices.map_or([None; 4], |p| p.map(Some));
                let state = state(known, book_view, &dates);
                format!("{} {:?} {prices:?} {:?} {} {state}", bar.date, bar.at, bar.volume, bar.trades)
            })
            .collect();
        let found: Vec<String> = rows
            .iter()
            .zip(expected.iter().map(Some).chain(std::iter::repeat(None)))
            .map(|(r, wanted)| {
                let prices = [3, 4, 5, 6].map(|i| price(r, i));
                let bar_at = (r.get::<_, i64>(1) * 1000, r.get::<_, i64>(2) * 1000);
                let mut state: String = r.get(10);
                if state != "provisional" && wanted.is_some_and(|w| w.ends_with("sealed")) {
                    "sealed".clone_into(&mut state);
                }
                if wanted.is_some_and(|w| w.ends_with("unknown")) {
                    "unknown".clone_into(&mut state);
                }
                format!(
                    "{} {bar_at:?} {prices:?} {:?} {} {state}",
                    r.get::<_, String>(0),
                    r.get::<_, f64>(7),
                    r.get::<_, i64>(8)
                )
            })
            .collect();
        let read = format!("session_ohlc {} {} fill {fill} {asked:?} from {source}", q.0, q.2);
        store::same(&what(book, at, &read), &found, &expected);
        for (r, bar) in rows.iter().zip(&bars) {
            let near = match (r.get::<_, Option<f64>>(9), bar.vwap) {
                (Some(f), Some(e)) => (f - e).abs() <= 1e-12 * e.abs(),
                (f, e) => f == e,
            };
            assert!(near, "{}: vwap of {}", what(book, at, &read), bar.date);
        }
        Ok(())
    }
}

/// Which reads are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Every one.
    All,
    /// The trades, one of the bars, and of the others some.
    Some,
}

fn what(book: usize, at: usize, read: &str) -> String {
    format!("{} on connection {at} by {read}", symbol(book))
}

fn price(r: &Row, i: usize) -> Option<f64> {
    r.get(i)
}

pub fn trade_text(known: &Known, t: &Trade) -> String {
    let session = &known.sessions[known.at(t.ts)];
    let optional = |v: i64, unit: i64| Some(v).filter(|v| *v != NONE_I64).map(|v| v.div_euclid(unit));
    format!(
        "{} {} {} {} {:?} {:?} {} {} {:?} {:?} {} {}",
        t.ts.div_euclid(1000),
        t.ts.rem_euclid(1000),
        t.seq,
        t.sub,
        money::to_f64(t.price),
        money::to_f64(t.size),
        t.flags,
        t.cond,
        optional(t.ts_recv, 1000),
        optional(t.trade_id, 1),
        session.trade_date,
        model::place(session, t).0.name()
    )
}

pub fn row_text(r: &Row) -> String {
    format!(
        "{} {} {} {} {:?} {:?} {} {} {:?} {:?} {} {}",
        r.get::<_, i64>(0),
        r.get::<_, i16>(1),
        r.get::<_, i64>(2),
        r.get::<_, i16>(3),
        r.get::<_, f64>(4),
        r.get::<_, f64>(5),
        r.get::<_, i32>(6),
        r.get::<_, i32>(7),
        r.get::<_, Option<i64>>(8),
        r.get::<_, Option<i64>>(9),
        r.get::<_, String>(10),
        r.get::<_, String>(11)
    )
}

/// The aggregate knows neither flags nor nanoseconds: ties go to the lower price for the open, to the higher for the close.
fn aggregates(known: &Known, visible: &[Trade]) -> Vec<String> {
    let mut days: BTreeMap<String, Vec<&Trade>> = BTreeMap::new();
    for t in visible {
        days.entry(known.sessions[known.at(t.ts)].trade_date.to_string()).or_default().push(t);
    }
    days.iter()
        .map(|(date, trades)| {
            let place = |t: &&&Trade| (t.ts.div_euclid(1000), t.seq, t.price);
            let of = |t: Option<&&Trade>| t.map(|t| money::to_f64(t.price));
            let prices = [
                of(trades.iter().min_by_key(place)),
                of(trades.iter().max_by_key(|t| t.price)),
                of(trades.iter().min_by_key(|t| t.price)),
                of(trades.iter().max_by_key(place)),
            ];
            let volume: i128 = trades.iter().map(|t| i128::from(t.size)).sum();
            format!("{date} {prices:?} {:?} {}", money::volume_to_f64(volume), trades.len())
        })
        .collect()
}

/// The state of a bar over these trade dates; "sealed" if it is final or revised and nobody can say how often, "unknown" if
/// nobody can say whether it is.
fn state(known: &Known, book: &Book, dates: &[i32]) -> String {
    let windows = known.windows.iter().filter(|w| dates.contains(&w.date));
    if windows.clone().any(|w| book.waits(w)) {
        return "provisional".to_owned();
    }
    let states: Vec<State> = windows.filter_map(|w| book.states.get(&w.date).copied()).collect();
    if states.is_empty() || states.contains(&State::Provisional) {
        return "provisional".to_owned();
    }
    let revised = |state: &State| match state {
        State::Sealed(revised) => Some(*revised),
        _ => None,
    };
    let Some(revised) = states.iter().map(revised).collect::<Option<Vec<_>>>() else { return "unknown".to_owned() };
    match revised.into_iter().collect::<Option<Vec<_>>>().map(|all| all.into_iter().max()) {
        None => "sealed".to_owned(),
        Some(None | Some(0)) => "final".to_owned(),
        Some(Some(n)) => format!("revised({n})"),
    }
}
