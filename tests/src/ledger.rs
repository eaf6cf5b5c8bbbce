//! What a store of trades must answer, kept in memory as a slow reader of the manual would: what was reported, what was
//! sealed, what was said about a trade afterwards. No code of the store.
//!
//! Every step is a list of [`Effect`]s, so that a transaction is the effects it had and a rollback forgets them.

use market::{Correction, Key, Trade};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of one instrument.
#[derive(Clone, Default, Debug)]
pub struct Book {
    /// Reported and not sealed, by a number of our own.
    pub rows: BTreeMap<u64, Trade>,
    /// Sealed, as corrected when it was sealed.
    pub sealed: BTreeMap<Key, Trade>,
    /// What was said of each identity, the last word last.
    pub words: BTreeMap<Key, Vec<Correction>>,
    /// Identities with a tombstone or correction that is not sealed.
    pub marks: BTreeSet<Key>,
    /// Sealed sessions, and how often each was revised; `None` where a calendar's change made that hard to tell.
    pub states: BTreeMap<i32, Option<i32>>,
}

/// A session's label and the stretch of time whose trades are filed under it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Trade date, in days.
    pub date: i32,
    /// First instant.
    pub from: i64,
    /// First instant after it.
    pub till: i64,
}

impl Window {
    /// Whether an instant is in it.
    pub fn holds(&self, ts: i64) -> bool {
        self.from <= ts && ts < self.till
    }
}

/// One thing that a step changes.
#[derive(Clone, Debug)]
pub enum Effect {
    /// A row came.
    Row(usize, u64, Trade),
    /// A row went into a block, or nowhere.
    Gone(usize, u64),
    /// A sealed trade is this now, or is no more.
    Sealed(usize, Key, Option<Trade>),
    /// A bust or correction was said.
    Said(usize, Key, Correction),
    /// An identity has a mark among the rows, or has none any more.
    Marked(usize, Key, bool),
    /// A session's state; the outer `None` if it has no bars.
    State(usize, i32, Option<Option<i32>>),
    /// The calendar in force.
    Calendar(usize),
}

/// Everything a transaction can see.
#[derive(Clone, Default, Debug)]
pub struct Ledger {
    /// By instrument.
    pub books: Vec<Book>,
    /// Which of the test's calendars is in force.
    pub calendar: usize,
}

/// What `put_trades` answers: added, known, conflicts.
pub type Counts = (i64, i64, i64);

/// Of several rows of an identity the one received first counts; of those the least, column by column.
fn least<'t>(rows: impl Iterator<Item = &'t Trade>) -> Option<Trade> {
    rows.min_by_key(|t| (t.ts_recv, t.price, t.size, t.flags, t.cond, t.trade_id)).copied()
}

impl Book {
    fn row(&self, key: Key) -> Option<Trade> {
        least(self.rows.values().filter(|t| t.key() == key))
    }

    fn word(&self, key: Key) -> Option<Correction> {
        self.words.get(&key).and_then(|words| words.last()).copied()
    }

    /// The trade of an identity, sealed before row, without what was said of it.
    pub fn reported(&self, key: Key) -> Option<Trade> {
        self.sealed.get(&key).copied().or_else(|| self.row(key))
    }

    fn seen(&self, key: Key) -> Option<Trade> {
        let reported = self.reported(key)?;
        self.word(key).map_or(Some(reported), |word| word.apply(reported))
    }

    /// Every identity that ever came and is still held.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.sealed.keys().copied().chain(self.rows.values().map(Trade::key)).collect()
    }

    /// The trades a reader sees, in order.
    pub fn visible(&self) -> Vec<Trade> {
        let mut rows: BTreeMap<Key, Vec<Trade>> = BTreeMap::new();
        for t in self.rows.values() {
            rows.entry(t.key()).or_default().push(*t);
        }
        let mut all: BTreeMap<Key, Trade> = rows.iter().filter_map(|(k, r)| Some((*k, least(r.iter())?))).collect();
        all.extend(self.sealed.iter().map(|(k, t)| (*k, *t)));
        all.into_iter().filter_map(|(key, t)| self.word(key).map_or(Some(t), |word| word.apply(t))).collect()
    }

    /// Whether rows or marks of a session wait for its seal.
    pub fn waits(&self, w: &Window) -> bool {
        self.rows.values().any(|t| w.holds(t.ts)) || self.marks.iter().any(|k| w.holds(k.ts))
    }

    fn sealed_of(&self, w: &Window) -> BTreeMap<Key, Trade> {
        self.sealed.iter().filter(|(k, _)| w.holds(k.ts)).map(|(k, t)| (*k, *t)).collect()
    }

    /// The effects of a session's sealed trades becoming these.
    fn become_sealed(&self, at: usize, w: &Window, after: &BTreeMap<Key, Trade>, effects: &mut Vec<Effect>) {
        let before = self.sealed_of(w);
        for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
            if before.get(key) != after.get(key) {
                effects.push(Effect::Sealed(at, *key, after.get(key).copied()));
            }
        }
        if before == *after && self.states.contains_key(&w.date) {
            return;
        }
        let state = match self.states.get(&w.date) {
            _ if after.is_empty() => None,
            None => Some(Some(0)),
            Some(revised) => Some(revised.map(|n| n + 1)),
        };
        effects.push(Effect::State(at, w.date, state));
    }

    /// Sealed trades of a session with everything applied that was said of them.
    fn with_words(&self, trades: BTreeMap<Key, Trade>) -> BTreeMap<Key, Trade> {
        let said = |(k, t): (Key, Trade)| Some((k, self.word(k).map_or(Some(t), |word| word.apply(t))?));
        trades.into_iter().filter_map(said).collect()
    }
}

impl Ledger {
    /// Changes what is known.
    pub fn apply(&mut self, effect: &Effect) {
        match *effect {
            Effect::Row(b, id, t) => {
                self.books[b].rows.insert(id, t);
            }
            Effect::Gone(b, id) => {
                self.books[b].rows.remove(&id);
            }
            Effect::Sealed(b, key, Some(t)) => {
                self.books[b].sealed.insert(key, t);
            }
            Effect::Sealed(b, key, None) => {
                self.books[b].sealed.remove(&key);
            }
            Effect::Said(b, key, word) => self.books[b].words.entry(key).or_default().push(word),
            Effect::Marked(b, key, true) => {
                self.books[b].marks.insert(key);
            }
            Effect::Marked(b, key, false) => {
                self.books[b].marks.remove(&key);
            }
            Effect::State(b, date, Some(revised)) => {
                self.books[b].states.insert(date, revised);
            }
            Effect::State(b, date, None) => {
                self.books[b].states.remove(&date);
            }
            Effect::Calendar(n) => self.calendar = n,
        }
    }

    /// `seal` of a session that is over.
    pub fn seal(&self, at: usize, w: &Window) -> Vec<Effect> {
        let book = &self.books[at];
        if !book.waits(w) {
            return Vec::new();
        }
        let mut effects = Vec::new();
        let mut after = book.sealed_of(w);
        for (id, t) in book.rows.iter().filter(|(_, t)| w.holds(t.ts)) {
            effects.push(Effect::Gone(at, *id));
            if let Some(first) = book.row(t.key()) {
                after.entry(t.key()).or_insert(first);
            }
        }
        effects.extend(book.marks.iter().filter(|k| w.holds(k.ts)).map(|k| Effect::Marked(at, *k, false)));
        let after = book.with_words(after);
        if after != book.sealed_of(w) {
            book.become_sealed(at, w, &after, &mut effects);
        }
        effects
    }

    /// `put_trades` of some trades of one session.
    pub fn put(&self, at: usize, w: &Window, trades: &[Trade]) -> (Vec<Effect>, Counts) {
        let book = &self.books[at];
        let before = book.sealed_of(w);
        let sent: BTreeMap<Key, Trade> = trades.iter().map(|t| (t.key(), *t)).collect();
        if book.states.contains_key(&w.date) && sent == before {
            return (Vec::new(), (0, trades.len() as i64, 0));
        }
        let (mut after, mut counts) = (before.clone(), (0, 0, 0));
        for t in trades {
            let word = book.word(t.key());
            match (before.get(&t.key()), book.row(t.key())) {
                _ if word == Some(Correction::Bust) => counts.1 += 1,
                (Some(_), _) if word.is_some() => counts.1 += 1,
                (Some(stored), _) if stored == t => counts.1 += 1,
                (None, Some(row)) if row == *t => counts.1 += 1,
                (None, None) => {
                    counts.0 += 1;
                    after.insert(t.key(), *t);
                }
                _ => counts.2 += 1,
            }
        }
        let after = book.with_words(after);
        let mut effects = Vec::new();
        if after != before {
            book.become_sealed(at, w, &after, &mut effects);
        }
        (effects, counts)
    }

    /// `bust_trade` and `correct_trade`, the identity given in full; whether a reader saw the trade.
    pub fn say(&self, at: usize, key: Key, word: Correction) -> (Vec<Effect>, bool) {
        let book = &self.books[at];
        let there = book.reported(key);
        let named = book.words.get(&key).into_iter().flatten().rev().find_map(|w| match w {
            Correction::Replace { flags, .. } => *flags,
            Correction::Bust => None,
        });
        let word = match word {
            Correction::Replace { price, size, flags } => {
                Correction::Replace { price, size, flags: flags.or(named).or(there.map(|t| t.flags)) }
            }
            Correction::Bust => Correction::Bust,
        };
        (vec![Effect::Said(at, key, word), Effect::Marked(at, key, there.is_some())], book.seen(key).is_some())
    }

    /// A calendar comes into force: which sealed sessions there are under it, and no more of them than that.
    pub fn publish(&self, calendar: usize, windows: &[Window]) -> Vec<Effect> {
        let mut effects = vec![Effect::Calendar(calendar)];
        for (at, book) in self.books.iter().enumerate() {
            effects.extend(book.states.keys().map(|date| Effect::State(at, *date, None)));
            for w in windows.iter().filter(|w| !book.sealed_of(w).is_empty()) {
                effects.push(Effect::State(at, w.date, Some(None)));
            }
        }
        effects
    }
}
