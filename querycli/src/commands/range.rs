//! Which sessions a command is about: dates that were given, or the last ones that have trades.

use super::literal;
use crate::Session;
use crate::bars::calendar_of;
use crate::cli::options::dates;
use crate::db::{Db, Instrument};
use crate::error::{Error, Result};
use crate::execute;
use clap::Args;
use market::{Calendar, TradeDate};

/// The sessions, by date or counted from the newest.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct When {
    /// Trade dates: one, or FIRST..LAST with both included [default: the newest session that has trades]
    #[arg(value_name = "DATES")]
    pub dates: Option<String>,
    /// The last N sessions up to the newest that has trades
    #[arg(long, value_name = "N", conflicts_with = "dates", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub last: Option<i32>,
}

/// The sessions of commands that look at many.
#[derive(Args, Clone, Debug)]
#[group(skip)]
pub struct Period {
    /// Trade dates: FIRST..LAST with both included [default: the last 60 sessions]
    #[arg(value_name = "DATES")]
    pub dates: Option<String>,
    /// The last N sessions up to the newest that has trades
    #[arg(long, value_name = "N", conflicts_with = "dates", value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub last: Option<i32>,
}

impl Period {
    /// Looks up an instrument and its dates.
    ///
    /// # Errors
    /// Those of [`When::of`].
    pub async fn of(&self, session: &Session, symbol: &str) -> Result<Range> {
        When { dates: self.dates.clone(), last: Some(self.last.unwrap_or(60)) }.of(session, symbol).await
    }
}

/// What is meant: an instrument and the dates of its sessions.
#[derive(Clone, Debug)]
pub struct Range {
    /// The instrument's symbol; of a root, the contract that `ROOT.c.0` is.
    pub symbol: String,
    /// Its calendar.
    pub calendar: &'static Calendar,
    /// The first trade date.
    pub first: TradeDate,
    /// The last one, included.
    pub last: TradeDate,
}

fn today() -> TradeDate {
    TradeDate::new(chrono::Utc::now().date_naive())
}

impl When {
    /// Looks up the instrument and its dates.
    ///
    /// # Errors
    /// An unknown symbol, dates that are none, an instrument without trades.
    pub async fn of(&self, session: &Session, symbol: &str) -> Result<Range> {
        let dates = self.dates.as_deref().map(dates).transpose()?;
        let near = dates.map(|(first, _)| first);
        let (symbol, calendar, newest) = match session.market.db.as_ref().filter(|db| db.has_server()) {
            Some(db) => {
                db.begin().await?;
                in_database(db, symbol, near).await?
            }
            None => {
                let calendar = calendar_of(&session.market, symbol, near.unwrap_or_else(today))?;
                let newest = match near {
                    Some(_) => None,
                    None => in_files(session, symbol, calendar).await?,
                };
                (symbol.to_owned(), calendar, newest)
            }
        };
        if let Some((first, last)) = dates {
            return Ok(Range { symbol, calendar, first, last });
        }
        let Some(last) = newest else {
            return Err(Error::question(format!("{symbol} has no trades"), "`querycli describe` tells what there is"));
        };
        let first = match self.last.unwrap_or(1) {
            1 => last,
            n => calendar.next_session(last.plus(1), -n)?,
        };
        Ok(Range { symbol, calendar, first, last })
    }
}

/// The newest trade date of instruments that fulfil a condition.
fn newest_of(condition: &str) -> String {
    format!(
        "SELECT max(greatest(
            (SELECT max(b.trade_date) FROM market.session_bars AS b WHERE b.instrument_id = i.id),
            (SELECT market.trade_date(max(t.ts), i.calendar) FROM market.unsealed_trades(i.id) AS t)))::text
         FROM market.instruments AS i WHERE {condition}"
    )
}

async fn newest(db: &Db, condition: &str) -> Result<Option<TradeDate>> {
    let row = db.leader().await?.query_one(&newest_of(condition), &[]).await?;
    Ok(row.get::<_, Option<String>>(0).map(|day| TradeDate::parse(&day)).transpose()?)
}

type Found = (String, &'static Calendar, Option<TradeDate>);

async fn in_database(db: &Db, symbol: &str, near: Option<TradeDate>) -> Result<Found> {
    let is_instrument = "SELECT EXISTS (SELECT FROM market.instruments WHERE symbol = $1)";
    let known: bool = db.leader().await?.query_one(is_instrument, &[&symbol]).await?.get(0);
    // ES alone is the front contract: of the dates asked for, else of the newest trades.
    let root = !known && market::products::product(symbol).is_some();
    let newest_of_root = match (root, near) {
        (true, None) => newest(db, &format!("i.root = {}", literal(symbol))).await?,
        _ => None,
    };
    let asked = if root { format!("{symbol}.c.0") } else { symbol.to_owned() };
    let at = near.or(newest_of_root).unwrap_or_else(today);
    let instrument = Instrument::find(db, &asked, at).await?;
    let newest = match near {
        Some(_) => None,
        None => newest(db, &format!("i.id = {}", instrument.id)).await?,
    };
    Ok((instrument.symbol, instrument.calendar, newest))
}

async fn in_files(session: &Session, symbol: &str, calendar: &'static Calendar) -> Result<Option<TradeDate>> {
    let Some(table) = session.market.file_trades() else {
        return Err(Error::question(
            "there are no trades to read",
            "name a database with --db, or a file with the columns ts, price and size with --data",
        ));
    };
    let of_symbol = match table.schema().column_with_name("symbol") {
        Some(_) => format!(" WHERE symbol = {}", literal(symbol)),
        None => String::new(),
    };
    let sql = format!(
        "SELECT trade_date(max(ts), {}) FROM {}{of_symbol}",
        literal(calendar.id()),
        session.file_trades_name()
    );
    let rows = execute::rows(session, sql).await?.texts();
    let day = rows.into_iter().flatten().next().flatten();
    Ok(day.map(|day| TradeDate::parse(&day)).transpose()?)
}
