//! The levels of a day: what traders draw before the open and watch after it.
//!
//! The definitions, which people will check:
//! - The prior session is the calendar's one before the day that has the selected segments; shortened ones are skipped only
//!   when asked. Its high, low and close are those of its `1d` bar over these segments.
//! - `prior_close` says of which kind it is: a settlement, the venue's official close, or the last trade.
//! - Overnight is what the day's own session trades before its regular hours: `ON` and `PRE`.
//! - The opening range begins at the scheduled open of the regular hours, even if the first trade is late, and so does the
//!   initial balance, their first 60 minutes. Both are cut at the close.
//! - The gap is the open of the selected segments less the prior close.
//! - The VWAP is anchored at the open of the selected segments.
//!
//! Nothing is said of what a session has not got: no overnight where nothing trades before the regular hours.

use crate::calendar::Calendar;
use crate::error::{Error, Result};
use crate::minute::MinuteBar;
use crate::money;
use crate::print::{Placer, Timed, Window};
use crate::session::{Segment, Segments, Session};
use crate::stat::{Stat, StatKind};
use crate::time::{HOUR, MINUTE, Nanos, TradeDate};
use crate::trade::Trade;

/// What the close of a session is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// The last trade that counts for the close.
    LastTrade,
    /// The price the venue publishes.
    Official,
    /// The settlement, final or else preliminary.
    Settlement,
}

impl Close {
    /// Reads `last trade`, `official close`, `settlement`.
    ///
    /// # Errors
    /// `Invalid` for anything else.
    pub fn parse(text: &str) -> Result<Close> {
        match text.trim().to_ascii_lowercase().replace('_', " ").as_str() {
            "last trade" => Ok(Close::LastTrade),
            "official close" => Ok(Close::Official),
            "settlement" => Ok(Close::Settlement),
            _ => Err(Error::invalid("close", text, "last trade, official close or settlement")),
        }
    }

    const fn kinds(self) -> &'static [StatKind] {
        match self {
            Close::LastTrade => &[],
            Close::Official => &[StatKind::OfficialClose],
            Close::Settlement => &[StatKind::Settlement, StatKind::PreliminarySettlement],
        }
    }
}

/// Which levels are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LevelsRequest {
    /// What a session is made of here; the calendar's main segments if not said.
    pub segments: Option<Segments>,
    /// How long the opening range is.
    pub opening: Nanos,
    /// What the prior close is; the first that is known of settlement, official close and last trade if not said.
    pub close: Option<Close>,
    /// Whether the prior session may not be one that is shorter than its weekday's others.
    pub skip_shortened: bool,
}

impl LevelsRequest {
    /// The opening range of `minutes` minutes.
    ///
    /// # Errors
    /// `Invalid` for none and for more than a day.
    pub fn opening(minutes: i64) -> Result<Nanos> {
        match minutes {
            1..=1440 => Ok(minutes * MINUTE),
            _ => Err(Error::invalid("opening_minutes", minutes.to_string(), "1 to 1440 minutes")),
        }
    }
}

/// A level.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Level {
    /// `prior_high`, `opening_range_low`, `gap`, `vwap`, ...
    pub name: &'static str,
    /// A price, or for the gap a difference of two; `None` if there is no trade or statistic to tell.
    pub value: Option<f64>,
    /// When the price was made, or published.
    pub at: Option<Nanos>,
    /// What the value is: `trade`, `last trade`, `official close`, `settlement`, `preliminary settlement`, `average`; for the
    /// gap, what it is a gap to.
    pub kind: &'static str,
    /// The session it is of.
    pub trade_date: TradeDate,
    /// The stretch of time it is of, half-open.
    pub from: Nanos,
    /// The end of that stretch.
    pub till: Nanos,
    /// Whether it is published and not made of trades: then whether what is published is final.
    pub published: Option<bool>,
}

/// A stretch of one session with its window.
#[derive(Clone, Debug)]
struct Stretch {
    trade_date: TradeDate,
    from: Nanos,
    till: Nanos,
    window: Window,
}

impl Stretch {
    fn new(session: &Session<'_>, segments: Segments, from: Nanos, till: Nanos) -> Stretch {
        let window = Window::new(session, segments, from, till);
        Stretch { trade_date: session.trade_date, from, till, window }
    }

    /// All of the selected segments; `None` if the session has none of them.
    fn whole(session: &Session<'_>, segments: Segments) -> Option<Stretch> {
        let (from, till) = session.open(segments).zip(session.close(segments))?;
        // Closing prints may be reported behind the close, and count: the window is not cut.
        let window = Window::whole(session, segments);
        Some(Stretch { trade_date: session.trade_date, from, till, window })
    }

    fn level(&self, name: &'static str, value: Option<f64>, at: Option<Nanos>, kind: &'static str) -> Level {
        let Stretch { trade_date, from, till, .. } = *self;
        Level { name, value, at, kind, trade_date, from, till, published: None }
    }

    /// A price of what was traded in it.
    fn price(&self, name: &'static str, kind: &'static str, all: &Timed, of: impl Fn(&Timed) -> (i64, Nanos)) -> Level {
        let priced = (all.bar.priced > 0).then(|| of(all));
        self.level(name, priced.map(|p| money::to_f64(p.0)), priced.map(|p| p.1), kind)
    }

    fn range(&self, names: [&'static str; 2], out: &mut Vec<Level>) {
        let all = self.window.finish();
        out.push(self.price(names[0], "trade", &all, |t| (t.bar.high, t.high_at)));
        out.push(self.price(names[1], "trade", &all, |t| (t.bar.low, t.low_at)));
    }
}

/// Makes the levels of a day of the trades of two sessions.
///
/// ```
/// use market::levels::{LevelsFold, LevelsRequest};
/// use market::{Calendar, Trade, TradeDate};
/// let calendar = Calendar::builtin("XNYS")?;
/// let request =
///     LevelsRequest { segments: None, opening: LevelsRequest::opening(30)?, close: None, skip_shortened: false };
/// let day = TradeDate::parse("2024-12-02")?;
/// let mut fold = LevelsFold::new(&calendar, day, request)?.expect("a session");
/// // The session before is the half day after Thanksgiving.
/// let sessions: Vec<_> = fold.sessions().collect();
/// assert_eq!(sessions[0].trade_date.to_string(), "2024-11-29");
/// fold.push(0, &Trade { ts: sessions[0].spans.to_vec()[0].close, price: 100, size: 1, ..Trade::default() });
/// let levels = fold.finish(&[]);
/// assert_eq!((levels[0].name, levels[0].value), ("prior_high", Some(1e-7)));
/// # Ok::<(), market::Error>(())
/// ```
pub struct LevelsFold<'c> {
    request: LevelsRequest,
    /// The prior session, if the calendar knows one, and the day's.
    sides: Vec<Placer<'c>>,
    prior: Option<Stretch>,
    day: Stretch,
    overnight: Option<Stretch>,
    opening: Option<Stretch>,
    balance: Option<Stretch>,
}

impl<'c> LevelsFold<'c> {
    /// For one day; `None` if it has no session, or none of the segments.
    ///
    /// # Errors
    /// `OutOfBounds` beyond the calendar's known range.
    pub fn new(calendar: &'c Calendar, day: TradeDate, request: LevelsRequest) -> Result<Option<LevelsFold<'c>>> {
        let segments = request.segments.unwrap_or(calendar.main());
        let Some(session) = calendar.session(day)? else { return Ok(None) };
        let Some(whole) = Stretch::whole(&session, segments) else { return Ok(None) };
        let prior = prior_session(calendar, day, segments, request.skip_shortened)?;
        let regular = session.open(Segments::RTH).zip(session.close(Segments::RTH));
        let first = |length: Nanos| {
            regular.map(|(open, close)| {
                Stretch::new(&session, Segments::RTH, open, open.saturating_add(length).min(close))
            })
        };
        Ok(Some(LevelsFold {
            request,
            sides: prior.iter().chain([&session]).map(Placer::new).collect(),
            prior: prior.and_then(|prior| Stretch::whole(&prior, segments)),
            day: whole,
            overnight: overnight(&session, regular.map(|r| r.0)),
            opening: first(request.opening),
            balance: first(HOUR),
        }))
    }

    /// The sessions whose trades are needed, in order: the prior one, if there is one, and the day's.
    pub fn sessions(&self) -> impl Iterator<Item = Session<'c>> + '_ {
        self.sides.iter().map(|placer| *placer.session())
    }

    fn windows(&mut self, side: usize) -> impl Iterator<Item = &mut Window> {
        let today = side + 1 == self.sides.len();
        let day = [Some(&mut self.day), self.overnight.as_mut(), self.opening.as_mut(), self.balance.as_mut()];
        let prior = [self.prior.as_mut(), None, None, None];
        (if today { day } else { prior }).into_iter().flatten().map(|stretch| &mut stretch.window)
    }

    /// Adds a trade of the session at this place of [`sessions`](LevelsFold::sessions), in order.
    pub fn push(&mut self, side: usize, trade: &Trade) {
        let Some(placer) = self.sides.get(side) else { return };
        let print = placer.place(trade);
        self.windows(side).for_each(|window| window.push(&print));
    }

    /// Adds a minute bar of a session whose trades are gone: its times are those of minutes.
    pub fn push_minute(&mut self, side: usize, minute: &MinuteBar) {
        let Some(placer) = self.sides.get(side).copied() else { return };
        self.windows(side).for_each(|window| window.push_minute(&placer, minute));
    }

    /// The levels, with what is published of the prior session.
    pub fn finish(self, stats: &[Stat]) -> Vec<Level> {
        let mut levels = Vec::with_capacity(16);
        let mut close = None;
        if let Some(prior) = &self.prior {
            prior.range(["prior_high", "prior_low"], &mut levels);
            let level = prior_close(prior, self.request.close, stats);
            levels.push(level);
            close = Some(level);
        }
        if let Some(overnight) = &self.overnight {
            overnight.range(["overnight_high", "overnight_low"], &mut levels);
        }
        let all = self.day.window.finish();
        let open = self.day.price("open", "trade", &all, |t| (t.bar.open, t.open_at));
        levels.push(open);
        self.day.range(["high", "low"], &mut levels);
        levels.push(self.day.price("last", "last trade", &all, |t| (t.bar.close, t.close_at)));
        levels.push(self.day.level("vwap", all.bar.vwap(), None, "average"));
        if let Some(opening) = &self.opening {
            opening.range(["opening_range_high", "opening_range_low"], &mut levels);
        }
        if let Some(balance) = &self.balance {
            balance.range(["initial_balance_high", "initial_balance_low"], &mut levels);
        }
        if let (Some(prior), Some(close)) = (&self.prior, close) {
            let gap = open.value.zip(close.value).map(|(open, close)| difference(open, close));
            let level = self.day.level("gap", gap, open.at, close.kind);
            levels.push(Level { from: prior.till, till: self.day.from, ..level });
        }
        levels
    }
}

/// The difference of two prices, exact to 1e-9.
fn difference(a: f64, b: f64) -> f64 {
    match (money::price_from_f64(a), money::price_from_f64(b)) {
        (Ok(a), Ok(b)) => money::to_f64(a.saturating_sub(b)),
        _ => a - b,
    }
}

fn prior_close(prior: &Stretch, asked: Option<Close>, stats: &[Stat]) -> Level {
    const BEST: &[StatKind] = &[StatKind::Settlement, StatKind::PreliminarySettlement, StatKind::OfficialClose];
    let kinds = asked.map_or(BEST, Close::kinds);
    let found = kinds.iter().find_map(|kind| stats.iter().find(|stat| stat.kind == *kind));
    let name = "prior_close";
    let kind = |kind: StatKind| match kind {
        StatKind::PreliminarySettlement => "preliminary settlement",
        StatKind::OfficialClose => "official close",
        _ => "settlement",
    };
    match (found, asked) {
        (Some(stat), _) => {
            let level = prior.level(name, Some(money::to_f64(stat.value)), stat.ts, kind(stat.kind));
            Level { published: Some(stat.kind != StatKind::PreliminarySettlement), ..level }
        }
        (None, None | Some(Close::LastTrade)) => {
            prior.price(name, "last trade", &prior.window.finish(), |t| (t.bar.close, t.close_at))
        }
        (None, Some(_)) => {
            let kind = kinds.first().map_or("last trade", |first| kind(*first));
            Level { published: Some(false), ..prior.level(name, None, None, kind) }
        }
    }
}

/// What trades in `ON` and `PRE` before the regular hours, or at all where there are none.
fn overnight(session: &Session<'_>, open: Option<Nanos>) -> Option<Stretch> {
    let before = |span: &crate::session::Span| {
        matches!(span.segment, Segment::On | Segment::Pre) && open.is_none_or(|open| span.open < open)
    };
    let mut spans = session.spans.iter().filter(before);
    let first = spans.next()?;
    let last = spans.next_back().unwrap_or(first);
    let segments = Segments::only(Segment::On).union(Segments::only(Segment::Pre));
    Some(Stretch::new(session, segments, first.open, last.close))
}

/// The last session before a day that has the segments; `None` where the calendar's known range begins.
///
/// # Errors
/// `OutOfBounds` beyond the calendar's known range.
pub fn prior_session(
    calendar: &Calendar,
    day: TradeDate,
    segments: Segments,
    skip_shortened: bool,
) -> Result<Option<Session<'_>>> {
    let (first, _) = calendar.known();
    // A golden week is the longest closure; a month at a time ends soon.
    let mut till = day.plus(-1);
    while till >= first {
        let from = till.plus(-31).max(first);
        let usable = |s: &Session<'_>| s.open(segments).is_some() && !(skip_shortened && s.irregular);
        if let Some(found) = calendar.sessions(from, till)?.filter(usable).last() {
            return Ok(Some(found));
        }
        till = from.plus(-1);
    }
    Ok(None)
}
