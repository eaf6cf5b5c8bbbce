//! Lookups in a nearly ordered stream: a comparison or two a trade, and no allocation.

use super::Calendar;
use crate::error::Result;
use crate::session::{Segment, Session};
use crate::time::{Nanos, TradeDate};

/// A reader of a calendar that looks at its last answer first.
#[derive(Clone, Debug)]
pub struct Cursor<'c> {
    calendar: &'c Calendar,
    session: Option<Session<'c>>,
    /// The stretch of time in which the session of this index is the answer: part of its window.
    stretch: (Nanos, Nanos),
    index: usize,
}

impl<'c> Cursor<'c> {
    pub(super) fn new(calendar: &'c Calendar) -> Cursor<'c> {
        Cursor { calendar, session: None, stretch: (0, 0), index: 0 }
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
        let index = self.index_at(ts)?;
        Ok(self.calendar.inner.grid.segment(index, ts))
    }

    /// Like [`Calendar::trade_date`].
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    #[inline]
    pub fn trade_date(&mut self, ts: Nanos) -> Result<TradeDate> {
        let index = self.index_at(ts)?;
        Ok(self.calendar.inner.grid.dates[index])
    }

    /// The calendar it reads.
    pub fn calendar(&self) -> &'c Calendar {
        self.calendar
    }

    /// The place of the session whose storage window holds the instant.
    #[inline]
    pub(crate) fn index_at(&mut self, ts: Nanos) -> Result<usize> {
        if ts < self.stretch.0 || self.stretch.1 <= ts {
            let found = self.calendar.locate(ts)?;
            (self.stretch, self.index) = ((found.from, found.till), found.index);
        }
        Ok(self.index)
    }

    #[cold]
    fn move_to(&mut self, ts: Nanos) -> Result<Session<'c>> {
        let session = self.calendar.nth(self.index_at(ts)?);
        self.session = Some(session);
        Ok(session)
    }
}
