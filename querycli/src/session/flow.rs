//! `session_flow`: the volume of each bar by the aggressor's side.

use super::walk::{Subject, known_at};
use super::{dates, instant, instants, table, texts, today, volumes};
use crate::error::{Result, external};
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use market::flow::{FlowAnswer, FlowFold};
use market::ohlc::Fill;
use market::{Calendar, Day, Nanos, Segments, Timeframe, When};
use std::sync::Arc;

#[derive(Debug)]
pub struct SessionFlow(pub Arc<Market>);

#[derive(Clone, Debug)]
struct Ask {
    symbol: String,
    timeframe: Timeframe,
    when: When,
    segments: Option<Segments>,
    day: Day,
    known: Option<Nanos>,
}

impl Ask {
    fn read(args: &Arguments<'_>) -> Result<Ask> {
        Ok(Ask {
            symbol: args.required(0, "symbol")?,
            timeframe: Timeframe::parse(&args.required(1, "timeframe")?)?,
            when: args.when(2)?,
            segments: args.text(4)?.map(|text| Segments::parse(&text)).transpose()?,
            day: args.text(5)?.map_or(Ok(Day::Trade), |text| Day::parse(&text))?,
            known: known_at(args, 6)?,
        })
    }

    async fn columns(&self, market: &Market) -> Result<Vec<ArrayRef>> {
        let ask = |of: &Calendar| self.when.request(of, self.timeframe, self.segments, Fill::None, self.day);
        let reach = |of: &Calendar| Ok(ask(of)?.map(|(_, first, last)| (first, last)));
        let near = self.when.near(today);
        let subject = Subject::find_for(market, "session_flow", &self.symbol, near, reach).await?;
        let request = ask(subject.calendar)?;
        let (mut bars, mut walked) = (Vec::new(), Default::default());
        if let Some((request, first, last)) = request {
            let segments = request.segments;
            let mut answer = FlowAnswer::new(subject.calendar, request);
            let mut fold = None;
            let mut each = |session: &market::Session<'static>, trades: Option<&market::Trades>| {
                let mut here = fold.take().unwrap_or_else(|| FlowFold::new(session, self.timeframe, segments));
                match trades {
                    Some(trades) => {
                        trades.iter().for_each(|trade| here.push(&trade));
                        fold = Some(here);
                        Ok(())
                    }
                    None => answer.add(session, &here.finish()),
                }
            };
            walked = subject.walk((first, last), self.known, "flow", &mut each, None).await?;
            bars = answer.finish();
        }
        Ok(vec![
            dates(bars.iter().map(|bar| bar.label)),
            instants(bars.iter().map(|bar| Some(bar.open_at))),
            instants(bars.iter().map(|bar| Some(bar.close_at))),
            volumes(bars.iter().map(|bar| bar.sides.volume())),
            volumes(bars.iter().map(|bar| bar.sides.buy)),
            volumes(bars.iter().map(|bar| bar.sides.sell)),
            volumes(bars.iter().map(|bar| bar.sides.unknown)),
            volumes(bars.iter().map(|bar| bar.sides.delta())),
            volumes(bars.iter().map(|bar| bar.session_delta)),
            Arc::new(Int64Array::from_iter_values(bars.iter().map(|bar| bar.sides.trades))),
            texts(bars.iter().map(|bar| walked.state(bar.trade_date, bar.last_date))),
        ])
    }
}

impl TableFunctionImpl for SessionFlow {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Ask::read(&Arguments::new("session_flow", &args)).map_err(external)?;
        let market = Arc::clone(&self.0);
        let fields = [
            ("trade_date", DataType::Date32),
            ("bar_at", instant()),
            ("bar_end", instant()),
            ("volume", DataType::Float64),
            ("buy_volume", DataType::Float64),
            ("sell_volume", DataType::Float64),
            ("unknown_volume", DataType::Float64),
            ("delta", DataType::Float64),
            ("session_delta", DataType::Float64),
            ("trades", DataType::Int64),
            ("state", DataType::Utf8),
        ];
        Ok(table(&format!("session_flow: {}", ask.symbol), &fields, move || {
            let (market, ask) = (Arc::clone(&market), ask.clone());
            async move { ask.columns(&market).await }
        }))
    }
}
