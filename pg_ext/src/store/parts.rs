//! The sealed parts of one session: read, merged into, rewritten where they changed.

use crate::error::OrRaise;
use crate::fmgr::Bytes;
use crate::spi::{Arg, Conn, Mode};
use crate::{plans, time};
use market::block::{self, PART};
use market::trade::earlier;
use market::{Corrections, Key, Merge, Nanos, Trade, TradeDate, Trades};
use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting};
use pgrx::pg_sys;

plans!(READ, INSERT, UPDATE, DELETE);

static PART_TRADES: GucSetting<i32> = GucSetting::<i32>::new(PART as i32);

/// Defines the setting of parts; called once, when the library is loaded.
pub fn define_settings() {
    GucRegistry::define_int_guc(
        c"bellwether.part_trades",
        c"Most trades of a part that sealing writes; sessions of more are split.",
        c"For tests and measuring. Readers take parts of any size.",
        &PART_TRADES,
        1,
        PART as i32,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// The most trades of a part.
fn most() -> usize {
    usize::try_from(PART_TRADES.get()).unwrap_or(PART).clamp(1, PART)
}

/// One part of a sealed session.
pub struct Part {
    /// Its number in the table; parts are ordered by first key, not by number.
    pub number: i32,
    /// Its trades, strictly sorted.
    pub trades: Trades,
    stored: bool,
    changed: bool,
}

/// All parts of one session, in order of their keys, which are disjoint ranges.
#[derive(Default)]
pub struct Parts {
    /// In order.
    pub all: Vec<Part>,
    next_number: i32,
}

/// The identity columns of a block's end as parameters: ts, ns, seq, sub.
pub fn key_args(key: Key) -> [Arg; 4] {
    let (micros, ns) = time::micros_and_ns(key.ts);
    [Arg::timestamptz(micros), Arg::int2(ns), Arg::int8(key.seq), Arg::int2(key.sub as i16)]
}

impl Parts {
    /// Reads and checks every part of a session; raises XX001 for a corrupt one.
    pub fn read(c: &Conn, mode: Mode, instrument: i32, day: TradeDate) -> Parts {
        let mut parts = Parts::default();
        c.run(
            mode,
            &READ,
            c"SELECT part, payload FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2
              ORDER BY first_ts, first_ns, first_seq, first_sub",
            &[Arg::int4(instrument), Arg::date(time::pg_days(day))],
            &mut |v, _| {
                // SAFETY: payload is a bytea, NOT NULL, alive until the closure returns.
                let bytes = unsafe { Bytes::whole(v[1]) };
                let mut trades = Trades::new();
                block::check_block(bytes.get(), &mut trades).or_raise();
                let number = v[0].value() as i32;
                parts.next_number = parts.next_number.max(number + 1);
                parts.all.push(Part { number, trades, stored: true, changed: false });
            },
        );
        parts
    }

    /// Merges sorted rows by identity, each into the part whose range it falls in. What is stored stays; rows of a stored
    /// identity with other content are the conflicts.
    pub fn merge(&mut self, rows: &Trades) -> Merge {
        if self.all.is_empty() {
            let mut part = Part { number: self.next_number, trades: Trades::new(), stored: false, changed: true };
            self.next_number += 1;
            let done = market::merge(&Trades::new(), rows, &mut part.trades);
            self.all.push(part);
            return done;
        }
        let mut done = Merge::default();
        let mut from = 0;
        for i in 0..self.all.len() {
            let till = match self.all.get(i + 1) {
                Some(next) => {
                    let first = next.trades.key(0);
                    from + (from..rows.len()).take_while(|&k| rows.key(k) < first).count()
                }
                None => rows.len(),
            };
            // a full last part stays as it is: a running session is sealed piece by piece
            let last = &self.all[i].trades;
            if from < till
                && i + 1 == self.all.len()
                && last.len() >= most()
                && rows.key(from) > last.key(last.len() - 1)
            {
                let news = rows.slice(from..till);
                done.added += news.len();
                done.first_known = earlier(done.first_known, news.known_range().map(|(first, _)| first));
                self.all.push(Part { number: self.next_number, trades: news, stored: false, changed: true });
                self.next_number += 1;
                break;
            }
            if from < till {
                let part = &mut self.all[i];
                let mut merged = Trades::with_capacity(part.trades.len() + till - from);
                let part_done = market::merge(&part.trades, &rows.slice(from..till), &mut merged);
                if part_done.added > 0 {
                    part.trades = merged;
                    part.changed = true;
                }
                done.added += part_done.added;
                done.known += part_done.known;
                done.first_known = earlier(done.first_known, part_done.first_known);
                done.conflicts.extend(part_done.conflicts);
                from = till;
            }
        }
        done
    }

    /// Applies busts and corrections; since when the first of those that changed a trade is known.
    pub fn correct(&mut self, corrections: &Corrections) -> Option<Nanos> {
        let mut hits = None;
        for part in &mut self.all {
            let (Some(first), Some(last)) =
                (key_at(&part.trades, 0), key_at(&part.trades, part.trades.len().wrapping_sub(1)))
            else {
                continue;
            };
            let mut gone = Vec::new();
            for (key, correction, known) in corrections.since(first).take_while(|(key, ..)| *key <= last) {
                let Some(at) = part.trades.find(key) else { continue };
                let old = part.trades.get(at);
                match correction.apply(old) {
                    Some(new) if new == old => continue,
                    Some(new) => {
                        (part.trades.price[at], part.trades.size[at]) = (new.price, new.size);
                        part.trades.flags[at] = new.flags;
                    }
                    None => gone.push(at),
                }
                part.changed = true;
                hits = earlier(hits, Some(known));
            }
            if !gone.is_empty() {
                part.trades = without(&part.trades, &gone);
            }
        }
        self.all.retain(|p| p.stored || !p.trades.is_empty());
        hits
    }

    /// Keeps the trades with `from <= ts < till`. A part that loses all is deleted at once: merging needs every part's ends.
    pub fn keep(&mut self, c: &Conn, instrument: i32, day: TradeDate, from: Nanos, till: Nanos) {
        for part in &mut self.all {
            let range = part.trades.lower_bound(from)..part.trades.lower_bound(till);
            if range.len() < part.trades.len() {
                part.trades = part.trades.slice(range);
                part.changed = true;
            }
        }
        let (kept, emptied) = std::mem::take(&mut self.all).into_iter().partition(|p| !p.trades.is_empty());
        self.all = emptied;
        self.write(c, instrument, day);
        self.all = kept;
    }

    /// Gives every trade the flags that `of` says; how many changed.
    pub fn reflag(&mut self, of: impl Fn(&Trade) -> u32) -> usize {
        let mut changed = 0;
        for part in &mut self.all {
            for i in 0..part.trades.len() {
                let flags = of(&part.trades.get(i));
                if part.trades.flags[i] != flags {
                    part.trades.flags[i] = flags;
                    part.changed = true;
                    changed += 1;
                }
            }
        }
        changed
    }

    /// The trade of an identity.
    pub fn get(&self, key: Key) -> Option<Trade> {
        self.all.iter().find_map(|p| p.trades.find(key).map(|at| p.trades.get(at)))
    }

    /// Writes the parts that changed: an outgrown one is split, an emptied one deleted.
    pub fn write(&mut self, c: &Conn, instrument: i32, day: TradeDate) {
        let mut all = Vec::with_capacity(self.all.len());
        for mut part in std::mem::take(&mut self.all) {
            if !part.changed {
                all.push(part);
                continue;
            }
            if part.trades.is_empty() {
                if part.stored {
                    let sql =
                        c"DELETE FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2 AND part = $3";
                    let day = Arg::date(time::pg_days(day));
                    c.execute(Mode::Fresh, &DELETE, sql, &[Arg::int4(instrument), day, Arg::int4(part.number)]);
                }
                continue;
            }
            let pieces = part.trades.len().div_ceil(most());
            let step = part.trades.len().div_ceil(pieces);
            for k in 0..pieces {
                let range = k * step..((k + 1) * step).min(part.trades.len());
                let (number, stored) = if k == 0 {
                    (part.number, part.stored)
                } else {
                    self.next_number += 1;
                    (self.next_number - 1, false)
                };
                let payload = block::encode(&part.trades, range.clone()).or_raise();
                let ends = (part.trades.key(range.start), part.trades.key(range.end - 1));
                write_part(c, instrument, day, number, range.len(), ends, &payload, stored);
                let trades = if pieces == 1 { std::mem::take(&mut part.trades) } else { part.trades.slice(range) };
                all.push(Part { number, trades, stored: true, changed: false });
                pg_sys::check_for_interrupts!();
            }
        }
        self.all = all;
    }
}

/// Stores one encoded part, new or over its old content.
#[expect(clippy::too_many_arguments, reason = "the columns of one row")]
pub fn write_part(
    c: &Conn,
    instrument: i32,
    day: TradeDate,
    number: i32,
    n: usize,
    ends: (Key, Key),
    payload: &[u8],
    replace: bool,
) {
    let [a, b, d, e] = key_args(ends.0);
    let [f, g, h, i] = key_args(ends.1);
    let payload = Arg::bytea(payload);
    let args = [
        Arg::int4(instrument),
        Arg::date(time::pg_days(day)),
        Arg::int4(number),
        Arg::int4(n as i32),
        a,
        b,
        d,
        e,
        f,
        g,
        h,
        i,
        payload,
    ];
    if replace {
        c.execute(
            Mode::Fresh,
            &UPDATE,
            c"UPDATE market.trade_blocks SET n = $4, first_ts = $5, first_ns = $6, first_seq = $7, first_sub = $8,
                     last_ts = $9, last_ns = $10, last_seq = $11, last_sub = $12, payload = $13
              WHERE instrument_id = $1 AND trade_date = $2 AND part = $3",
            &args,
        );
    } else {
        c.execute(
            Mode::Fresh,
            &INSERT,
            c"INSERT INTO market.trade_blocks (instrument_id, trade_date, part, n, first_ts, first_ns, first_seq, first_sub,
                     last_ts, last_ns, last_seq, last_sub, payload)
              VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            &args,
        );
    }
    payload.free();
}

fn key_at(trades: &Trades, at: usize) -> Option<Key> {
    (at < trades.len()).then(|| trades.key(at))
}

/// The trades but those at these places, which are in order.
fn without(trades: &Trades, gone: &[usize]) -> Trades {
    let mut kept = Trades::with_capacity(trades.len());
    let mut from = 0;
    for &at in gone {
        kept.append_range(trades, from..at);
        from = at + 1;
    }
    kept.append_range(trades, from..trades.len());
    kept
}
