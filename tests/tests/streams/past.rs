//! Reads of the past: what was known at an instant, whatever came since, equals the ledger's.

use crate::check::{QUESTIONS, row_text, trade_text};
use crate::stream::{Stream, symbol};
use anyhow::Result;
use market::{Segments, Trade, TradeDate, money};
use tests::model::{self, Gaps, Width};
use tests::store;
use tokio_postgres::Row;

impl Stream {
    /// Reads of a connection as of an instant at which something became known, or just before one.
    pub async fn check_past(&mut self, at: usize, book: usize) -> Result<()> {
        let view = self.view(at);
        let known = &self.known[view.calendar];
        let instants: Vec<i64> = view.books[book].instants().into_iter().collect();
        if instants.is_empty() {
            return Ok(());
        }
        let instant = instants[self.chance.within(0, instants.len() as i64) as usize].div_euclid(1000);
        let micros = instant - self.chance.within(0, 2);
        // its microsecond is in it to its end
        let visible = view.books[book].visible_at(micros * 1000 + 999);
        let symbol = symbol(book);
        let what = |read: &str| format!("{symbol} on connection {at}, as known at {micros}, by {read}");
        let connection = &mut self.connections[at];
        let past = "timestamptz 'epoch' + $2::int8 * interval '1 microsecond'";

        let sql = format!(
            "SELECT (EXTRACT(epoch FROM ts) * 1000000)::int8, ns, seq, sub, price, size, flags, cond,
                    (EXTRACT(epoch FROM ts_recv) * 1000000)::int8, trade_id, trade_date::text, segment
             FROM market.trades_between($1, '2025-11-01', '2025-12-31', known_at => {past})"
        );
        let found: Vec<String> = connection.query(&sql, &[&symbol, &micros]).await?.iter().map(row_text).collect();
        let expected: Vec<String> = visible.iter().map(|t| trade_text(known, t)).collect();
        store::same(&what("trades_between"), &found, &expected);

        let q = &QUESTIONS[self.chance.within(0, QUESTIONS.len() as i64) as usize];
        let fill = match q.3 {
            Gaps::None => "none",
            Gaps::Previous => "previous",
            Gaps::Null => "null",
        };
        let days = (known.windows[0].date, known.windows[known.windows.len() - 1].date);
        let days = (days.0 + self.chance.within(0, 20) as i32, days.1);
        let asked = [days.0, days.1].map(|day| TradeDate(day).to_string());
        let sql = format!(
            "SELECT trade_date::text, (EXTRACT(epoch FROM bar_at) * 1000000)::int8, open, high, low, close, volume, trades
             FROM market.session_ohlc($1, $3, $4::text::date, $5::text::date, segments => $6, fill => $7, known_at => {past}) ORDER BY 2"
        );
        let rows = connection.query(&sql, &[&symbol, &micros, &q.0, &asked[0], &asked[1], &q.2, &fill]).await?;
        let found: Vec<String> = rows
            .iter()
            .map(|r| {
                let prices = [2, 3, 4, 5].map(|i| r.get::<_, Option<f64>>(i));
                let bar_at = r.get::<_, i64>(1) * 1000;
                format!("{} {bar_at} {prices:?} {:?} {}", r.get::<_, String>(0), r.get::<_, f64>(6), r.get::<_, i64>(7))
            })
            .collect();
        let bars = model::bars(&known.sessions, &visible, q.1, Segments::parse(q.2)?, q.3, days);
        let expected: Vec<String> = bars
            .iter()
            .map(|bar| {
                let prices = bar.prices.map_or([None; 4], |p| p.map(Some));
                format!("{} {} {prices:?} {:?} {}", bar.date, bar.at.0, bar.volume, bar.trades)
            })
            .collect();
        store::same(&what(&format!("session_ohlc {} {} fill {fill} {asked:?}", q.0, q.2)), &found, &expected);

        // what else is made of trades, in sums that the ledger knows
        let sql = format!(
            "SELECT trade_date::text, volume, trades FROM market.session_flow($1, '1d', $3::text::date, $4::text::date, 'ALL', known_at => {past})
             UNION ALL SELECT * FROM (SELECT trade_date::text, sum(volume), sum(trades)::int8
               FROM market.activity_ohlc($1, 'ticks', 3, $3::text::date, $4::text::date, 'ALL', known_at => {past}) GROUP BY 1 HAVING sum(trades) > 0) AS a
             ORDER BY 1"
        );
        let mut found: Vec<String> =
            connection.query(&sql, &[&symbol, &micros, &asked[0], &asked[1]]).await?.iter().map(sum_text).collect();
        found.sort();
        let bars = model::bars(&known.sessions, &visible, Width::Day, Segments::ALL, Gaps::None, days);
        let text = |bar: &model::Shown| format!("{} {:?} {}", bar.date, bar.volume, bar.trades);
        let counted = bars.iter().filter(|bar| bar.trades > 0);
        let mut expected: Vec<String> = counted.clone().map(text).chain(counted.map(text)).collect();
        expected.sort();
        store::same(&what("session_flow and activity_ohlc"), &found, &expected);

        let day = days.0 + self.chance.within(0, 8) as i32;
        let Some(session) = known.sessions.iter().find(|session| session.trade_date.0 == day) else { return Ok(()) };
        let sql = format!(
            "SELECT 'profile', sum(volume), sum(trades)::int8 FROM market.session_profile($1, $3::text::date, 'ETH', bin => 0.01, known_at => {past})
             UNION ALL SELECT level, value, 0::int8 FROM market.session_levels($1, $3::text::date, 'ETH', known_at => {past}) WHERE level IN ('high', 'low')
             ORDER BY 1"
        );
        let day = session.trade_date.to_string();
        let found: Vec<String> =
            connection.query(&sql, &[&symbol, &micros, &day]).await?.iter().map(sum_or_null_text).collect();
        let date = session.trade_date.0;
        let bar = model::bars(&known.sessions, &visible, Width::Day, Segments::ETH, Gaps::None, (date, date)).pop();
        let priced = bar.as_ref().and_then(|bar| bar.prices);
        let at_a_price: Vec<&Trade> = visible
            .iter()
            .filter(|t| session.from <= t.ts && t.ts < session.till && t.flags & market::flags::NO_VOLUME == 0)
            .filter(|t| Segments::ETH.contains(model::place(session, t).0))
            .collect();
        let volume = at_a_price.iter().map(|t| i128::from(t.size)).sum();
        // a price that was reached without volume has a row too, for the periods
        let has_rows = priced.is_some() || !at_a_price.is_empty();
        let volume = has_rows.then(|| money::volume_to_f64(volume));
        let count = has_rows.then_some(at_a_price.len() as i64);
        let expected = [
            format!("high {:?} Some(0)", priced.map(|p| p[1])),
            format!("low {:?} Some(0)", priced.map(|p| p[2])),
            format!("profile {volume:?} {count:?}"),
        ];
        store::same(&what(&format!("session_levels and session_profile of {day}")), &found, &expected);
        Ok(())
    }
}

fn sum_text(r: &Row) -> String {
    format!("{} {:?} {}", r.get::<_, String>(0), r.get::<_, f64>(1), r.get::<_, i64>(2))
}

fn sum_or_null_text(r: &Row) -> String {
    format!("{} {:?} {:?}", r.get::<_, String>(0), r.get::<_, Option<f64>>(1), r.get::<_, Option<i64>>(2))
}
