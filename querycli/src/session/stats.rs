//! `session_stat`: what venues publish about sessions beside trades.

use super::walk::Subject;
use super::{dates, floats, instant, instants, table, texts};
use crate::db::{Db, date, literal, timestamptz};
use crate::error::{Result, external};
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use market::stat::{Stat, StatKind};
use market::{Nanos, TradeDate, money};
use std::sync::Arc;

#[derive(Debug)]
pub struct SessionStat(pub Arc<Market>);

#[derive(Clone, Debug)]
struct Ask {
    symbol: String,
    first: TradeDate,
    last: TradeDate,
    kind: Option<String>,
    known_at: Option<Nanos>,
}

/// A row of `market.session_stats`.
struct Row {
    trade_date: TradeDate,
    kind: String,
    value: f64,
    ts: Option<Nanos>,
    known_at: Option<Nanos>,
    status: Option<String>,
    source: String,
}

/// The newest value of each kind and session; `also` narrows them.
async fn newest(db: &Arc<Db>, instrument: i32, also: &str) -> Result<Vec<Row>> {
    if !db.has_server() {
        // The archive keeps trades and bars alone.
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT DISTINCT ON (trade_date, kind) trade_date, kind, value::float8, ts, known_at, status, source
         FROM market.session_stats WHERE instrument_id = {instrument} AND {also} ORDER BY trade_date, kind, known_at DESC"
    );
    let mut stream = db.copy(&sql).await?;
    let mut rows = Vec::new();
    while let Some(f) = stream.next().await? {
        let nanos = |micros: Option<i64>| micros.map(|micros| micros.saturating_mul(1000));
        rows.push(Row {
            trade_date: TradeDate(f.some(f.days(0))?),
            kind: f.text(1)?.unwrap_or_default().to_owned(),
            value: f.some(f.f64(2))?,
            ts: nanos(f.micros(3)?),
            known_at: nanos(f.micros(4)?),
            status: f.text(5)?.map(str::to_owned),
            source: f.text(6)?.unwrap_or_default().to_owned(),
        });
    }
    Ok(rows)
}

/// What was published of a session that its close may be, and known at an instant (`None`: now).
///
/// # Errors
/// What the server says.
pub async fn published(db: &Arc<Db>, instrument: i32, day: TradeDate, known: Option<Nanos>) -> Result<Vec<Stat>> {
    let also = format!(
        "trade_date = {} AND kind IN ('settlement', 'preliminary_settlement', 'official_close') AND known_at <= {}",
        date(day),
        timestamptz(known.unwrap_or(Nanos::MAX))
    );
    let mut stats = Vec::new();
    for row in newest(db, instrument, &also).await? {
        stats.push(Stat { kind: StatKind::parse(&row.kind)?, value: money::price_from_f64(row.value)?, ts: row.ts });
    }
    Ok(stats)
}

impl Ask {
    fn read(args: &Arguments<'_>) -> Result<Ask> {
        Ok(Ask {
            symbol: args.required(0, "symbol")?,
            first: args.date(1, "first date")?,
            last: args.date(2, "last date")?,
            kind: args.text(3)?,
            known_at: args.instant(4)?,
        })
    }

    async fn columns(&self, market: &Market) -> Result<Vec<ArrayRef>> {
        let subject = Subject::find(market, "session_stat", &self.symbol, self.last).await?;
        let mut also = format!("trade_date BETWEEN {} AND {}", date(self.first), date(self.last));
        if let Some(kind) = &self.kind {
            also.push_str(&format!(" AND kind = {}", literal(kind)));
        }
        if let Some(known_at) = self.known_at {
            also.push_str(&format!(" AND known_at <= {}", timestamptz(known_at)));
        }
        let rows = match subject.stored() {
            Some((db, instrument)) => newest(db, instrument, &also).await?,
            None => Vec::new(),
        };
        Ok(vec![
            dates(rows.iter().map(|row| row.trade_date)),
            texts(rows.iter().map(|row| row.kind.as_str())),
            floats(rows.iter().map(|row| Some(row.value))),
            instants(rows.iter().map(|row| row.ts)),
            instants(rows.iter().map(|row| row.known_at)),
            Arc::new(StringArray::from_iter(rows.iter().map(|row| row.status.as_deref()))),
            texts(rows.iter().map(|row| row.source.as_str())),
        ])
    }
}

impl TableFunctionImpl for SessionStat {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Ask::read(&Arguments::new("session_stat", &args)).map_err(external)?;
        let market = Arc::clone(&self.0);
        let fields = [
            ("trade_date", DataType::Date32),
            ("stat", DataType::Utf8),
            ("value", DataType::Float64),
            ("ts", instant()),
            ("known_since", instant()),
            ("status", DataType::Utf8),
            ("source", DataType::Utf8),
        ];
        Ok(table(&format!("session_stat: {}", ask.symbol), &fields, move || {
            let (market, ask) = (Arc::clone(&market), ask.clone());
            async move { ask.columns(&market).await }
        }))
    }
}
