//! Wall-clock times to instants, one by one.

use crate::time::{DAY, MINUTE, Nanos, SECOND, TradeDate};
use chrono::{MappedLocalTime, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{OffsetComponents, Tz};

/// Converts wall times of one zone, remembering the days whose offset does not change.
pub(crate) struct Wall {
    tz: Tz,
    /// By the day's last two bits: the day, and its offset in seconds if all of it has one.
    days: [(i32, Option<i32>); 4],
    /// A day's midnight and its offset: yesterday's end is today's start.
    midnight: (i32, i32),
}

impl Wall {
    pub(crate) fn new(tz: Tz) -> Wall {
        Wall { tz, days: [(i32::MIN, None); 4], midnight: (i32::MIN, 0) }
    }

    /// The instant of `minutes` after midnight (wall clock) of a civil day; `minutes` may lie on other days. A time that
    /// the clock skips moves forward to the next that exists; of a time that comes twice, the first counts.
    pub(crate) fn instant(&mut self, day: TradeDate, minutes: i32) -> Nanos {
        let day = day.0.saturating_add(minutes.div_euclid(1440));
        let minutes = minutes.rem_euclid(1440);
        let offset = match self.constant_offset(day) {
            Some(offset) => offset,
            None => self.offset(day, minutes),
        };
        let local = i64::from(day).saturating_mul(DAY).saturating_add(i64::from(minutes) * MINUTE);
        local.saturating_sub(i64::from(offset) * SECOND)
    }

    /// Whether the zone had the civil day at all: Samoa had no 2011-12-30.
    pub(crate) fn exists(&mut self, day: TradeDate) -> bool {
        self.constant_offset(day.0).is_some() || self.instant(day, 0) < self.instant(day, 1440)
    }

    fn constant_offset(&mut self, day: i32) -> Option<i32> {
        let slot = (day & 3) as usize;
        if self.days[slot].0 != day {
            let start = if self.midnight.0 == day { self.midnight.1 } else { self.offset(day, 0) };
            let next = day.saturating_add(1);
            let end = self.offset(next, 0);
            self.midnight = (next, end);
            self.days[slot] = (day, (start == end).then_some(start));
        }
        self.days[slot].1
    }

    fn offset(&self, day: i32, minutes: i32) -> i32 {
        let mut local = civil(day, minutes);
        // A gap is usually an hour, once a day (Samoa, December 2011). What it skips becomes its end, not a later time:
        // so the order of wall times is the order of instants, and sessions cannot cross.
        for skipped in 0..=48 * 60 {
            match self.tz.offset_from_local_datetime(&local) {
                MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
                    return offset.fix().local_minus_utc() - skipped * 60;
                }
                MappedLocalTime::None => local = local.checked_add_signed(TimeDelta::minutes(1)).unwrap_or(local),
            }
        }
        0
    }
}

/// The civil day on which an instant falls.
pub(crate) fn civil_day(tz: Tz, ts: Nanos) -> TradeDate {
    let utc = chrono::DateTime::from_timestamp_nanos(ts);
    TradeDate::new(utc.with_timezone(&tz).date_naive())
}

/// Whether summer time is in force at noon of a civil day.
pub(crate) fn is_summer(tz: Tz, day: TradeDate) -> bool {
    let noon = civil(day.0, 720);
    match tz.offset_from_local_datetime(&noon) {
        MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => !offset.dst_offset().is_zero(),
        MappedLocalTime::None => false,
    }
}

fn civil(day: i32, minutes: i32) -> NaiveDateTime {
    let seconds = minutes.clamp(0, 1439) as u32 * 60;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0).unwrap_or(NaiveTime::MIN);
    TradeDate(day).date().and_time(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::format_instant;

    #[test]
    fn wall_times_convert_one_by_one() {
        for (zone, day, minutes, expected) in [
            // New York springs forward on 2024-03-10 at 02:00 and falls back on 2024-11-03.
            ("America/New_York", "2024-03-10", 90, "2024-03-10T06:30:00Z"),
            ("America/New_York", "2024-03-10", 150, "2024-03-10T07:00:00Z"),
            ("America/New_York", "2024-03-10", 240, "2024-03-10T08:00:00Z"),
            ("America/New_York", "2024-11-03", 90, "2024-11-03T05:30:00Z"),
            ("America/New_York", "2024-11-03", 121, "2024-11-03T07:01:00Z"),
            ("America/New_York", "2024-11-04", -360, "2024-11-03T23:00:00Z"),
            // Sao Paulo's summer time began at midnight: 00:00 to 00:59 did not exist on 2018-11-04.
            ("America/Sao_Paulo", "2018-11-04", 0, "2018-11-04T03:00:00Z"),
            ("America/Sao_Paulo", "2018-11-04", 600, "2018-11-04T12:00:00Z"),
            // Apia had no 2011-12-30 at all.
            ("Pacific/Apia", "2011-12-30", 600, "2011-12-30T10:00:00Z"),
            ("UTC", "2024-02-28", 2880, "2024-03-01T00:00:00Z"),
        ] {
            let mut wall = Wall::new(zone.parse().unwrap());
            let day = TradeDate::parse(day).unwrap();
            assert_eq!(format_instant(wall.instant(day, minutes)), expected, "{zone} {day} {minutes}");
        }
    }
}
