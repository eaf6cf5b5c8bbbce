//! Which bar an instant belongs to.

use crate::calendar::{Calendar, Cursor};
use crate::error::{Error, Result};
use crate::session::{Segment, Segments, Session};
use crate::slots::{Slots, Steps};
use crate::time::{Nanos, TradeDate};
use crate::timeframe::Timeframe;
use chrono::Datelike;

/// The place of a bar: half-open, labelled by its open.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bucket {
    /// The trade date, the first one for a bar of several.
    pub trade_date: TradeDate,
    /// First instant.
    pub open: Nanos,
    /// First instant after it.
    pub close: Nanos,
}

/// Appends the buckets of one session, in time order.
///
/// Intraday: from the open of each run of the selected segments, steps of the timeframe, the last one cut at the run's
/// close. Other timeframes: one bucket from the selection's open to its close. None if the session lacks the segments.
pub fn buckets(session: &Session<'_>, timeframe: Timeframe, segments: Segments, out: &mut Vec<Bucket>) {
    let trade_date = session.trade_date;
    match timeframe {
        Timeframe::Intraday(width) => {
            for (open, close) in session.runs(segments) {
                let mut at = open;
                while at < close {
                    let end = at.saturating_add(width.max(1)).min(close);
                    out.push(Bucket { trade_date, open: at, close: end });
                    at = end;
                }
            }
        }
        _ => {
            if let Some((open, close)) = session.open(segments).zip(session.close(segments)) {
                out.push(Bucket { trade_date, open, close });
            }
        }
    }
}

/// The bucket an instant belongs to; `None` outside the selected segments. A bar of several trade dates opens with its
/// first session that has the segments and closes with its last.
///
/// # Errors
/// `OutOfBounds` beyond the calendar's known range.
pub fn bucket_at(calendar: &Calendar, timeframe: Timeframe, ts: Nanos, segments: Segments) -> Result<Option<Bucket>> {
    BucketCursor::new(calendar, timeframe, segments).bucket_at(ts)
}

/// Finds the buckets of a stream, best of a nearly ordered one. After its first answer it allocates nothing.
#[derive(Clone, Debug)]
pub struct BucketCursor<'c> {
    cursor: Cursor<'c>,
    timeframe: Timeframe,
    segments: Segments,
    /// The stretch of time in which the last answer holds.
    stretch: (Nanos, Nanos),
    answer: Option<Bucket>,
    group: Option<Group>,
    slots: Slots,
    steps: Steps,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    dates: (TradeDate, TradeDate),
    bucket: Option<Bucket>,
}

impl<'c> BucketCursor<'c> {
    /// A cursor over the buckets of one timeframe and selection.
    pub fn new(calendar: &'c Calendar, timeframe: Timeframe, segments: Segments) -> BucketCursor<'c> {
        let steps = Steps::new(if let Timeframe::Intraday(width) = timeframe { width } else { 1 });
        let (cursor, slots) = (calendar.cursor(), Slots::new(calendar));
        BucketCursor { cursor, timeframe, segments, stretch: (0, 0), answer: None, group: None, slots, steps }
    }

    /// Like [`bucket_at`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    #[inline]
    pub fn bucket_at(&mut self, ts: Nanos) -> Result<Option<Bucket>> {
        if self.stretch.0 <= ts && ts < self.stretch.1 {
            return Ok(self.answer);
        }
        self.find(ts)
    }

    /// The stretch of time around the instant asked last in which the answer stays the same.
    pub fn stretch(&self) -> (Nanos, Nanos) {
        self.stretch
    }

    /// The session whose storage window holds the instant; see [`Cursor::session_at`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    #[inline]
    pub fn session_at(&mut self, ts: Nanos) -> Result<Session<'c>> {
        self.cursor.session_at(ts)
    }

    /// The trade date of an instant; see [`Cursor::trade_date`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    #[inline]
    pub fn trade_date(&mut self, ts: Nanos) -> Result<TradeDate> {
        self.cursor.trade_date(ts)
    }

    /// The segment of an instant; see [`Cursor::segment`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    #[inline]
    pub fn segment(&mut self, ts: Nanos) -> Result<Segment> {
        self.cursor.segment(ts)
    }

    fn find(&mut self, ts: Nanos) -> Result<Option<Bucket>> {
        if let Timeframe::Intraday(width) = self.timeframe
            && let Some(around) = self.slots.around(self.cursor.calendar(), self.segments, ts)
        {
            let (open, close) = around.stretch;
            (self.stretch, self.answer) = match around.run {
                Some(trade_date) => {
                    let at = ts - self.steps.remainder(ts - open);
                    let end = at.saturating_add(width.max(1)).min(close);
                    ((at, end), Some(Bucket { trade_date, open: at, close: end }))
                }
                None => ((open, close), None),
            };
            return Ok(self.answer);
        }
        self.find_in_session(ts)
    }

    #[cold]
    fn find_in_session(&mut self, ts: Nanos) -> Result<Option<Bucket>> {
        let session = self.cursor.session_at(ts)?;
        let mut gap = (session.from, session.till);
        for (open, close) in session.runs(self.segments) {
            if ts < open {
                gap.1 = open;
                break;
            }
            if ts < close {
                return self.inside(ts, &session, open, close);
            }
            gap.0 = close;
        }
        self.stretch = gap;
        self.answer = None;
        Ok(None)
    }

    /// The answer for an instant inside the run `[open, close)`.
    fn inside(&mut self, ts: Nanos, session: &Session<'_>, open: Nanos, close: Nanos) -> Result<Option<Bucket>> {
        let trade_date = session.trade_date;
        self.answer = match self.timeframe {
            Timeframe::Intraday(width) => {
                let at = ts - self.steps.remainder(ts - open);
                self.stretch = (at, at.saturating_add(width.max(1)).min(close));
                Some(Bucket { trade_date, open: self.stretch.0, close: self.stretch.1 })
            }
            Timeframe::Days(1) => {
                self.stretch = (open, close);
                let whole = session.open(self.segments).zip(session.close(self.segments));
                whole.map(|(open, close)| Bucket { trade_date, open, close })
            }
            _ => {
                let bucket = self.group(trade_date)?;
                self.stretch = (open, close);
                bucket
            }
        };
        Ok(self.answer)
    }

    fn group(&mut self, date: TradeDate) -> Result<Option<Bucket>> {
        if let Some(group) = self.group.filter(|group| (group.dates.0..=group.dates.1).contains(&date)) {
            return Ok(group.bucket);
        }
        let calendar = self.cursor.calendar();
        let dates = group_of(calendar, self.timeframe, date)?;
        let bucket = bucket_of(calendar, dates, self.segments)?;
        self.group = Some(Group { dates, bucket });
        Ok(bucket)
    }
}

/// The bucket of a group of trade dates: from the first session that has the segments to the last; `None` if none has.
///
/// # Errors
/// `OutOfBounds` beyond the calendar's known range.
pub(crate) fn bucket_of(
    calendar: &Calendar,
    dates: (TradeDate, TradeDate),
    segments: Segments,
) -> Result<Option<Bucket>> {
    let mut bucket: Option<Bucket> = None;
    for session in calendar.sessions(dates.0, dates.1)? {
        if let Some((open, close)) = session.open(segments).zip(session.close(segments)) {
            bucket.get_or_insert(Bucket { trade_date: dates.0, open, close }).close = close;
        }
    }
    Ok(bucket)
}

/// What a day is to the bars of whole days, and to the longer ones counted in days.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Day {
    /// A trade date: a holiday session is a day of its own.
    #[default]
    Trade,
    /// A clearing date: a holiday session is part of the business day it clears with, whose name the bar has. Weeks, months,
    /// quarters and years are those of the clearing dates: what trades on Friday, July 4 may belong to Monday's week.
    Clearing,
}

impl Day {
    /// Reads `trade`, `clearing`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Day> {
        match text.trim().to_ascii_lowercase().as_str() {
            "trade" => Ok(Day::Trade),
            "clearing" => Ok(Day::Clearing),
            _ => Err(Error::invalid("day", text, "trade or clearing")),
        }
    }

    /// The first and last trade date of the bar that covers a trade date; see [`group_of`]. By clearing date, a group's
    /// dates follow each other too, since clearing dates never run backwards.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn group_of(
        self,
        calendar: &Calendar,
        timeframe: Timeframe,
        date: TradeDate,
    ) -> Result<(TradeDate, TradeDate)> {
        if self == Day::Trade || timeframe.is_intraday() {
            return group_of(calendar, timeframe, date);
        }
        let cleared = self.label(calendar, date)?;
        let (first, last) = civil_group(calendar, timeframe, cleared)?;
        let mut dates: Vec<(TradeDate, TradeDate)> = calendar.clearing(first, last).collect();
        if let Timeframe::Days(count @ 2..) = timeframe {
            let count = count as usize;
            let mut days: Vec<TradeDate> = dates.iter().map(|(_, clears)| *clears).collect();
            days.dedup();
            // A date without a session belongs to the group before it.
            let at = days.partition_point(|day| *day <= cleared).saturating_sub(1);
            let wanted = days.chunks(count).nth(at / count).unwrap_or_default();
            dates.retain(|(_, clears)| wanted.binary_search(clears).is_ok());
        }
        let known = calendar.known();
        Ok(match dates.as_slice() {
            [] => (first.max(known.0), last.min(known.1)),
            [only] => (only.0, only.0),
            [first, .., last] => (first.0, last.0),
        })
    }

    /// What a bar that begins with this trade date is called.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn label(self, calendar: &Calendar, date: TradeDate) -> Result<TradeDate> {
        match self {
            Day::Trade => Ok(date),
            Day::Clearing => Ok(calendar.session(date)?.map_or(date, |session| session.clearing_date)),
        }
    }
}

/// The first and last trade date of the bar that covers a date: its week, month, quarter or year, or the run of `n` trade
/// dates counted from the year's first. At the ends of the known range a group is cut.
///
/// Both dates have sessions, unless the group has none at all: then they are its civil bounds.
///
/// # Errors
/// `OutOfBounds` beyond the calendar's known range.
pub fn group_of(calendar: &Calendar, timeframe: Timeframe, date: TradeDate) -> Result<(TradeDate, TradeDate)> {
    calendar.check(date)?;
    let (first, last) = civil_group(calendar, timeframe, date)?;
    if first == last {
        return Ok((date, date));
    }
    let known = calendar.known();
    let (first, last) = (first.max(known.0), last.min(known.1));
    let dates = calendar.dates(first, last);
    let dates = match timeframe {
        Timeframe::Days(count) => {
            // A date without a session belongs to the group before it.
            let at = dates.partition_point(|d| *d <= date).saturating_sub(1);
            let from = at - at % count as usize;
            &dates[from..dates.len().min(from + count as usize)]
        }
        _ => dates,
    };
    match dates {
        [] => Ok((first, last)),
        [only] => Ok((*only, *only)),
        [first, .., last] => Ok((*first, *last)),
    }
}

/// The days of the week, month, quarter or year of a date; the year for a run of days, which is counted from its start; the
/// date itself for a day and less.
fn civil_group(calendar: &Calendar, timeframe: Timeframe, date: TradeDate) -> Result<(TradeDate, TradeDate)> {
    let civil = date.date();
    let (year, month) = (civil.year(), civil.month());
    let months = |first: u32, count: u32| -> Result<(TradeDate, TradeDate)> {
        let next = if first + count > 12 { (year + 1, 1) } else { (year, first + count) };
        Ok((TradeDate::from_ymd(year, first, 1)?, TradeDate::from_ymd(next.0, next.1, 1)?.plus(-1)))
    };
    match timeframe {
        Timeframe::Intraday(_) | Timeframe::Days(0 | 1) => Ok((date, date)),
        Timeframe::Week => Ok(calendar.week(date)),
        Timeframe::Month => months(month, 1),
        Timeframe::Quarter => months((month - 1) / 3 * 3 + 1, 3),
        Timeframe::Year | Timeframe::Days(_) => months(1, 12),
    }
}
