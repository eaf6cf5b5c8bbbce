//! `explain_bar`, as the extension's: the words are the domain's.

use crate::bars::known::{View, bars_known, now, require_server, states_known, trades_known};
use crate::bars::{State, bars_of};
use crate::db::{Db, Instrument, date, read_reported, timestamptz};
use crate::error::{Error, Result, external};
use crate::lazy::LazyTable;
use crate::scalar::instant_type;
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures_util::stream;
use market::explain::{Explain, Line, Said, Seal};
use market::ohlc::OhlcRequest;
use market::{Clock, Nanos, Segments, Session, Timeframe, Trade, TradeDate, money};
use std::collections::HashMap;
use std::sync::Arc;

/// Registers the table functions.
pub fn register(context: &SessionContext, market: &Arc<Market>) {
    context.register_udtf("explain_bar", Arc::new(ExplainBar(Arc::clone(market))));
    context.register_udtf("session_states", Arc::new(SessionStates(Arc::clone(market))));
}

#[derive(Debug)]
struct SessionStates(Arc<Market>);

#[derive(Clone)]
struct AskStates {
    symbol: String,
    dates: (TradeDate, TradeDate),
    known: Option<Nanos>,
}

impl TableFunctionImpl for SessionStates {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("session_states", &args);
        let field = |name: &str, kind: DataType| Field::new(name, kind, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            field("trade_date", DataType::Date32),
            field("state", DataType::Utf8),
            field("calendar_version", DataType::Int32),
            field("digest", DataType::Int64),
            field("sealed_at", instant_type()),
            field("reason", DataType::Utf8),
        ]));
        if self.0.db.is_none() {
            return Err(external(Error::question("session_states: there is no database", "name one with --db")));
        }
        let ask = AskStates {
            symbol: args.required(0, "symbol")?,
            dates: (args.date(1, "first date")?, args.date(2, "last date")?),
            known: args.instant(3)?.map(|ts| ts.div_euclid(1000).saturating_mul(1000).saturating_add(999)),
        };
        let (market, of_rows) = (Arc::clone(&self.0), Arc::clone(&schema));
        let label = format!("session_states: {}", ask.symbol);
        let make = Arc::new(move || {
            let (market, ask, schema) = (Arc::clone(&market), ask.clone(), Arc::clone(&of_rows));
            let rows = async move { states(&market, &ask, schema).await.map_err(external) };
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&of_rows), stream::once(rows))) as _
        });
        Ok(Arc::new(LazyTable::new(schema, &label, make)))
    }
}

async fn states(market: &Market, ask: &AskStates, schema: SchemaRef) -> Result<RecordBatch> {
    let Some(db) = &market.db else { return Ok(RecordBatch::new_empty(schema)) };
    require_server(db, "session_states")?;
    let instrument = Instrument::find(db, &ask.symbol, ask.dates.1).await?;
    let until = ask.known.unwrap_or_else(now);
    let states = states_known(db, &instrument, ask.dates, until).await?;
    let seals: HashMap<TradeDate, Seal> =
        seals(db, instrument.id, ask.dates, ask.known).await?.into_iter().map(|seal| (seal.trade_date, seal)).collect();
    let seal = |day: &TradeDate| seals.get(day);
    let reasons = states.iter().map(|(day, state, reason)| {
        let reason = reason.map(str::to_owned).or_else(|| seal(day).and_then(|seal| seal.reason.clone()));
        reason.filter(|_| *state == State::Provisional)
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Date32Array::from_iter_values(states.iter().map(|(day, ..)| day.0))),
        Arc::new(StringArray::from_iter_values(states.iter().map(|(_, state, _)| state.text()))),
        Arc::new(Int32Array::from_iter(states.iter().map(|(day, ..)| seal(day).map(|seal| seal.calendar_version)))),
        Arc::new(Int64Array::from_iter(states.iter().map(|(day, ..)| seal(day).map(|seal| seal.digest)))),
        Arc::new(
            TimestampMicrosecondArray::from_iter(
                states.iter().map(|(day, ..)| seal(day).map(|seal| seal.sealed_at.div_euclid(1000))),
            )
            .with_timezone("UTC"),
        ),
        Arc::new(reasons.collect::<StringArray>()),
    ];
    RecordBatch::try_new(schema, columns).map_err(|error| Error::world(error.to_string(), ""))
}

#[derive(Debug)]
struct ExplainBar(Arc<Market>);

#[derive(Clone)]
struct Ask {
    symbol: String,
    timeframe: Timeframe,
    at: Nanos,
    segments: Option<Segments>,
    known: Option<Nanos>,
}

impl TableFunctionImpl for ExplainBar {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("explain_bar", &args);
        let missing = || {
            external(Error::question(
                "explain_bar: symbol, timeframe and at must not be NULL",
                "name an instant in the bar",
            ))
        };
        let (Some(symbol), Some(timeframe), Some(at)) = (args.text(0)?, args.text(1)?, args.instant(2)?) else {
            return Err(missing());
        };
        if self.0.db.is_none() {
            return Err(external(Error::question(
                "explain_bar: there is no database to read trades of",
                "name one with --db",
            )));
        }
        let ask = Ask {
            symbol,
            timeframe: Timeframe::parse(&timeframe).map_err(external)?,
            at,
            segments: args.text(3)?.map(|text| Segments::parse(&text)).transpose().map_err(external)?,
            known: args.instant(4)?.map(|ts| ts.div_euclid(1000).saturating_mul(1000).saturating_add(999)),
        };
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![text("item"), text("value")]));
        let (market, of_rows) = (Arc::clone(&self.0), Arc::clone(&schema));
        let label = format!("explain_bar: {}", ask.symbol);
        let make = Arc::new(move || {
            let (market, ask, schema) = (Arc::clone(&market), ask.clone(), Arc::clone(&of_rows));
            let rows = async move { rows(&market, &ask, schema).await.map_err(external) };
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&of_rows), stream::once(rows))) as _
        });
        Ok(Arc::new(LazyTable::new(schema, &label, make)))
    }
}

async fn rows(market: &Market, ask: &Ask, schema: SchemaRef) -> Result<RecordBatch> {
    let Some(db) = &market.db else { return Ok(RecordBatch::new_empty(schema)) };
    let lines = lines(db, ask).await?;
    let items = StringArray::from_iter_values(lines.iter().map(|line| line.0.as_str()));
    let values = StringArray::from_iter_values(lines.iter().map(|line| line.1.as_str()));
    RecordBatch::try_new(schema, vec![Arc::new(items), Arc::new(values)])
        .map_err(|error| Error::world(error.to_string(), ""))
}

async fn lines(db: &Arc<Db>, ask: &Ask) -> Result<Vec<Line>> {
    require_server(db, "explain_bar")?;
    let near = TradeDate(ask.at.div_euclid(market::time::DAY) as i32);
    let instrument = Instrument::find(db, &ask.symbol, near).await?;
    let calendar = instrument.calendar;
    let segments = ask.segments.unwrap_or(calendar.main());
    let begun = Explain::begin(&instrument.symbol, calendar, ask.timeframe, ask.at, segments, ask.known)?;
    let mut explain = match begun {
        Err(lines) => return Ok(lines),
        Ok(explain) => explain,
    };
    for session in explain.sessions.clone() {
        let trades = trades_known(db, &instrument, (session.from, session.till), ask.known).await?;
        explain.push(&session, &trades);
        for said in said(db, &instrument, &session, ask.known).await? {
            explain.said(&session, said);
        }
    }
    let request = OhlcRequest::new(ask.timeframe, segments);
    let (first, last) = explain.dates;
    let found = match ask.known {
        None => bars_of(db, &instrument, &request, first, last).await?,
        known => bars_known(db, &instrument, &request, (first, last), View { known, clock: Clock::Event }).await?,
    };
    let bar = found.bars.iter().find(|bar| bar.open_at == explain.bucket.open).map(|bar| {
        let days = (first.0..=last.0).filter_map(|day| found.states.get(&TradeDate(day)).copied());
        (bar.bar, days.reduce(State::worst).unwrap_or(State::Provisional).text())
    });
    let seals = seals(db, instrument.id, (first, last), ask.known).await?;
    Ok(explain.finish(bar, &seals))
}

async fn said(db: &Arc<Db>, instrument: &Instrument, session: &Session<'_>, known: Option<Nanos>) -> Result<Vec<Said>> {
    let until = known.map_or(String::new(), |known| format!("AND known_at <= {}", timestamptz(known)));
    let sql = format!(
        "SELECT ts, ns, seq, sub, action = 'bust', old_price, old_size, new_price, new_size, known_at, by_user, reason
         FROM market.trade_corrections WHERE instrument_id = {} AND ts >= {} AND ts < {} {until} ORDER BY known_at, id",
        instrument.id,
        timestamptz(session.from),
        timestamptz(session.till)
    );
    let mut stream = db.copy(&sql).await?;
    let mut all = Vec::new();
    while let Some(f) = stream.next().await? {
        let ts = f.some(f.micros(0))?.saturating_mul(1000).saturating_add(i64::from(f.some(f.i16(1))?));
        let trade = Trade { ts, seq: f.some(f.i64(2))?, sub: i32::from(f.some(f.i16(3))?), ..Trade::default() };
        let number = |at| -> Result<Option<i64>> { Ok(f.f64(at)?.map(money::price_from_f64).transpose()?) };
        let busted = f.some(f.bool(4))?;
        all.push(Said {
            trade,
            old: number(5)?.zip(number(6)?),
            new: number(7)?.zip(number(8)?).filter(|_| !busted),
            known: f.some(f.micros(9))?.saturating_mul(1000),
            by: f.some(f.text(10))?.to_owned(),
            reason: f.text(11)?.map(str::to_owned),
        });
    }
    if !all.is_empty() {
        // flags say in which bar an auction's print is
        let reported = read_reported(db, instrument.id, session.from, session.till).await?;
        all.iter_mut().for_each(|said| said.trade = reported.get(said.trade.key()).map_or(said.trade, |found| found.0));
    }
    Ok(all)
}

async fn seals(
    db: &Arc<Db>,
    instrument: i32,
    (first, last): (TradeDate, TradeDate),
    known: Option<Nanos>,
) -> Result<Vec<Seal>> {
    let dates = format!("instrument_id = {instrument} AND trade_date BETWEEN {} AND {}", date(first), date(last));
    let sql = match known {
        None => format!(
            "SELECT DISTINCT ON (trade_date) trade_date, CASE state WHEN 'revised' THEN format('revised(%s)', revision) ELSE state END,
                    calendar_version, digest, sealed_at, reason
             FROM market.session_bars WHERE {dates} ORDER BY trade_date"
        ),
        Some(known) => format!(
            "SELECT DISTINCT ON (trade_date) trade_date, CASE revision WHEN 0 THEN 'final' ELSE format('revised(%s)', revision) END,
                    calendar_version, digest, sealed_at, NULL::text
             FROM market.session_revisions WHERE {dates} AND known_from <= {} ORDER BY trade_date, revision DESC",
            timestamptz(known)
        ),
    };
    let mut stream = db.copy(&sql).await?;
    let mut all = Vec::new();
    while let Some(f) = stream.next().await? {
        all.push(Seal {
            trade_date: TradeDate(f.some(f.days(0))?),
            state: f.some(f.text(1))?.to_owned(),
            calendar_version: f.some(f.i32(2))?,
            digest: f.some(f.i64(3))?,
            sealed_at: f.some(f.micros(4))?.saturating_mul(1000),
            reason: f.text(5)?.map(str::to_owned),
        });
    }
    Ok(all)
}
