//! Lookups in a nearly ordered stream: a comparison or two a trade, and no allocation.

use super::Calendar;
use crate::error::Result;
use crate::session::{Segment, Session};
use crate::time::{Nanos, TradeDate};

/// A reader of a calendar that begins each lookup at the last session it found.
#[derive(Clone, Debug)]
pub struct Cursor<'c> {
    calendar: &'c Calendar,
    session: Option<Session<'c>>,
    index: usize,
}

impl<'c> Cursor<'c> {
    pub(super) fn new(calendar: &'c Calendar) -> Cursor<'c> {
        Cursor { calendar, session: None, index: 0 }
    }

    /// Like [`Calendar::session_at`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    #[inline]
    pub fn session_at(&mut self, ts: Nanos) -> Result<Session<'c>> {
        match self.session {
            Some(session) if session.from <= ts && ts < session.till => Ok(session),
            _ => self.move_to(ts),
        }
    }

    /// Like [`Calendar::segment`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    #[inline]
    pub fn segment(&mut self, ts: Nanos) -> Result<Segment> {
        Ok(self.session_at(ts)?.segment_at(ts))
    }

    /// Like [`Calendar::trade_date`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    #[inline]
    pub fn trade_date(&mut self, ts: Nanos) -> Result<TradeDate> {
        match &self.session {
            Some(session) if session.from <= ts && ts < session.till => Ok(session.trade_date),
            _ => self.move_to(ts).map(|session| session.trade_date),
        }
    }

    /// The calendar it reads.
    pub fn calendar(&self) -> &'c Calendar {
        self.calendar
    }

    #[cold]
    fn move_to(&mut self, ts: Nanos) -> Result<Session<'c>> {
        let edges = &self.calendar.inner.grid.edges;
        let next = self.index + 1;
        // Streams move on to the next session far more often than anywhere else.
        let follows = edges.get(next).zip(edges.get(next + 1)).is_some_and(|(from, till)| *from <= ts && ts < *till);
        self.index = if follows { next } else { self.calendar.locate(ts)? };
        let session = self.calendar.nth(self.index);
        self.session = Some(session);
        Ok(session)
    }
}
