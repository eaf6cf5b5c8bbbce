//! What writers do: rows, packed sessions, seals, busts and corrections.

use crate::BOOKS;
use crate::stream::{Stream, symbol, tell};
use anyhow::{Result, ensure};
use futures_util::SinkExt;
use market::{Correction, Key, NONE_I64, Trade, TradeDate, Trades, block, flags, money};
use std::collections::BTreeMap;
use tests::ledger::Effect;
use tests::store::{self, TICK};
use tokio_postgres::types::ToSql;

/// When the venue told, `$n` in microseconds; NULL for now.
const TOLD: &str = "timestamptz 'epoch' + $n::int8 * interval '1 microsecond'";

impl Stream {
    pub async fn insert(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let trades: Vec<Trade> = (0..self.chance.within(1, 8)).map(|_| self.new_trade(&view.books[b])).collect();
        let id = self.ids[b];
        let began = self.begin(at).await?;
        let how = self.chance.within(0, 3);
        let connection = &mut self.connections[at];
        match how {
            0 => {
                let slot = self.chance.within(0, 24);
                let optional = |v: i64, text: String| if v == NONE_I64 { "\\N".to_owned() } else { text };
                let micros = |ts: i64| market::time::format_instant(ts - ts.rem_euclid(1000));
                let lines: String = trades
                    .iter()
                    .map(|t| {
                        format!(
                            "{id}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{slot}\n",
                            micros(t.ts),
                            t.ts.rem_euclid(1000),
                            t.seq,
                            t.sub,
                            money::to_f64(t.price),
                            money::to_f64(t.size),
                            t.flags,
                            t.cond,
                            optional(t.ts_recv, micros(t.ts_recv.max(0))),
                            optional(t.trade_id, t.trade_id.to_string())
                        )
                    })
                    .collect();
                let copy = "COPY market.live_trades (instrument_id, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id, slot) FROM STDIN";
                let mut sink = std::pin::pin!(connection.client.copy_in(copy).await?);
                sink.send(std::io::Cursor::new(lines.into_bytes())).await?;
                ensure!(sink.finish().await? == trades.len() as u64);
            }
            1 => store::insert(&connection.client, id, &trades).await?,
            _ => {
                let sql =
                    "INSERT INTO market.trades (symbol, ts, ns, seq, sub, price, size, flags, cond, ts_recv, trade_id)
                    VALUES ($1, timestamptz 'epoch' + $2::int8 * interval '1 microsecond', $3, $4, $5, $6, $7, $8, $9,
                            timestamptz 'epoch' + $10::int8 * interval '1 microsecond', $11)";
                for t in &trades {
                    let known = |v: i64, unit: i64| Some(v).filter(|v| *v != NONE_I64).map(|v| v.div_euclid(unit));
                    let arguments: [&(dyn ToSql + Sync); 11] = [
                        &symbol(b),
                        &t.ts.div_euclid(1000),
                        &(t.ts.rem_euclid(1000) as i16),
                        &t.seq,
                        &(t.sub as i16),
                        &money::to_f64(t.price),
                        &money::to_f64(t.size),
                        &(t.flags as i32),
                        &(t.cond as i32),
                        &known(t.ts_recv, 1000),
                        &known(t.trade_id, 1),
                    ];
                    connection.query(sql, &arguments).await?;
                }
            }
        }
        self.end(at).await?;
        let list: Vec<String> = trades.iter().map(tell).collect();
        self.say(at, format!("insert {} ({how}): {}", symbol(b), list.join("; ")));
        let mut effects = Vec::new();
        for t in trades {
            self.next_row += 1;
            // nobody noted its receipt: it is received with its row
            let ts_recv = if t.ts_recv == NONE_I64 { began } else { t.ts_recv };
            effects.push(Effect::Row(b, self.next_row, Trade { ts_recv, ..t }));
        }
        self.note(at, effects);
        Ok(())
    }

    pub async fn put(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let known = &self.known[view.calendar];
        let instant = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
        let w = known.windows[known.at(instant)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        let mut sent: BTreeMap<Key, Trade> = BTreeMap::new();
        for t in view.books[b].visible().into_iter().filter(|t| w.holds(t.ts)) {
            if self.chance.once_in(2) {
                sent.insert(t.key(), t);
            }
        }
        for _ in 0..20 {
            let t = self.new_trade(&view.books[b]);
            // a file says when its trades were received
            if w.holds(t.ts) && t.ts_recv != NONE_I64 {
                sent.insert(t.key(), t);
            }
        }
        if self.chance.once_in(5) {
            // exactly what is sealed
            let sealed = view.books[b].sealed.iter().filter(|(k, _)| w.holds(k.ts));
            sent = sealed.map(|(k, t)| (*k, *t)).collect();
        }
        if sent.is_empty() {
            return Ok(());
        }
        let trades: Vec<Trade> = sent.into_values().collect();
        let list: Vec<String> = trades.iter().map(tell).collect();
        self.say(at, format!("put_trades {}: {}", symbol(b), list.join("; ")));
        let (effects, counts) = view.put(b, &w, &trades);
        let payload = block::encode_session(&trades.into_iter().collect::<Trades>())?;
        let sql = "SELECT added, known, conflicts FROM market.put_trades($1, $2)";
        let row = &self.connections[at].query(sql, &[&self.ids[b], &payload]).await?[0];
        let found: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(found, counts, "put_trades: added, known, conflicts");
        self.locked(at, b, w.date);
        self.note(at, effects);
        Ok(())
    }

    pub async fn seal(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        let known = &self.known[view.calendar];
        let instant = self.instants[self.chance.within(0, self.instants.len() as i64) as usize];
        let w = known.windows[known.at(instant)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        let day = TradeDate(w.date).to_string();
        self.say(at, format!("seal {} {day}", symbol(b)));
        let book = &view.books[b];
        let rows =
            book.rows.values().filter(|t| w.holds(t.ts)).count() + book.marks.iter().filter(|k| w.holds(k.ts)).count();
        let sql = "SELECT market.seal($1, $2::text::date)";
        let taken: i64 = self.connections[at].query(sql, &[&symbol(b), &day]).await?[0].get(0);
        assert_eq!(taken, rows as i64, "rows sealed");
        self.locked(at, b, w.date);
        self.note(at, view.seal(b, &w));
        Ok(())
    }

    pub async fn correct(&mut self, at: usize) -> Result<()> {
        let (view, b) = (self.view(at), self.chance.within(0, BOOKS as i64) as usize);
        // one that is there, one that was, or one that is to come
        let key = self.new_trade(&view.books[b]).key();
        let known = &self.known[view.calendar];
        let w = known.windows[known.at(key.ts)];
        if !self.is_free(at, b, w.date) {
            return Ok(());
        }
        // a bust is the last word here; tests/correction_laws.rs takes some back
        let busted = view.books[b].words.get(&key).is_some_and(|words| words.iter().any(|w| w.1 == Correction::Bust));
        let word = if busted || self.chance.once_in(2) {
            Correction::Bust
        } else {
            let flags =
                self.chance.once_in(2).then(|| [0, flags::NO_LAST, flags::BUY][self.chance.within(0, 3) as usize]);
            Correction::Replace {
                price: self.chance.within(9_980, 10_020) * TICK,
                size: self.chance.within(0, 40) * money::ONE,
                flags,
            }
        };
        self.say(
            at,
            format!("{} {}/{}/{}: {word:?}", symbol(b), market::time::format_instant(key.ts), key.seq, key.sub),
        );
        let began = self.begin(at).await?;
        // told by the venue now, or earlier
        let told = self.chance.once_in(3).then(|| key.ts / 1000 * 1000 + self.chance.within(0, 4) * 3_600_000_000_000);
        let (effects, seen) = view.say(b, key, told.unwrap_or(began), word);
        let told = told.map(|at| at / 1000);
        let (micros, ns, sub) = (key.ts.div_euclid(1000), key.ts.rem_euclid(1000) as i16, key.sub as i16);
        let at_ts = "timestamptz 'epoch' + $2::int8 * interval '1 microsecond'";
        let rows = match word {
            Correction::Bust => {
                let sql = format!("SELECT market.bust_trade($1, {at_ts}, $3, $4, $5, known_at => {TOLD})")
                    .replace("$n", "$6");
                self.connections[at].query(&sql, &[&symbol(b), &micros, &key.seq, &ns, &sub, &told]).await?
            }
            Correction::Replace { price, size, flags } => {
                let sql =
                    format!("SELECT market.correct_trade($1, {at_ts}, $3, $6, $7, $4, $5, $8, known_at => {TOLD})")
                        .replace("$n", "$9");
                let (price, size, flags) = (money::to_f64(price), money::to_f64(size), flags.map(|f| f as i32));
                let all: [&(dyn ToSql + Sync); 9] =
                    [&symbol(b), &micros, &key.seq, &ns, &sub, &price, &size, &flags, &told];
                self.connections[at].query(&sql, &all).await?
            }
        };
        self.end(at).await?;
        assert_eq!(rows[0].get::<_, bool>(0), seen, "whether the trade was there");
        self.locked(at, b, w.date);
        self.note(at, effects);
        Ok(())
    }
}
