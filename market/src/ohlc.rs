//! The engine behind `session_ohlc`, the same for SQL and `querycli`: sorted pages or minute bars of sessions in, bars out.
//!
//! [`SessionFold`] makes the bars of one session; [`Answer`] puts those of many sessions together: it fills gaps, cuts to the
//! asked range and groups trade dates into weeks, months, quarters, years. Late rows are merged into the pages before
//! ([`overlay`](crate::trade::overlay)).
//!
//! Rules at the edges:
//! - A bar is in an answer if its label, its open, is in the asked range. It is always whole: an answer never holds the part
//!   of a bar that happens to lie in the range.
//! - Inside a segment the opening auction comes first and the closing auction last. Opening prints go into the first regular
//!   bar, closing prints into the last one, whatever their times.
//! - A stretch of `OFF`, when asked for, is a run with a grid of its own, anchored at its own start: at the start of the storage
//!   window or at the close before it. The bars of the session are the same with and without it.

use crate::bar::Bar;
use crate::block::Core;
use crate::bucket::{Bucket, Day, bucket_of, buckets};
use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::fold::{self, Stretches};
use crate::minute::MinuteBar;
use crate::session::{Class, Segment, Segments, Session};
use crate::time::{MINUTE, Nanos, SECOND, TradeDate};
use crate::timeframe::Timeframe;
use std::ops::Range;

/// What to do where a bucket has no trades.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Fill {
    /// No bar.
    #[default]
    None,
    /// A flat bar at the close before, volume 0; without prices while there is no close before.
    Previous,
    /// A bar without prices, volume 0.
    Null,
}

impl Fill {
    /// Reads `none`, `previous`, `null`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Fill> {
        match text.trim().to_ascii_lowercase().as_str() {
            "none" => Ok(Fill::None),
            "previous" => Ok(Fill::Previous),
            "null" => Ok(Fill::Null),
            _ => Err(Error::invalid("fill", text, "none, previous or null")),
        }
    }
}

/// What bars are asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OhlcRequest {
    /// Width of the bars.
    pub timeframe: Timeframe,
    /// Segments whose trades count.
    pub segments: Segments,
    /// What to do where there are no trades.
    pub fill: Fill,
    /// What a day is to bars of days, weeks, months and the like.
    pub day: Day,
    /// Bars with their open in here, half-open; [`OhlcRequest::EVER`] when sessions are asked for by trade date.
    pub range: Range<Nanos>,
}

impl OhlcRequest {
    /// All of time.
    pub const EVER: Range<Nanos> = i64::MIN..i64::MAX;

    /// All bars of the sessions that are folded, without filling.
    pub fn new(timeframe: Timeframe, segments: Segments) -> OhlcRequest {
        OhlcRequest { timeframe, segments, fill: Fill::None, day: Day::Trade, range: OhlcRequest::EVER }
    }

    /// The trade dates whose sessions must be folded so that every bar of these dates (both included) is whole: for weeks,
    /// months and the like more than were asked for.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn dates(&self, calendar: &Calendar, first: TradeDate, last: TradeDate) -> Result<(TradeDate, TradeDate)> {
        if !self.groups() {
            return Ok((first, last));
        }
        let group = |date| self.day.group_of(calendar, self.timeframe, date);
        Ok((group(first)?.0.min(first), group(last)?.1.max(last)))
    }

    /// Whether a bar may be of several trade dates.
    pub fn groups(&self) -> bool {
        match self.timeframe {
            Timeframe::Intraday(_) => false,
            Timeframe::Days(0 | 1) => self.day == Day::Clearing,
            _ => true,
        }
    }

    /// Whether minute bars give exactly the bars that the trades would.
    pub fn minutes_suffice(&self, session: &Session<'_>) -> bool {
        let whole = |ts: Nanos| ts % MINUTE == 0;
        self.timeframe.is_whole_minutes()
            && session.spans.iter().all(|span| whole(span.open) && whole(span.close))
            && (!self.segments.contains(Segment::Off) || (whole(session.from) && whole(session.till)))
    }

    /// Which trades of a session the bars in the range are made of.
    pub fn wanted(&self, session: &Session<'_>) -> Wanted {
        let all = session.from..session.till;
        let width = match self.timeframe {
            Timeframe::Intraday(width) if self.fill != Fill::Previous => width,
            _ => return Wanted { plain: i64::MIN..i64::MAX, flagged: i64::MIN..i64::MAX },
        };
        // The last bar of the range begins before its end, so all its trades come before a width later.
        let plain = self.range.start..self.range.end.saturating_add(width.saturating_sub(1));
        let mut wanted = Wanted { flagged: plain.clone(), plain };
        let Some((open, close)) = session.open(Segments::RTH).zip(session.close(Segments::RTH)) else {
            return wanted;
        };
        if self.segments.contains(Segment::Rth) {
            // The first and last regular bars take auction prints from elsewhere.
            if self.range.start <= open && open < wanted.plain.end {
                wanted.plain.start = wanted.plain.start.min(session.open_auction_from);
                wanted.flagged.start = wanted.flagged.start.min(all.start);
                wanted.flagged.end = wanted.flagged.end.max(open.saturating_add(MINUTE));
            }
            if self.range.start < close && close.saturating_sub(width) < wanted.plain.end {
                wanted.plain.end = wanted.plain.end.max(session.close_auction_until);
                wanted.flagged.end = wanted.flagged.end.max(all.end);
            }
            let (pause, until) = session.break_auction;
            if pause < until && self.range.start < pause && pause.saturating_sub(width) < wanted.plain.end {
                wanted.plain.end = wanted.plain.end.max(until);
                wanted.flagged.end = wanted.flagged.end.max(until);
            }
        }
        wanted
    }
}

/// Which pages of a session an answer needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Times of trades that matter on pages of plain trades.
    pub plain: Range<Nanos>,
    /// Times of trades that matter on pages with flags, whose auction prints may belong elsewhere.
    pub flagged: Range<Nanos>,
}

impl Wanted {
    /// Whether a page with these first and last times must be decoded.
    pub fn page(&self, first: Nanos, last: Nanos, plain: bool) -> bool {
        let range = if plain { &self.plain } else { &self.flagged };
        first < range.end && last >= range.start
    }
}

/// A bar of an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionBar {
    /// What it is called: its trade date, or clearing date if days are those; the first one of a bar of several.
    pub label: TradeDate,
    /// Its trade date; the first one of a bar of several.
    pub trade_date: TradeDate,
    /// Its last trade date.
    pub last_date: TradeDate,
    /// Its label: first instant.
    pub open_at: Nanos,
    /// First instant after it.
    pub close_at: Nanos,
    /// The bar. Answers hold settled bars, see [`Bar::settled`].
    pub bar: Bar,
    /// Made by filling, not of trades.
    pub filled: bool,
}

/// Makes the bars of one session: of trades (pages in order) or of minute bars, not of both.
///
/// ```
/// use market::{Calendar, OhlcRequest, Segments, SessionFold, Timeframe, Trade, TradeDate, Trades, block::Core};
/// let calendar = Calendar::builtin("XNYS")?;
/// let session = calendar.session(TradeDate::parse("2024-11-29")?)?.expect("a half day");
/// let open = session.open(Segments::RTH).expect("regular hours");
/// let trades: Trades = (0..3).map(|i| Trade { ts: open + i, price: 100 + i, size: 1, ..Trade::default() }).collect();
/// let mut page = Core::new();
/// page.set(&trades, 0..trades.len());
/// let mut fold = SessionFold::new(&session, Timeframe::parse("1h")?, Segments::RTH);
/// fold.push_core(&page);
/// let mut bars = Vec::new();
/// fold.finish(&mut bars);
/// assert_eq!((bars[0].open_at, bars[0].bar.close, bars[0].bar.volume), (open, 102, 3));
/// # Ok::<(), market::Error>(())
/// ```
pub struct SessionFold<'s> {
    session: Session<'s>,
    /// Elapsed time of a bar; `None` for one bar a session.
    width: Option<Nanos>,
    /// Selected runs in time order; for one bar a session, the whole selection.
    runs: Vec<(Nanos, Nanos)>,
    whole: Option<(Nanos, Nanos)>,
    regular: bool,
    stretches: Stretches,
    /// Per stretch: the run it is in, if it is selected and its unflagged prints belong to it.
    run_of: Vec<Option<(Nanos, Nanos)>>,
    /// What each stretch of continuous trading adds to a bucket, in time order; auctions are put beside the pieces of their
    /// span.
    pieces: Vec<SessionBar>,
    /// The stretch of each piece.
    stretch_of: Vec<u32>,
    /// Several pieces may be of one bucket.
    mixed: bool,
    opening: Bar,
    midday: Bar,
    closing: Bar,
}

impl<'s> SessionFold<'s> {
    /// For one session. Timeframes longer than a session make one bar here; [`Answer`] groups them.
    pub fn new(session: &Session<'s>, timeframe: Timeframe, segments: Segments) -> SessionFold<'s> {
        let width = match timeframe {
            Timeframe::Intraday(width) => Some(width.max(1)),
            _ => None,
        };
        let runs: Vec<_> = session.runs(segments).collect();
        let whole = runs.first().zip(runs.last()).map(|(first, last)| (first.0, last.1));
        let stretches = Stretches::new(session);
        let run_of = stretches
            .all
            .iter()
            .map(|stretch| {
                let run = runs.iter().find(|run| run.0 <= stretch.from && stretch.from < run.1);
                run.copied().filter(|_| stretch.class == Class::Continuous && segments.contains(stretch.segment))
            })
            .collect();
        SessionFold {
            session: *session,
            width,
            runs,
            whole,
            regular: segments.contains(Segment::Rth),
            stretches,
            run_of,
            pieces: Vec::new(),
            stretch_of: Vec::new(),
            mixed: false,
            opening: Bar::EMPTY,
            midday: Bar::EMPTY,
            closing: Bar::EMPTY,
        }
    }

    /// Makes the bars in the memory of others, which are forgotten.
    pub fn with_buffer(mut self, buffer: Vec<SessionBar>) -> SessionFold<'s> {
        self.pieces = buffer;
        self.pieces.clear();
        self
    }

    /// The bucket of an instant in a run.
    #[inline]
    fn bucket(&self, run: (Nanos, Nanos), ts: Nanos) -> (Nanos, Nanos) {
        match (self.width, self.whole) {
            (Some(width), _) => {
                let open = ts - ts.saturating_sub(run.0) % width;
                (open, open.saturating_add(width).min(run.1))
            }
            (None, whole) => whole.unwrap_or(run),
        }
    }

    fn piece(&self, bucket: (Nanos, Nanos), bar: &Bar) -> SessionBar {
        let date = self.session.trade_date;
        SessionBar {
            label: date,
            trade_date: date,
            last_date: date,
            open_at: bucket.0,
            close_at: bucket.1,
            bar: *bar,
            filled: false,
        }
    }

    #[inline]
    fn put(&mut self, bucket: (Nanos, Nanos), stretch: usize, bar: &Bar) {
        if bar.is_empty() {
            return;
        }
        if let Some((last, at)) = self.pieces.last_mut().zip(self.stretch_of.last())
            && (last.open_at, last.close_at) == bucket
        {
            if *at as usize == stretch {
                last.bar.append(bar);
                return;
            }
            self.mixed = true;
        }
        self.pieces.push(self.piece(bucket, bar));
        self.stretch_of.push(stretch as u32);
    }

    /// Adds a page of sorted trades; pages follow each other in time.
    pub fn push_core(&mut self, core: &Core) {
        let mut i = 0;
        // The very last instant of time is no trade's: it could not be below the end of any bar.
        while i < core.ts.len() && core.ts[i] < i64::MAX {
            i = self.push_stretch(core, i);
        }
    }

    /// Adds the trades from `i` on that fall in one bucket, or past which there is nothing to do; returns where it stopped.
    #[inline]
    fn push_stretch(&mut self, core: &Core, i: usize) -> usize {
        let ts = core.ts[i];
        let at = self.stretches.find(ts);
        let stretch = self.stretches.all[at];
        let plain = core.flags.is_empty();
        if let Some(run) = self.run_of[at] {
            let bucket = self.bucket(run, ts);
            let end = bucket.1.min(stretch.till).max(ts + 1);
            let (bar, next) = if plain { fold::plain(core, i, end) } else { self.push_flagged(core, i, end, at) };
            self.put(bucket, at, &bar);
            return next;
        }
        let end = stretch.till.max(ts + 1);
        if !plain {
            // Not selected, but an auction's print may be among them.
            let (_, next) = self.push_flagged(core, i, end, at);
            return next;
        }
        if stretch.class == Class::Continuous || !self.regular {
            return fold::skip(&core.ts, i, end).max(i + 1);
        }
        let (bar, next) = fold::plain(core, i, end);
        self.auction(stretch.class).append(&bar);
        next
    }

    fn push_flagged(&mut self, core: &Core, start: usize, end: Nanos, at: usize) -> (Bar, usize) {
        let SessionFold { session, stretches, opening, midday, closing, .. } = self;
        let stretch = stretches.all[at];
        fold::flagged(core, session, start, end, &stretch, |class, price, size, flags| {
            let bar = match class {
                Class::Open => &mut *opening,
                Class::Break => &mut *midday,
                Class::Close | Class::Continuous => &mut *closing,
            };
            fold::add(bar, price, size, flags, Segment::Rth);
        })
    }

    fn auction(&mut self, class: Class) -> &mut Bar {
        match class {
            Class::Open => &mut self.opening,
            Class::Break => &mut self.midday,
            Class::Close | Class::Continuous => &mut self.closing,
        }
    }

    /// Adds minute bars, in order. See [`OhlcRequest::minutes_suffice`].
    pub fn push_minutes(&mut self, minutes: &[MinuteBar]) {
        minutes.iter().for_each(|minute| self.push_minute(minute));
    }

    /// Adds one minute bar; they come in order.
    #[inline]
    pub fn push_minute(&mut self, MinuteBar { minute, class, bar }: &MinuteBar) {
        if *class != Class::Continuous {
            self.auction(*class).append(bar);
            return;
        }
        // A storage window may begin inside a minute; the minute's trades are those of the window.
        let at = self.stretches.find((*minute).max(self.session.from));
        // A minute whose start is in an auction's window may still have continuous trades behind it.
        let stretch = self.stretches.all[at];
        let at = if stretch.class == Class::Continuous { at } else { self.continuous_from(at, *minute) };
        if let Some(run) = self.run_of[at] {
            let bucket = self.bucket(run, (*minute).max(run.0));
            self.put(bucket, at, bar);
        }
    }

    fn continuous_from(&self, at: usize, minute: Nanos) -> usize {
        let later = self.stretches.all.iter().enumerate().skip(at);
        later
            .take_while(|(_, stretch)| stretch.from < minute.saturating_add(MINUTE))
            .find(|(_, stretch)| stretch.class == Class::Continuous)
            .map_or(at, |(i, _)| i)
    }

    /// Appends the session's bars in time order; not settled, so that they can be grouped.
    pub fn finish(mut self, out: &mut Vec<SessionBar>) {
        if self.regular {
            self.put_auctions();
        }
        if self.mixed {
            self.pieces.dedup_by(|later, kept| {
                let same = (later.open_at, later.close_at) == (kept.open_at, kept.close_at);
                if same {
                    kept.bar.append(&later.bar);
                }
                same
            });
        }
        match out.is_empty() {
            true => std::mem::swap(out, &mut self.pieces),
            false => out.append(&mut self.pieces),
        }
    }

    /// Puts the opening prints before the first regular piece of the first regular bar, the closing prints behind the last one
    /// of the last, and those of the call at midday behind the last before the break.
    fn put_auctions(&mut self) {
        let mut regular = self.session.spans.iter().filter(|span| span.segment == Segment::Rth);
        let edges = regular.clone().next().zip(regular.next_back()).map(|(first, last)| (first.open, last.close));
        let Some((open, close)) = edges else { return };
        let pause = self.session.break_auction.0;
        let places = [
            (open, true, self.opening),
            (pause.saturating_sub(1), false, self.midday),
            (close.saturating_sub(1), false, self.closing),
        ];
        for (at, opening, bar) in places {
            let Some(run) = self.runs.iter().copied().find(|run| run.0 <= at && at < run.1) else { continue };
            if bar.is_empty() {
                continue;
            }
            let stretch = self.stretches.find(at);
            let place = (self.bucket(run, at), stretch as u32);
            let before = |i: usize| {
                let there = ((self.pieces[i].open_at, self.pieces[i].close_at), self.stretch_of[i]);
                if opening { there < place } else { there <= place }
            };
            let (mut index, mut above) = (0, self.pieces.len());
            while index < above {
                let middle = index + (above - index) / 2;
                if before(middle) { index = middle + 1 } else { above = middle }
            }
            self.pieces.insert(index, self.piece(place.0, &bar));
            self.stretch_of.insert(index, place.1);
            self.mixed = true;
        }
    }
}

/// Puts the bars of many sessions, in order, together to an answer.
pub struct Answer<'c> {
    calendar: &'c Calendar,
    request: OhlcRequest,
    previous: Option<i64>,
    /// The trade dates of the bar being put together.
    group: Option<((TradeDate, TradeDate), SessionBar)>,
    bars: Vec<SessionBar>,
    grid: Vec<Bucket>,
}

impl<'c> Answer<'c> {
    /// An empty answer.
    pub fn new(calendar: &'c Calendar, request: OhlcRequest) -> Answer<'c> {
        Answer { calendar, request, previous: None, group: None, bars: Vec::new(), grid: Vec::new() }
    }

    /// The close before the first session, for [`Fill::Previous`]; without it, leading gaps have no price.
    pub fn set_previous(&mut self, close: i64) {
        self.previous = Some(close);
    }

    /// Adds the bars that a [`SessionFold`] made of the next session (which may be none).
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range; `Invalid` where bars of less than a second are to be filled, of which
    /// one session has more than memory holds.
    pub fn add(&mut self, session: &Session<'_>, bars: &[SessionBar]) -> Result<()> {
        match self.request.timeframe {
            Timeframe::Intraday(width) if width < SECOND && self.request.fill != Fill::None => {
                let asked = self.request.timeframe.to_string();
                return Err(Error::invalid("timeframe", asked, "at least 1s where empty bars are filled"));
            }
            _ if self.request.groups() => self.add_group(session, bars)?,
            _ => self.add_grid(session, bars),
        }
        Ok(())
    }

    /// Whether bars leave the answer as they come: nothing is filled and no bar is of several trade dates.
    pub fn passes(&self) -> bool {
        self.request.fill == Fill::None && !self.request.groups()
    }

    /// What [`add`](Answer::add) would put into an answer that [`passes`](Answer::passes), settled where they lie.
    pub fn pass<'b>(&self, bars: &'b mut [SessionBar]) -> impl Iterator<Item = &'b SessionBar> + use<'b> {
        let range = self.request.range.clone();
        bars.iter_mut().filter(move |bar| range.contains(&bar.open_at)).map(|bar| {
            bar.bar.settle();
            &*bar
        })
    }

    fn emit(&mut self, bar: SessionBar) {
        if self.request.range.contains(&bar.open_at) {
            self.bars.push(bar);
        }
    }

    fn add_grid(&mut self, session: &Session<'_>, bars: &[SessionBar]) {
        let fill = self.request.fill;
        if fill == Fill::None {
            for bar in bars {
                self.emit(SessionBar { bar: bar.bar.settled(), ..*bar });
            }
            return;
        }
        let mut grid = std::mem::take(&mut self.grid);
        grid.clear();
        buckets(session, self.request.timeframe, self.request.segments, &mut grid);
        let mut bars = bars.iter().peekable();
        for bucket in &grid {
            // Bars lie on the grid, so none is skipped.
            if let Some(bar) = bars.next_if(|bar| bar.open_at <= bucket.open) {
                let settled = bar.bar.settled();
                if settled.priced > 0 {
                    self.previous = Some(settled.close);
                }
                self.emit(SessionBar { bar: settled, ..*bar });
                continue;
            }
            self.emit(self.gap(*bucket));
        }
        self.grid = grid;
    }

    /// What fills a bucket without trades.
    /// What fills a bucket of one session without trades.
    fn gap(&self, bucket: Bucket) -> SessionBar {
        let Bucket { trade_date, open, close } = bucket;
        self.filled(SessionBar {
            label: trade_date,
            trade_date,
            last_date: trade_date,
            open_at: open,
            close_at: close,
            bar: Bar::EMPTY,
            filled: true,
        })
    }

    /// An empty bar as it is filled.
    fn filled(&self, empty: SessionBar) -> SessionBar {
        let bar = match (self.request.fill, self.previous) {
            (Fill::Previous, Some(close)) => Bar { priced: 1, trades: 0, ..Bar::flat(close) },
            _ => Bar::EMPTY.settled(),
        };
        SessionBar { bar, filled: true, ..empty }
    }

    fn add_group(&mut self, session: &Session<'_>, bars: &[SessionBar]) -> Result<()> {
        let OhlcRequest { timeframe, segments, day, .. } = self.request;
        let date = session.trade_date;
        if session.open(segments).is_none() {
            return Ok(());
        }
        if self.group.is_some_and(|(dates, _)| !(dates.0..=dates.1).contains(&date)) {
            self.end_group();
        }
        if self.group.is_none() {
            let dates = day.group_of(self.calendar, timeframe, date)?;
            // The group has this session, so it has a bucket.
            let Some(bucket) = bucket_of(self.calendar, dates, segments)? else { return Ok(()) };
            let empty = SessionBar {
                label: day.label(self.calendar, dates.0)?,
                trade_date: dates.0,
                last_date: date,
                open_at: bucket.open,
                close_at: bucket.close,
                bar: Bar::EMPTY,
                filled: false,
            };
            self.group = Some((dates, empty));
        }
        if let Some((_, group)) = &mut self.group {
            group.last_date = date;
            bars.iter().for_each(|bar| group.bar.append(&bar.bar));
        }
        Ok(())
    }

    fn end_group(&mut self) {
        let Some((_, group)) = self.group.take() else { return };
        if !group.bar.is_empty() {
            let bar = group.bar.settled();
            if bar.priced > 0 {
                self.previous = Some(bar.close);
            }
            self.emit(SessionBar { bar, ..group });
        } else if self.request.fill != Fill::None {
            self.emit(self.filled(group));
        }
    }

    /// Takes the bars that are complete so far, so that an answer can be streamed.
    pub fn take(&mut self) -> Vec<SessionBar> {
        std::mem::take(&mut self.bars)
    }

    /// The bars that are complete so far; they are taken out of the answer, whose memory is kept.
    pub fn drain(&mut self) -> impl Iterator<Item = SessionBar> + '_ {
        self.bars.drain(..)
    }

    /// How many bars are complete and not taken yet.
    pub fn ready(&self) -> usize {
        self.bars.len()
    }

    /// The rest of the bars.
    pub fn finish(mut self) -> Vec<SessionBar> {
        self.end_group();
        self.bars
    }
}

/// The bar of one segment of a session: what `session_bars` keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentBar {
    /// Which segment; auctions are in `RTH`.
    pub segment: Segment,
    /// First instant of the segment.
    pub opens_at: Nanos,
    /// First instant after it.
    pub closes_at: Nanos,
    /// Settled.
    pub bar: Bar,
}

/// The bars of a session's segments that have trades, of its minute bars.
pub fn summaries(session: &Session<'_>, minutes: &[MinuteBar]) -> Vec<SegmentBar> {
    let mut all = Vec::with_capacity(Segment::ALL.len());
    let mut bars = Vec::new();
    for segment in Segment::ALL {
        let mut fold = SessionFold::new(session, Timeframe::Days(1), Segments::only(segment));
        fold.push_minutes(minutes);
        bars.clear();
        fold.finish(&mut bars);
        all.extend(bars.iter().map(|bar| SegmentBar {
            segment,
            opens_at: bar.open_at,
            closes_at: bar.close_at,
            bar: bar.bar.settled(),
        }));
    }
    all
}
