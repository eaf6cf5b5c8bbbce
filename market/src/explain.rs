//! Why a bar is what it is, in words: the same lines in SQL and `querycli`.
//!
//! Which trade made the open, the high, the low and the close is found here trade by trade, not by the code that makes bars; so
//! the two can be compared.

use crate::bar::Bar;
use crate::bucket::{Bucket, bucket_at, group_of};
use crate::calendar::Calendar;
use crate::error::Result;
use crate::money;
use crate::session::{Class, Segment, Segments, Session};
use crate::time::{Nanos, TradeDate, format_instant};
use crate::timeframe::Timeframe;
use crate::trade::flags::{LAST_IF_FIRST, NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH};
use crate::trade::{NONE_I64, Trade, Trades};

/// What a line is about, and what it says.
pub type Line = (String, String);

/// When a print counts inside its bar: a segment's opening auction first, its closing auction last.
type Turn = (Nanos, u8, Nanos, i64, i32);

/// A bust or correction of a trade in the bar.
#[derive(Clone, Debug)]
pub struct Said {
    /// The trade, as it was reported where that is known; else its identity alone.
    pub trade: Trade,
    /// Price and size before, in 1e-9, where it was there.
    pub old: Option<(i64, i64)>,
    /// Price and size it got, in 1e-9; `None` for a bust.
    pub new: Option<(i64, i64)>,
    /// When the venue told.
    pub known: Nanos,
    /// Who wrote it down.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

/// How a session of the bar was sealed.
#[derive(Clone, Debug)]
pub struct Seal {
    /// Which session.
    pub trade_date: TradeDate,
    /// `provisional`, `final`, `revised(2)`.
    pub state: String,
    /// The version of the calendar it was made with.
    pub calendar_version: i32,
    /// Hash of its trades.
    pub digest: i64,
    /// When it was sealed.
    pub sealed_at: Nanos,
    /// Why it is provisional.
    pub reason: Option<String>,
}

/// So many lines of one kind are listed.
const MOST: usize = 20;

/// Collects what is to be said of one bar.
pub struct Explain<'c> {
    segments: Segments,
    /// The bar.
    pub bucket: Bucket,
    /// Its first and last trade date.
    pub dates: (TradeDate, TradeDate),
    /// The sessions it is made of.
    pub sessions: Vec<Session<'c>>,
    grace: Nanos,
    lines: Vec<Line>,
    open: Option<(Turn, Trade)>,
    close: Option<(Turn, Trade)>,
    high: Option<(Turn, Trade)>,
    low: Option<(Turn, Trade)>,
    first: Option<Trade>,
    last: Option<Trade>,
    trades: u64,
    no_volume: u64,
    no_price: u64,
    auctions: [u64; 3],
    late: Vec<Trade>,
    late_count: usize,
    said: Vec<Said>,
}

fn say(lines: &mut Vec<Line>, item: &str, value: impl Into<String>) {
    lines.push((item.to_owned(), value.into()));
}

fn show(trade: &Trade) -> String {
    let (price, size) = (money::to_f64(trade.price), money::to_f64(trade.size));
    let recv = match trade.ts_recv {
        NONE_I64 => String::new(),
        recv => format!(", received {}", format_instant(recv - recv.rem_euclid(1000))),
    };
    format!("{} seq {} sub {}: {size} at {price}{recv}", format_instant(trade.ts), trade.seq, trade.sub)
}

impl<'c> Explain<'c> {
    /// Of the bar that holds an instant. The lines alone if there is none: the instant is outside the segments.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn begin(
        symbol: &str,
        calendar: &'c Calendar,
        timeframe: Timeframe,
        at: Nanos,
        segments: Segments,
        known: Option<Nanos>,
    ) -> Result<std::result::Result<Explain<'c>, Vec<Line>>> {
        let mut lines = Vec::new();
        say(&mut lines, "instrument", symbol);
        say(
            &mut lines,
            "calendar",
            format!("{} version {}, {}", calendar.id(), calendar.version(), calendar.time_zone()),
        );
        say(&mut lines, "segments", segments.to_string());
        if let Some(known) = known {
            say(&mut lines, "as known at", format_instant(known - known.rem_euclid(1000)));
        }
        let Some(bucket) = bucket_at(calendar, timeframe, at, segments)? else {
            let session = calendar.session_at(at)?;
            let date = session.trade_date;
            say(
                &mut lines,
                "bar",
                format!("none: {} is outside these segments of trade date {date}", format_instant(at)),
            );
            return Ok(Err(lines));
        };
        let dates = group_of(calendar, timeframe, bucket.trade_date)?;
        let (first, last) = dates;
        say(&mut lines, "trade dates", if first == last { first.to_string() } else { format!("{first} to {last}") });
        say(&mut lines, "bar", format!("[{}, {})", format_instant(bucket.open), format_instant(bucket.close)));
        let sessions: Vec<Session<'c>> = calendar.sessions(first, last)?.collect();
        for session in &sessions {
            let run = session.runs(segments).find(|run| run.0 <= bucket.open && bucket.open < run.1);
            if let (Some(run), true) = (run, timeframe.is_intraday()) {
                let (open, close) = (format_instant(run.0), format_instant(run.1));
                say(&mut lines, "grid", format!("steps of {timeframe} from {open}, last bar cut at {close}"));
                say(&mut lines, "segment", session.segment_at(bucket.open).name());
            }
        }
        Ok(Ok(Explain {
            segments,
            bucket,
            dates,
            sessions,
            grace: calendar.grace(),
            lines,
            open: None,
            close: None,
            high: None,
            low: None,
            first: None,
            last: None,
            trades: 0,
            no_volume: 0,
            no_price: 0,
            auctions: [0; 3],
            late: Vec::new(),
            late_count: 0,
            said: Vec::new(),
        }))
    }

    /// Where a trade of a session counts, if it is in the bar: its segment, class and turn.
    fn place(&self, session: &Session<'_>, trade: &Trade) -> Option<(Segment, Class, Turn)> {
        let (segment, class) = session.place(trade.ts, trade.flags);
        if !self.segments.contains(segment) {
            return None;
        }
        // an opening print is in the first regular bar and a closing print in the last, whenever they were printed; the call
        // at midday is in the last before the break
        let (at, turn) = match class {
            Class::Open => session.open(Segments::RTH).map(|open| (open, (open, 0)))?,
            Class::Close => session.close(Segments::RTH).map(|close| (close.saturating_sub(1), (close, 0)))?,
            Class::Break => (session.break_auction.0.saturating_sub(1), (session.break_auction.0, 0)),
            Class::Continuous => (trade.ts, (trade.ts, 1)),
        };
        let inside = self.bucket.open <= at && at < self.bucket.close;
        inside.then_some((segment, class, (turn.0, turn.1, trade.ts, trade.seq, trade.sub)))
    }

    /// Adds trades of a session, in any order.
    pub fn push(&mut self, session: &Session<'_>, trades: &Trades) {
        let over = session.close(Segments::ETH).unwrap_or(session.till).saturating_add(self.grace);
        for trade in trades.iter() {
            let Some((segment, class, turn)) = self.place(session, &trade) else { continue };
            let form_t = segment == Segment::Rth && trade.flags & NOT_IN_RTH != 0;
            let (no_last, no_range) = (form_t || trade.flags & NO_LAST != 0, form_t || trade.flags & NO_HIGH_LOW != 0);
            self.trades += 1;
            self.no_volume += u64::from(trade.flags & NO_VOLUME != 0);
            self.no_price += u64::from(no_last && no_range);
            match class {
                Class::Open => self.auctions[0] += 1,
                Class::Break => self.auctions[1] += 1,
                Class::Close => self.auctions[2] += 1,
                Class::Continuous => {}
            }
            if self.first.is_none_or(|first| trade.key() < first.key()) {
                self.first = Some(trade);
            }
            if self.last.is_none_or(|last| last.key() < trade.key()) {
                self.last = Some(trade);
            }
            if !no_last && self.open.is_none_or(|(first, _)| turn < first) {
                self.open = Some((turn, trade));
            }
            if !no_last && trade.flags & LAST_IF_FIRST == 0 && self.close.is_none_or(|(last, _)| last < turn) {
                self.close = Some((turn, trade));
            }
            if !no_range {
                self.range(turn, trade);
            }
            if trade.known() > over {
                self.late_count += 1;
                if self.late.len() < MOST {
                    self.late.push(trade);
                }
            }
        }
    }

    /// Lets a trade make the high or the low; of equal prices the first.
    fn range(&mut self, turn: Turn, trade: Trade) {
        if self.high.is_none_or(|(at, high)| trade.price > high.price || (trade.price == high.price && turn < at)) {
            self.high = Some((turn, trade));
        }
        if self.low.is_none_or(|(at, low)| trade.price < low.price || (trade.price == low.price && turn < at)) {
            self.low = Some((turn, trade));
        }
    }

    /// Adds what the venue said of a trade, if that is in the bar.
    pub fn said(&mut self, session: &Session<'_>, said: Said) {
        if self.place(session, &said.trade).is_some() {
            self.said.push(said);
        }
    }

    /// The trades that made open, high, low and close.
    fn makers(&mut self) -> [Option<Trade>; 4] {
        // one that closes only what it opens does so if no other closes
        if self.close.is_none() {
            self.close = self.open;
        }
        for (turn, trade) in [self.open, self.close].into_iter().flatten() {
            self.range(turn, trade);
        }
        let of = |made: Option<(Turn, Trade)>| made.map(|(_, trade)| trade).filter(|_| self.open.is_some());
        [of(self.open), of(self.high), of(self.low), of(self.close)]
    }

    /// All lines. `bar` is the bar as readers get it, with its state.
    pub fn finish(mut self, bar: Option<(Bar, String)>, seals: &[Seal]) -> Vec<Line> {
        let [open, high, low, close] = self.makers();
        let mut lines = std::mem::take(&mut self.lines);
        let lines = &mut lines;
        match bar {
            Some((bar, state)) => {
                let price = |p: i64| if bar.priced > 0 { money::to_f64(p).to_string() } else { "none".to_owned() };
                say(lines, "open, high, low, close", [bar.open, bar.high, bar.low, bar.close].map(price).join(", "));
                for (item, trade) in [("open", open), ("high", high), ("low", low), ("close", close)] {
                    say(lines, item, trade.map_or("none".to_owned(), |trade| show(&trade)));
                }
                say(lines, "volume", money::volume_to_f64(bar.volume).to_string());
                say(lines, "trades that count for volume", bar.trades.to_string());
                say(lines, "trades that set prices", bar.priced.to_string());
                say(lines, "state", state);
            }
            None => say(lines, "prices", "none: no trade counts in this bar"),
        }
        for Seal { trade_date, state, calendar_version, digest, sealed_at, reason } in seals.iter().take(MOST) {
            let at = format_instant(*sealed_at);
            let because = reason.as_ref().map_or(String::new(), |reason| format!(", because {reason}"));
            say(
                lines,
                "sealed",
                format!(
                    "{trade_date}: {state} with calendar version {calendar_version}, digest {digest}, at {at}{because}"
                ),
            );
        }
        say(lines, "trades", self.trades.to_string());
        say(lines, "trades without volume", self.no_volume.to_string());
        say(lines, "trades that set no price", self.no_price.to_string());
        say(lines, "opening auction prints", self.auctions[0].to_string());
        if self.auctions[1] > 0 {
            say(lines, "midday auction prints", self.auctions[1].to_string());
        }
        say(lines, "closing auction prints", self.auctions[2].to_string());
        let or_none = |trade: Option<Trade>| trade.map_or("none".to_owned(), |trade| show(&trade));
        say(lines, "first trade", or_none(self.first));
        say(lines, "last trade", or_none(self.last));
        for trade in &self.late {
            say(lines, "late trade", show(trade));
        }
        if self.late_count > self.late.len() {
            say(lines, "late trade", format!("and {} more", self.late_count - self.late.len()));
        }
        for said in self.said.iter().take(MOST) {
            say(lines, if said.new.is_some() { "correction" } else { "bust" }, said_text(said));
        }
        if self.said.len() > MOST {
            say(lines, "correction", format!("and {} more", self.said.len() - MOST));
        }
        std::mem::take(lines)
    }
}

fn said_text(said: &Said) -> String {
    let Trade { ts, seq, sub, .. } = said.trade;
    let lots = |(price, size): (i64, i64)| format!("{} at {}", money::to_f64(size), money::to_f64(price));
    let was = said.old.map_or("it had not come".to_owned(), lots);
    let is = said.new.map_or(String::new(), |new| format!(", now {}", lots(new)));
    let why = said.reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
    let known = format_instant(said.known);
    format!("{} seq {seq} sub {sub}: {was}{is}; known since {known}, by {}{why}", format_instant(ts), said.by)
}
