//! Calendars: which session, segment and trade date an instant belongs to.
//!
//! A calendar is data (`market/calendars/*.toml`, or a user's own file): hours by weekday, holidays, special days. Its known
//! range is expanded once; after that a lookup is two reads, and with a [`Cursor`] on a nearly ordered stream a comparison
//! or two.

mod actual;
mod around_clock;
mod builtin;
pub mod compare;
mod cursor;
pub mod describe;
mod diff;
mod edit;
mod expand;
mod filing;
mod grid;
pub mod import;
mod rule;
mod spec;
mod zone;

pub use actual::{Actual, Halt};
pub use cursor::Cursor;
pub use diff::Change;
pub use edit::exception;
pub use filing::Filing;

use crate::error::{Error, Result};
use crate::session::{Segment, Segments, Session};
use crate::time::{Nanos, TradeDate, format_instant};
use chrono::Datelike;
use grid::Found;
pub(crate) use grid::Grid;
pub(crate) use rule::weekday;
use spec::Spec;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A trading calendar: the sessions of its known range. Cheap to clone and to share between threads.
#[derive(Clone)]
pub struct Calendar {
    inner: Arc<Inner>,
}

struct Inner {
    spec: Spec,
    grid: Grid,
    toml: Cow<'static, str>,
}

impl Calendar {
    /// A calendar shipped with this crate, by id or alias: `XNYS`, `NYSE`, `CME_EQUITY`, `24/7`. Built at first use.
    /// `24/7@17:00 America/New_York` is around the clock too, with its days from 17:00 to 17:00 in New York: a boundary before
    /// noon begins the trade date, one from noon on ends it.
    ///
    /// # Errors
    /// `Unknown` with the nearest name; `Invalid` if what follows `24/7@` is no time and time zone.
    ///
    /// ```
    /// use market::{Calendar, TradeDate};
    /// let nyse = Calendar::builtin("NYSE")?;
    /// assert_eq!(nyse.id(), "XNYS");
    /// assert!(!nyse.is_session(TradeDate::parse("2024-12-25")?)?);
    /// # Ok::<(), market::Error>(())
    /// ```
    pub fn builtin(id: &str) -> Result<Calendar> {
        builtin::calendar(id)
    }

    /// The shipped calendar of an id; an alias of another one is none.
    ///
    /// # Errors
    /// `Unknown` with the nearest name.
    pub fn builtin_of_id(id: &str) -> Result<Calendar> {
        let found = Calendar::builtin(id)?;
        match found.id() == id {
            true => Ok(found),
            false => Err(Error::Unknown { what: "calendar", name: id.to_owned(), nearest: None }),
        }
    }

    /// What an earlier release shipped under an id and version where today's file has other sessions; `None` if nothing of that
    /// version was ever replaced.
    pub fn kept(id: &str, version: u32) -> Option<Result<Calendar>> {
        builtin::kept(id, version)
    }

    /// The versions of an id that are kept.
    pub fn kept_versions(id: &str) -> impl Iterator<Item = u32> {
        builtin::KEPT.iter().filter(move |(kept, ..)| *kept == id).map(|(_, version, _)| *version)
    }

    /// A calendar's name and the version asked for, as in `XNYS@2` or `XNYS@draft`. A day boundary is part of the name:
    /// `24/7@17:00 America/New_York` asks for no version.
    pub fn name_and_version(asked: &str) -> (&str, Option<&str>) {
        match asked.rsplit_once('@') {
            Some((name, version)) if !version.contains(':') => (name, Some(version)),
            _ => (asked, None),
        }
    }

    /// The ids of the calendars shipped with this crate.
    pub fn builtin_ids() -> &'static [&'static str] {
        builtin::IDS
    }

    /// Reads a calendar file.
    ///
    /// # Errors
    /// `InvalidSpec` with the line where the file contradicts itself or the format.
    pub fn from_toml(text: &str) -> Result<Calendar> {
        Calendar::of(Spec::parse(text)?, Cow::Owned(text.to_string()))
    }

    fn of(spec: Spec, toml: Cow<'static, str>) -> Result<Calendar> {
        let grid = Grid::new(&spec)?;
        Ok(Calendar { inner: Arc::new(Inner { spec, grid, toml }) })
    }

    /// As [`Calendar::from_toml`], under a version number that is kept outside the file.
    ///
    /// # Errors
    /// As [`Calendar::from_toml`].
    pub fn versioned(text: &str, version: u32) -> Result<Calendar> {
        Calendar::of(Spec { version, ..Spec::parse(text)? }, Cow::Owned(text.to_string()))
    }

    /// Whether both are one calendar in memory, not only equal.
    pub fn is_same(&self, other: &Calendar) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// `XNYS`, `CME_EQUITY`, `24/7`.
    pub fn id(&self) -> &str {
        &self.inner.spec.id
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.inner.spec.name
    }

    /// Other ids it answers to.
    pub fn aliases(&self) -> &[String] {
        &self.inner.spec.aliases
    }

    /// The IANA name of the time zone its hours are written in.
    pub fn time_zone(&self) -> &'static str {
        self.inner.spec.tz.name()
    }

    /// The time zone its hours are written in.
    pub fn zone(&self) -> chrono_tz::Tz {
        self.inner.spec.tz
    }

    /// The default selection of segments.
    pub fn main(&self) -> Segments {
        self.inner.spec.main
    }

    /// The first and last date it vouches for.
    pub fn known(&self) -> (TradeDate, TradeDate) {
        self.inner.spec.known
    }

    /// From when on its days are projected and not announced; their sessions' notes say so.
    pub fn projected_from(&self) -> Option<TradeDate> {
        self.inner.spec.projected_from
    }

    /// Grows whenever the file changes a session.
    pub fn version(&self) -> u32 {
        self.inner.spec.version
    }

    /// Where its facts come from.
    pub fn source(&self) -> &str {
        &self.inner.spec.source
    }

    /// The file it was read from.
    pub fn toml(&self) -> &str {
        &self.inner.toml
    }

    /// The weekday on which weekly bars begin around a date.
    pub fn week_start(&self, date: TradeDate) -> chrono::Weekday {
        let spec = &self.inner.spec;
        let rows = spec.hours.iter().rev().filter(|row| (row.from..=row.to).contains(&date));
        rows.filter_map(|row| row.week_start).next().unwrap_or(spec.week_start)
    }

    /// The days of the week of a date. A week begins on every day that is the week start of its time, so that one during
    /// which the week start changes may be shorter or longer.
    pub(crate) fn week(&self, date: TradeDate) -> (TradeDate, TradeDate) {
        let begins = |day: &TradeDate| day.date().weekday() == self.week_start(*day);
        // Two changes within a fortnight would be needed for a longer week.
        let first = (0..14).map(|back| date.plus(-back)).find(begins).unwrap_or(date);
        let next = (1..14).map(|days| date.plus(days)).find(begins).unwrap_or(date.plus(1));
        (first, next.plus(-1))
    }

    /// How long after its close a session still waits for trades; later ones are late.
    pub fn grace(&self) -> Nanos {
        self.inner.spec.grace
    }

    /// Whether the trade date has a session.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn is_session(&self, date: TradeDate) -> Result<bool> {
        self.check(date)?;
        Ok(self.inner.grid.dates.binary_search(&date).is_ok())
    }

    /// The session of a trade date; `None` on a holiday or weekend.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn session(&self, date: TradeDate) -> Result<Option<Session<'_>>> {
        self.check(date)?;
        Ok(self.inner.grid.dates.binary_search(&date).ok().map(|index| self.nth(index)))
    }

    /// Why a day that would have had hours has no session: the holiday's name.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn closure(&self, date: TradeDate) -> Result<Option<&str>> {
        self.check(date)?;
        let closures = &self.inner.grid.closures;
        let found = closures.binary_search_by_key(&date, |(day, _)| *day).ok();
        Ok(found.and_then(|at| self.inner.spec.holidays.get(closures[at].1 as usize)).map(|(name, _)| name.as_str()))
    }

    /// The sessions of the trade dates `first..=last`, in order.
    ///
    /// # Errors
    /// `OutOfBounds` if either date lies beyond the known range.
    pub fn sessions(&self, first: TradeDate, last: TradeDate) -> Result<impl Iterator<Item = Session<'_>>> {
        self.check(first)?;
        self.check(last)?;
        let dates = &self.inner.grid.dates;
        let from = dates.partition_point(|date| *date < first);
        let till = dates.partition_point(|date| *date <= last).max(from);
        Ok((from..till).map(|index| self.nth(index)))
    }

    /// The trade dates with a session in `first..=last`.
    pub(crate) fn dates(&self, first: TradeDate, last: TradeDate) -> &[TradeDate] {
        let dates = &self.inner.grid.dates;
        let from = dates.partition_point(|date| *date < first);
        let till = dates.partition_point(|date| *date <= last).max(from);
        &dates[from..till]
    }

    /// The sessions whose clearing date lies in `first..=last`: their trade dates and clearing dates, neither of which ever
    /// run backwards.
    pub(crate) fn clearing(&self, first: TradeDate, last: TradeDate) -> impl Iterator<Item = (TradeDate, TradeDate)> {
        let grid = &self.inner.grid;
        let sessions =
            (grid.first_clearing(first)..grid.dates.len()).map(|at| (grid.dates[at], grid.clearing_date(at)));
        sessions.take_while(move |(_, clears)| *clears <= last)
    }

    /// The trade date `n` sessions after a date (before it, if `n` is negative); for `n = 0` the date itself if it has a
    /// session, else the next that has.
    ///
    /// # Errors
    /// `OutOfBounds` if the date or the answer lies beyond the known range.
    pub fn next_session(&self, date: TradeDate, n: i32) -> Result<TradeDate> {
        self.check(date)?;
        let dates = &self.inner.grid.dates;
        let at = match n {
            1.. => dates.partition_point(|d| *d <= date) as i64 + i64::from(n) - 1,
            _ => dates.partition_point(|d| *d < date) as i64 + i64::from(n),
        };
        usize::try_from(at)
            .ok()
            .and_then(|at| dates.get(at).copied())
            .ok_or_else(|| self.out_of_bounds(format!("{n} sessions from {date}")))
    }

    /// The first instant after `ts` at which trading of the selected segments begins. A break is followed by an open.
    ///
    /// # Errors
    /// `OutOfBounds` if `ts` or the answer lies beyond the known range.
    pub fn next_open(&self, ts: Nanos, segments: Segments) -> Result<Nanos> {
        self.next_edge(ts, segments, |run| run.0)
    }

    /// The first instant after `ts` at which trading of the selected segments ends.
    ///
    /// # Errors
    /// `OutOfBounds` if `ts` or the answer lies beyond the known range.
    pub fn next_close(&self, ts: Nanos, segments: Segments) -> Result<Nanos> {
        self.next_edge(ts, segments, |run| run.1)
    }

    fn next_edge(&self, ts: Nanos, segments: Segments, edge: impl Fn((Nanos, Nanos)) -> Nanos) -> Result<Nanos> {
        for index in self.locate(ts)?.index..self.inner.grid.dates.len() {
            // Open or not is a question of trading, not of bar grids, so touching segments count as one run.
            let session = Session { restart_at_segments: false, ..self.nth(index) };
            if let Some(found) = session.runs(segments).map(&edge).find(|edge| *edge > ts) {
                return Ok(found);
            }
        }
        Err(self.out_of_bounds(format!("what follows {}", format_instant(ts))))
    }

    /// The session whose storage window holds the instant, in a span or `OFF`.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range; [`Calendar::filing`] answers there.
    pub fn session_at(&self, ts: Nanos) -> Result<Session<'_>> {
        self.locate(ts).map(|found| self.nth(found.index))
    }

    /// The trade date under which a trade of this instant is stored.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn trade_date(&self, ts: Nanos) -> Result<TradeDate> {
        self.locate(ts).map(|found| self.inner.grid.dates[found.index])
    }

    /// The segment by the clock; `Off` outside every span.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn segment(&self, ts: Nanos) -> Result<Segment> {
        self.locate(ts).map(|found| self.inner.grid.segment(found.index, ts))
    }

    /// Whether the selected segments trade at this instant. `OFF` is not trading.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn is_open(&self, ts: Nanos, segments: Segments) -> Result<bool> {
        let segment = self.segment(ts)?;
        Ok(segment != Segment::Off && segments.contains(segment))
    }

    /// Under which trade date a trade of this instant is filed, and for how long that answer holds. Never fails: beyond the
    /// known range the nearest regime's weekly hours stand in, and the filing says `projected`.
    pub fn filing(&self, ts: Nanos) -> Filing {
        match self.locate(ts) {
            Ok(found) => {
                let session = self.nth(found.index);
                Filing { trade_date: session.trade_date, from: session.from, till: session.till, projected: false }
            }
            Err(_) => filing::project(&self.inner.spec, self.window(), ts),
        }
    }

    /// A reader that remembers where it was.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor::new(self)
    }

    /// The instants of the known range: from the first storage window's start to the last one's end.
    pub fn window(&self) -> (Nanos, Nanos) {
        self.inner.grid.window()
    }

    /// The session whose storage window holds the instant.
    #[inline]
    fn locate(&self, ts: Nanos) -> Result<Found> {
        self.inner.grid.locate(ts).ok_or_else(|| self.outside(ts))
    }

    #[cold]
    fn outside(&self, ts: Nanos) -> Error {
        self.out_of_bounds(format_instant(ts))
    }

    fn nth(&self, index: usize) -> Session<'_> {
        self.inner.grid.session(index, self.inner.spec.restart_at_segments)
    }

    pub(crate) fn check(&self, date: TradeDate) -> Result<()> {
        let (first, last) = self.known();
        match (first..=last).contains(&date) {
            true => Ok(()),
            false => Err(self.out_of_bounds(date.to_string())),
        }
    }

    fn out_of_bounds(&self, asked: String) -> Error {
        let (first, last) = self.known();
        Error::OutOfBounds { calendar: self.id().to_string(), asked, first, last }
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({} v{})", self.id(), self.version())
    }
}
