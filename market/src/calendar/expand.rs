//! From rules to sessions: the days of a calendar file as instants.

use super::spec::{ALL_MONTHS, Hours, Minutes, PREVIOUS_SESSION, Spec, Special, Windows, cut};
use super::zone::{Wall, is_summer};
use crate::error::{Error, Result};
use crate::session::{Segment, Span};
use crate::time::{HOUR, Nanos, TradeDate};
use chrono::Datelike;

/// How many days away a neighbouring session is looked for.
pub(super) const NEIGHBOURHOOD: i32 = 14;

/// One session before it has neighbours.
pub(crate) struct Draft {
    pub date: TradeDate,
    pub spans: Vec<Span>,
    pub open_auction_from: Nanos,
    pub close_auction_until: Nanos,
    pub break_auction: (Nanos, Nanos),
    pub intraday_auction: (Nanos, Nanos),
    pub roll: Option<Nanos>,
    pub clears_next: bool,
    /// Indices of the specials that made it.
    pub specials: Vec<u32>,
    pub irregular: bool,
}

impl Draft {
    /// The first instant that is this session's own; spans are never empty.
    pub(crate) fn start(&self) -> Nanos {
        self.spans.first().map_or(self.open_auction_from, |span| span.open.min(self.open_auction_from))
    }

    fn end(&self) -> Nanos {
        self.spans.last().map_or(self.close_auction_until, |span| span.close.max(self.close_auction_until))
    }

    /// What the next session's window depends on.
    pub(crate) fn ending(&self) -> Ending {
        Ending { date: self.date, close: self.end(), roll: self.roll }
    }
}

/// How a session ends.
pub(crate) struct Ending {
    pub date: TradeDate,
    /// The end of its last span or auction.
    pub close: Nanos,
    roll: Option<Nanos>,
}

impl Ending {
    /// When trades begin to belong to the next session: as declared, or halfway between the close and the next open, at
    /// most one hour after the close.
    pub(crate) fn roll_before(&self, next: &Draft) -> Nanos {
        let (close, open) = (self.close, next.start());
        if open <= close {
            return open;
        }
        let halfway = close + (open - close) / 2;
        self.roll.unwrap_or(halfway.min(close.saturating_add(HOUR))).clamp(close, open)
    }
}

/// Makes the sessions of single days. Inside the known range the file's rules hold; beyond it the nearest regime's weekly
/// hours, without holidays, stand in.
pub(crate) struct Planner<'s> {
    spec: &'s Spec,
    wall: Wall,
    /// Per hours row: its spans and auction windows, cut once.
    rows: Vec<Cut>,
    /// Holidays and specials of the range the planner was made for, sorted by date.
    holidays: Vec<(TradeDate, u32)>,
    specials: Vec<(TradeDate, u32)>,
}

/// The windows of one day in minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cut {
    spans: Vec<(Segment, Minutes, Minutes)>,
    open_auction_from: Option<Minutes>,
    close_auction_until: Option<Minutes>,
    break_auction: Option<(Minutes, Minutes)>,
    intraday_auction: Option<(Minutes, Minutes)>,
}

impl<'s> Planner<'s> {
    /// A planner for the days `first..=last`.
    pub(crate) fn new(spec: &'s Spec, first: TradeDate, last: TradeDate) -> Result<Planner<'s>> {
        Planner::of(spec, first, last, |special| special.class.is_empty())
    }

    /// A planner that takes notice of some specials only.
    pub(crate) fn of(
        spec: &'s Spec,
        first: TradeDate,
        last: TradeDate,
        counts: fn(&Special) -> bool,
    ) -> Result<Planner<'s>> {
        // The day before the first asks for its previous session.
        let (first, last) = (first.plus(-NEIGHBOURHOOD).max(spec.known.0), last.min(spec.known.1));
        let mut holidays = Vec::new();
        for (index, (_, rules)) in spec.holidays.iter().enumerate() {
            rules.iter().for_each(|rule| rule.dates(first, last, |date| holidays.push((date, index as u32))));
        }
        let mut specials = Vec::new();
        for (index, special) in spec.specials.iter().enumerate().filter(|(_, special)| counts(special)) {
            special.on.iter().for_each(|rule| rule.dates(first, last, |date| specials.push((date, index as u32))));
        }
        holidays.sort_unstable();
        specials.sort_unstable();
        specials.dedup();
        let rows = spec.hours.iter().map(|row| Cut::of(&row.windows).map_err(|e| invalid(spec, row.line, e)));
        let rows = rows.collect::<Result<_>>()?;
        Ok(Planner { spec, wall: Wall::new(spec.tz), rows, holidays, specials })
    }

    /// The session of a day, if there is one.
    pub(crate) fn day(&mut self, date: TradeDate) -> Result<Option<Draft>> {
        let row = self.row(date);
        let specials: Vec<u32> = self.specials(date).iter().map(|(_, index)| *index).collect();
        let forced = !specials.is_empty() && self.is_forced(date);
        if (row.is_none() || self.is_off(date)) && !forced {
            return Ok(None);
        }
        let regular = row.map(|index| &self.rows[index]);
        let changed = match specials.as_slice() {
            [] => None,
            _ => Some(self.changed(row.map(|index| &self.spec.hours[index]), &specials)?),
        };
        let irregular = changed.as_ref().is_some_and(|changed| Some(changed) != regular);
        let Some(cut) = changed.as_ref().or(regular).filter(|cut| !cut.spans.is_empty()) else { return Ok(None) };
        if !self.wall.exists(date) {
            return Ok(None);
        }
        let mut spans = Vec::with_capacity(cut.spans.len());
        // Asked for once a day at most, and by few calendars.
        let night = cut.spans.first().filter(|(_, open, _)| *open < PREVIOUS_SESSION / 2);
        let previous = night.and_then(|_| self.previous_session(date));
        for &(segment, open, close) in &cut.spans {
            let (day, from) = match (open < PREVIOUS_SESSION / 2, previous) {
                (false, _) => (date, 0),
                (true, Some(previous)) => (previous, PREVIOUS_SESSION),
                (true, None) => continue,
            };
            let end = if close < PREVIOUS_SESSION / 2 { (day, close - from) } else { (date, close) };
            let (open, close) = (self.wall.instant(day, open - from), self.wall.instant(end.0, end.1));
            // A window inside the hour that the clock skips is empty.
            if open < close {
                spans.push(Span { segment, open, close });
            }
        }
        let Some(first) = spans.first() else { return Ok(None) };
        let nowhere = first.open;
        let mut regular_hours = spans.iter().filter(|span| span.segment == Segment::Rth);
        let open = regular_hours.next();
        let close = regular_hours.next_back().or(open);
        let (open_auction, close_auction) = (cut.open_auction_from, cut.close_auction_until);
        let roll = row.and_then(|index| self.spec.hours[index].roll);
        Ok(Some(Draft {
            open_auction_from: open
                .map_or(nowhere, |span| open_auction.map_or(span.open, |t| self.wall.instant(date, t).min(span.open))),
            close_auction_until: close.map_or(nowhere, |span| {
                close_auction.map_or(span.close, |t| self.wall.instant(date, t).max(span.close))
            }),
            break_auction: cut
                .break_auction
                .map_or((nowhere, nowhere), |(from, to)| (self.wall.instant(date, from), self.wall.instant(date, to))),
            intraday_auction: cut
                .intraday_auction
                .map_or((nowhere, nowhere), |(from, to)| (self.wall.instant(date, from), self.wall.instant(date, to))),
            roll: roll.map(|time| self.wall.instant(date, time)),
            clears_next: specials.iter().any(|index| self.spec.specials[*index as usize].clears_next),
            date,
            spans,
            specials,
            irregular: irregular || forced,
        }))
    }

    /// The day whose night session belongs to a date: the session before it, unless a holiday lies between before which
    /// this calendar has no night session.
    fn previous_session(&self, date: TradeDate) -> Option<TradeDate> {
        for back in 1..=NEIGHBOURHOOD {
            let day = date.plus(-back);
            match (self.row(day), self.is_off(day)) {
                _ if self.is_forced(day) => return Some(day),
                (Some(_), true) if !self.spec.nights_before_holidays => return None,
                (Some(_), false) => return Some(day),
                (Some(_), true) | (None, _) => {}
            }
        }
        None
    }

    /// The specials of a day that count: none before an exception that replaces them.
    fn specials(&self, date: TradeDate) -> &[(TradeDate, u32)] {
        let specials = &self.specials[self.specials.partition_point(|(day, _)| *day < date)..];
        let specials = &specials[..specials.iter().take_while(|(day, _)| *day == date).count()];
        let from = specials.iter().rposition(|(_, index)| self.spec.specials[*index as usize].replaces);
        &specials[from.unwrap_or(0)..]
    }

    fn special(&self, date: TradeDate, what: fn(&Special) -> bool) -> Option<u32> {
        let hit = self.specials(date).iter().find(|(_, index)| what(&self.spec.specials[*index as usize]));
        hit.map(|(_, index)| *index)
    }

    /// Whether a special makes a session of a day, whatever its weekday.
    fn is_forced(&self, date: TradeDate) -> bool {
        self.special(date, |special| special.open_day).is_some() && !self.is_closed(date)
    }

    /// Whether a special takes a day's session away.
    fn is_closed(&self, date: TradeDate) -> bool {
        self.special(date, |special| special.closed).is_some()
    }

    /// Whether a day that has hours has no session.
    fn is_off(&self, date: TradeDate) -> bool {
        self.holiday(date).is_some() || self.is_closed(date)
    }

    /// The holiday that falls on a date.
    pub(crate) fn holiday(&self, date: TradeDate) -> Option<u32> {
        let at = self.holidays.partition_point(|(day, _)| *day < date);
        self.holidays.get(at).filter(|(day, _)| *day == date).map(|(_, index)| *index)
    }

    /// The hours row of a date: the last that matches. Beyond the known range the regime of its nearest date holds.
    pub(crate) fn row(&self, date: TradeDate) -> Option<usize> {
        let regime = date.clamp(self.spec.known.0, self.spec.known.1);
        // 1970-01-01 was a Thursday.
        let weekday = 1 << (date.0 + 3).rem_euclid(7);
        self.spec.hours.iter().rposition(|row| {
            (row.from..=row.to).contains(&regime)
                && row.days & weekday != 0
                && (row.months == ALL_MONTHS || row.months & (1 << date.date().month0()) != 0)
                && row.season.is_none_or(|(summer, tz)| is_summer(tz, date) == summer)
        })
    }

    fn changed(&self, row: Option<&Hours>, specials: &[u32]) -> Result<Cut> {
        let mut windows = row.map(|row| row.windows.clone()).unwrap_or_default();
        let mut line = 0;
        let mut truncate = Minutes::MAX;
        for index in specials {
            let special = &self.spec.specials[*index as usize];
            line = special.line;
            if !special.class.is_empty() {
                // hours that nobody planned have no auctions where the schedule has them
                (windows.open_auction, windows.close_auction, windows.intraday_auction) = (None, None, None);
            }
            windows.change(&special.windows);
            truncate = truncate.min(special.truncate.unwrap_or(Minutes::MAX));
        }
        let mut cut = Cut::of(&windows).map_err(|reason| invalid(self.spec, line, reason))?;
        cut.truncate(truncate);
        Ok(cut)
    }
}

impl Windows {
    /// Takes over what a special says.
    fn change(&mut self, special: &Windows) {
        for (window, change) in self.by_segment.iter_mut().zip(&special.by_segment) {
            if change.is_some() {
                window.clone_from(change);
            }
        }
        let whole = [
            (&mut self.eth, &special.eth),
            (&mut self.open_auction, &special.open_auction),
            (&mut self.close_auction, &special.close_auction),
            (&mut self.break_auction, &special.break_auction),
            (&mut self.intraday_auction, &special.intraday_auction),
        ];
        for (window, change) in whole {
            if change.is_some() {
                window.clone_from(change);
            }
        }
    }
}

impl Cut {
    fn of(windows: &Windows) -> std::result::Result<Cut, String> {
        // A special may shorten ETH so that RTH reaches beyond it, which regular hours may not; then RTH is cut as well.
        let spans = match (&windows.eth, windows.by_segment[Segment::Rth as usize].as_deref()) {
            (Some(eth), Some([first, rest @ ..])) => cut(eth, Some((first.0, rest.last().unwrap_or(first).1))),
            _ => windows.spans()?,
        };
        let regular = || spans.iter().filter(|(segment, _, _)| *segment == Segment::Rth);
        let (open, close) = (regular().next().map(|s| s.1), regular().next_back().map(|s| s.2));
        let window = |auction: &Option<Vec<(Minutes, Minutes)>>| auction.as_ref().and_then(|w| w.first().copied());
        let (opening, closing) = (window(&windows.open_auction), window(&windows.close_auction));
        let free = |from, to| !spans.iter().any(|&(_, open, close)| open < to && from < close);
        let open_auction_from = match (opening, open) {
            (Some((from, to)), Some(open)) if to == open && free(from, to) => Some(from),
            (Some(_), Some(_)) => return Err("open_auction ends when RTH opens, and nothing else trades in it".into()),
            _ => None,
        };
        let close_auction_until = match (closing, close) {
            (Some((from, to)), Some(close)) if from == close && free(from, to) => Some(to),
            (Some(_), Some(_)) => {
                return Err("close_auction begins when RTH closes, and nothing else trades in it".into());
            }
            _ => None,
        };
        // A half day has no break, and so no call before it.
        let pause = regular().next().zip(regular().nth(1)).map(|(morning, afternoon)| (morning.2, afternoon.1));
        let break_auction = match (window(&windows.break_auction), pause) {
            (Some((from, to)), Some((close, open))) if from == close && to <= open && free(from, to) => {
                Some((from, to))
            }
            (Some(_), Some(_)) => {
                return Err("break_auction begins at the first break of RTH, and nothing else trades in it".into());
            }
            _ => None,
        };
        // Where a special ends the day before it, there is none.
        let intraday_auction = window(&windows.intraday_auction).filter(|window| is_inside(&spans, *window));
        Ok(Cut { spans, open_auction_from, close_auction_until, break_auction, intraday_auction })
    }

    fn truncate(&mut self, end: Minutes) {
        self.spans.retain(|(_, open, _)| *open < end);
        for (_, _, close) in &mut self.spans {
            *close = (*close).min(end);
        }
        self.close_auction_until = self.close_auction_until.filter(|until| *until <= end);
        self.break_auction = self.break_auction.filter(|(_, until)| *until <= end);
        self.intraday_auction = self.intraday_auction.filter(|(_, until)| *until <= end);
    }
}

/// Whether a window lies inside one span of the regular hours.
pub(super) fn is_inside(spans: &[(Segment, Minutes, Minutes)], (from, to): (Minutes, Minutes)) -> bool {
    spans.iter().any(|&(segment, open, close)| segment == Segment::Rth && open <= from && to <= close)
}

pub(super) fn invalid(spec: &Spec, line: usize, reason: impl Into<String>) -> Error {
    let line = (line > 0).then_some(line);
    Error::InvalidSpec { name: format!("calendar {}", spec.id), line, reason: reason.into() }
}
