//! `session_ohlc` and `trades_between`: bars and trades of the database, or of a file.

pub mod dropped;
pub mod known;

use crate::archive::{Columns, Pages};
use crate::db::{Blocks, Db, Instrument, Minutes, Narrow, Overlay, Part, date, literal, live_rows, sealed_states};
use crate::error::{Error, Result, external};
use crate::files;
use crate::lazy::LazyTable;
use crate::rewrite::ARRAY_SEPARATOR;
use crate::scalar::instant_type;
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use dropped::Made;
use futures_util::stream;
use known::View;
use market::block::{self, Core, Header};
use market::ohlc::{Answer, Fill, OhlcRequest, SessionBar, SessionFold, Wanted};
use market::{
    Bar, Calendar, Clock, Day, LiveRows, Nanos, Segment, Segments, Session, Symbol, Timeframe, TradeDate, Trades, When,
    decode_minutes, money,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// Registers the table function.
pub fn register(context: &SessionContext, market: &Arc<Market>) {
    context.register_udtf("session_ohlc", Arc::new(SessionOhlc(Arc::clone(market))));
}

#[derive(Debug)]
struct SessionOhlc(Arc<Market>);

/// What is asked for of every symbol; segments default to the calendar's main ones.
#[derive(Clone, Debug)]
struct Ask {
    symbols: Vec<String>,
    many: bool,
    timeframe: Timeframe,
    segments: Option<Segments>,
    fill: Fill,
    day: Day,
    when: When,
    view: View,
}

fn invalid(message: impl Into<String>, hint: &str) -> Error {
    Error::question(message, hint)
}

impl Ask {
    fn read(args: &Arguments<'_>) -> Result<Ask> {
        let asked = args.required(0, "symbol")?;
        let many = asked.contains(ARRAY_SEPARATOR);
        let symbols = asked.split_terminator(ARRAY_SEPARATOR).map(str::to_owned).collect();
        let view = View {
            known: args.instant(6)?.map(|ts| ts.div_euclid(1000).saturating_mul(1000).saturating_add(999)),
            clock: args.text(7)?.map_or(Ok(Clock::Event), |text| Clock::parse(&text))?,
        };
        Ok(Ask {
            symbols,
            many,
            timeframe: Timeframe::parse(&args.required(1, "timeframe")?)?,
            segments: args.text(4)?.map(|text| Segments::parse(&text)).transpose()?,
            fill: args.text(5)?.map_or(Ok(Fill::None), |text| Fill::parse(&text))?,
            day: args.text(8)?.map_or(Ok(Day::Trade), |text| Day::parse(&text))?,
            when: args.when(2)?,
            view,
        })
    }

    /// A date near which a symbol such as `ESZ5` is meant.
    fn near(&self) -> TradeDate {
        self.when.near(|| TradeDate::new(chrono::Utc::now().date_naive()))
    }

    /// The request of one calendar and its trade dates; `None` if no session can have a bar in the range.
    fn on(&self, calendar: &Calendar) -> Result<Option<(OhlcRequest, TradeDate, TradeDate)>> {
        Ok(self.when.request(calendar, self.timeframe, self.segments, self.fill, self.day)?)
    }
}

impl TableFunctionImpl for SessionOhlc {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Ask::read(&Arguments::new("session_ohlc", &args)).map_err(external)?;
        if self.0.db.is_none() && self.0.file_trades().is_none() {
            return Err(external(invalid(
                "session_ohlc: there are no trades to make bars of",
                "name a database with --db, or a file with the columns ts, price and size",
            )));
        }
        let schema = schema(ask.many);
        let (market, schema_of_rows) = (Arc::clone(&self.0), Arc::clone(&schema));
        let label = format!("session_ohlc: {}", ask.symbols.join(", "));
        let make = Arc::new(move || {
            let (market, ask, schema) = (Arc::clone(&market), ask.clone(), Arc::clone(&schema_of_rows));
            let rows = async move { rows(&market, &ask, schema).await.map_err(external) };
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema_of_rows), stream::once(rows))) as _
        });
        Ok(Arc::new(LazyTable::new(schema, &label, make)))
    }
}

fn schema(many: bool) -> SchemaRef {
    let field = |name: &str, kind: DataType| Field::new(name, kind, true);
    let mut fields = vec![
        field("trade_date", DataType::Date32),
        field("bar_at", instant_type()),
        field("bar_end", instant_type()),
        field("open", DataType::Float64),
        field("high", DataType::Float64),
        field("low", DataType::Float64),
        field("close", DataType::Float64),
        field("volume", DataType::Float64),
        field("trades", DataType::Int64),
        field("vwap", DataType::Float64),
        field("state", DataType::Utf8),
    ];
    if many {
        fields.insert(0, field("symbol", DataType::Utf8));
    }
    Arc::new(Schema::new(fields))
}

/// Whether a session's bars are final.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The session runs, or rows of it are not sealed.
    Provisional,
    /// Sealed after its end.
    Final,
    /// Sealed again so often.
    Revised(i32),
}

impl State {
    /// The less certain of two.
    pub fn worst(self, other: State) -> State {
        match (self, other) {
            (State::Provisional, _) | (_, State::Provisional) => State::Provisional,
            (State::Revised(a), State::Revised(b)) => State::Revised(a.max(b)),
            (State::Revised(n), State::Final) | (State::Final, State::Revised(n)) => State::Revised(n),
            (State::Final, State::Final) => State::Final,
        }
    }

    /// As the output says it.
    pub fn text(self) -> String {
        match self {
            State::Provisional => "provisional".to_owned(),
            State::Final => "final".to_owned(),
            State::Revised(n) => format!("revised({n})"),
        }
    }
}

/// The bars of one instrument and the states of its sessions.
#[derive(Default)]
pub struct Bars {
    symbol: String,
    /// In order.
    pub bars: Vec<SessionBar>,
    /// Sessions without trades have none.
    pub states: HashMap<TradeDate, State>,
}

async fn rows(market: &Market, ask: &Ask, schema: SchemaRef) -> Result<RecordBatch> {
    let mut all = Vec::new();
    for symbol in &ask.symbols {
        let found = match &market.db {
            Some(db) => {
                let instrument = Instrument::find(db, symbol, ask.near()).await?;
                let instrument = match ask.on(instrument.calendar)? {
                    Some((request, first, last)) => {
                        // also of the days among which a close is looked for
                        let back = if request.fill == Fill::Previous { LOOK_BACK_DAYS } else { 0 };
                        instrument.on(db, first.plus(-back), last)?
                    }
                    None => instrument,
                };
                match ask.on(instrument.calendar)? {
                    Some((request, first, last)) if ask.view.is_plain() => {
                        bars_of(db, &instrument, &request, first, last).await?
                    }
                    Some((request, first, last)) => {
                        known::bars_known(db, &instrument, &request, (first, last), ask.view).await?
                    }
                    None => Bars::default(),
                }
            }
            None if !ask.view.is_plain() => {
                return Err(invalid(
                    "session_ohlc: a file does not tell when its trades became known",
                    "leave out known_at and clock, or load the file into a database with ingest",
                ));
            }
            None => file_bars(market, ask, symbol).await?,
        };
        all.push(found);
    }
    write(&all, ask.many, schema)
}

fn write(all: &[Bars], many: bool, schema: SchemaRef) -> Result<RecordBatch> {
    let each = || all.iter().flat_map(|found| found.bars.iter().map(move |bar| (found, bar)));
    let price = |of: fn(&SessionBar) -> i64| -> ArrayRef {
        Arc::new(Float64Array::from_iter(each().map(|(_, b)| (b.bar.priced > 0).then(|| money::to_f64(of(b))))))
    };
    let instant = |of: fn(&SessionBar) -> Nanos| -> ArrayRef {
        let micros = each().map(|(_, b)| of(b).div_euclid(1000));
        Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
    };
    let state = |(found, b): (&Bars, &SessionBar)| {
        // sessions without trades have no state and do not count
        let days = (b.trade_date.0..=b.last_date.0).filter_map(|day| found.states.get(&TradeDate(day)).copied());
        days.reduce(State::worst).unwrap_or(State::Provisional).text()
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_iter_values(each().map(|(_, b)| b.label.0))),
        instant(|b| b.open_at),
        instant(|b| b.close_at),
        price(|b| b.bar.open),
        price(|b| b.bar.high),
        price(|b| b.bar.low),
        price(|b| b.bar.close),
        Arc::new(Float64Array::from_iter_values(each().map(|(_, b)| money::volume_to_f64(b.bar.volume)))),
        Arc::new(Int64Array::from_iter_values(each().map(|(_, b)| b.bar.trades))),
        Arc::new(Float64Array::from_iter(each().map(|(_, b)| b.bar.vwap()))),
        Arc::new(StringArray::from(each().map(state).collect::<Vec<String>>())),
    ];
    if many {
        columns.insert(
            0,
            Arc::new(StringArray::from(each().map(|(found, _)| found.symbol.as_str()).collect::<Vec<&str>>())),
        );
    }
    RecordBatch::try_new(schema, columns).map_err(|error| Error::world(error.to_string(), ""))
}

/// Makes the bars of one session of its trades, blocks with live rows over them.
struct TradeFold<'a> {
    fold: SessionFold<'a>,
    overlay: Overlay,
    wanted: Wanted,
    core: Core,
}

/// The index range of a session's live rows.
pub fn rows_of_session(rows: &LiveRows, session: &Session<'_>) -> Range<usize> {
    rows.trades.lower_bound(session.from)..rows.trades.lower_bound(session.till)
}

impl<'a> TradeFold<'a> {
    fn new(session: &Session<'a>, request: &OhlcRequest, rows: &Arc<LiveRows>, core: Core) -> TradeFold<'a> {
        TradeFold {
            fold: SessionFold::new(session, request.timeframe, request.segments),
            overlay: Overlay::new(Arc::clone(rows), rows_of_session(rows, session)),
            wanted: request.wanted(session),
            core,
        }
    }

    fn block(&mut self, bytes: &[u8]) -> Result<()> {
        let header = Header::parse(bytes)?;
        for (at, page) in header.pages.iter().enumerate() {
            if self.overlay.hits(page.last) {
                let merged = self.overlay.merge(bytes, &header, at)?;
                self.core.set(merged, 0..merged.len());
            } else if self.wanted.page(page.first.ts, page.last.ts, page.plain) {
                block::decode_core(bytes, &header, at, &mut self.core)?;
            } else {
                continue;
            }
            self.fold.push_core(&self.core);
        }
        Ok(())
    }

    /// An archived session: its trades are those that retention dropped, and rows that came later change no bar.
    fn pages(&mut self, pages: &mut Pages) -> Result<()> {
        while let Some(page) = pages.next_page()? {
            self.core.set(&page, 0..page.len());
            self.fold.push_core(&self.core);
        }
        self.overlay = Overlay::new(Arc::default(), 0..0);
        Ok(())
    }

    /// The session's bars, and the page buffer for the next one.
    fn finish(mut self) -> (Vec<SessionBar>, Core) {
        let rest = self.overlay.rest();
        if !rest.is_empty() {
            self.core.set(rest, 0..rest.len());
            self.fold.push_core(&self.core);
        }
        let mut bars = Vec::new();
        self.fold.finish(&mut bars);
        (bars, self.core)
    }
}

/// The bars of one instrument: of minute bars where they give the exact answer and no live row falls on the session, else of
/// trades.
///
/// # Errors
/// What the server says; a corrupt block; trades that retention dropped.
pub async fn bars_of(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
    last: TradeDate,
) -> Result<Bars> {
    let calendar = instrument.calendar;
    let sessions: Vec<Session<'static>> = calendar.sessions(first, last)?.collect();
    let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(Bars::default()) };
    let rows = Arc::new(live_rows(db, instrument.id, head.from, tail.till).await?);
    let (mut states, dropped) = states(db, instrument.id, first, last).await?;
    let mut answer = Answer::new(calendar, request.clone());
    if request.fill == Fill::Previous
        && let Some(close) = close_before(db, instrument, request, first).await?
    {
        answer.set_previous(close);
    }
    // A row that came after retention dropped its session's trades changes no bar.
    let late = |s: &&Session<'_>| !rows_of_session(&rows, s).is_empty() && !dropped.trades.contains(&s.trade_date);
    let touched: BTreeSet<TradeDate> = sessions.iter().filter(late).map(|s| s.trade_date).collect();
    states.extend(touched.iter().map(|day| (*day, State::Provisional)));
    let by_date: HashMap<TradeDate, &Session<'static>> = sessions.iter().map(|s| (s.trade_date, s)).collect();
    let mut made: HashMap<TradeDate, Vec<SessionBar>> = HashMap::new();
    if let Some(oldest) = dropped.minutes.first() {
        // With minute bars SQL and we may go different ways to the same bar; without them only its way is left.
        if request.timeframe.is_intraday()
            || !from_summaries(db, instrument, request, (first, last), &by_date, &mut made).await?
        {
            return Err(dropped::minutes(&instrument.symbol, dropped.minutes.len(), *oldest));
        }
        if !touched.is_empty() {
            let narrow = Narrow { days: Some(touched), ..Narrow::default() };
            from_trades(db, instrument, request, (first, last), narrow, &sessions, &rows, &mut made).await?;
        }
    } else if sessions.iter().all(|session| request.minutes_suffice(session)) {
        from_minutes(db, instrument, request, (first, last), &by_date, &touched, &mut made).await?;
        if !touched.is_empty() {
            let narrow = Narrow { days: Some(touched), ..Narrow::default() };
            from_trades(db, instrument, request, (first, last), narrow, &sessions, &rows, &mut made).await?;
        }
    } else {
        if let Some(oldest) = dropped.missing.first() {
            return Err(dropped::trades(Made::Bars, &instrument.symbol, dropped.missing.len(), *oldest));
        }
        from_trades(db, instrument, request, (first, last), Narrow::default(), &sessions, &rows, &mut made).await?;
    }
    for session in &sessions {
        answer.add(session, &made.remove(&session.trade_date).unwrap_or_default())?;
    }
    Ok(Bars { symbol: instrument.symbol.clone(), bars: answer.finish(), states })
}

/// Bars of whole sessions of their summaries, as the extension makes them; `false` if one of these does not merge exactly.
async fn from_summaries(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    sessions: &HashMap<TradeDate, &Session<'static>>,
    made: &mut HashMap<TradeDate, Vec<SessionBar>>,
) -> Result<bool> {
    let off = Segments::only(Segment::Off);
    if request.segments.contains(Segment::Off) && request.segments != off {
        return Ok(false);
    }
    let names: Vec<&str> =
        Segment::ALL.into_iter().filter(|s| request.segments.contains(*s)).map(|s| s.name()).collect();
    let sql = format!(
        "SELECT trade_date, open, high, low, close, volume::text, notional::text, trades, priced, mergeable::int4
         FROM market.session_bars WHERE instrument_id = {} AND trade_date BETWEEN {} AND {} AND segment = ANY ({}::text[])
         ORDER BY trade_date, opens_at",
        instrument.id,
        date(first),
        date(last),
        literal(&format!("{{{}}}", names.join(",")))
    );
    let mut stream = db.copy(&sql).await?;
    let mut parts: BTreeMap<TradeDate, Vec<(Bar, bool)>> = BTreeMap::new();
    while let Some(f) = stream.next().await? {
        let price = |at| -> Result<i64> { Ok(f.f64(at)?.map(money::price_from_f64).transpose()?.unwrap_or(0)) };
        let sum = |at, digits| -> Result<Option<i128>> { Ok(money::parse_scaled(f.some(f.text(at))?, digits)) };
        let (Some(volume), Some(notional)) = (sum(5, 9)?, sum(6, 18)?) else { return Ok(false) };
        let bar = Bar {
            open: price(1)?,
            high: price(2)?,
            low: price(3)?,
            close: price(4)?,
            volume,
            notional,
            trades: f.some(f.i64(7))?,
            priced: f.some(f.i64(8))?,
            weak_close: false,
        };
        parts.entry(TradeDate(f.some(f.days(0))?)).or_default().push((bar, f.some(f.i32(9))? != 0));
    }
    let several = request.groups();
    if parts.values().any(|bars| (several || bars.len() > 1) && bars.iter().any(|(_, mergeable)| !mergeable)) {
        return Ok(false);
    }
    for (day, bars) in parts {
        let Some(session) = sessions.get(&day) else { continue };
        let (Some(open_at), Some(close_at)) = (session.open(request.segments), session.close(request.segments)) else {
            continue;
        };
        let Some(bar) = bars.into_iter().map(|(bar, _)| bar).reduce(|mut all, bar| {
            all.append(&bar);
            all
        }) else {
            continue;
        };
        let bar = SessionBar { label: day, trade_date: day, last_date: day, open_at, close_at, bar, filled: false };
        made.insert(day, vec![bar]);
    }
    Ok(true)
}

async fn from_minutes(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    sessions: &HashMap<TradeDate, &Session<'static>>,
    touched: &BTreeSet<TradeDate>,
    made: &mut HashMap<TradeDate, Vec<SessionBar>>,
) -> Result<()> {
    let mut stream = Minutes::open(db, instrument.id, first, last).await?;
    let mut minutes = Vec::new();
    while let Some((day, bytes)) = stream.next().await? {
        let Some(session) = sessions.get(&day).filter(|_| !touched.contains(&day)) else { continue };
        minutes.clear();
        decode_minutes(&bytes, &mut minutes)?;
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        fold.push_minutes(&minutes);
        let mut bars = Vec::new();
        fold.finish(&mut bars);
        made.insert(day, bars);
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "one read, taken apart for its length")]
async fn from_trades(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    (first, last): (TradeDate, TradeDate),
    narrow: Narrow,
    sessions: &[Session<'static>],
    rows: &Arc<LiveRows>,
    made: &mut HashMap<TradeDate, Vec<SessionBar>>,
) -> Result<()> {
    let narrow = Narrow { columns: Columns::Core, ..narrow };
    let mut blocks = Blocks::open(db, instrument.id, first, last, narrow).await?;
    let mut core = Core::new();
    let mut part = blocks.next().await?;
    for session in sessions {
        while part.as_ref().is_some_and(|(day, _)| *day < session.trade_date) {
            part = blocks.next().await?;
        }
        let sealed = part.as_ref().is_some_and(|(day, _)| *day == session.trade_date);
        if !sealed && rows_of_session(rows, session).is_empty() {
            continue;
        }
        let mut fold = TradeFold::new(session, request, rows, core);
        while let Some((day, content)) = &mut part {
            if *day != session.trade_date {
                break;
            }
            match content {
                Part::Block(bytes) => fold.block(bytes)?,
                Part::Pages(pages) => fold.pages(pages)?,
            }
            part = blocks.next().await?;
        }
        let (bars, buffer) = fold.finish();
        core = buffer;
        made.insert(session.trade_date, bars);
    }
    Ok(())
}

/// What retention left of sessions.
#[derive(Default)]
pub struct Dropped {
    /// Sessions without their trades.
    pub trades: BTreeSet<TradeDate>,
    /// Of these, sessions whose trades no archive has either.
    pub missing: BTreeSet<TradeDate>,
    /// Sessions without their minute bars, in an archive either.
    pub minutes: BTreeSet<TradeDate>,
}

/// The states of the sealed sessions; what is not there is provisional. And what retention dropped.
///
/// # Errors
/// What the server says.
pub async fn states(
    db: &Arc<Db>,
    instrument: i32,
    first: TradeDate,
    last: TradeDate,
) -> Result<(HashMap<TradeDate, State>, Dropped)> {
    let (mut states, mut dropped) = (HashMap::new(), Dropped::default());
    for sealed in sealed_states(db, instrument, first, last).await? {
        let state = match sealed.revision {
            -1 => State::Provisional,
            0 => State::Final,
            n => State::Revised(n),
        };
        states.insert(sealed.day, state);
        if sealed.trades_dropped {
            dropped.trades.insert(sealed.day);
        }
        if sealed.trades_dropped && !sealed.archived {
            dropped.missing.insert(sealed.day);
        }
        if sealed.minutes_dropped && !sealed.archived {
            dropped.minutes.insert(sealed.day);
        }
    }
    Ok((states, dropped))
}

/// How far back a close is looked for to fill the first gap with.
const LOOK_BACK_DAYS: i32 = 14;

async fn close_before(
    db: &Arc<Db>,
    instrument: &Instrument,
    request: &OhlcRequest,
    first: TradeDate,
) -> Result<Option<i64>> {
    let from = first.plus(-LOOK_BACK_DAYS).max(instrument.calendar.known().0);
    if from >= first {
        return Ok(None);
    }
    let (_, dropped) = states(db, instrument.id, from, first.plus(-1)).await?;
    // Sessions of which session bars alone are left lie before those that have more.
    let bare = dropped.minutes.last().copied();
    let kept = bare.map_or(from, |day| day.plus(1));
    let days = OhlcRequest::new(Timeframe::Days(1), request.segments);
    let before = match kept < first {
        true => Box::pin(bars_of(db, instrument, &days, kept, first.plus(-1))).await?,
        false => Bars::default(),
    };
    let Some(day) = before.bars.iter().rev().find(|bar| bar.bar.priced > 0) else {
        return match bare {
            Some(bare) => last_summary_close(db, instrument, request.segments, from, bare).await,
            None => Ok(None),
        };
    };
    let suffices = |session: Session<'_>| request.minutes_suffice(&session);
    if dropped.trades.contains(&day.trade_date) && !instrument.calendar.session(day.trade_date)?.is_some_and(suffices) {
        return Ok(Some(day.bar.close));
    }
    // the close of the last bar of this width, which a day's need not be: some trades close a bar only if they open it
    let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
    let (from, till) = request.dates(instrument.calendar, day.trade_date, day.trade_date)?;
    let last = Box::pin(bars_of(db, instrument, &request, from, till)).await?;
    Ok(last_close(&last.bars))
}

/// The last close of session bars, where retention left nothing else to make one of.
async fn last_summary_close(
    db: &Arc<Db>,
    instrument: &Instrument,
    segments: Segments,
    first: TradeDate,
    last: TradeDate,
) -> Result<Option<i64>> {
    let names: Vec<&str> = Segment::ALL.into_iter().filter(|s| segments.contains(*s)).map(|s| s.name()).collect();
    let sql = format!(
        "SELECT close FROM market.session_bars WHERE instrument_id = {} AND trade_date BETWEEN {} AND {} AND segment = ANY ({}::text[])
           AND close IS NOT NULL ORDER BY trade_date DESC, opens_at DESC LIMIT 1",
        instrument.id,
        date(first),
        date(last),
        literal(&format!("{{{}}}", names.join(",")))
    );
    let mut stream = db.copy(&sql).await?;
    let mut found = None;
    while let Some(f) = stream.next().await? {
        found = f.f64(0)?.map(money::price_from_f64).transpose()?;
    }
    Ok(found)
}

fn last_close(bars: &[SessionBar]) -> Option<i64> {
    bars.iter().rev().find(|bar| bar.bar.priced > 0).map(|bar| bar.bar.close)
}

/// The bars of a file's trades. They are final as far as a file can tell: it does not change.
async fn file_bars(market: &Market, ask: &Ask, symbol: &str) -> Result<Bars> {
    let Some(table) = market.file_trades() else { return Ok(Bars::default()) };
    let calendar = calendar_of(market, symbol, ask.near())?;
    let Some((request, first, last)) = ask.on(calendar)? else { return Ok(Bars::default()) };
    let trades = files::trades(&market.context, table, symbol).await?;
    let mut states = HashMap::new();
    let mut answer = Answer::new(calendar, request.clone());
    if request.fill == Fill::Previous && first.plus(-LOOK_BACK_DAYS) > calendar.known().0 {
        let request = OhlcRequest { day: request.day, ..OhlcRequest::new(request.timeframe, request.segments) };
        let (from, _) = request.dates(calendar, first.plus(-LOOK_BACK_DAYS), first.plus(-LOOK_BACK_DAYS))?;
        let mut before = Answer::new(calendar, request.clone());
        for session in calendar.sessions(from, first.plus(-1))? {
            before.add(&session, &session_bars(&trades, &session, &request))?;
        }
        if let Some(close) = last_close(&before.finish()) {
            answer.set_previous(close);
        }
    }
    for session in calendar.sessions(first, last)? {
        let bars = session_bars(&trades, &session, &request);
        if !bars.is_empty() {
            states.insert(session.trade_date, State::Final);
        }
        answer.add(&session, &bars)?;
    }
    Ok(Bars { symbol: symbol.to_owned(), bars: answer.finish(), states })
}

fn session_bars(trades: &Trades, session: &Session<'_>, request: &OhlcRequest) -> Vec<SessionBar> {
    let (from, till) = (trades.lower_bound(session.from), trades.lower_bound(session.till));
    let mut bars = Vec::new();
    if from < till {
        let mut core = Core::new();
        core.set(trades, from..till);
        let mut fold = SessionFold::new(session, request.timeframe, request.segments);
        fold.push_core(&core);
        fold.finish(&mut bars);
    }
    bars
}

/// The calendar of an instrument in a file: the one that was named, else that of its root.
///
/// # Errors
/// An instrument of which neither is known.
pub fn calendar_of(market: &Market, symbol: &str, near: TradeDate) -> Result<&'static Calendar> {
    if let Some(name) = &market.calendar {
        return market.calendars.find(name);
    }
    let root = Symbol::parse(symbol, near).ok().and_then(|parsed| parsed.root().map(str::to_owned));
    match market::product(root.as_deref().unwrap_or(symbol)) {
        Some(product) => market.calendars.find(&product.calendar),
        None => Err(invalid(
            format!("the calendar of \"{symbol}\" is not known"),
            "name it, as in --calendar XNYS; the table calendars lists them",
        )),
    }
}

impl From<Error> for datafusion::common::DataFusionError {
    fn from(error: Error) -> Self {
        external(error)
    }
}
