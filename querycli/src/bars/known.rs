//! Bars as they were known at a past instant, and bars by receipt time: what the extension's `known.rs` does, over the wire.

use super::dropped::{self, Made};
use super::{Bars, LOOK_BACK_DAYS, State, bars_of, close_before, from_minutes, last_close, rows_of_session, states};
use crate::db::{Blocks, Db, Instrument, Narrow, Overlay, Part, date, live_rows, rows_as_of, timestamptz};
use crate::error::{Error, Result};
use market::block::{Core, Header, PAGE};
use market::known::{revision_as_of, why_provisional};
use market::ohlc::{Answer, Fill, OhlcRequest, SessionBar, SessionFold};
use market::{AsOf, Clock, LiveRows, Nanos, Op, Received, Segments, Session, Timeframe, TradeDate, Trades};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// How trades are looked at.
#[derive(Clone, Copy, Default, Debug)]
pub struct View {
    /// As they were known at this instant; `None` for now.
    pub known: Option<Nanos>,
    /// By which of their times.
    pub clock: Clock,
}

impl View {
    /// Whether it is the usual one.
    pub fn is_plain(self) -> bool {
        self.known.is_none() && self.clock == Clock::Event
    }
}

/// What is known of a sealed session.
pub struct Sealed {
    /// Its revision today; `None` if it is provisional.
    revision: Option<i32>,
    /// The last revision of which a part was known.
    then: Option<i32>,
    /// Whether retention dropped its trades.
    pub dropped: bool,
    /// Whether it dropped its minute bars, too.
    pub bare: bool,
    /// When the first and the last of its trades became known.
    pub known: (Nanos, Nanos),
}

/// The sealed sessions of an instrument, and which revision of each was known at an instant.
///
/// # Errors
/// What the server says.
pub async fn sealed(
    db: &Arc<Db>,
    instrument: i32,
    (first, last): (TradeDate, TradeDate),
    until: Nanos,
) -> Result<HashMap<TradeDate, Sealed>> {
    let sql = format!(
        "SELECT DISTINCT ON (b.trade_date) b.trade_date, CASE b.state WHEN 'provisional' THEN -1 WHEN 'final' THEN 0 ELSE b.revision END,
                (SELECT max(r.revision) FROM market.session_revisions AS r WHERE r.instrument_id = b.instrument_id
                   AND r.trade_date = b.trade_date AND r.known_from <= {}),
                b.trades_dropped_at IS NOT NULL, b.first_known_at, b.last_known_at, b.minutes_dropped_at IS NOT NULL
         FROM market.session_bars AS b WHERE b.instrument_id = {instrument} AND b.trade_date BETWEEN {} AND {} ORDER BY b.trade_date",
        timestamptz(until),
        date(first),
        date(last)
    );
    let mut stream = db.copy(&sql).await?;
    let mut found = HashMap::new();
    while let Some(f) = stream.next().await? {
        let revision = Some(f.some(f.i32(1))?).filter(|n| *n >= 0);
        // before anybody kept these, anything may have been known at any time
        let first = f.micros(4)?.map_or(Nanos::MIN, |micros| micros.saturating_mul(1000));
        let last = f.micros(5)?.map_or(Nanos::MAX, |micros| micros.saturating_mul(1000));
        let sealed = Sealed {
            revision,
            then: f.i32(2)?,
            dropped: f.some(f.bool(3))?,
            bare: f.some(f.bool(6))?,
            known: (first, last),
        };
        found.insert(TradeDate(f.some(f.days(0))?), sealed);
    }
    Ok(found)
}

/// The spans of time that a feed's gaps, open at an instant, are about.
async fn gaps(db: &Arc<Db>, instrument: i32, until: Nanos) -> Result<Vec<(Nanos, Nanos)>> {
    let at = timestamptz(until);
    let sql = format!(
        "SELECT coalesce(from_ts, till_ts, noticed_at), coalesce(till_ts, from_ts, noticed_at) FROM market.feed_gaps
         WHERE instrument_id = {instrument} AND noticed_at <= {at} AND (closed_at IS NULL OR closed_at > {at})"
    );
    let mut stream = db.copy(&sql).await?;
    let mut gaps = Vec::new();
    while let Some(f) = stream.next().await? {
        gaps.push((f.some(f.micros(0))?.saturating_mul(1000), f.some(f.micros(1))?.saturating_mul(1000)));
    }
    Ok(gaps)
}

/// Refuses what an archive alone cannot tell.
///
/// # Errors
/// If there is no database.
pub fn require_server(db: &Db, what: &str) -> Result<()> {
    if db.has_server() {
        return Ok(());
    }
    Err(Error::question(
        format!("{what}: an archive does not tell when its trades became known"),
        "name the database with --db",
    ))
}

/// Now, by this machine's clock.
pub fn now() -> Nanos {
    chrono::Utc::now().timestamp_nanos_opt().unwrap_or(Nanos::MAX)
}

/// The states of sessions as they were known at an instant, with what a provisional one waited for.
async fn states_and_reasons(
    db: &Arc<Db>,
    instrument: &Instrument,
    sessions: &[Session<'_>],
    sealed: &HashMap<TradeDate, Sealed>,
    as_of: &AsOf,
    until: Nanos,
) -> Result<HashMap<TradeDate, (State, Option<&'static str>)>> {
    let gaps = gaps(db, instrument.id, until).await?;
    let mut states = HashMap::new();
    for session in sessions {
        let pending = as_of.is_pending(session.from, session.till);
        let Some(sealed) = sealed.get(&session.trade_date) else {
            if pending {
                states
                    .insert(session.trade_date, (State::Provisional, why_provisional(until, Nanos::MIN, true, false)));
            }
            continue;
        };
        let gap = gaps.iter().any(|gap| gap.0 < session.till && gap.1 >= session.from);
        let over = session.close(Segments::ETH).unwrap_or(session.till).saturating_add(instrument.calendar.grace());
        let pending = pending && !sealed.dropped;
        let state = match revision_as_of(sealed.revision, sealed.then, until, over, pending || gap) {
            None => (State::Provisional, why_provisional(until, over, pending, gap)),
            Some(0) => (State::Final, None),
            Some(n) => (State::Revised(n), None),
        };
        states.insert(session.trade_date, state);
    }
    Ok(states)
}

/// The states of sessions as they were known at an instant. Sessions without trades have none.
///
/// # Errors
/// What the server says.
pub async fn states_as_of(
    db: &Arc<Db>,
    instrument: &Instrument,
    sessions: &[Session<'_>],
    sealed: &HashMap<TradeDate, Sealed>,
    as_of: &AsOf,
    until: Nanos,
) -> Result<HashMap<TradeDate, State>> {
    let states = states_and_reasons(db, instrument, sessions, sealed, as_of, until).await?;
    Ok(states.into_iter().map(|(day, (state, _))| (day, state)).collect())
}

/// The state of a session, and what a provisional one waits for.
pub type Stated = (TradeDate, State, Option<&'static str>);

/// The states of an instrument's sessions, in order.
///
/// # Errors
/// What the server says.
pub async fn states_known(
    db: &Arc<Db>,
    instrument: &Instrument,
    (first, last): (TradeDate, TradeDate),
    until: Nanos,
) -> Result<Vec<Stated>> {
    let sessions: Vec<Session<'static>> = instrument.calendar.sessions(first, last)?.collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(Vec::new()) };
    let as_of = rows_as_of(db, instrument.id, head.from, tail.till, until).await?;
    let sealed = sealed(db, instrument.id, (first, last), until).await?;
    let states = states_and_reasons(db, instrument, &sessions, &sealed, &as_of, until).await?;
    let stated = |s: &Session<'_>| states.get(&s.trade_date).map(|(state, reason)| (s.trade_date, *state, *reason));
    Ok(sessions.iter().filter_map(stated).collect())
}

/// The bars of one instrument, and the states of their sessions.
///
/// # Errors
/// What the server says; a corrupt block; trades that retention dropped.
pub async fn bars_known(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    view: View,
) -> Result<Bars> {
    require_server(db, "known_at and clock => 'recv'")?;
    let calendar = instrument.calendar;
    let sessions: Vec<Session<'static>> = calendar.sessions(first, last)?.collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(Bars::default()) };
    let symbol = instrument.symbol.clone();
    let mut answer = Answer::new(calendar, request.clone());
    // filled bars show the close before the range, which may have been another one then
    let mut filled_alike = true;
    if request.fill == Fill::Previous {
        let close = close_before_known(db, instrument, request, first, view).await?;
        filled_alike = close == close_before_known(db, instrument, request, first, View::default()).await?;
        if let Some(close) = close {
            answer.set_previous(close);
        }
    }
    if view.clock == Clock::Received {
        let states = received(db, instrument, request, &sessions, view.known, &mut answer).await?;
        return Ok(Bars { symbol, bars: answer.finish(), states });
    }
    let until = view.known.unwrap_or(Nanos::MAX);
    let as_of = rows_as_of(db, instrument.id, head.from, tail.till, until).await?;
    let sealed = sealed(db, instrument.id, (first, last), until).await?;
    let states = states_as_of(db, instrument, &sessions, &sealed, &as_of, until).await?;
    // the cheap way: nothing of these sessions became known later
    if filled_alike && as_of.is_now && sealed.values().all(|sealed| sealed.known.1 <= until) {
        let now = Box::pin(bars_of(db, instrument, request, first, last)).await?;
        return Ok(Bars { states, ..now });
    }
    let rows = Arc::new(as_of.rows);
    let minutes = sessions.iter().all(|s| request.minutes_suffice(s));
    let differs = |s: &Session<'_>| {
        let sealed = sealed.get(&s.trade_date);
        // a trade that came after retention dropped its session's trades changes no bar
        let dropped = sealed.is_some_and(|sealed| sealed.dropped);
        rows_of_session(&rows, s).any(|i| !dropped || rows.ops[i] != Op::Trade)
            || sealed.is_some_and(|sealed| sealed.known.1 > until)
    };
    let mut made: HashMap<TradeDate, Vec<SessionBar>> = HashMap::new();
    if minutes {
        let by_date: HashMap<TradeDate, &Session<'static>> = sessions.iter().map(|s| (s.trade_date, s)).collect();
        let others: BTreeSet<TradeDate> = sessions.iter().filter(|s| differs(s)).map(|s| s.trade_date).collect();
        let bare = |s: &&Session<'_>| {
            !others.contains(&s.trade_date) && sealed.get(&s.trade_date).is_some_and(|sealed| sealed.bare)
        };
        if let Some(oldest) = sessions.iter().find(bare) {
            return Err(dropped::minutes(&symbol, sessions.iter().filter(bare).count(), oldest.trade_date));
        }
        from_minutes(db, instrument, request, (first, last), &by_date, &others, &mut made).await?;
    }
    let of_trades: Vec<&Session<'static>> = sessions.iter().filter(|s| !minutes || differs(s)).collect();
    let needs = |s: &Session<'_>| sealed.get(&s.trade_date).is_none_or(|sealed| sealed.known.0 <= until);
    let lost = |s: &Session<'_>| needs(s) && sealed.get(&s.trade_date).is_some_and(|sealed| sealed.dropped);
    let lost: Vec<TradeDate> = of_trades.iter().filter(|s| lost(s)).map(|s| s.trade_date).collect();
    if let Some(oldest) = lost.first() {
        return Err(dropped::trades_known(Made::Bars, &symbol, lost.len(), *oldest));
    }
    let mut core = Core::new();
    for session in of_trades {
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        let mut overlay = Overlay::new(Arc::clone(&rows), rows_of_session(&rows, session)).known(Some(until));
        let sealed = needs(session);
        each_page(db, instrument, session.trade_date, sealed, &mut overlay, &mut |trades| {
            push(&mut fold, &mut core, trades)
        })
        .await?;
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        made.insert(session.trade_date, bars);
    }
    for session in &sessions {
        answer.add(session, &made.remove(&session.trade_date).unwrap_or_default())?;
    }
    Ok(Bars { symbol, bars: answer.finish(), states })
}

fn push(fold: &mut SessionFold<'_>, core: &mut Core, trades: &Trades) {
    for from in (0..trades.len()).step_by(PAGE) {
        core.set(trades, from..(from + PAGE).min(trades.len()));
        fold.push_core(core);
    }
}

/// The trades of one session's blocks and of the rows over them, page by page in order.
async fn each_page(
    db: &Arc<Db>,
    instrument: &Instrument,
    day: TradeDate,
    sealed: bool,
    overlay: &mut Overlay,
    each: &mut (dyn FnMut(&Trades) + Send),
) -> Result<()> {
    if sealed {
        let mut blocks = Blocks::open(db, instrument.id, day, day, Narrow::default()).await?;
        while let Some((_, part)) = blocks.next().await? {
            // what retention dropped is refused before; the archive does not keep what was known when
            let Part::Block(bytes) = part else { continue };
            let header = Header::parse(&bytes)?;
            for page in 0..header.pages.len() {
                each(overlay.merge(&bytes, &header, page)?);
            }
        }
    }
    each(overlay.rest());
    Ok(())
}

/// A session of event times of which trades were received at other times.
struct Other {
    date: TradeDate,
    window: (Nanos, Nanos),
    known: (Nanos, Nanos),
    dropped: bool,
}

async fn received_in(db: &Arc<Db>, instrument: &Instrument, from: Nanos, till: Nanos) -> Result<Vec<Other>> {
    let sql = format!(
        "SELECT trade_date, min(first_known_at), max(last_known_at), bool_or(trades_dropped_at IS NOT NULL) FROM market.session_bars
         WHERE instrument_id = {} AND (last_known_at IS NULL OR last_known_at >= {}) AND (first_known_at IS NULL OR first_known_at < {})
         GROUP BY trade_date ORDER BY trade_date",
        instrument.id,
        timestamptz(from),
        timestamptz(till)
    );
    let mut stream = db.copy(&sql).await?;
    let mut found = Vec::new();
    while let Some(f) = stream.next().await? {
        let day = TradeDate(f.some(f.days(0))?);
        let end = |micros: i64| micros.saturating_mul(1000).saturating_add(999);
        let known = (f.micros(1)?.map_or(Nanos::MIN, end), f.micros(2)?.map_or(Nanos::MAX, end));
        if let Ok(Some(session)) = instrument.calendar.session(day) {
            let window = (session.from, session.till);
            found.push(Other { date: day, window, known, dropped: f.some(f.bool(3))? });
        }
    }
    Ok(found)
}

/// Adds the bars of trades by their receipt; the states of the sessions.
async fn received(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    sessions: &[Session<'static>],
    known: Option<Nanos>,
    answer: &mut Answer<'_>,
) -> Result<HashMap<TradeDate, State>> {
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(HashMap::new()) };
    let (first, last) = (head.trade_date, tail.trade_date);
    let others = received_in(db, instrument, head.from, tail.till).await?;
    if let Some(oldest) = others.iter().find(|other| other.dropped) {
        let sessions = others.iter().filter(|other| other.dropped).count();
        return Err(dropped::trades_known(Made::Bars, &instrument.symbol, sessions, oldest.date));
    }
    // a row may be received at any time, whenever its trade happened
    let (rows, mut states) = match known {
        None => {
            let rows = live_rows(db, instrument.id, Nanos::MIN, Nanos::MAX).await?;
            (rows, states(db, instrument.id, first, last).await?.0)
        }
        Some(until) => {
            let as_of = rows_as_of(db, instrument.id, Nanos::MIN, Nanos::MAX, until).await?;
            let sealed = sealed(db, instrument.id, (first, last), until).await?;
            let states = states_as_of(db, instrument, sessions, &sealed, &as_of, until).await?;
            (as_of.rows, states)
        }
    };
    let rows = Arc::new(rows);
    let mut core = Core::new();
    for session in sessions {
        let (from, till) = (session.from, session.till);
        let mut all = Received::default();
        let near: Vec<&Other> = others.iter().filter(|other| other.known.0 < till && other.known.1 >= from).collect();
        for other in &near {
            let range = rows.trades.lower_bound(other.window.0)..rows.trades.lower_bound(other.window.1);
            let mut overlay = Overlay::new(Arc::clone(&rows), range).known(known);
            each_page(db, instrument, other.date, true, &mut overlay, &mut |trades| all.push(trades, from, till))
                .await?;
        }
        let mut live = LiveRows::default();
        for i in 0..rows.len() {
            let at = rows.trades.known(i);
            if rows.ops[i] != Op::Bust && from <= at && at < till {
                live.push(rows.trades.get(i), rows.ops[i]);
            }
        }
        if known.is_none() && !live.is_empty() {
            states.insert(session.trade_date, State::Provisional);
        }
        let elsewhere = |ts: Nanos| !near.iter().any(|other| other.window.0 <= ts && ts < other.window.1);
        let alone: Trades = live.trades.iter().filter(|t| elsewhere(t.ts)).collect();
        all.push(&alone, from, till);
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        push(&mut fold, &mut core, &all.finish());
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        answer.add(session, &bars)?;
    }
    Ok(states)
}

async fn close_before_known(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    view: View,
) -> Result<Option<i64>> {
    if view.is_plain() {
        return close_before(db, instrument, request, first).await;
    }
    let from = first.plus(-LOOK_BACK_DAYS).max(instrument.calendar.known().0);
    if from >= first {
        return Ok(None);
    }
    let days = OhlcRequest::new(Timeframe::Days(1), request.segments);
    let before = Box::pin(bars_known(db, instrument, &days, (from, first.plus(-1)), view)).await?;
    let Some(day) = before.bars.iter().rev().find(|bar| bar.bar.priced > 0) else { return Ok(None) };
    // the close of the last bar of this width, which a day's need not be: some trades close a bar only if they open it
    let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
    let (from, till) = request.dates(instrument.calendar, day.trade_date, day.trade_date)?;
    let last = Box::pin(bars_known(db, instrument, &request, (from, till), view)).await?;
    Ok(last_close(&last.bars))
}

/// The trades of an instrument with `from <= ts < till`, in order, as they were known at an instant, if one is given.
///
/// # Errors
/// What the server says; a corrupt block.
pub async fn trades_known(
    db: &Arc<Db>,
    instrument: &Instrument,
    (from, till): (Nanos, Nanos),
    known: Option<Nanos>,
) -> Result<Trades> {
    let mut all = Trades::new();
    if from >= till {
        return Ok(all);
    }
    if known.is_some() {
        require_server(db, "known_at")?;
    }
    let rows = match known {
        Some(until) => rows_as_of(db, instrument.id, from, till, until).await?.rows,
        None => live_rows(db, instrument.id, from, till).await?,
    };
    let rows = Arc::new(rows);
    let mut overlay = Overlay::new(Arc::clone(&rows), 0..rows.len()).known(known);
    let calendar = instrument.calendar;
    let (first, last) = (calendar.filing(from).trade_date, calendar.filing(till.saturating_sub(1)).trade_date);
    let mut blocks = Blocks::open(db, instrument.id, first, last, Narrow::default()).await?;
    let mut add = |trades: &Trades| all.append_range(trades, trades.lower_bound(from)..trades.lower_bound(till));
    while let Some((_, part)) = blocks.next().await? {
        let bytes = match part {
            Part::Block(bytes) => bytes,
            Part::Pages(mut pages) => {
                while let Some(page) = pages.next_page()? {
                    let mut page: Trades = page.clone();
                    page.keep_known(known.unwrap_or(Nanos::MAX));
                    add(&page);
                }
                continue;
            }
        };
        let header = Header::parse(&bytes)?;
        for (at, page) in header.pages.iter().enumerate() {
            if overlay.hits(page.last) || (page.first.ts < till && page.last.ts >= from) {
                add(overlay.merge(&bytes, &header, at)?);
            }
        }
    }
    add(overlay.rest());
    Ok(all)
}
