//! Profiles: at which prices a session traded how much, and for how long.
//!
//! The definitions, which people will check:
//! - A row is a price of the bin: prices from `row` up to, not including, `row + bin`. Bins are multiples of their size.
//! - The volume profile sums the volume of each row; all rows together are the session's volume, so prints that set no price
//!   are in it, at their prices.
//! - The time profile counts, for each row, the periods whose bar reaches it, from its low to its high. Periods are the bars of
//!   the selected segments, of 30 minutes from the open unless asked otherwise, lettered A to Z, a to z, and from A again.
//! - The point of control is the row with the most; of equal ones the one nearest to the middle of the profile's range, of
//!   two equally near the lower one.
//! - The value area grows from the point of control until it has at least the asked share, 70 % if not said: the two rows above
//!   are compared with the two below, and the pair with more is taken whole; of equal ones the pair nearer to the middle of the
//!   range, of two equally near the upper one. Where one row is left on a side, it is the pair.

use crate::bar::Bar;
use crate::block::Core;
use crate::bucket::{Bucket, buckets};
use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::flow::Sides;
use crate::money;
use crate::ohlc::{SessionBar, SessionFold};
use crate::print::Placer;
use crate::session::{Segments, Session};
use crate::time::MINUTE;
use crate::timeframe::Timeframe;
use crate::trade::Trades;
use std::collections::BTreeMap;

/// Most rows between a profile's lowest and highest price.
pub const MOST_ROWS: i64 = 1_000_000;

/// Which profile is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProfileRequest {
    /// Whose prints count.
    pub segments: Segments,
    /// Height of a row in 1e-9.
    pub bin: i64,
    /// Length of a period.
    pub period: Timeframe,
    /// Millionths of the whole that the value area holds at least.
    pub value_area: i128,
}

impl ProfileRequest {
    /// Checks what is asked: `bin` in the unit of prices, the period such as `30m`, the share of the value area.
    ///
    /// # Errors
    /// `Invalid` for a bin that is not above zero, a period that is no whole minutes, a share that is none.
    pub fn new(segments: Segments, bin: f64, period: &str, value_area: f64) -> Result<ProfileRequest> {
        let height = money::from_f64("bin", bin)?;
        if height <= 0 {
            return Err(Error::invalid("bin", bin.to_string(), "a height above zero, such as the tick size"));
        }
        let timeframe = Timeframe::parse(period)?;
        if !matches!(timeframe, Timeframe::Intraday(width) if width % MINUTE == 0) {
            return Err(Error::invalid("period", period, "whole minutes within a day, such as 30m"));
        }
        if !(value_area > 0.0 && value_area <= 1.0) {
            return Err(Error::invalid(
                "value_area",
                value_area.to_string(),
                "a share above 0 and up to 1, such as 0.7",
            ));
        }
        let value_area = (value_area * 1e6).round() as i128;
        Ok(ProfileRequest { segments, bin: height, period: timeframe, value_area })
    }
}

/// A row of a profile.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProfileRow {
    /// The lowest price of the row, in 1e-9.
    pub price: i64,
    /// Its volume by side.
    pub sides: Sides,
    /// The number of periods that reach it.
    pub tpo: i32,
    /// Their letters.
    pub periods: String,
    /// The row of the most volume.
    pub is_poc: bool,
    /// In the value area of the volume.
    pub in_value_area: bool,
    /// The row of the most periods.
    pub is_tpo_poc: bool,
    /// In the value area of the periods.
    pub in_tpo_value_area: bool,
}

/// Makes the profile of one session.
pub struct ProfileFold<'s> {
    placer: Placer<'s>,
    request: ProfileRequest,
    periods: SessionFold<'s>,
    core: Core,
    rows: BTreeMap<i64, Sides>,
}

impl<'s> ProfileFold<'s> {
    /// For one session.
    pub fn new(session: &Session<'s>, request: ProfileRequest) -> ProfileFold<'s> {
        ProfileFold {
            placer: Placer::new(session),
            request,
            periods: SessionFold::new(session, request.period, request.segments),
            core: Core::new(),
            rows: BTreeMap::new(),
        }
    }

    /// Adds sorted trades of the session.
    pub fn push(&mut self, trades: &Trades) {
        self.core.set(trades, 0..trades.len());
        self.periods.push_core(&self.core);
        for trade in trades.iter() {
            let print = self.placer.place(&trade);
            let counts = print.flags & crate::trade::flags::NO_VOLUME == 0;
            if counts && self.request.segments.contains(print.segment) {
                self.rows.entry(print.price.div_euclid(self.request.bin)).or_default().push(&print);
            }
        }
    }

    /// The rows with volume or periods, from the lowest.
    ///
    /// # Errors
    /// `Invalid` for a bin so small that there would be more than [`MOST_ROWS`] rows.
    pub fn finish(self) -> Result<Vec<ProfileRow>> {
        let ProfileFold { placer, request, periods, rows, .. } = self;
        let (mut bars, mut grid) = (Vec::new(), Vec::new());
        periods.finish(&mut bars);
        buckets(placer.session(), request.period, request.segments, &mut grid);
        let spans = spans(&bars, &grid, request.bin);
        let ends = rows.keys().copied().chain(spans.iter().flat_map(|span| [span.low, span.high]));
        let (Some(low), Some(high)) = (ends.clone().min(), ends.max()) else { return Ok(Vec::new()) };
        if high.saturating_sub(low) >= MOST_ROWS {
            let least = (i128::from(high) - i128::from(low)) * i128::from(request.bin) / i128::from(MOST_ROWS) + 1;
            let least = money::volume_to_f64(least);
            let allowed = format!("at least {least}: the prices of the day are too far apart for smaller rows");
            return Err(Error::invalid("bin", money::to_f64(request.bin).to_string(), allowed));
        }
        let count = (high - low) as usize + 1;
        let place = |row: i64| (row - low) as usize;
        let (mut volume, mut tpo) = (vec![0i128; count], vec![0i128; count]);
        rows.iter().for_each(|(row, sides)| volume[place(*row)] = sides.volume());
        spans.iter().for_each(|s| tpo[place(s.low)..=place(s.high)].iter_mut().for_each(|periods| *periods += 1));
        let by_volume = ValueArea::of(&volume, request.value_area);
        let by_time = ValueArea::of(&tpo, request.value_area);
        let row = |at: usize| {
            let sides = rows.get(&(low + at as i64)).copied();
            if sides.is_none() && tpo[at] == 0 {
                return None;
            }
            let here = low + at as i64;
            let letters = spans.iter().filter(|span| (span.low..=span.high).contains(&here)).map(|span| span.letter);
            Some(ProfileRow {
                price: here.saturating_mul(request.bin),
                sides: sides.unwrap_or_default(),
                tpo: tpo[at] as i32,
                periods: letters.collect(),
                is_poc: by_volume.is_some_and(|area| area.poc == at),
                in_value_area: by_volume.is_some_and(|area| (area.low..=area.high).contains(&at)),
                is_tpo_poc: by_time.is_some_and(|area| area.poc == at),
                in_tpo_value_area: by_time.is_some_and(|area| (area.low..=area.high).contains(&at)),
            })
        };
        Ok((0..count).filter_map(row).collect())
    }
}

/// The rows one period reaches.
#[derive(Clone, Copy, Debug)]
struct PeriodSpan {
    letter: char,
    low: i64,
    high: i64,
}

fn spans(bars: &[SessionBar], grid: &[Bucket], bin: i64) -> Vec<PeriodSpan> {
    let reach = |bar: &SessionBar| {
        let Bar { high, low, priced, .. } = bar.bar.settled();
        let number = grid.iter().position(|bucket| bucket.open == bar.open_at)?;
        let letter = char::from(match number % 52 {
            n @ 0..26 => b'A' + n as u8,
            n => b'a' + (n - 26) as u8,
        });
        (priced > 0).then(|| PeriodSpan { letter, low: low.div_euclid(bin), high: high.div_euclid(bin) })
    };
    bars.iter().filter_map(reach).collect()
}

/// The point of control of rows and the value area around it, as indexes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ValueArea {
    /// The point of control.
    pub poc: usize,
    /// The lowest row of the value area.
    pub low: usize,
    /// The highest row of the value area.
    pub high: usize,
}

impl ValueArea {
    /// Of rows from the lowest to the highest; `None` if nothing is in them. `share` in millionths of the whole.
    ///
    /// ```
    /// use market::profile::ValueArea;
    /// let area = ValueArea::of(&[1, 2, 9, 3, 2, 1], 700_000).expect("rows");
    /// // 9 of 18; then 3 + 2 above against 2 + 1 below: 14 are enough.
    /// assert_eq!((area.poc, area.low, area.high), (2, 2, 4));
    /// ```
    pub fn of(rows: &[i128], share: i128) -> Option<ValueArea> {
        let bottom = rows.iter().position(|row| *row > 0)?;
        let top = rows.iter().rposition(|row| *row > 0)?;
        let off_middle = |row: usize| (2 * row).abs_diff(bottom + top);
        let poc = (bottom..=top)
            .max_by_key(|row| (rows[*row], std::cmp::Reverse(off_middle(*row)), std::cmp::Reverse(*row)))?;
        let total: i128 = rows.iter().sum();
        let (mut low, mut high, mut held) = (poc, poc, rows[poc]);
        while held.saturating_mul(1_000_000) < total.saturating_mul(share) {
            let above = high + 1..(high + 3).min(top + 1);
            let below = low.saturating_sub(2).max(bottom)..low;
            let sum = |range: &std::ops::Range<usize>| rows[range.clone()].iter().sum::<i128>();
            let up = match (above.is_empty(), below.is_empty()) {
                (true, true) => break,
                (false, true) => true,
                (true, false) => false,
                (false, false) => match sum(&above).cmp(&sum(&below)) {
                    std::cmp::Ordering::Equal => off_middle(high + 1) <= off_middle(low - 1),
                    order => order.is_gt(),
                },
            };
            if up {
                held += sum(&above);
                high = above.end - 1;
            } else {
                held += sum(&below);
                low = below.start;
            }
        }
        Some(ValueArea { poc, low, high })
    }
}

/// Of what a profile is made unless said otherwise: of the regular hours, or of the calendar's main segments where the
/// session has none.
pub fn default_segments(session: &Session<'_>, calendar: &Calendar) -> Segments {
    session.open(Segments::RTH).map_or(calendar.main(), |_| Segments::RTH)
}
