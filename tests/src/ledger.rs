//! What a store of trades must answer, kept in memory as a slow reader of the manual would: what was reported, what was
//! sealed, what was said about a trade afterwards. No code of the store.
//!
//! Every step is a list of [`Effect`]s, so that a transaction is the effects it had and a rollback forgets them.

use market::{Correction, Key, NONE_I64, Trade};
use std::collections::{BTreeMap, BTreeSet};

/// What a sealed session's bars are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// A gap of its feed was open when it was sealed.
    Provisional,
    /// Final, and revised so often; `None` where a calendar's change made that hard to tell.
    Sealed(Option<i32>),
    /// A calendar's change met a gap: either of them.
    Unknown,
}

/// What is known of one instrument.
#[derive(Clone, Default, Debug)]
pub struct Book {
    /// Reported and not sealed, by a number of our own.
    pub rows: BTreeMap<u64, Trade>,
    /// Sealed, as corrected when it was sealed.
    pub sealed: BTreeMap<Key, Trade>,
    /// What was said of each identity and since when it is known, in the order in which it was said.
    pub words: BTreeMap<Key, Vec<(i64, Correction)>>,
    /// What the first of the words was said of.
    pub reports: BTreeMap<Key, Trade>,
    /// Identities with a tombstone or correction that is not sealed.
    pub marks: BTreeSet<Key>,
    /// Sealed sessions.
    pub states: BTreeMap<i32, State>,
    /// The stretches that open gaps of the feed are about, by their numbers in the database.
    pub gaps: BTreeMap<i64, (i64, i64)>,
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
    /// A bust or correction was said, known since an instant.
    Said(usize, Key, i64, Correction),
    /// What was said of an identity is said of this.
    Reported(usize, Key, Trade),
    /// An identity has a mark among the rows, or has none any more.
    Marked(usize, Key, bool),
    /// A session's state; `None` if it has no bars.
    State(usize, i32, Option<State>),
    /// A gap of the feed was noticed, or closed.
    Gap(usize, i64, Option<(i64, i64)>),
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

/// Since when a trade is known: its receipt, or its event time where nobody noted one.
fn known(t: &Trade) -> i64 {
    if t.ts_recv == NONE_I64 { t.ts } else { t.ts_recv }
}

/// Whether two reports are one, whenever they were received.
fn same(a: &Trade, b: &Trade) -> bool {
    *a == Trade { ts_recv: a.ts_recv, ..*b }
}

impl Book {
    fn row(&self, key: Key) -> Option<Trade> {
        least(self.rows.values().filter(|t| t.key() == key))
    }

    /// The last word on an identity that was known at an instant; flags that it does not name are those of the word before.
    pub fn word(&self, key: Key, until: i64) -> Option<Correction> {
        let mut words: Vec<_> = self.words.get(&key)?.iter().filter(|(known, _)| *known <= until).collect();
        words.sort_by_key(|(known, _)| *known);
        let mut before = None;
        let mut last = None;
        for (_, word) in words {
            last = Some(*word);
            if let Correction::Replace { price, size, flags } = *word {
                before = flags.or(before);
                last = Some(Correction::Replace { price, size, flags: before });
            }
        }
        last
    }

    /// The trade of an identity, sealed before row, without what was said of it.
    pub fn reported(&self, key: Key) -> Option<Trade> {
        self.sealed.get(&key).copied().or_else(|| self.row(key))
    }

    fn seen(&self, key: Key) -> Option<Trade> {
        let reported = self.reports.get(&key).copied().or_else(|| self.reported(key))?;
        self.word(key, i64::MAX).map_or(Some(reported), |word| word.apply(reported))
    }

    /// Every identity that ever came and is still held.
    pub fn keys(&self) -> BTreeSet<Key> {
        self.sealed.keys().copied().chain(self.rows.values().map(Trade::key)).collect()
    }

    /// The trades a reader sees, in order.
    pub fn visible(&self) -> Vec<Trade> {
        self.visible_at(i64::MAX)
    }

    /// The trades a reader sees who asks what was known at an instant, in order.
    pub fn visible_at(&self, until: i64) -> Vec<Trade> {
        let mut rows: BTreeMap<Key, Vec<Trade>> = BTreeMap::new();
        for t in self.rows.values().filter(|t| known(t) <= until) {
            rows.entry(t.key()).or_default().push(*t);
        }
        let mut all: BTreeMap<Key, Trade> = rows.iter().filter_map(|(k, r)| Some((*k, least(r.iter())?))).collect();
        all.extend(self.sealed.iter().filter(|(_, t)| known(t) <= until).map(|(k, t)| (*k, *t)));
        for (key, t) in &self.reports {
            if known(t) <= until {
                all.insert(*key, *t);
            } else {
                all.remove(key);
            }
        }
        let said = |(key, t): (Key, Trade)| self.word(key, until).map_or(Some(t), |word| word.apply(t));
        all.into_iter().filter_map(said).collect()
    }

    /// Instants at which something became known.
    pub fn instants(&self) -> BTreeSet<i64> {
        let trades = self.rows.values().chain(self.sealed.values()).chain(self.reports.values()).map(known);
        trades.chain(self.words.values().flatten().map(|(known, _)| *known)).collect()
    }

    /// Whether the feed has an open gap in a session.
    fn has_gap(&self, w: &Window) -> bool {
        self.gaps.values().any(|(from, till)| *from < w.till && *till >= w.from)
    }

    /// Makes a session final that a gap kept provisional, if none does any more.
    fn finish(&self, at: usize, w: &Window, effects: &mut Vec<Effect>) {
        if self.states.get(&w.date) == Some(&State::Provisional) && !self.has_gap(w) {
            effects.push(Effect::State(at, w.date, Some(State::Sealed(Some(0)))));
        }
    }

    /// What was said of identities of a session is said of these, unless it was said of others before.
    fn report(&self, at: usize, w: &Window, came: impl Fn(Key) -> Option<Trade>) -> Vec<Effect> {
        let said = self.words.keys().filter(|key| w.holds(key.ts) && !self.reports.contains_key(key));
        said.filter_map(|key| Some(Effect::Reported(at, *key, came(*key)?))).collect()
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
            None | Some(State::Provisional) if self.has_gap(w) => Some(State::Provisional),
            None | Some(State::Provisional) => Some(State::Sealed(Some(0))),
            Some(State::Sealed(revised)) => Some(State::Sealed(revised.map(|n| n + 1))),
            Some(State::Unknown) => Some(State::Unknown),
        };
        effects.push(Effect::State(at, w.date, state));
    }

    /// Sealed trades of a session with everything applied that was said of them.
    fn with_words(&self, trades: BTreeMap<Key, Trade>) -> BTreeMap<Key, Trade> {
        let said = |(k, t): (Key, Trade)| match self.word(k, i64::MAX) {
            None => Some((k, t)),
            Some(word) => Some((k, word.apply(self.reports.get(&k).copied().unwrap_or(t))?)),
        };
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
            Effect::Said(b, key, known, word) => self.books[b].words.entry(key).or_default().push((known, word)),
            Effect::Reported(b, key, t) => {
                self.books[b].reports.entry(key).or_insert(t);
            }
            Effect::Gap(b, id, Some(gap)) => {
                self.books[b].gaps.insert(id, gap);
            }
            Effect::Gap(b, id, None) => {
                self.books[b].gaps.remove(&id);
            }
            Effect::Marked(b, key, true) => {
                self.books[b].marks.insert(key);
            }
            Effect::Marked(b, key, false) => {
                self.books[b].marks.remove(&key);
            }
            Effect::State(b, date, Some(state)) => {
                self.books[b].states.insert(date, state);
            }
            Effect::State(b, date, None) => {
                self.books[b].states.remove(&date);
            }
            Effect::Calendar(n) => self.calendar = n,
        }
    }

    /// The ledger after effects that are not in it yet.
    fn after(&self, effects: &[Effect]) -> Ledger {
        let mut after = self.clone();
        effects.iter().for_each(|effect| after.apply(effect));
        after
    }

    /// `seal` of a session that is over.
    pub fn seal(&self, at: usize, w: &Window) -> Vec<Effect> {
        let book = &self.books[at];
        let mut effects = Vec::new();
        if !book.waits(w) {
            book.finish(at, w, &mut effects);
            return effects;
        }
        effects.extend(book.report(at, w, |key| book.reported(key)));
        let book = &self.after(&effects).books[at];
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
        } else {
            book.finish(at, w, &mut effects);
        }
        effects
    }

    /// `put_trades` of some trades of one session.
    pub fn put(&self, at: usize, w: &Window, trades: &[Trade]) -> (Vec<Effect>, Counts) {
        let book = &self.books[at];
        let before = book.sealed_of(w);
        let sent: BTreeMap<Key, Trade> = trades.iter().map(|t| (t.key(), *t)).collect();
        let mut effects = Vec::new();
        if book.states.contains_key(&w.date) && sent == before {
            book.finish(at, w, &mut effects);
            return (effects, (0, trades.len() as i64, 0));
        }
        effects.extend(book.report(at, w, |key| book.reported(key).or_else(|| sent.get(&key).copied())));
        let book = &self.after(&effects).books[at];
        let (mut after, mut counts) = (before.clone(), (0, 0, 0));
        for t in trades {
            let word = book.word(t.key(), i64::MAX);
            // what was reported first is what was corrected
            let came = if word.is_some() { book.reports.get(&t.key()).unwrap_or(t) } else { t };
            match (before.get(&t.key()), book.row(t.key())) {
                _ if word == Some(Correction::Bust) => counts.1 += 1,
                (Some(_), _) if word.is_some() => counts.1 += 1,
                (Some(stored), _) if same(stored, t) => counts.1 += 1,
                (None, Some(row)) if same(&row, came) => counts.1 += 1,
                (None, None) => {
                    counts.0 += 1;
                    after.insert(t.key(), *t);
                }
                _ => counts.2 += 1,
            }
        }
        let after = book.with_words(after);
        if after != before {
            book.become_sealed(at, w, &after, &mut effects);
        }
        (effects, counts)
    }

    /// `bust_trade` and `correct_trade`, the identity given in full, known since an instant; whether a reader saw the trade.
    pub fn say(&self, at: usize, key: Key, known: i64, word: Correction) -> (Vec<Effect>, bool) {
        let book = &self.books[at];
        let there = book.reports.get(&key).copied().or_else(|| book.reported(key));
        let mut effects: Vec<Effect> = there.iter().map(|t| Effect::Reported(at, key, *t)).collect();
        effects.extend([Effect::Said(at, key, known, word), Effect::Marked(at, key, there.is_some())]);
        (effects, book.seen(key).is_some())
    }

    /// A calendar comes into force: which sealed sessions there are under it, and no more of them than that.
    pub fn publish(&self, calendar: usize, windows: &[Window]) -> Vec<Effect> {
        let mut effects = vec![Effect::Calendar(calendar)];
        for (at, book) in self.books.iter().enumerate() {
            effects.extend(book.states.keys().map(|date| Effect::State(at, *date, None)));
            for w in windows.iter().filter(|w| !book.sealed_of(w).is_empty()) {
                let doubtful = matches!(book.states.get(&w.date), Some(State::Provisional | State::Unknown));
                let state = if doubtful || book.has_gap(w) { State::Unknown } else { State::Sealed(None) };
                effects.push(Effect::State(at, w.date, Some(state)));
            }
        }
        effects
    }
}
