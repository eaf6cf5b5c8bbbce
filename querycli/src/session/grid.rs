//! `session_grid`: every bar that sessions have room for, whether anything traded or not.

use super::{dates, instant, instants, table, today};
use crate::error::{Result, external};
use crate::sessions::Arguments;
use crate::tables::Market;
use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use market::ohlc::{Answer, Fill};
use market::{Calendar, Day, Segments, Timeframe, When};
use std::sync::Arc;

#[derive(Debug)]
pub struct SessionGrid(pub Arc<Market>);

#[derive(Clone, Debug)]
struct Ask {
    timeframe: Timeframe,
    calendar: &'static Calendar,
    when: When,
    segments: Option<Segments>,
}

impl Ask {
    fn read(market: &Market, args: &Arguments<'_>) -> Result<Ask> {
        Ok(Ask {
            timeframe: Timeframe::parse(&args.required(0, "timeframe")?)?,
            calendar: market.calendars.find(&args.required(1, "calendar")?)?,
            when: args.when(2)?,
            segments: args.text(4)?.map(|text| Segments::parse(&text)).transpose()?,
        })
    }

    fn columns(&self) -> Result<Vec<ArrayRef>> {
        let mut bars = Vec::new();
        let asked = self.when.request(self.calendar, self.timeframe, self.segments, Fill::Null, Day::Trade)?;
        if let Some((request, first, last)) = asked {
            // Bars without trades, as `fill => 'null'` gives them.
            let mut answer = Answer::new(self.calendar, request);
            for session in self.calendar.sessions(first, last)? {
                answer.add(&session, &[])?;
            }
            bars = answer.finish();
        }
        Ok(vec![
            dates(bars.iter().map(|bar| bar.label)),
            instants(bars.iter().map(|bar| Some(bar.open_at))),
            instants(bars.iter().map(|bar| Some(bar.close_at))),
        ])
    }
}

impl TableFunctionImpl for SessionGrid {
    fn call_with_args(&self, args: TableFunctionArgs) -> datafusion::common::Result<Arc<dyn TableProvider>> {
        let ask = Ask::read(&self.0, &Arguments::new("session_grid", &args)).map_err(external)?;
        let fields = [("trade_date", DataType::Date32), ("bar_at", instant()), ("bar_end", instant())];
        let label = format!("session_grid: {} of {} near {}", ask.timeframe, ask.calendar.id(), ask.when.near(today));
        Ok(table(&label, &fields, move || {
            let columns = ask.columns();
            async move { columns }
        }))
    }
}
