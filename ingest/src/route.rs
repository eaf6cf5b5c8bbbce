//! Filing: trades of many instruments and days, in whatever order a file has them, into whole sessions.
//!
//! Memory is bounded and files need not be sorted. A session is collected until the stream has moved past it (no trade
//! of it among the last [`Limits::idle`] trades), or its buffer is full, or all buffers together are; then it is handed on as a
//! [`Job`]. If more trades of it come later they make another job: `put_trades` merges by identity, so that only costs
//! time. A file sorted by time therefore sends every session once; a shuffled one sends each about
//! `trades / Limits::held` times.

use crate::Result;
use crate::db::{Instrument, Resolve};
use crate::feed::{Batch, Name};
use market::TradeDate;
use market::trade::{Trade, Trades};
use std::collections::HashMap;
use std::sync::Arc;

/// Trades of one instrument and trade date.
pub struct Job {
    /// Whose.
    pub instrument: Arc<Instrument>,
    /// Filed under this date by the instrument's calendar.
    pub trade_date: TradeDate,
    /// In the order of the file.
    pub trades: Trades,
}

/// How much is held back, in trades.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A session without a trade among this many is over.
    pub idle: u64,
    /// The most that is held of one session; half of what `put_trades` takes.
    pub session: usize,
    /// The most that is held in all (60 bytes each).
    pub held: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { idle: 500_000, session: 2_000_000, held: 4_000_000 }
    }
}

/// What a name stands for, and the session its last trade was in.
struct Stream {
    name: Name,
    symbol: String,
    instrument: Option<Arc<Instrument>>,
    from: i64,
    till: i64,
    slot: usize,
}

struct Slot {
    instrument: Arc<Instrument>,
    trade_date: TradeDate,
    trades: Trades,
    touched: u64,
}

/// Collects sessions.
pub struct Router {
    limits: Limits,
    streams: Vec<Stream>,
    slots: Vec<Option<Slot>>,
    open: HashMap<(i32, TradeDate), usize>,
    clock: u64,
    held: usize,
    next_look: u64,
    instruments: HashMap<i32, bool>,
}

impl Router {
    /// Nothing collected yet.
    pub fn new(limits: Limits) -> Router {
        Router {
            limits,
            streams: vec![],
            slots: vec![],
            open: HashMap::new(),
            clock: 0,
            held: 0,
            next_look: limits.idle / 4,
            instruments: HashMap::new(),
        }
    }

    /// Tells the router names that batches will refer to.
    pub fn learn(&mut self, names: impl IntoIterator<Item = Name>) {
        self.streams.extend(names.into_iter().map(|name| Stream {
            name,
            symbol: String::new(),
            instrument: None,
            from: i64::MAX,
            till: i64::MIN,
            slot: usize::MAX,
        }));
    }

    /// Instruments seen, and how many of them were made.
    pub fn instruments(&self) -> (usize, usize) {
        (self.instruments.len(), self.instruments.values().filter(|created| **created).count())
    }

    /// Files a batch; finished sessions go to `done`.
    ///
    /// # Errors
    /// A name without an instrument, or whatever `done` returns.
    pub fn file(
        &mut self,
        batch: &Batch,
        resolve: &mut dyn Resolve,
        done: &mut dyn FnMut(Job) -> Result<()>,
    ) -> Result<()> {
        let (names, ts) = (&batch.names, &batch.trades.ts);
        let mut at = 0;
        while at < names.len() {
            let name = names[at];
            let stream = &self.streams[name as usize];
            if !(stream.from..stream.till).contains(&ts[at]) || self.slots[stream.slot].is_none() {
                self.turn(name as usize, ts[at], resolve)?;
            }
            let stream = &self.streams[name as usize];
            let (from, till) = (stream.from, stream.till);
            let mut end = at + 1;
            while end < names.len() && names[end] == name && from <= ts[end] && ts[end] < till {
                end += 1;
            }
            // `turn` has just filled the slot.
            let Some(slot) = self.slots[stream.slot].as_mut() else { continue };
            slot.touched = self.clock + at as u64;
            if end - at == 1 {
                slot.trades.push(batch.trades.get(at));
            } else {
                slot.trades.append_range(&batch.trades, at..end);
            }
            self.held += end - at;
            if slot.trades.len() >= self.limits.session {
                let slot = stream.slot;
                self.finish(slot, done)?;
            }
            at = end;
        }
        self.clock += names.len() as u64;
        if self.clock >= self.next_look {
            self.next_look = self.clock + self.limits.idle / 4;
            self.finish_idle(done)?;
        }
        if self.held > self.limits.held {
            self.finish_until(self.limits.held / 2, done)?;
        }
        Ok(())
    }

    /// Hands on everything that is left.
    ///
    /// # Errors
    /// Whatever `done` returns.
    pub fn finish_all(&mut self, done: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        self.finish_until(0, done)
    }

    /// Forgets what has been collected, after an error.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The instrument of a name at a date.
    ///
    /// # Errors
    /// A name without an instrument.
    pub fn instrument(&mut self, name: u32, near: TradeDate, resolve: &mut dyn Resolve) -> Result<Arc<Instrument>> {
        let stream = &mut self.streams[name as usize];
        let symbol = market::Symbol::parse(&stream.name.symbol, near)?.to_string();
        if let Some(known) = stream.instrument.as_ref().filter(|_| stream.symbol == symbol) {
            return Ok(Arc::clone(known));
        }
        let found = resolve.resolve(&stream.name, near)?;
        stream.instrument = Some(Arc::clone(&found));
        stream.symbol = symbol;
        *self.instruments.entry(found.id).or_default() |= found.created;
        Ok(found)
    }

    /// The stream's trades are in another session from now on, perhaps of another instrument: `ESZ5` is another contract
    /// ten years on.
    fn turn(&mut self, name: usize, ts: i64, resolve: &mut dyn Resolve) -> Result<()> {
        let near = TradeDate(ts.div_euclid(market::time::DAY) as i32);
        let instrument = self.instrument(name as u32, near, resolve)?;
        let stream = &mut self.streams[name];
        let filing = instrument.calendar.filing(ts);
        (stream.from, stream.till) = (filing.from, filing.till);
        let key = (instrument.id, filing.trade_date);
        if let Some(slot) = self.open.get(&key) {
            stream.slot = *slot;
            return Ok(());
        }
        let fresh = Slot { instrument, trade_date: filing.trade_date, trades: Trades::new(), touched: self.clock };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.slots.push(None);
                self.slots.len() - 1
            }
        };
        self.slots[slot] = Some(fresh);
        self.open.insert(key, slot);
        stream.slot = slot;
        Ok(())
    }

    fn finish(&mut self, slot: usize, done: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        let Some(Slot { instrument, trade_date, trades, .. }) = self.slots[slot].take() else { return Ok(()) };
        self.open.remove(&(instrument.id, trade_date));
        self.held -= trades.len();
        // Whoever pointed here has to look again: the slot may become another session's.
        for stream in self.streams.iter_mut().filter(|s| s.slot == slot) {
            (stream.from, stream.till) = (i64::MAX, i64::MIN);
        }
        if trades.is_empty() {
            return Ok(());
        }
        done(Job { instrument, trade_date, trades })
    }

    fn finish_idle(&mut self, done: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        let before = self.clock.saturating_sub(self.limits.idle);
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|s| s.touched < before) {
                self.finish(slot, done)?;
            }
        }
        Ok(())
    }

    /// Oldest first, until no more than `keep` trades are held.
    fn finish_until(&mut self, keep: usize, done: &mut dyn FnMut(Job) -> Result<()>) -> Result<()> {
        let mut order: Vec<(u64, usize)> =
            self.slots.iter().enumerate().filter_map(|(i, s)| Some((s.as_ref()?.touched, i))).collect();
        order.sort_unstable();
        for (_, slot) in order {
            if self.held <= keep && keep > 0 {
                break;
            }
            self.finish(slot, done)?;
        }
        Ok(())
    }
}

/// What is wrong inside one job, before the server sees it.
#[derive(Debug, Default, PartialEq)]
pub struct Settled {
    /// Trades that are in the job twice, the same to the last field.
    pub repeated: u64,
    /// Trades with the identity of an earlier one and other content.
    pub conflicts: Vec<Trade>,
}

/// Sorts by identity and leaves each identity once; the first of the file wins.
pub fn settle(trades: &mut Trades) -> Settled {
    let mut settled = Settled::default();
    if trades.is_strictly_sorted() {
        return settled;
    }
    if !trades.is_sorted() {
        trades.sort_by_key();
    }
    if trades.is_strictly_sorted() {
        return settled;
    }
    let mut unique = Trades::with_capacity(trades.len());
    for trade in trades.iter() {
        match unique.len().checked_sub(1) {
            Some(last) if unique.key(last) == trade.key() => {
                if unique.get(last).same_report(&trade) {
                    settled.repeated += 1;
                } else {
                    settled.conflicts.push(trade);
                }
            }
            _ => unique.push(trade),
        }
    }
    *trades = unique;
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Creating, Local};
    use market::time::{DAY, HOUR};

    const DAY_ONE: i64 = 19_723 * DAY; // 2024-01-01

    fn batch(rows: &[(u32, i64)]) -> Batch {
        let mut batch = Batch::default();
        for (i, (name, ts)) in rows.iter().enumerate() {
            batch.push(*name, Trade { ts: *ts, seq: i as i64, price: 1, size: 1, ..Trade::default() });
        }
        batch
    }

    fn route(limits: Limits, batches: &[Batch]) -> Vec<(String, String, usize)> {
        let mut router = Router::new(limits);
        let always = crate::feed::Defaults { calendar: Some("24/7".into()), ..Default::default() };
        router.learn([
            Name { symbol: "BTC-USD".into(), defaults: always.clone() },
            Name { symbol: "ETH-USD".into(), defaults: always },
            Name { symbol: "ESZ5".into(), defaults: Default::default() },
        ]);
        let mut resolve = Local::new(Creating::default());
        let mut jobs = vec![];
        let mut done = |job: Job| {
            jobs.push((job.instrument.symbol.clone(), job.trade_date.to_string(), job.trades.len()));
            Ok(())
        };
        for batch in batches {
            router.file(batch, &mut resolve, &mut done).expect("known names");
        }
        router.finish_all(&mut done).expect("nothing refuses");
        assert_eq!(router.held(), 0);
        jobs.sort();
        jobs
    }

    #[test]
    fn interleaved_instruments_and_days_become_whole_sessions() {
        let rows: Vec<(u32, i64)> = (0..4000).map(|i| ((i % 2) as u32, DAY_ONE + (i * 7919 % 48) * HOUR)).collect();
        let jobs = route(Limits::default(), &[batch(&rows)]);
        assert_eq!(jobs.len(), 4);
        assert_eq!(jobs.iter().map(|j| j.2).sum::<usize>(), 4000);
        assert_eq!((jobs[0].0.as_str(), jobs[0].1.as_str()), ("BTC-USD", "2024-01-01"));
    }

    #[test]
    fn a_session_is_handed_on_when_the_stream_has_moved_past_it() {
        let limits = Limits { idle: 100, ..Limits::default() };
        let first = batch(&vec![(0, DAY_ONE); 60]);
        let later = batch(&vec![(0, DAY_ONE + DAY); 200]);
        let again = batch(&[(0, DAY_ONE); 5]);
        let jobs = route(limits, &[first, later, again]);
        let sizes: Vec<_> = jobs.iter().map(|j| (j.1.as_str(), j.2)).collect();
        assert_eq!(sizes, [("2024-01-01", 5), ("2024-01-01", 60), ("2024-01-02", 200)]);
    }

    #[test]
    fn no_more_is_held_than_allowed() {
        let limits = Limits { held: 500, session: 400, idle: u64::MAX };
        let rows: Vec<(u32, i64)> = (0..5000).map(|i| (0, DAY_ONE + (i % 10) * DAY)).collect();
        let batches: Vec<Batch> = rows.chunks(100).map(batch).collect();
        let jobs = route(limits, &batches);
        assert_eq!(jobs.iter().map(|j| j.2).sum::<usize>(), 5000);
        assert!(jobs.len() > 10);
    }

    #[test]
    fn a_contract_with_a_year_of_one_digit_is_the_nearest_one() {
        let ten_years = 3653 * DAY;
        let jobs = route(Limits::default(), &[batch(&[(2, DAY_ONE), (2, DAY_ONE - ten_years)])]);
        let symbols: Vec<_> = jobs.iter().map(|j| j.0.as_str()).collect();
        assert_eq!(symbols, ["ESZ15", "ESZ25"]);
    }

    #[test]
    fn repeated_trades_are_known_and_changed_ones_are_conflicts() {
        let trade = |ts, price| Trade { ts, price, ..Trade::default() };
        let mut trades = Trades::new();
        for t in [trade(2, 5), trade(1, 4), trade(2, 5), trade(2, 6)] {
            trades.push(t);
        }
        let settled = settle(&mut trades);
        assert_eq!((settled.repeated, settled.conflicts), (1, vec![trade(2, 6)]));
        assert_eq!(trades.iter().collect::<Vec<_>>(), [trade(1, 4), trade(2, 5)]);
    }
}
