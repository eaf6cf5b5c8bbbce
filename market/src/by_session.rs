//! Sorted trades of many sessions, one session after the other.

use crate::error::Result;
use crate::session::Session;
use crate::trade::Trades;

/// What is done with a session: `Some` with its trades, in order and perhaps in several parts, then `None` at its end. Every
/// session has an end, also one without trades.
pub type Each<'e, 'c> = &'e mut dyn FnMut(&Session<'c>, Option<&Trades>) -> Result<()>;

/// Hands sorted runs of trades to the sessions they belong to.
///
/// ```
/// use market::{Calendar, Trade, TradeDate, Trades, by_session::BySession};
/// let calendar = Calendar::builtin("24/7")?;
/// let (first, last) = (TradeDate::parse("2024-07-04")?, TradeDate::parse("2024-07-06")?);
/// let mut sessions = BySession::new(calendar.sessions(first, last)?.collect());
/// let day = 86_400_000_000_000;
/// let trades: Trades = [0, 1, day].map(|at| Trade { ts: i64::from(first.0) * day + at, ..Trade::default() }).into_iter().collect();
/// let mut counts = vec![0];
/// let mut count = |_: &market::Session<'_>, trades: Option<&Trades>| {
///     match trades {
///         Some(trades) => *counts.last_mut().expect("one") += trades.len(),
///         None => counts.push(0),
///     }
///     Ok(())
/// };
/// sessions.push(&trades, &mut count)?;
/// sessions.finish(&mut count)?;
/// assert_eq!(counts, [2, 1, 0, 0]);
/// # Ok::<(), market::Error>(())
/// ```
pub struct BySession<'c> {
    sessions: Vec<Session<'c>>,
    at: usize,
}

impl<'c> BySession<'c> {
    /// For these sessions, in order and without one left out.
    pub fn new(sessions: Vec<Session<'c>>) -> BySession<'c> {
        BySession { sessions, at: 0 }
    }

    /// Takes the next run of trades; those outside the sessions are left out.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn push(&mut self, trades: &Trades, each: Each<'_, 'c>) -> Result<()> {
        let mut start = self.sessions.first().map_or(0, |first| trades.lower_bound(first.from));
        while start < trades.len() {
            let Some(session) = self.sessions.get(self.at) else { return Ok(()) };
            let end = trades.lower_bound(session.till);
            if start >= end {
                each(session, None)?;
                self.at += 1;
            } else if end - start == trades.len() {
                each(session, Some(trades))?;
                start = end;
            } else {
                each(session, Some(&trades.slice(start..end)))?;
                start = end;
            }
        }
        Ok(())
    }

    /// Ends the sessions that have not ended yet.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn finish(&mut self, each: Each<'_, 'c>) -> Result<()> {
        for session in &self.sessions[self.at.min(self.sessions.len())..] {
            each(session, None)?;
        }
        self.at = self.sessions.len();
        Ok(())
    }
}
