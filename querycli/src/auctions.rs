//! The table function `auctions`.

use crate::error::external;
use crate::known::Calendars;
use crate::scalar::instant_type;
use crate::sessions::{Arguments, dates, field, forwards, instants, table};
use arrow::array::StringArray;
use arrow::datatypes::DataType;
use datafusion::catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::Result;
use datafusion::execution::context::SessionContext;
use std::sync::Arc;

struct Auctions(Arc<Calendars>);

impl std::fmt::Debug for Auctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("auctions")
    }
}

/// Registers the table function.
pub fn register(context: &SessionContext, calendars: &Arc<Calendars>) {
    context.register_udtf("auctions", Arc::new(Auctions(Arc::clone(calendars))));
}

impl TableFunctionImpl for Auctions {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("auctions", &args);
        let calendar = self.0.find(&args.required(0, "calendar")?).map_err(external)?;
        let (first, last) = forwards(args.date(1, "first date")?, args.date(2, "last date")?)?;
        let (mut days, mut names, mut opens, mut closes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for session in calendar.sessions(first, last).map_err(external)? {
            for auction in session.auctions() {
                days.push(session.trade_date);
                names.push(auction.kind.name());
                opens.push(auction.opens_at);
                closes.push(auction.closes_at);
            }
        }
        let fields = vec![
            field("trade_date", DataType::Date32),
            field("auction", DataType::Utf8),
            field("opens_at", instant_type()),
            field("closes_at", instant_type()),
        ];
        let columns = vec![dates(days), Arc::new(StringArray::from(names)) as _, instants(opens), instants(closes)];
        table(fields, columns)
    }
}
