//! `session_levels` and `session_profile`: the prices of a day that matter, and how much was traded at each.

use super::stats::published;
use super::walk::{Subject, Walked, known_at};
use super::{booleans, dates, floats, instant, instants, table, texts, volumes};
use crate::error::{Error, Result, external};
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{ArrayRef, Int32Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use market::levels::{Close, LevelsFold, LevelsRequest};
use market::profile::{ProfileFold, ProfileRequest, ProfileRow, default_segments};
use market::{Calendar, Nanos, Segments, TradeDate, money};
use std::sync::Arc;

#[derive(Debug)]
pub struct SessionLevels(pub Arc<Market>);

#[derive(Debug)]
pub struct SessionProfile(pub Arc<Market>);

#[derive(Clone, Debug)]
struct Levels {
    symbol: String,
    day: TradeDate,
    request: LevelsRequest,
    known: Option<Nanos>,
}

impl Levels {
    fn read(args: &Arguments<'_>) -> Result<Levels> {
        let minutes = args.number(3)?.unwrap_or(30.0);
        if minutes.fract() != 0.0 {
            return Err(Error::question(format!("invalid opening_minutes \"{minutes}\""), "use 1 to 1440 minutes"));
        }
        let request = LevelsRequest {
            segments: args.text(2)?.map(|text| Segments::parse(&text)).transpose()?,
            opening: LevelsRequest::opening(minutes as i64)?,
            close: args.text(4)?.map(|text| Close::parse(&text)).transpose()?,
            skip_shortened: args.boolean(5)?.unwrap_or(false),
        };
        Ok(Levels {
            symbol: args.required(0, "symbol")?,
            day: args.date(1, "day")?,
            request,
            known: known_at(args, 6)?,
        })
    }

    async fn columns(&self, market: &Market) -> Result<Vec<ArrayRef>> {
        let day = |_: &Calendar| Ok(Some((self.day, self.day)));
        let subject = Subject::find_for(market, "session_levels", &self.symbol, self.day, day).await?;
        let (mut levels, mut walked) = (Vec::new(), Walked::default());
        if let Some(mut fold) = LevelsFold::new(subject.calendar, self.day, self.request)? {
            let days: Vec<TradeDate> = fold.sessions().map(|session| session.trade_date).collect();
            for (side, day) in days.iter().enumerate() {
                let mut gone = Vec::new();
                let mut each = |_: &market::Session<'static>, trades: Option<&market::Trades>| {
                    trades.into_iter().flat_map(market::Trades::iter).for_each(|trade| fold.push(side, &trade));
                    Ok(())
                };
                walked =
                    walked.and(subject.walk((*day, *day), self.known, "levels", &mut each, Some(&mut gone)).await?);
                gone.iter().for_each(|minute| fold.push_minute(side, minute));
            }
            let stats = match (days.first().filter(|prior| **prior < self.day), subject.stored()) {
                (Some(prior), Some((db, instrument))) => published(db, instrument, *prior, self.known).await?,
                _ => Vec::new(),
            };
            levels = fold.finish(&stats);
        }
        let state = |level: &market::levels::Level| match level.published {
            Some(true) => "final".to_owned(),
            Some(false) => "provisional".to_owned(),
            None => walked.state(level.trade_date, level.trade_date),
        };
        Ok(vec![
            texts(levels.iter().map(|level| level.name)),
            floats(levels.iter().map(|level| level.value)),
            instants(levels.iter().map(|level| level.at)),
            texts(levels.iter().map(|level| level.kind)),
            dates(levels.iter().map(|level| level.trade_date)),
            instants(levels.iter().map(|level| Some(level.from))),
            instants(levels.iter().map(|level| Some(level.till))),
            texts(levels.iter().map(state)),
        ])
    }
}

impl TableFunctionImpl for SessionLevels {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Levels::read(&Arguments::new("session_levels", &args)).map_err(external)?;
        let market = Arc::clone(&self.0);
        let fields = [
            ("level", DataType::Utf8),
            ("value", DataType::Float64),
            ("at", instant()),
            ("kind", DataType::Utf8),
            ("trade_date", DataType::Date32),
            ("from_at", instant()),
            ("till_at", instant()),
            ("state", DataType::Utf8),
        ];
        Ok(table(&format!("session_levels: {}", ask.symbol), &fields, move || {
            let (market, ask) = (Arc::clone(&market), ask.clone());
            async move { ask.columns(&market).await }
        }))
    }
}

#[derive(Clone, Debug)]
struct Profile {
    symbol: String,
    day: TradeDate,
    segments: Option<Segments>,
    bin: Option<f64>,
    period: String,
    value_area: f64,
    known: Option<Nanos>,
}

impl Profile {
    fn read(args: &Arguments<'_>) -> Result<Profile> {
        Ok(Profile {
            symbol: args.required(0, "symbol")?,
            day: args.date(1, "day")?,
            segments: args.text(2)?.map(|text| Segments::parse(&text)).transpose()?,
            bin: args.number(3)?,
            period: args.text(4)?.unwrap_or_else(|| "30m".to_owned()),
            value_area: args.number(5)?.unwrap_or(0.7),
            known: known_at(args, 6)?,
        })
    }

    async fn columns(&self, market: &Market) -> Result<Vec<ArrayRef>> {
        let day = |_: &Calendar| Ok(Some((self.day, self.day)));
        let subject = Subject::find_for(market, "session_profile", &self.symbol, self.day, day).await?;
        let (mut rows, mut walked): (Vec<ProfileRow>, _) = (Vec::new(), Walked::default());
        if let Some(session) = subject.calendar.session(self.day)? {
            let segments = self.segments.unwrap_or_else(|| default_segments(&session, subject.calendar));
            let bin = match self.bin {
                Some(bin) => Some(bin),
                None => subject.tick_size(self.day).await?,
            };
            let Some(bin) = bin else {
                return Err(Error::question(
                    format!("session_profile: the tick size of {} on {} is not known", subject.symbol, self.day),
                    "say how high a row is, as in bin => 0.25, or add a row to market.instrument_terms",
                ));
            };
            let request = ProfileRequest::new(segments, bin, &self.period, self.value_area)?;
            let mut fold = ProfileFold::new(&session, request);
            let mut each = |_: &market::Session<'static>, trades: Option<&market::Trades>| {
                trades.into_iter().for_each(|trades| fold.push(trades));
                Ok(())
            };
            walked = subject.walk((self.day, self.day), self.known, "profile", &mut each, None).await?;
            rows = fold.finish()?;
        }
        Ok(vec![
            floats(rows.iter().map(|row| Some(money::to_f64(row.price)))),
            volumes(rows.iter().map(|row| row.sides.volume())),
            volumes(rows.iter().map(|row| row.sides.buy)),
            volumes(rows.iter().map(|row| row.sides.sell)),
            volumes(rows.iter().map(|row| row.sides.unknown)),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.sides.trades))),
            booleans(rows.iter().map(|row| row.is_poc)),
            booleans(rows.iter().map(|row| row.in_value_area)),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|row| row.tpo))),
            texts(rows.iter().map(|row| row.periods.as_str())),
            booleans(rows.iter().map(|row| row.is_tpo_poc)),
            booleans(rows.iter().map(|row| row.in_tpo_value_area)),
            texts(rows.iter().map(|_| walked.state(self.day, self.day))),
        ])
    }
}

impl TableFunctionImpl for SessionProfile {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Profile::read(&Arguments::new("session_profile", &args)).map_err(external)?;
        let market = Arc::clone(&self.0);
        let fields = [
            ("price", DataType::Float64),
            ("volume", DataType::Float64),
            ("buy_volume", DataType::Float64),
            ("sell_volume", DataType::Float64),
            ("unknown_volume", DataType::Float64),
            ("trades", DataType::Int64),
            ("is_poc", DataType::Boolean),
            ("in_value_area", DataType::Boolean),
            ("tpo", DataType::Int32),
            ("periods", DataType::Utf8),
            ("is_tpo_poc", DataType::Boolean),
            ("in_tpo_value_area", DataType::Boolean),
            ("state", DataType::Utf8),
        ];
        Ok(table(&format!("session_profile: {}", ask.symbol), &fields, move || {
            let (market, ask) = (Arc::clone(&market), ask.clone());
            async move { ask.columns(&market).await }
        }))
    }
}
