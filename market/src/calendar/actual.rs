//! What became of the schedule: hours without what outages and halts took away. Bars and storage keep to the schedule.

use super::Calendar;
use super::expand::Planner;
use crate::error::Result;
use crate::session::{Segments, Span, Spans};
use crate::time::{Nanos, TradeDate};
use crate::when::When;

/// When trading stopped, half-open; what a feed reported or a user noted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Halt {
    /// First instant without trading.
    pub from: Nanos,
    /// First instant after it; [`Nanos::MAX`] while it lasts.
    pub till: Nanos,
    /// Why.
    pub note: String,
}

/// The hours a session really had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Actual {
    /// The label of the scheduled session.
    pub trade_date: TradeDate,
    /// What was left of its spans, in time order; empty if nothing was.
    pub spans: Vec<Span>,
    /// Whether they differ from the schedule.
    pub differs: bool,
    /// Why the session was irregular, from the schedule, outages and halts.
    pub note: String,
}

impl Calendar {
    /// The hours that the sessions of `first..=last` really had: outages of the calendar file (`class = "outage"`) replace
    /// the schedule, then halts are cut out. A halt of the whole market only; one instrument's halt is no session's.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the known range.
    pub fn actual(&self, first: TradeDate, last: TradeDate, halts: &[Halt]) -> Result<Vec<Actual>> {
        let spec = &self.inner.spec;
        let mut planner = None;
        let mut all = Vec::new();
        for session in self.sessions(first, last)? {
            let mut notes: Vec<&str> = Vec::new();
            let mut spans = session.spans.to_vec();
            let outages = spec.specials.iter().filter(|special| !special.class.is_empty());
            let mut hit = outages.filter(|special| {
                let mut on = false;
                special.on.iter().for_each(|rule| {
                    rule.dates(session.trade_date, session.trade_date, |_| on = true);
                });
                on
            });
            if let Some(outage) = hit.next() {
                notes.push(&outage.name);
                notes.extend(hit.map(|special| special.name.as_str()));
                // few days have an outage, and a planner reads the whole file
                let planner = match &mut planner {
                    Some(planner) => planner,
                    none => none.insert(Planner::of(spec, first, last, |_| true)?),
                };
                spans = planner.day(session.trade_date)?.map_or_else(Vec::new, |draft| draft.spans);
            }
            for halt in halts.iter().filter(|halt| halt.from < session.till && session.from < halt.till) {
                let before = spans.clone();
                spans = cut_out(&spans, halt);
                if spans != before && !halt.note.is_empty() {
                    notes.push(&halt.note);
                }
            }
            let differs = session.spans != Spans::from(&spans);
            let scheduled = Some(session.note).filter(|note| !note.is_empty());
            let note = scheduled.into_iter().chain(notes).collect::<Vec<_>>().join(", ");
            all.push(Actual { trade_date: session.trade_date, spans, differs, note });
        }
        Ok(all)
    }

    /// How long these segments were to trade in `from <= t < till` and did not, for an outage of the calendar file or a halt.
    /// Where several overlap the time counts once; time outside the schedule does not count. The parts of a range add up to
    /// the whole.
    ///
    /// # Errors
    /// A range that runs backwards; `OutOfBounds` beyond the known range.
    pub fn halted(&self, from: Nanos, till: Nanos, segments: Segments, halts: &[Halt]) -> Result<Nanos> {
        When::Instants(from, till).check()?;
        let first = self.trade_date(from)?;
        if from == till {
            return Ok(0);
        }
        let last = self.trade_date(till - 1)?;
        let mut halted = 0;
        for (session, actual) in self.sessions(first, last)?.zip(self.actual(first, last, halts)?) {
            for span in session.spans.iter().filter(|span| segments.contains(span.segment)) {
                let (open, close) = (span.open.max(from), span.close.min(till));
                // an outage may also have moved trading to where none was scheduled
                let traded = |left: &Span| (left.close.min(close) - left.open.max(open)).max(0);
                halted += (close - open).max(0) - actual.spans.iter().map(traded).sum::<Nanos>();
            }
        }
        Ok(halted)
    }
}

fn cut_out(spans: &[Span], halt: &Halt) -> Vec<Span> {
    let mut left = Vec::with_capacity(spans.len() + 1);
    for span in spans {
        let before = Span { close: span.close.min(halt.from), ..*span };
        let after = Span { open: span.open.max(halt.till), ..*span };
        left.extend([before, after].into_iter().filter(|part| part.open < part.close));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(calendar: &Calendar, first: &str, last: &str, halts: &[Halt]) -> Vec<String> {
        let (first, last) = (TradeDate::parse(first).unwrap(), TradeDate::parse(last).unwrap());
        let show = |day: Actual| {
            let session =
                crate::Session { spans: (&day.spans).into(), ..calendar.session(day.trade_date).unwrap().unwrap() };
            format!("{} {} {} [{}]", day.trade_date, calendar.describe(&session), day.differs, day.note)
        };
        calendar.actual(first, last, halts).unwrap().into_iter().map(show).collect()
    }

    #[test]
    fn an_outage_of_the_file_and_a_halt_shorten_the_day() {
        // Typhoon Higos, 2020-08-19: trading began at 13:00 (HKEX notice, by way of exchange_calendars issue 142).
        let hk = Calendar::builtin("XHKG").unwrap();
        let found = texts(&hk, "2020-08-18", "2020-08-19", &[]);
        assert_eq!(
            found,
            ["2020-08-18 RTH 09:30-12:00, RTH 13:00-16:00 false []", "2020-08-19 RTH 13:00-16:00 true [typhoon Higos]"]
        );
        // The market-wide circuit breaker of 2020-03-09: 09:34:13 to 09:49:13 New York.
        let from = 1_583_760_853_000_000_000;
        let halt = Halt { from, till: from + 900_000_000_000, note: "circuit breaker, level 1".into() };
        let ny = Calendar::builtin("XNYS").unwrap();
        let day = ny.actual(TradeDate::parse("2020-03-09").unwrap(), TradeDate::parse("2020-03-09").unwrap(), &[halt]);
        let day = &day.unwrap()[0];
        let rth: Vec<_> = day.spans.iter().filter(|s| s.segment == crate::Segment::Rth).collect();
        assert_eq!((rth[0].close, rth[1].open), (from, from + 900_000_000_000));
        assert!(day.differs && day.note == "circuit breaker, level 1");
        // the schedule is as it was
        let session = ny.session(day.trade_date).unwrap().unwrap();
        assert_eq!(session.runs(Segments::RTH).count(), 1);
    }

    /// A day's instant, from the wall clock of New York in daylight saving time.
    fn new_york(time: &str) -> Nanos {
        chrono::DateTime::parse_from_rfc3339(&format!("2020-03-09T{time}-04:00"))
            .unwrap()
            .timestamp_nanos_opt()
            .unwrap()
    }

    #[test]
    fn halted_time_counts_once_and_inside_the_schedule() {
        let ny = Calendar::builtin("XNYS").unwrap();
        let halt = |from: &str, till: &str| Halt { from: new_york(from), till: new_york(till), note: String::new() };
        // the market's halt of 2020-03-09, and one of an instrument that began within it and lasted on
        let market = halt("09:34:13", "09:49:13");
        let own = halt("09:40:00", "10:05:00");
        let halted = |from: &str, till: &str, segments, halts: &[Halt]| {
            ny.halted(new_york(from), new_york(till), segments, halts).unwrap() / 1_000_000_000
        };
        let both = [market.clone(), own];
        assert_eq!(halted("09:30:00", "16:00:00", Segments::RTH, std::slice::from_ref(&market)), 900);
        assert_eq!(halted("09:30:00", "16:00:00", Segments::RTH, &both), 30 * 60 + 47);
        assert_eq!(halted("09:30:00", "10:00:00", Segments::RTH, &both), 25 * 60 + 47);
        // before the open of RTH and after the close of POST nothing is taken from what was asked for
        let early = [halt("09:00:00", "09:31:00"), halt("19:59:00", "23:00:00")];
        assert_eq!(halted("09:00:00", "20:30:00", Segments::RTH, &early), 60);
        assert_eq!(halted("09:00:00", "20:30:00", Segments::ETH, &early), 31 * 60 + 60);
        assert_eq!(halted("09:30:00", "09:30:00", Segments::RTH, &early), 0);
        assert!(ny.halted(2, 1, Segments::RTH, &[]).is_err() && ny.halted(0, Nanos::MAX, Segments::RTH, &[]).is_err());
    }

    #[test]
    fn an_outage_of_the_file_is_halted_time_and_the_parts_add_up() {
        // Typhoon Higos took the morning, 09:30 to 12:00; the lunch break was none of its doing.
        let hk = Calendar::builtin("XHKG").unwrap();
        let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_nanos_opt().unwrap();
        let (from, till) = (at("2020-08-18T00:00:00+08:00"), at("2020-08-20T00:00:00+08:00"));
        let afternoon = Halt {
            from: at("2020-08-19T14:00:00.5+08:00"),
            till: at("2020-08-19T14:00:02+08:00"),
            note: String::new(),
        };
        for (halts, expected) in [(&[][..], 9_000_000_000_000), (&[afternoon][..], 9_001_500_000_000)] {
            let halted = |from, till| hk.halted(from, till, Segments::ETH, halts).unwrap();
            assert_eq!(halted(from, till), expected);
            for step in [crate::time::DAY / 7, 77 * crate::time::MINUTE + 13] {
                let mut parts = 0;
                let mut at = from;
                while at < till {
                    parts += halted(at, (at + step).min(till));
                    at += step;
                }
                assert_eq!(parts, expected);
            }
        }
    }
}
