//! `activity_ohlc`: bars that end when enough was traded.

use super::walk::{Subject, known_at};
use super::{booleans, dates, floats, instant, instants, table, texts, today, volumes};
use crate::error::{Error, Result, external};
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{ArrayRef, Int32Array, Int64Array};
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use market::activity::{Activity, ActivityBar, ActivityFold};
use market::ohlc::Fill;
use market::{Calendar, Day, Nanos, Segments, Timeframe, When, money};
use std::sync::Arc;

#[derive(Debug)]
pub struct ActivityOhlc(pub Arc<Market>);

#[derive(Clone, Debug)]
struct Ask {
    symbol: String,
    activity: Activity,
    when: When,
    segments: Option<Segments>,
    known: Option<Nanos>,
}

impl Ask {
    fn read(args: &Arguments<'_>) -> Result<Ask> {
        let kind = args.required(1, "kind")?;
        let Some(threshold) = args.number(2)? else {
            return Err(Error::question(
                "activity_ohlc: threshold is NULL",
                "say how many trades, how much volume or notional makes a bar",
            ));
        };
        Ok(Ask {
            symbol: args.required(0, "symbol")?,
            activity: Activity::parse(&kind, threshold)?,
            when: args.when(3)?,
            segments: args.text(5)?.map(|text| Segments::parse(&text)).transpose()?,
            known: known_at(args, 6)?,
        })
    }

    async fn columns(&self, market: &Market) -> Result<Vec<ArrayRef>> {
        // Any width within a session asks for the sessions of the range.
        let timeframe = Timeframe::Intraday(market::time::MINUTE);
        let ask = |of: &Calendar| self.when.request(of, timeframe, self.segments, Fill::None, Day::Trade);
        let reach = |of: &Calendar| Ok(ask(of)?.map(|(_, first, last)| (first, last)));
        let near = self.when.near(today);
        let subject = Subject::find_for(market, "activity_ohlc", &self.symbol, near, reach).await?;
        let request = ask(subject.calendar)?;
        let mut bars: Vec<ActivityBar> = Vec::new();
        let mut walked = Default::default();
        if let Some((request, first, last)) = request {
            let mut fold = None;
            let mut each = |session: &market::Session<'static>, trades: Option<&market::Trades>| {
                let mut here =
                    fold.take().unwrap_or_else(|| ActivityFold::new(session, self.activity, request.segments));
                match trades {
                    Some(trades) => {
                        trades.iter().for_each(|trade| here.push(&trade));
                        fold = Some(here);
                    }
                    None => bars.extend(here.finish().into_iter().filter(|bar| request.range.contains(&bar.first_at))),
                }
                Ok(())
            };
            walked = subject.walk((first, last), self.known, "activity", &mut each, None).await?;
        }
        let price = |of: fn(&ActivityBar) -> i64| {
            floats(bars.iter().map(|bar| (bar.bar.priced > 0).then(|| money::to_f64(of(bar)))))
        };
        Ok(vec![
            dates(bars.iter().map(|bar| bar.trade_date)),
            Arc::new(Int32Array::from_iter_values(bars.iter().map(|bar| bar.number))),
            instants(bars.iter().map(|bar| Some(bar.first_at))),
            instants(bars.iter().map(|bar| Some(bar.last_at))),
            price(|bar| bar.bar.open),
            price(|bar| bar.bar.high),
            price(|bar| bar.bar.low),
            price(|bar| bar.bar.close),
            volumes(bars.iter().map(|bar| bar.bar.volume)),
            Arc::new(Int64Array::from_iter_values(bars.iter().map(|bar| bar.bar.trades))),
            floats(bars.iter().map(|bar| bar.bar.vwap())),
            booleans(bars.iter().map(|bar| bar.complete)),
            texts(bars.iter().map(|bar| walked.state(bar.trade_date, bar.trade_date))),
        ])
    }
}

impl TableFunctionImpl for ActivityOhlc {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Ask::read(&Arguments::new("activity_ohlc", &args)).map_err(external)?;
        let market = Arc::clone(&self.0);
        let fields = [
            ("trade_date", DataType::Date32),
            ("bar", DataType::Int32),
            ("first_at", instant()),
            ("last_at", instant()),
            ("open", DataType::Float64),
            ("high", DataType::Float64),
            ("low", DataType::Float64),
            ("close", DataType::Float64),
            ("volume", DataType::Float64),
            ("trades", DataType::Int64),
            ("vwap", DataType::Float64),
            ("complete", DataType::Boolean),
            ("state", DataType::Utf8),
        ];
        Ok(table(&format!("activity_ohlc: {}", ask.symbol), &fields, move || {
            let (market, ask) = (Arc::clone(&market), ask.clone());
            async move { ask.columns(&market).await }
        }))
    }
}
