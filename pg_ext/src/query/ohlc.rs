//! `session_ohlc`: bars of one or many symbols, right at once after a late row.

use super::ask::{Ask, Ends};
use super::read::{self, Loaded, Overlay, Source};
use super::state::{State, raise_bare, raise_dropped, states};
use crate::error::OrRaise;
use crate::fmgr::{Bytes, Rows, arg, arg_text, float8, float8_of, int8, null, text, text_array, varlena};
use crate::instrument::{self, Instrument};
use crate::spi::{self, Arg, Conn, Mode};
use crate::{plans, time, v1};
use market::block::Core;
use market::minute::{MinuteBar, decode_minutes};
use market::ohlc::{Answer, Fill, OhlcRequest, SessionBar, SessionFold};
use market::{Bar, LiveRows, Nanos, Segments, Session, Timeframe, TradeDate, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;
use std::collections::HashMap;

plans!(MINUTES, SUMMARIES);
v1!(
    session_ohlc_texts => pg_finfo_session_ohlc_texts,
    session_ohlc_symbols_texts => pg_finfo_session_ohlc_symbols_texts,
    session_ohlc_dates => pg_finfo_session_ohlc_dates,
    session_ohlc_instants => pg_finfo_session_ohlc_instants,
    session_ohlc_symbols_dates => pg_finfo_session_ohlc_symbols_dates,
    session_ohlc_symbols_instants => pg_finfo_session_ohlc_symbols_instants,
);

/// The bars of one instrument and the states of its sessions.
struct Bars {
    bars: Vec<SessionBar>,
    states: HashMap<TradeDate, State>,
}

/// Puts sessions in order while their bars come from several sources.
struct Assembly<'a> {
    sessions: &'a [Session<'a>],
    at: usize,
    /// Bars of sessions with live rows, made of trades before.
    touched: HashMap<TradeDate, Vec<SessionBar>>,
    answer: Answer<'a>,
}

impl Assembly<'_> {
    /// Adds every session before `date`; those without a source have no trades.
    fn advance(&mut self, date: TradeDate) {
        while self.at < self.sessions.len() && self.sessions[self.at].trade_date < date {
            let session = &self.sessions[self.at];
            let bars = self.touched.remove(&session.trade_date).unwrap_or_default();
            self.answer.add(session, &bars).or_raise();
            self.at += 1;
        }
    }

    /// Whether the next rows of a source are of this session, and nobody else has made its bars.
    fn takes(&mut self, date: TradeDate) -> bool {
        self.advance(date);
        self.sessions.get(self.at).is_some_and(|s| s.trade_date == date) && !self.touched.contains_key(&date)
    }

    fn add(&mut self, bars: &[SessionBar]) {
        self.answer.add(&self.sessions[self.at], bars).or_raise();
        self.at += 1;
    }

    fn finish(mut self) -> Vec<SessionBar> {
        self.advance(TradeDate(i32::MAX));
        self.answer.finish()
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
        let rest = self.overlay.rest();
        if !rest.is_empty() {
            self.core.set(rest, 0..rest.len());
            self.fold.push_core(&self.core);
        }
        self.fold.finish(out);
        self.core
    }
}

/// The bars of one instrument.
fn bars_of(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    last: TradeDate,
    source: Source,
) -> Bars {
    let calendar = &instrument.calendar;
    let sessions: Vec<Session<'_>> = calendar.sessions(first, last).or_raise().collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else {
        return Bars { bars: Vec::new(), states: HashMap::new() };
    };
    let rows = read::live_rows(c, instrument.id, head.from, tail.till);
    let (mut states, dropped) = states(c, instrument, first, last);
    let mut assembly = Assembly {
        sessions: &sessions,
        at: 0,
        touched: HashMap::new(),
        answer: Answer::new(calendar, request.clone()),
    };
    if request.fill == Fill::Previous
        && let Some(close) = close_before(c, instrument, request, first, source)
    {
        assembly.answer.set_previous(close);
    }
    let mut core = Core::new();
    let late =
        |s: &&Session<'_>| !read::rows_of_session(&rows, s).is_empty() && !dropped.trades.contains(&s.trade_date);
    for session in sessions.iter().filter(late) {
        states.insert(session.trade_date, State::Provisional);
        if source != Source::Trades {
            let mut fold = TradeFold::new(session, request, &rows, core);
            read::each_block(c, instrument, session.trade_date, session.trade_date, &mut |part| fold.block(part));
            let mut bars = Vec::new();
            core = fold.finish(&mut bars);
            assembly.touched.insert(session.trade_date, bars);
        }
    }
    let minutes_suffice = sessions.iter().all(|s| request.minutes_suffice(s));
    if source == Source::Auto
        && !request.timeframe.is_intraday()
        && from_summaries(c, instrument, request, first, last, &mut assembly)
    {
        return Bars { bars: assembly.finish(), states };
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
    Bars { bars: assembly.finish(), states }
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
    assembly: &mut Assembly<'a>,
) {
    let sessions = assembly.sessions;
    let mut spare = Some(core);
    let mut bars = Vec::new();
    let mut current: Option<(usize, TradeFold<'a>)> = None;
    let mut next = 0;
    // sessions without blocks may still have live rows, so every session with either is folded
    let mut close =
        |current: &mut Option<(usize, TradeFold<'a>)>, spare: &mut Option<Core>, assembly: &mut Assembly<'a>| {
            if let Some((at, fold)) = current.take() {
                bars.clear();
                *spare = Some(fold.finish(&mut bars));
                if assembly.takes(sessions[at].trade_date) {
                    assembly.add(&bars);
                }
            }
        };
    let mut open_until = |date: TradeDate,
                          current: &mut Option<(usize, TradeFold<'a>)>,
                          spare: &mut Option<Core>,
                          assembly: &mut Assembly<'a>| {
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
    assembly: &mut Assembly<'_>,
) {
    let (mut minutes, mut bars): (Vec<MinuteBar>, Vec<SessionBar>) = (Vec::new(), Vec::new());
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
            minutes.clear();
            bars.clear();
            decode_minutes(bytes.get(), &mut minutes).or_raise();
            let mut fold = SessionFold::new(&assembly.sessions[assembly.at], request.timeframe, request.segments);
            fold.push_minutes(&minutes);
            fold.finish(&mut bars);
            assembly.add(&bars);
        },
    );
}

/// Bars of whole sessions from `session_bars`; `false`, with nothing added, if a row there does not merge exactly.
fn from_summaries(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    last: TradeDate,
    assembly: &mut Assembly<'_>,
) -> bool {
    struct Row {
        date: TradeDate,
        bar: Bar,
        mergeable: bool,
    }
    // OFF lies before, between and behind the other segments: of their bars alone nobody can tell which trade was last
    if request.segments.contains(market::Segment::Off) && request.segments != Segments::only(market::Segment::Off) {
        return false;
    }
    let mut rows: Vec<Row> = Vec::new();
    let selection: Vec<String> = market::Segment::ALL
        .into_iter()
        .filter(|s| request.segments.contains(*s))
        .map(|s| s.name().to_owned())
        .collect();
    let mut exact = true;
    c.run_planned_once(
        Mode::SameSnapshot,
        &SUMMARIES,
        c"SELECT trade_date, open, high, low, close, volume::text, notional::text, trades, priced, mergeable FROM market.session_bars
          WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 AND segment = ANY (pg_catalog.string_to_array($4, ','))
          ORDER BY trade_date, opens_at",
        &[Arg::int4(instrument.id), Arg::date(time::pg_days(first)), Arg::date(time::pg_days(last)), Arg::text(&selection.join(","))],
        &mut |v, nulls| {
            let price = |i: usize| if nulls[i] { 0 } else { money::price_from_f64(float8_of(v[i])).or_raise() };
            // SAFETY: text, NOT NULL.
            let decimal = |i: usize, digits| money::parse_scaled(&unsafe { text(v[i]) }, digits);
            let (Some(volume), Some(notional)) = (decimal(5, 9), decimal(6, 18)) else {
                exact = false;
                return;
            };
            let bar = Bar {
                open: price(1),
                high: price(2),
                low: price(3),
                close: price(4),
                volume,
                notional,
                trades: v[7].value() as i64,
                priced: v[8].value() as i64,
                weak_close: false,
            };
            rows.push(Row { date: time::trade_date(v[0].value() as i32), bar, mergeable: v[9].value() as u8 != 0 });
        },
    );
    // a row alone is the answer whatever it is; of several each must be what the trades would give
    let several = request.groups();
    let groups: Vec<&[Row]> = rows.chunk_by(|a, b| a.date == b.date).collect();
    if !exact || groups.iter().any(|g| (several || g.len() > 1) && g.iter().any(|r| !r.mergeable)) {
        return false;
    }
    for group in groups {
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
        assembly.add(&[SessionBar {
            label: date,
            trade_date: date,
            last_date: date,
            open_at,
            close_at,
            bar,
            filled: false,
        }]);
    }
    true
}

/// How far back a close is looked for to fill the first gap with.
const LOOK_BACK_DAYS: i32 = 14;

fn close_before(
    c: &Conn,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    source: Source,
) -> Option<i64> {
    let (known, _) = instrument.calendar.known();
    let from = first.plus(-LOOK_BACK_DAYS).max(known);
    if from >= first {
        return None;
    }
    let days = OhlcRequest::new(Timeframe::Days(1), request.segments);
    let before = bars_of(c, instrument, &days, from, first.plus(-1), source);
    let date = before.bars.iter().rev().find(|b| b.bar.priced > 0)?.trade_date;
    // the close of the last bar of this width, which a day's need not be: some trades close a bar only if they open it
    let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
    let (from, till) = request.dates(&instrument.calendar, date, date).or_raise();
    let last = bars_of(c, instrument, &request, from, till, source);
    last.bars.iter().rev().find(|b| b.bar.priced > 0).map(|b| b.bar.close)
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
    let found = bars_of(c, instrument, &OhlcRequest::new(timeframe, segments), first, last, read::source());
    let bar = found.bars.iter().find(|b| b.open_at == open)?;
    let days = (first.0..=last.0).filter_map(|d| found.states.get(&TradeDate(d)).copied());
    Some((bar.bar, days.reduce(State::worst).unwrap_or(State::Provisional)))
}

/// The SRFs' common part: `symbols` with their datum, which is put first when several were asked for.
unsafe fn answer(fc: FunctionCallInfo, symbols: &[String], ask: &Ask, with_symbol: bool) -> Datum {
    let mut rows = Rows::begin(fc, if with_symbol { 12 } else { 11 });
    let source = read::source();
    for symbol in symbols {
        let instrument = instrument::by_symbol(symbol, ask.near());
        let Some((request, first, last)) = ask.on(&instrument.calendar) else { continue };
        let found = spi::connect(|c| bars_of(c, &instrument, &request, first, last, source));
        put(&mut rows, &found, &instrument, with_symbol);
    }
    null(fc)
}

fn put(rows: &mut Rows, found: &Bars, instrument: &Instrument, with_symbol: bool) {
    let name = varlena(instrument.symbol.as_bytes());
    let mut last: Option<(State, Datum)> = None;
    let mut days_before: Option<(TradeDate, TradeDate, State)> = None;
    for b in &found.bars {
        let state = match days_before {
            Some((first, last, state)) if (first, last) == (b.trade_date, b.last_date) => state,
            _ => {
                // sessions without trades have no state and do not count
                let days = (b.trade_date.0..=b.last_date.0).filter_map(|d| found.states.get(&TradeDate(d)).copied());
                days.reduce(State::worst).unwrap_or(State::Provisional)
            }
        };
        days_before = Some((b.trade_date, b.last_date, state));
        let state = match last {
            Some((s, datum)) if s == state => datum,
            _ => {
                let datum = varlena(state.text().as_bytes());
                last = Some((state, datum));
                datum
            }
        };
        let price = |p: i64| (b.bar.priced > 0).then(|| float8(money::to_f64(p)));
        let columns = [
            Some(Datum::from(time::pg_days(b.label))),
            Some(int8(time::micros(b.open_at))),
            Some(int8(time::micros(b.close_at))),
            price(b.bar.open),
            price(b.bar.high),
            price(b.bar.low),
            price(b.bar.close),
            Some(float8(money::volume_to_f64(b.bar.volume))),
            Some(int8(b.bar.trades)),
            b.bar.vwap().map(float8),
            Some(state),
        ];
        if with_symbol {
            let mut all = [Some(name); 12];
            all[1..].copy_from_slice(&columns);
            rows.put(all);
        } else {
            rows.put(columns);
        }
    }
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
