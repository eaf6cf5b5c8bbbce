//! Opening hours, from the session calendar alone.

use crate::answer::Answer;
use crate::error::Unanswered;
use crate::intent::Hours;
use crate::when::{Clock, When, zone};
use crate::wording;
use market::{Calendar, Nanos, Segments, Session};

/// Answers a question about hours.
///
/// # Errors
/// A refusal where the calendar has no such session or segment.
pub fn answer(
    name: &str,
    calendar: &Calendar,
    asked: Hours,
    segments: Option<Segments>,
    when: Option<When>,
    now: Nanos,
) -> Result<Answer, Unanswered> {
    let segments = segments.unwrap_or_else(|| calendar.main());
    let tz = zone(calendar);
    let clock = Clock::new(calendar, now)?;
    let what = if name == calendar.id() { calendar.name().to_string() } else { name.to_string() };
    let (title, headline, session) = match (asked, when) {
        (Hours::IsOpen, None | Some(When::Latest)) => {
            let open = calendar.is_open(now, segments)?;
            let headline = if open {
                let closes = calendar.next_close(now, segments)?;
                format!("Yes, until {} ({} left).", wording::moment(closes, tz), duration(closes - now))
            } else {
                let opens = calendar.next_open(now, segments)?;
                let closed = now_closed(calendar, now, tz);
                format!("No{closed}. It opens at {} (in {}).", wording::moment(opens, tz), duration(opens - now))
            };
            (format!("Is {what} open? ({segments})"), headline, calendar.session_at(now)?)
        }
        (Hours::Opens, None | Some(When::Latest)) => {
            let opens = calendar.next_open(now, segments)?;
            let headline = format!("{} (in {})", wording::moment(opens, tz), duration(opens - now));
            (format!("{what} opens next ({segments})"), headline, calendar.session_at(opens)?)
        }
        (Hours::Closes, None | Some(When::Latest)) => {
            let closes = calendar.next_close(now, segments)?;
            let headline = format!("{} (in {})", wording::moment(closes, tz), duration(closes - now));
            (format!("{what} closes next ({segments})"), headline, calendar.session_at(closes - 1)?)
        }
        (asked, when) => {
            let when = when.unwrap_or(When::Latest);
            // Without a day, the schedule of today or of the next session is the useful one.
            let date = match (when, clock.today) {
                (When::Latest, Some(today)) => today,
                (When::Latest, None) => calendar.next_session(clock.latest, 1)?,
                (when, _) => clock.resolve(when)?.first,
            };
            let session = calendar.session(date)?.ok_or_else(|| unsessioned(calendar))?;
            let headline = match asked {
                Hours::Opens => session.open(segments).map(|ts| wording::moment(ts, tz)),
                Hours::Closes => session.close(segments).map(|ts| wording::moment(ts, tz)),
                _ => wording::hours(&session, segments, tz),
            };
            let headline = headline.unwrap_or_else(|| format!("no {segments} on that day"));
            (format!("{what} hours, {} ({segments})", wording::date(date)), headline, session)
        }
    };
    Ok(Answer { title, headline, notes: notes(calendar, &session), table: table(&session, tz), chart: None })
}

fn unsessioned(calendar: &Calendar) -> crate::error::Refusal {
    let message = format!("{} has no session then.", calendar.id());
    crate::error::Refusal::new(crate::error::RefusalKind::NoSession, message, "")
}

/// Why it is closed, if a holiday is the reason.
fn now_closed(calendar: &Calendar, now: Nanos, tz: chrono_tz::Tz) -> String {
    let day = market::TradeDate::new(wording::local(now, tz).date_naive());
    calendar.closure(day).ok().flatten().map(|name| format!(": {name}")).unwrap_or_default()
}

fn notes(calendar: &Calendar, session: &Session<'_>) -> Vec<String> {
    let mut notes = vec![format!("{}, {}, times in {}.", calendar.name(), calendar.id(), calendar.time_zone())];
    if session.irregular {
        let why = if session.note.is_empty() { "irregular hours" } else { session.note };
        notes.push(format!("{} is irregular: {why}.", wording::date(session.trade_date)));
    }
    notes
}

fn table(session: &Session<'_>, tz: chrono_tz::Tz) -> Vec<Vec<String>> {
    let mut rows = vec![["segment", "opens", "closes"].map(str::to_string).to_vec()];
    for span in session.spans {
        let at = |ts| format!("{} {}", wording::local(ts, tz).format("%a %-d %b"), wording::time(ts, tz));
        rows.push(vec![span.segment.to_string(), at(span.open), at(span.close)]);
    }
    rows
}

/// `2 d 3 h`, `3 h 05 min`, `12 min`.
fn duration(nanos: Nanos) -> String {
    let minutes = (nanos + market::time::MINUTE - 1) / market::time::MINUTE;
    let (days, hours, rest) = (minutes / 1_440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{rest} min"),
        (0, hours) => format!("{hours} h {rest:02} min"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}
