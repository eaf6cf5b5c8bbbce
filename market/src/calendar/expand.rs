//! From rules to sessions: the days of a calendar file as instants in flat arrays.

use super::spec::{Hours, Minutes, PREVIOUS_SESSION, Spec, Special, Windows, cut};
use super::zone::{Wall, is_summer};
use crate::error::{Error, Result};
use crate::session::{Segment, Span};
use crate::time::{DAY, HOUR, Nanos, TradeDate};
use chrono::Datelike;

/// How many days away a neighbouring session is looked for.
const NEIGHBOURHOOD: i32 = 14;

/// A calendar's sessions in time order, laid out for binary search.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// The labels, ascending.
    pub dates: Vec<TradeDate>,
    /// The storage window of session `i` is `edges[i]..edges[i + 1]`.
    pub edges: Vec<Nanos>,
    /// The session at the first edge, and every 24 hours after it: where the search for an instant begins.
    pub daily: Vec<u32>,
    pub days: Vec<Day>,
    pub spans: Vec<Span>,
    /// The notes that `Day::note` points to; the first is empty.
    pub notes: Vec<String>,
    /// Weekdays with hours on which there is no session, with the index of the holiday's name in `Spec::holidays`.
    pub closures: Vec<(TradeDate, u32)>,
}

impl Grid {
    /// The index of the session whose storage window holds the instant; `None` beyond the first and the last edge.
    pub fn locate(&self, ts: Nanos) -> Option<usize> {
        let (first, last) = (*self.edges.first()?, *self.edges.last()?);
        if ts < first || last <= ts {
            return None;
        }
        let mut at = *self.daily.get(days_between(first, ts))? as usize;
        // A window is about a day long, so this is a step or two; the last edge lies after the instant.
        while *self.edges.get(at + 1)? <= ts {
            at += 1;
        }
        Some(at)
    }

    /// `daily` for these edges.
    fn index(edges: &[Nanos]) -> Vec<u32> {
        let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return Vec::new() };
        let mut daily = Vec::with_capacity(days_between(*first, *last) + 1);
        for (at, till) in edges.iter().enumerate().skip(1) {
            // The days that begin before this window ends and after the one before it.
            while first.wrapping_add(daily.len() as i64 * DAY) < *till && daily.len() <= days_between(*first, *last) {
                daily.push(at as u32 - 1);
            }
        }
        daily
    }
}

/// Whole days from one instant to a later one; the difference of two far ones fits in 64 bits without a sign only.
fn days_between(first: Nanos, ts: Nanos) -> usize {
    (ts.wrapping_sub(first) as u64 / DAY as u64) as usize
}

/// One session of a grid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    pub clearing_date: TradeDate,
    pub first_span: u32,
    pub spans: u32,
    pub note: u32,
    pub irregular: bool,
    pub open_auction_from: Nanos,
    pub close_auction_until: Nanos,
    pub break_auction: (Nanos, Nanos),
}

/// One session before it has neighbours.
pub(crate) struct Draft {
    pub date: TradeDate,
    pub spans: Vec<Span>,
    pub open_auction_from: Nanos,
    pub close_auction_until: Nanos,
    pub break_auction: (Nanos, Nanos),
    pub roll: Option<Nanos>,
    pub clears_next: bool,
    /// Indices of the specials that made it.
    pub specials: Vec<u32>,
    pub irregular: bool,
}

impl Draft {
    /// The first instant that is this session's own; spans are never empty.
    fn start(&self) -> Nanos {
        self.spans.first().map_or(self.open_auction_from, |span| span.open.min(self.open_auction_from))
    }

    fn end(&self) -> Nanos {
        self.spans.last().map_or(self.close_auction_until, |span| span.close.max(self.close_auction_until))
    }

    /// When trades begin to belong to the next session: as declared, or halfway between the close and the next open, at
    /// most one hour after the close.
    pub(crate) fn roll_before(&self, next: &Draft) -> Nanos {
        let (close, open) = (self.end(), next.start());
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
        let forced = self.is_forced(date);
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
    fn holiday(&self, date: TradeDate) -> Option<u32> {
        let at = self.holidays.partition_point(|(day, _)| *day < date);
        self.holidays.get(at).filter(|(day, _)| *day == date).map(|(_, index)| *index)
    }

    /// The hours row of a date: the last that matches. Beyond the known range the regime of its nearest date holds.
    pub(crate) fn row(&self, date: TradeDate) -> Option<usize> {
        let regime = date.clamp(self.spec.known.0, self.spec.known.1);
        let weekday = 1 << date.date().weekday().num_days_from_monday();
        self.spec.hours.iter().rposition(|row| {
            (row.from..=row.to).contains(&regime)
                && row.days & weekday != 0
                && row.months & (1 << date.date().month0()) != 0
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
                (windows.open_auction, windows.close_auction) = (None, None);
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
        Ok(Cut { spans, open_auction_from, close_auction_until, break_auction })
    }

    fn truncate(&mut self, end: Minutes) {
        self.spans.retain(|(_, open, _)| *open < end);
        for (_, _, close) in &mut self.spans {
            *close = (*close).min(end);
        }
        self.close_auction_until = self.close_auction_until.filter(|until| *until <= end);
        self.break_auction = self.break_auction.filter(|(_, until)| *until <= end);
    }
}

impl Grid {
    /// All sessions of the known range. A neighbour beyond each end, projected, bounds the first and last storage windows.
    pub(crate) fn new(spec: &Spec) -> Result<Grid> {
        let (first, last) = spec.known;
        let mut planner = Planner::new(spec, first, last)?;
        let mut grid = Grid { notes: vec![String::new()], ..Grid::default() };
        let mut before: Option<Draft> = None;
        for back in 1..=NEIGHBOURHOOD {
            before = planner.day(first.plus(-back))?;
            if before.is_some() {
                break;
            }
        }
        let mut notes_of: Vec<(Vec<u32>, u32)> = Vec::new();
        let mut clears_next: Vec<usize> = Vec::new();
        for day in first.0..=last.0.saturating_add(NEIGHBOURHOOD) {
            let date = TradeDate(day);
            let Some(draft) = planner.day(date)? else {
                if let (Some(index), Some(_)) = (planner.holiday(date), planner.row(date)) {
                    grid.closures.push((date, index));
                }
                continue;
            };
            let edge = match &before {
                Some(previous) if previous.end() > draft.start() => {
                    let line = draft.specials.last().map(|special| spec.specials[*special as usize].line);
                    let line = line.or_else(|| planner.row(date).map(|row| spec.hours[row].line));
                    return Err(invalid(
                        spec,
                        line.unwrap_or(0),
                        format!("{date} opens before {} closes", previous.date),
                    ));
                }
                Some(previous) => previous.roll_before(&draft),
                None => draft.start(),
            };
            grid.edges.push(edge);
            if !draft.clears_next {
                clears_next.drain(..).for_each(|index| grid.days[index].clearing_date = date);
            }
            if date > last {
                break;
            }
            if draft.clears_next {
                clears_next.push(grid.days.len());
            }
            let note = match notes_of.iter().find(|(specials, _)| *specials == draft.specials) {
                _ if !draft.irregular => 0,
                Some((_, note)) => *note,
                None => {
                    let names: Vec<_> =
                        draft.specials.iter().map(|i| spec.specials[*i as usize].name.as_str()).collect();
                    grid.notes.push(names.join(", "));
                    notes_of.push((draft.specials.clone(), grid.notes.len() as u32 - 1));
                    grid.notes.len() as u32 - 1
                }
            };
            grid.days.push(Day {
                clearing_date: date,
                first_span: grid.spans.len() as u32,
                spans: draft.spans.len() as u32,
                note,
                irregular: draft.irregular,
                open_auction_from: draft.open_auction_from,
                close_auction_until: draft.close_auction_until,
                break_auction: draft.break_auction,
            });
            grid.dates.push(date);
            grid.spans.extend_from_slice(&draft.spans);
            before = Some(draft);
        }
        if grid.edges.len() == grid.days.len() {
            // No session follows within a fortnight.
            grid.edges.push(before.map_or(0, |last| last.end().saturating_add(HOUR)));
        }
        grid.daily = Grid::index(&grid.edges);
        match grid.days.is_empty() {
            true => Err(Error::InvalidSpec {
                name: format!("calendar {}", spec.id),
                line: None,
                reason: "its known range holds no session".into(),
            }),
            false => Ok(grid),
        }
    }
}

fn invalid(spec: &Spec, line: usize, reason: impl Into<String>) -> Error {
    let line = (line > 0).then_some(line);
    Error::InvalidSpec { name: format!("calendar {}", spec.id), line, reason: reason.into() }
}
