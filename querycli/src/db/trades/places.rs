//! Trade date and segment of sorted trades, a stretch of them at a time.

use market::{Calendar, Filing, Nanos, Segment, Session, TradeDate};

/// Finds trade date and segment of sorted trades; beyond the known range they are `OFF` of their projected trade date.
pub struct Places {
    calendar: &'static Calendar,
    session: Option<Session<'static>>,
    filing: Option<Filing>,
}

impl Places {
    /// Of a calendar.
    pub fn new(calendar: &'static Calendar) -> Places {
        Places { calendar, session: None, filing: None }
    }

    /// Where a trade belongs.
    pub fn place(&mut self, ts: Nanos, flags: u32) -> (TradeDate, Segment) {
        if let Some(session) = &self.session
            && session.from <= ts
            && ts < session.till
        {
            return (session.trade_date, session.place(ts, flags).0);
        }
        if let Ok(session) = self.calendar.session_at(ts) {
            self.session = Some(session);
            return (session.trade_date, session.place(ts, flags).0);
        }
        let filing = match self.filing {
            Some(filing) if filing.from <= ts && ts < filing.till => filing,
            _ => self.calendar.filing(ts),
        };
        self.filing = Some(filing);
        (filing.trade_date, Segment::Off)
    }

    /// Where the trades belong: for each stretch of rows its end, trade date and segment.
    pub fn stretches(&mut self, ts: &[Nanos], flags: impl Fn(usize) -> u32) -> Vec<(usize, TradeDate, Segment)> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < ts.len() {
            let bits = flags(at);
            let (day, segment) = self.place(ts[at], bits);
            let (from, till) = match (&self.session, self.filing) {
                (Some(session), _) if session.from <= ts[at] && ts[at] < session.till => session.stretch_at(ts[at]),
                (_, Some(filing)) => (filing.from, filing.till),
                _ => (ts[at], ts[at]),
            };
            let same = (at + 1..ts.len()).take_while(|&i| from <= ts[i] && ts[i] < till && flags(i) == bits).count();
            at += 1 + same;
            found.push((at, day, segment));
        }
        found
    }
}
