//! Versions of a calendar side by side: each day as the version has it under which its trades are stored.

use super::{Grid, Pattern};
use crate::calendar::{Calendar, Inner};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::time::{DAY, TradeDate};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

impl Calendar {
    /// This calendar, but each of these days as another version has it: its session, or that there is none. Where a window
    /// of one version meets one of another, the later says where they meet, as long as it is between the hours of both.
    ///
    /// # Errors
    /// `InvalidSpec` where a session of one version opens before that of another closes, or where only one of them restarts
    /// its bars at segments.
    pub fn with_days(&self, days: &BTreeMap<TradeDate, Calendar>) -> Result<Calendar> {
        let own = self.all().filter(|session| !days.contains_key(&session.trade_date)).map(|session| (self, session));
        let mut all: Vec<(&Calendar, Session<'_>)> = own.collect();
        for (day, version) in days {
            if version.inner.spec.restart_at_segments != self.inner.spec.restart_at_segments {
                return Err(self.unmixable(format!("its versions differ in whether segments restart bars, on {day}")));
            }
            all.extend(version.session(*day)?.map(|session| (version, session)));
        }
        all.sort_unstable_by_key(|(_, session)| session.trade_date);
        let mut making = Making::default();
        making.grid.notes.push(String::new());
        making.grid.start = all.first().map_or(0, |(_, session)| session.from);
        let mut tills = Vec::with_capacity(all.len());
        for (at, (of, session)) in all.iter().enumerate() {
            let till = match all.get(at + 1) {
                Some((next_of, next)) if !next_of.is_same(of) || next.from != session.till => {
                    let (close, open) = (end(session), start(next));
                    if open < close {
                        let reason = format!("{} opens before {} closes", next.trade_date, session.trade_date);
                        return Err(self.unmixable(reason));
                    }
                    let begins = Some(next.from).filter(|from| (close..=open).contains(from));
                    begins.unwrap_or(session.till.clamp(close, open))
                }
                _ => session.till,
            };
            tills.push(till);
            making.push(session, till);
        }
        making.grid.index(&tills);
        making.grid.closures = self.mixed_closures(days);
        let (spec, toml) = (self.inner.spec.clone(), Cow::Owned(self.inner.toml.to_string()));
        Ok(Calendar { inner: Arc::new(Inner { spec, grid: making.grid, toml }) })
    }

    fn unmixable(&self, reason: String) -> Error {
        Error::InvalidSpec { name: format!("calendar {}", self.id()), line: None, reason }
    }

    /// Holidays by the numbers they have in this calendar's file; one that only the other version names goes without a name.
    fn mixed_closures(&self, days: &BTreeMap<TradeDate, Calendar>) -> Vec<(TradeDate, u32)> {
        let own = self.inner.grid.closures.iter().filter(|(day, _)| !days.contains_key(day));
        let mut closures: Vec<(TradeDate, u32)> = own.copied().collect();
        for (day, version) in days {
            let name = version.closure(*day).ok().flatten();
            let number = name.and_then(|name| self.inner.spec.holidays.iter().position(|(known, _)| known == name));
            closures.extend(number.map(|number| (*day, number as u32)));
        }
        closures.sort_unstable();
        closures
    }
}

fn start(session: &Session<'_>) -> i64 {
    session.spans.first().map_or(session.open_auction_from, |span| span.open.min(session.open_auction_from))
}

fn end(session: &Session<'_>) -> i64 {
    let close = session.spans.last().map(|span| span.close);
    close.map_or(session.close_auction_until, |close| close.max(session.close_auction_until))
}

#[derive(Default)]
struct Making {
    grid: Grid,
    by_content: HashMap<Vec<i64>, u32>,
    by_note: HashMap<String, u32>,
}

impl Making {
    fn push(&mut self, session: &Session<'_>, till: i64) {
        let base = i64::from(session.trade_date.0) * DAY;
        let spans = session.spans.to_vec();
        let window = |(open, close): (i64, i64)| (open - base, close - base);
        let pattern = Pattern {
            first_span: self.grid.spans.len() as u32,
            spans: spans.len() as u32,
            note: self.note(session.note),
            clears_after: session.clearing_date.0 - session.trade_date.0,
            irregular: session.irregular,
            till: till - base,
            open_auction_from: session.open_auction_from - base,
            close_auction_until: session.close_auction_until - base,
            break_auction: window(session.break_auction),
            intraday_auction: window(session.intraday_auction),
        };
        let mut content = pattern.content().to_vec();
        content.extend(spans.iter().flat_map(|span| [span.segment as i64, span.open - base, span.close - base]));
        let next = self.grid.patterns.len() as u32;
        let number = *self.by_content.entry(content).or_insert(next);
        if number == next {
            self.grid.spans.extend(spans.into_iter().map(|mut span| {
                (span.open, span.close) = (span.open - base, span.close - base);
                span
            }));
            self.grid.patterns.push(pattern);
        }
        self.grid.dates.push(session.trade_date);
        self.grid.pattern_of.push(number);
    }

    fn note(&mut self, note: &str) -> u32 {
        if note.is_empty() {
            return 0;
        }
        if let Some(known) = self.by_note.get(note) {
            return *known;
        }
        let number = self.grid.notes.len() as u32;
        self.grid.notes.push(note.to_owned());
        self.by_note.insert(note.to_owned(), number);
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> TradeDate {
        TradeDate::parse(text).unwrap()
    }

    /// The pause on Saturday came with version 2 (CME_CRYPTO): a Monday of version 1 is beside Mondays of version 2.
    #[test]
    fn a_day_is_as_the_version_it_was_stored_under_has_it() {
        let (old, new) = (Calendar::kept("CME_CRYPTO", 1).unwrap().unwrap(), Calendar::builtin("CME_CRYPTO").unwrap());
        let (monday, next) = (date("2026-06-01"), date("2026-06-08"));
        let changed: Vec<_> = old.changes(&new).map(|(day, _)| day).take(2).collect();
        assert_eq!(changed, [monday, next]);
        let mixed = new.with_days(&BTreeMap::from([(monday, old.clone())])).unwrap();
        let left: Vec<_> = mixed.changes(&new).map(|(day, _)| day).collect();
        assert_eq!(left, [monday]);
        assert!(mixed.changes(&old).all(|(day, _)| day != monday));
        assert_eq!(mixed.version(), new.version());
        // every instant has one session
        let (first, last) = mixed.known();
        let mut before = mixed.window().0;
        for session in mixed.sessions(first, last).unwrap() {
            assert_eq!(session.from, before);
            for ts in [session.from, session.till - 1] {
                assert_eq!(mixed.trade_date(ts).unwrap(), session.trade_date);
            }
            before = session.till;
        }
        assert_eq!(before, mixed.window().1);
        let notes = |calendar: &Calendar| -> Vec<String> {
            calendar.sessions(first, last).unwrap().map(|session| session.note.to_owned()).collect()
        };
        assert_eq!(notes(&mixed), notes(&new));
    }

    #[test]
    fn a_day_that_one_version_closes_is_closed_and_says_why() {
        let open = Calendar::builtin("CME_EQUITY").unwrap();
        let text = open.toml().replace("[holidays]", "[closed]\n\"2024-03-12\" = \"flood\"\n[holidays]");
        let shut = Calendar::versioned(&text, 2).unwrap();
        // a Tuesday, and a Good Friday
        let (day, holiday) = (date("2024-03-12"), date("2024-03-29"));
        assert!(!shut.is_session(day).unwrap());
        let mixed = shut.with_days(&BTreeMap::from([(day, open.clone()), (holiday, open.clone())])).unwrap();
        assert!(mixed.is_session(day).unwrap());
        assert_eq!(mixed.closure(holiday).unwrap(), open.closure(holiday).unwrap());
        assert!(mixed.changes(&open).next().is_none());
        let mixed = open.with_days(&BTreeMap::from([(day, shut.clone())])).unwrap();
        assert!(!mixed.is_session(day).unwrap());
        // its neighbours' windows are those of days that are not neighbours
        let left: Vec<_> = mixed.changes(&shut).map(|(day, change)| format!("{day} {change}")).collect();
        assert_eq!(left, ["2024-03-11 rewindowed", "2024-03-13 rewindowed"]);
    }
}
