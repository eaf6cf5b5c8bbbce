//! `querycli verify`: are the stored bars still those of the stored trades?

use super::range::When;
use super::{date, literal};
use crate::cli::options::Options;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::execute;
use crate::execute::within;
use crate::output::Format;
use crate::progress::Progress;
use arrow::array::{Date32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use clap::Args;
use market::TradeDate;
use std::sync::Arc;

/// Makes the bars and digests of sealed sessions again from their trades and prints every difference
#[derive(Args, Clone, Debug)]
#[group(skip)]
#[command(after_help = "\
Examples:
  querycli verify SPY                                   the newest session that has trades
  querycli verify SPY --last 30
  querycli verify ESZ25 2025-11-24..2025-11-28 --format csv

The exit code is 1 if there are differences.")]
pub struct Arguments {
    /// The instrument: SPY, ESZ25, ES (its front contract)
    pub symbol: String,
    #[command(flatten)]
    pub when: When,
}

#[derive(Default)]
struct Differences {
    days: Vec<i32>,
    what: Vec<Option<String>>,
    expected: Vec<Option<String>>,
    found: Vec<Option<String>>,
}

/// Runs it.
///
/// # Errors
/// No database, an unknown symbol, dates without sealed sessions.
pub async fn run(arguments: &Arguments, options: &Options) -> Result<u8> {
    let session = execute::open(options.sources()).await?;
    let Some(db) = &session.market.db else {
        return Err(Error::question("verify asks a database", "name one with --db or BELLWETHER_DB"));
    };
    let range = arguments.when.of(&session, &arguments.symbol).await?;
    let days = sealed(db, &range.symbol, range.first, range.last).await?;
    let (Some(first), Some(last)) = (days.first(), days.last()) else {
        let which = format!("{} has no sealed session from {} to {}", range.symbol, range.first, range.last);
        return Err(Error::question(which, "`querycli describe` tells what is stored"));
    };
    let mut differences = Differences::default();
    let progress = Progress::steps(days.len() as u64, "sessions");
    within(options.limits(), async {
        // A session a call, so that the bar moves and Ctrl-C is heard.
        for day in &days {
            verify(db, &range.symbol, *day, &mut differences).await?;
            progress.advance(1);
        }
        Ok(())
    })
    .await?;
    drop(progress);
    let count = differences.days.len();
    let format = options.format();
    let mut target = options.target()?;
    if count > 0 || format != Format::Table {
        let batch = batch(differences)?;
        let mut sink = format.sink(&batch.schema(), target.out())?;
        sink.write(&batch)?;
        sink.finish(false)?;
    }
    let sessions = if days.len() == 1 { "session" } else { "sessions" };
    let found = match count {
        0 => "no differences".to_owned(),
        1 => "1 difference".to_owned(),
        n => format!("{n} differences"),
    };
    let summary = format!("{}: {} sealed {sessions} from {first} to {last}, {found}", range.symbol, days.len());
    match format {
        Format::Table => writeln!(target.out(), "{summary}").map_err(crate::output::failed)?,
        _ => eprintln!("{summary}"),
    }
    target.done()?;
    Ok(u8::from(count > 0))
}

/// The trade dates that have sealed trades or bars.
async fn sealed(db: &Arc<Db>, symbol: &str, first: TradeDate, last: TradeDate) -> Result<Vec<TradeDate>> {
    let sql = format!(
        "SELECT DISTINCT b.trade_date FROM market.session_bars AS b JOIN market.instruments AS i ON i.id = b.instrument_id
         WHERE i.symbol = {} AND b.trade_date BETWEEN {} AND {} ORDER BY b.trade_date",
        literal(symbol),
        date(first),
        date(last)
    );
    let mut rows = db.copy(&sql).await?;
    let mut days = Vec::new();
    while let Some(fields) = rows.next().await? {
        days.push(TradeDate(fields.some(fields.days(0))?));
    }
    Ok(days)
}

async fn verify(db: &Arc<Db>, symbol: &str, day: TradeDate, differences: &mut Differences) -> Result<()> {
    let sql = format!(
        "SELECT trade_date, what, expected, found FROM market.verify_bars({}, {}, {})",
        literal(symbol),
        date(day),
        date(day)
    );
    let mut rows = db.copy(&sql).await?;
    while let Some(fields) = rows.next().await? {
        let text = |at| -> Result<Option<String>> { Ok(fields.text(at)?.map(str::to_owned)) };
        differences.days.push(fields.days(0)?.unwrap_or(day.0));
        differences.what.push(text(1)?);
        differences.expected.push(text(2)?);
        differences.found.push(text(3)?);
    }
    Ok(())
}

fn batch(differences: Differences) -> Result<RecordBatch> {
    let field = |name: &str, kind| Field::new(name, kind, true);
    let schema = Schema::new(vec![
        field("trade_date", DataType::Date32),
        field("what", DataType::Utf8),
        field("expected", DataType::Utf8),
        field("found", DataType::Utf8),
    ]);
    RecordBatch::try_new(
        Arc::new(schema),
        vec![
            Arc::new(Date32Array::from(differences.days)),
            Arc::new(StringArray::from(differences.what)),
            Arc::new(StringArray::from(differences.expected)),
            Arc::new(StringArray::from(differences.found)),
        ],
    )
    .map_err(|error| Error::world(error.to_string(), ""))
}
