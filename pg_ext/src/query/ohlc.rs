//! `session_ohlc`: bars of one or many symbols, right at once after a late row.

use super::ask::{Ask, Ends};
use super::batch::{Asked, Shared};
use super::known;
use super::read::{self, Loaded, Overlay, Source};
use super::row::{COLUMNS, States, Writer};
use super::state::{Dropped, State, raise_bare, raise_dropped, states};
use super::summary;
use crate::error::OrRaise;
use crate::fmgr::{Bytes, Rows, arg, arg_text, null, text_array};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::{plans, time, v1};
use market::block::Core;
use market::minute::MinuteReader;
use market::ohlc::{Answer, Fill, OhlcRequest, SessionBar, SessionFold};
use market::{Bar, LiveRows, Nanos, Segments, Session, Timeframe, TradeDate};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::collections::HashMap;
use std::rc::Rc;

plans!(MINUTES);
v1!(
    session_ohlc_texts => pg_finfo_session_ohlc_texts,
    session_ohlc_symbols_texts => pg_finfo_session_ohlc_symbols_texts,
    session_ohlc_dates => pg_finfo_session_ohlc_dates,
    session_ohlc_instants => pg_finfo_session_ohlc_instants,
    session_ohlc_symbols_dates => pg_finfo_session_ohlc_symbols_dates,
    session_ohlc_symbols_instants => pg_finfo_session_ohlc_symbols_instants,
);

/// Takes bars as they are made, with the states of their sessions.
pub type Sink<'s> = dyn FnMut(&States, &SessionBar) + 's;

/// Puts sessions in order while their bars come from several sources.
struct Assembly<'a, 's> {
    sessions: &'a [Session<'a>],
    at: usize,
    /// Bars of sessions with live rows, made of trades before.
    touched: HashMap<TradeDate, Vec<SessionBar>>,
    states: States,
    answer: Answer<'a>,
    sink: &'s mut Sink<'s>,
}

impl Assembly<'_, '_> {
    /// Adds every session before `date`; those without a source have no trades.
    fn advance(&mut self, date: TradeDate) {
        while self.at < self.sessions.len() && self.sessions[self.at].trade_date < date {
            let session = &self.sessions[self.at];
            let bars = self.touched.remove(&session.trade_date).unwrap_or_default();
            self.answer.add(session, &bars).or_raise();
            self.at += 1;
        }
        self.hand_over();
    }

    /// Whether the next rows of a source are of this session, and nobody else has made its bars.
    fn takes(&mut self, date: TradeDate) -> bool {
        self.advance(date);
        self.sessions.get(self.at).is_some_and(|s| s.trade_date == date) && !self.touched.contains_key(&date)
    }

    /// Adds the bars of the session that it takes.
    fn add(&mut self, bars: &mut [SessionBar]) {
        if self.answer.passes() {
            for bar in self.answer.pass(bars) {
                (self.sink)(&self.states, bar);
            }
        } else {
            self.answer.add(&self.sessions[self.at], bars).or_raise();
        }
        self.at += 1;
        self.hand_over();
    }

    /// Bars leave as soon as they are whole: those of years would not fit the processor's cache.
    fn hand_over(&mut self) {
        for bar in self.answer.drain() {
            (self.sink)(&self.states, &bar);
        }
    }

    fn finish(mut self) {
        self.advance(TradeDate(i32::MAX));
        for bar in self.answer.finish() {
            (self.sink)(&self.states, &bar);
        }
    }
}

/// Makes the bars of one session of its trades, blocks with live rows over them.
struct TradeFold<'a> {
    fold: SessionFold<'a>,
    overlay: Overlay<'a>,
    wanted: market::ohlc::Wanted,
    core: Core,
}

impl<'a> TradeFold<'a> {
    fn new(session: &Session<'a>, request: &OhlcRequest, rows: &'a LiveRows, core: Core) -> TradeFold<'a> {
        TradeFold {
            fold: SessionFold::new(session, request.timeframe, request.segments),
            overlay: Overlay::new(rows, read::rows_of_session(rows, session)),
            wanted: request.wanted(session),
            core,
        }
    }

    fn block(&mut self, part: &read::Sealed) {
        let near = |range: &std::ops::Range<Nanos>| part.from < range.end && part.till > range.start;
        if !near(&self.wanted.plain) && !near(&self.wanted.flagged) && !self.overlay.hits_before(part.till) {
            return;
        }
        // SAFETY: the datum lives until the row's closure returns, and so does `loaded`.
        let mut loaded = unsafe { Loaded::fetch(part.payload, false, Some(&self.wanted)) };
        for page in 0..loaded.header.pages.len() {
            let p = &loaded.header.pages[page];
            if self.overlay.hits(p.last) {
                let merged = self.overlay.merge(&mut loaded, page);
                self.core.set(merged, 0..merged.len());
            } else if self.wanted.page(p.first.ts, p.last.ts, p.plain) {
                loaded.core(page, &mut self.core);
            } else {
                continue;
            }
            self.fold.push_core(&self.core);
            read::check_interrupts();
        }
    }

    /// The session's bars, and the page buffer for the next one.
    fn finish(mut self, out: &mut Vec<SessionBar>) -> Core {
        out.clear();
        self.overlay.rest_core(&mut self.core);
        self.fold.push_core(&self.core);
        self.fold.finish(out);
        self.core
    }
}

/// Makes the bars of one question, in order, for `sink`.
pub fn bars_of(c: &Conn, asked: &Asked, shared: &Shared, source: Source, sink: &mut Sink<'_>) {
    let Asked { instrument, request, first, last } = asked;
    let (first, last) = (*first, *last);
    let calendar = &instrument.calendar;
    let sessions: Vec<Session<'_>> = calendar.sessions(first, last).or_raise().collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return };
    let rows = match shared.any_live {
        false => LiveRows::default(),
        true => match shared.take_live(instrument.id, head.from, tail.till) {
            Some(rows) => read::corrected(c, instrument.id, head.from, tail.till, rows),
            None => read::live_rows(c, instrument.id, head.from, tail.till),
        },
    };
    let stored = match &shared.summaries {
        Some(summaries) if source == Source::Auto && !request.timeframe.is_intraday() => summaries.of(asked),
        _ => None,
    };
    // the stored bars of single sessions say all there is to say of their states; a filled bar's session has none of them
    let alone = rows.is_empty() && !request.groups() && request.fill == Fill::None;
    let (mut states, dropped) = match &stored {
        Some(stored) if alone => {
            (stored.iter().map(|row| (row.date, row.state)).collect(), Rc::new(Dropped::default()))
        }
        _ => shared.states(c, asked),
    };
    let late =
        |s: &&Session<'_>| !read::rows_of_session(&rows, s).is_empty() && !dropped.trades.contains(&s.trade_date);
    for session in sessions.iter().filter(late) {
        states.insert(session.trade_date, State::Provisional);
    }
    let mut assembly = Assembly {
        sessions: &sessions,
        at: 0,
        touched: HashMap::new(),
        states,
        answer: Answer::new(calendar, request.clone()),
        sink,
    };
    if request.fill == Fill::Previous
        && let Some(close) = close_before(c, asked, source)
    {
        assembly.answer.set_previous(close);
    }
    let mut core = Core::new();
    for session in sessions.iter().filter(late).filter(|_| source != Source::Trades) {
        let mut fold = TradeFold::new(session, request, &rows, core);
        read::each_block(c, instrument, session.trade_date, session.trade_date, &mut |part| fold.block(part));
        let mut bars = Vec::new();
        core = fold.finish(&mut bars);
        assembly.touched.insert(session.trade_date, bars);
    }
    let minutes_suffice = sessions.iter().all(|s| request.minutes_suffice(s));
    if let Some(stored) = &stored {
        from_summaries(request, stored, &mut assembly);
        return assembly.finish();
    }
    if let Some(oldest) = dropped.minutes.iter().min() {
        raise_bare(instrument, *oldest, dropped.minutes.len());
    }
    if source != Source::Trades && minutes_suffice {
        from_minutes(c, instrument, request, first, last, &mut assembly);
    } else {
        if let Some(oldest) = dropped.trades.iter().min() {
            raise_dropped(instrument, *oldest, dropped.trades.len());
        }
        from_trades(c, instrument, request, &rows, core, first, last, &mut assembly);
    }
    assembly.finish();
}

/// The bars of one question by itself, and the states of its sessions.
fn collect(c: &Conn, asked: &Asked, source: Source) -> (Vec<SessionBar>, States) {
    let (mut bars, mut known) = (Vec::new(), States::new());
    let sessions = source == Source::Auto && !asked.request.timeframe.is_intraday();
    let shared = Shared::read(c, std::slice::from_ref(asked), sessions, false);
    bars_of(c, asked, &shared, source, &mut |states, bar| {
        if bars.is_empty() {
            known.clone_from(states);
        }
        bars.push(*bar);
    });
    (bars, known)
}

#[expect(clippy::too_many_arguments, reason = "one read, taken apart for its length")]
fn from_trades<'a>(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    rows: &'a LiveRows,
    core: Core,
    first: TradeDate,
    last: TradeDate,
    assembly: &mut Assembly<'a, '_>,
) {
    let sessions = assembly.sessions;
    let mut spare = Some(core);
    let mut bars = Vec::new();
    let mut current: Option<(usize, TradeFold<'a>)> = None;
    let mut next = 0;
    // sessions without blocks may still have live rows, so every session with either is folded
    let mut close =
        |current: &mut Option<(usize, TradeFold<'a>)>, spare: &mut Option<Core>, assembly: &mut Assembly<'a, '_>| {
            if let Some((at, fold)) = current.take() {
                *spare = Some(fold.finish(&mut bars));
                if assembly.takes(sessions[at].trade_date) {
                    assembly.add(&mut bars);
                }
            }
        };
    let mut open_until = |date: TradeDate,
                          current: &mut Option<(usize, TradeFold<'a>)>,
                          spare: &mut Option<Core>,
                          assembly: &mut Assembly<'a, '_>| {
        while next < sessions.len() && sessions[next].trade_date <= date {
            let session = &sessions[next];
            let here = session.trade_date == date;
            if here || !read::rows_of_session(rows, session).is_empty() {
                close(current, spare, assembly);
                *current = Some((next, TradeFold::new(session, request, rows, spare.take().unwrap_or_default())));
            }
            next += 1;
        }
    };
    read::each_block(c, instrument, first, last, &mut |part| {
        open_until(part.trade_date, &mut current, &mut spare, assembly);
        if let Some((at, fold)) = &mut current
            && sessions[*at].trade_date == part.trade_date
        {
            fold.block(part);
        }
    });
    open_until(TradeDate(i32::MAX), &mut current, &mut spare, assembly);
    close(&mut current, &mut spare, assembly);
}

fn from_minutes(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    last: TradeDate,
    assembly: &mut Assembly<'_, '_>,
) {
    let mut bars: Vec<SessionBar> = Vec::new();
    let mut reader = MinuteReader::new();
    c.run(
        Mode::SameSnapshot,
        &MINUTES,
        c"SELECT trade_date, payload FROM market.bar_blocks WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 ORDER BY trade_date",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last))],
        &mut |v, _| {
            if !assembly.takes(time::trade_date(v[0].value() as i32)) {
                return;
            }
            // SAFETY: a bytea, NOT NULL, alive until the closure returns.
            let bytes = unsafe { Bytes::whole(v[1]) };
            let session = &assembly.sessions[assembly.at];
            let mut fold =
                SessionFold::new(session, request.timeframe, request.segments).with_buffer(std::mem::take(&mut bars));
            reader.each(bytes.get(), |minute| fold.push_minute(minute)).or_raise();
            fold.finish(&mut bars);
            assembly.add(&mut bars);
        },
    );
}

/// Bars of whole sessions as they are stored.
fn from_summaries(request: &OhlcRequest, stored: &[&summary::Row], assembly: &mut Assembly<'_, '_>) {
    for group in stored.chunk_by(|a, b| a.date == b.date) {
        let date = group[0].date;
        if !assembly.takes(date) {
            continue;
        }
        let session = &assembly.sessions[assembly.at];
        let (Some(open_at), Some(close_at)) = (session.open(request.segments), session.close(request.segments)) else {
            continue;
        };
        let mut bar = group[0].bar;
        for later in &group[1..] {
            bar.append(&later.bar);
        }
        assembly.add(&mut [SessionBar {
            label: date,
            trade_date: date,
            last_date: date,
            open_at,
            close_at,
            bar,
            filled: false,
        }]);
    }
}

/// How far back a close is looked for to fill the first gap with.
const LOOK_BACK_DAYS: i32 = 14;

fn close_before(c: &Conn, asked: &Asked, source: Source) -> Option<i64> {
    let Asked { instrument, request, first, .. } = asked;
    let (known, _) = instrument.calendar.known();
    let from = first.plus(-LOOK_BACK_DAYS).max(known);
    if from >= *first {
        return None;
    }
    let (_, dropped) = states(c, instrument, from, first.plus(-1));
    // sessions of which session bars alone are left, before those that have more
    let bare = dropped.minutes.iter().max().copied();
    let kept = bare.map_or(from, |date| date.plus(1));
    let ask = |request, first, last| Asked { instrument: instrument.clone(), request, first, last };
    let days = ask(OhlcRequest::new(Timeframe::Days(1), request.segments), kept, first.plus(-1));
    let (before, _) = if kept < *first { collect(c, &days, source) } else { Default::default() };
    let Some(day) = before.iter().rev().find(|b| b.bar.priced > 0) else {
        return summary::last_close(c, instrument, request.segments, from, bare?);
    };
    let date = day.trade_date;
    let suffices = |session: Session<'_>| request.minutes_suffice(&session);
    if dropped.trades.contains(&date) && !instrument.calendar.session(date).or_raise().is_some_and(suffices) {
        return Some(day.bar.close);
    }
    // the close of the last bar of this width, which a day's need not be: some trades close a bar only if they open it
    let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
    let (from, till) = request.dates(&instrument.calendar, date, date).or_raise();
    let (last, _) = collect(c, &ask(request, from, till), source);
    last.iter().rev().find(|b| b.bar.priced > 0).map(|b| b.bar.close)
}

/// The bars of these trade dates and the states of their sessions, as they are now.
pub fn bars_now(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
) -> (Vec<SessionBar>, HashMap<TradeDate, State>) {
    collect(c, &Asked { instrument: instrument.clone(), request: request.clone(), first, last }, read::source())
}

/// The bar of these trade dates that opens at `open`, and its state.
pub fn one_bar(
    c: &Conn,
    instrument: &Instrument,
    timeframe: Timeframe,
    segments: Segments,
    (first, last): (TradeDate, TradeDate),
    open: Nanos,
) -> Option<(Bar, State)> {
    let request = OhlcRequest::new(timeframe, segments);
    let (bars, states) = collect(c, &Asked { instrument: instrument.clone(), request, first, last }, read::source());
    let bar = bars.iter().find(|b| b.open_at == open)?;
    let days = (first.0..=last.0).filter_map(|d| states.get(&TradeDate(d)).copied());
    Some((bar.bar, days.reduce(State::worst).unwrap_or(State::Provisional)))
}

/// So many symbols are read together: what is shared of them is held in memory.
const TOGETHER: usize = 64;

/// What is asked of each symbol; those that can have no bar in the range are left out.
pub fn questions(symbols: &[String], ask: &Ask) -> Vec<Asked> {
    let question = |symbol: &String| {
        let instrument = instrument::by_symbol(symbol, ask.near());
        let (request, first, last) = ask.on(&instrument.calendar)?;
        Some(Asked { instrument, request, first, last })
    };
    symbols.iter().filter_map(question).collect()
}

/// The SRFs' common part: `symbols` with their datum, which is put first when several were asked for. Most calls are planned
/// as a scan instead: see [`scan`](super::scan).
unsafe fn answer(fc: FunctionCallInfo, symbols: &[String], ask: &Ask, with_symbol: bool) -> Datum {
    let mut rows = Rows::begin(fc, if with_symbol { COLUMNS + 1 } else { COLUMNS });
    let source = read::source();
    for symbols in symbols.chunks(TOGETHER) {
        let asked = questions(symbols, ask);
        if !ask.view.is_plain() {
            for Asked { instrument, request, first, last } in &asked {
                let mut writer = Writer::new(&mut rows, instrument, with_symbol);
                spi::connect(|c| {
                    let (bars, states) = known::bars(c, instrument, request, (*first, *last), ask.view);
                    bars.iter().for_each(|bar| writer.put(&states, bar));
                });
            }
            continue;
        }
        let sessions = source == Source::Auto && ask.of_sessions();
        spi::connect(|c| {
            let shared = Shared::read(c, &asked, sessions, false);
            for asked in &asked {
                let mut writer = Writer::new(&mut rows, &asked.instrument, with_symbol);
                bars_of(c, asked, &shared, source, &mut |states, bar| writer.put(states, bar));
            }
        });
    }
    null(fc)
}

/// `session_ohlc(symbol text, timeframe text, first date, last date, ...)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_dates(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Dates);
    answer(fc, &[arg_text(fc, 0)], &ask, false)
}

/// `session_ohlc(symbol text, timeframe text, first timestamptz, last timestamptz, ...)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_instants(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Instants);
    answer(fc, &[arg_text(fc, 0)], &ask, false)
}

/// `session_ohlc(symbols text[], timeframe text, first date, last date, ...)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_symbols_dates(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Dates);
    answer(fc, &text_array(arg(fc, 0)), &ask, true)
}

/// `session_ohlc(symbols text[], timeframe text, first timestamptz, last timestamptz, ...)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_symbols_instants(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Instants);
    answer(fc, &text_array(arg(fc, 0)), &ask, true)
}

/// `session_ohlc(symbol text, timeframe text, first text, last text, ...)`: what literals without a type resolve to
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_texts(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Texts);
    answer(fc, &[arg_text(fc, 0)], &ask, false)
}

/// `session_ohlc(symbols text[], timeframe text, first text, last text, ...)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn session_ohlc_symbols_texts(fc: FunctionCallInfo) -> Datum {
    let ask = Ask::read(fc, Ends::Texts);
    answer(fc, &text_array(arg(fc, 0)), &ask, true)
}
