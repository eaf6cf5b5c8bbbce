//! `24/7@17:00 America/New_York`: around the clock, with the day's boundary where the user's day ends.

use super::Calendar;
use crate::error::{Error, Result};
use crate::nearest::nearest;
use chrono_tz::Tz;
use std::sync::{Mutex, PoisonError};

/// What such names begin with.
pub(super) const PREFIX: &str = "24/7@";

/// A table of sessions takes a few megabytes, so a process makes so many at most.
const MOST: usize = 32;

static MADE: Mutex<Vec<(String, Calendar)>> = Mutex::new(Vec::new());

/// The calendar of `17:00 America/New_York`, what follows [`PREFIX`]. The same boundary gives the same table.
pub(super) fn calendar(boundary: &str) -> Result<Calendar> {
    let (time, zone) = read(boundary)?;
    let id = format!("{PREFIX}{time} {zone}");
    // A panic while it was held left the list whole: it grows by one push.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, calendar)) = made.iter().find(|(known, _)| *known == id) {
        return Ok(calendar.clone());
    }
    if made.len() == MOST {
        return Err(refuse(
            boundary,
            format!("one of the {MOST} that this process has read, or a calendar file of your own"),
        ));
    }
    let calendar = Calendar::from_toml(&file(&id, time, zone))?;
    made.push((id, calendar.clone()));
    Ok(calendar)
}

fn read(boundary: &str) -> Result<(&str, Tz)> {
    const EXAMPLE: &str = "as in \"24/7@17:00 America/New_York\"";
    let Some((time, zone)) = boundary.split_once(' ') else {
        return Err(refuse(boundary, format!("a time and an IANA time zone, {EXAMPLE}")));
    };
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let clock = time.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2);
    let clock = clock.and_then(|(hour, minute)| number(hour).zip(number(minute)));
    if !clock.is_some_and(|(hour, minute)| hour < 24 && minute < 60) {
        return Err(refuse(boundary, format!("a time from 00:00 to 23:59, {EXAMPLE}")));
    }
    match zone.trim().parse() {
        Ok(tz) => Ok((time, tz)),
        Err(_) => {
            let meant = nearest(zone, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
            let meant = meant.map(|zone| format!("; did you mean \"{zone}\"?")).unwrap_or_default();
            Err(refuse(boundary, format!("an IANA time zone, {EXAMPLE}{meant}")))
        }
    }
}

fn refuse(boundary: &str, allowed: String) -> Error {
    let input: String = boundary.chars().take(80).collect();
    Error::Invalid { what: "day boundary", input, allowed }
}

/// A boundary in the morning begins the day of its date; one from noon on ends it, as 17:00 New York does.
fn file(id: &str, time: &str, zone: Tz) -> String {
    let window = if time < "12:00" { format!("{time}-{time}+1d") } else { format!("{time}-1d-{time}") };
    format!(
        "schema  = 1\nid      = \"{id}\"\nname    = \"Around the clock, a session from {time} to {time} in {zone}\"\n\
         tz      = \"{zone}\"\nmain    = \"ETH\"\nknown   = [1990-01-01, 2040-12-31]\nversion = 1\nsource  = \"by definition\"\n\n\
         [[hours]]\ndays = \"mon-sun\"\nRTH  = \"{window}\"\n"
    )
}
