//! How much at once: questions a user may ask, and answers under way when the program is to stop.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// At most so many questions of one user in a stretch of time.
pub struct PerUser {
    most: usize,
    within: Duration,
    asked: Mutex<HashMap<u64, VecDeque<Instant>>>,
}

/// Users remembered before those who have been quiet are forgotten.
const REMEMBERED: usize = 4_096;

impl PerUser {
    /// `most` questions `within` any stretch of time.
    pub fn new(most: usize, within: Duration) -> PerUser {
        PerUser { most, within, asked: Mutex::default() }
    }

    /// Counts a question, or says how long the user has to wait.
    ///
    /// # Errors
    /// The time until the next question is allowed.
    pub fn admit(&self, user: u64, now: Instant) -> Result<(), Duration> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let stale = |at: &Instant| now.saturating_duration_since(*at) >= self.within;
        if asked.len() >= REMEMBERED {
            asked.retain(|_, times| times.back().is_some_and(|last| !stale(last)));
        }
        let times = asked.entry(user).or_default();
        while times.front().is_some_and(stale) {
            times.pop_front();
        }
        if times.len() < self.most {
            times.push_back(now);
            return Ok(());
        }
        let oldest = times.front().copied().unwrap_or(now);
        Err(self.within.saturating_sub(now.saturating_duration_since(oldest)))
    }
}

/// Counts answers under way.
#[derive(Clone, Debug)]
pub struct Flights {
    count: watch::Sender<usize>,
}

/// One answer under way, until it is dropped.
#[derive(Debug)]
pub struct Flight {
    count: watch::Sender<usize>,
}

impl Default for Flights {
    fn default() -> Flights {
        Flights { count: watch::Sender::new(0) }
    }
}

impl Flights {
    /// Another answer begins.
    pub fn start(&self) -> Flight {
        self.count.send_modify(|count| *count += 1);
        Flight { count: self.count.clone() }
    }

    /// Waits until none is under way, at most so long; returns how many are left.
    pub async fn landed(&self, patience: Duration) -> usize {
        let mut seen = self.count.subscribe();
        let waited = tokio::time::timeout(patience, seen.wait_for(|count| *count == 0)).await;
        drop(waited);
        *self.count.borrow()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_asks_too_often_waits_and_others_do_not() {
        let limit = PerUser::new(2, Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.admit(1, at(0)), Ok(()));
        assert_eq!(limit.admit(1, at(1)), Ok(()));
        assert_eq!(limit.admit(1, at(2)), Err(Duration::from_secs(8)));
        assert_eq!(limit.admit(2, at(2)), Ok(()));
        assert_eq!(limit.admit(1, at(10)), Ok(()));
        assert_eq!(limit.admit(1, at(10)), Err(Duration::from_secs(1)));
    }
}
