//! Sessions of an instrument one after the other, with their trades as readers see them.

use crate::bars::dropped::{self, Made};
use crate::bars::known::{require_server, sealed, states_as_of};
use crate::bars::{State, calendar_of, rows_of_session, states};
use crate::db::{Blocks, Db, Instrument, Minutes, Narrow, Overlay, Part, date, live_rows, rows_as_of};
use crate::error::{Error, Result};
use crate::files;
use crate::sessions::Arguments;
use crate::tables::Market;
use market::block::{self, Header};
use market::by_session::BySession;
use market::{Calendar, MinuteBar, Nanos, Op, Session, Symbol, TradeDate, Trades, decode_minutes};
use std::collections::HashMap;
use std::sync::Arc;

/// What a question is about: an instrument of the database, or of a file.
pub struct Subject {
    /// Its symbol.
    pub symbol: String,
    /// Its calendar.
    pub calendar: &'static Calendar,
    source: Source,
}

enum Source {
    Db(Arc<Db>, Instrument),
    File(Trades),
}

/// What is done with sessions: see [`market::by_session::Each`].
pub type Each<'e> = &'e mut (dyn FnMut(&Session<'static>, Option<&Trades>) -> market::Result<()> + Send);

/// What is known of the sessions of a walk.
#[derive(Default)]
pub struct Walked(HashMap<TradeDate, State>);

impl Walked {
    /// The state of what is made of these trade dates, as the output says it; sessions without trades do not count.
    pub fn state(&self, first: TradeDate, last: TradeDate) -> String {
        let days = (first.0..=last.0).filter_map(|day| self.0.get(&TradeDate(day)).copied());
        days.reduce(State::worst).unwrap_or(State::Provisional).text()
    }

    /// Adds what is known of other sessions.
    pub fn and(mut self, other: Walked) -> Walked {
        self.0.extend(other.0);
        self
    }
}

impl Subject {
    /// By any name the extension understands; `ESZ5` is of the year nearest to `near`.
    ///
    /// # Errors
    /// An unknown symbol; neither a database nor a file with trades.
    pub async fn find(market: &Market, function: &str, symbol: &str, near: TradeDate) -> Result<Subject> {
        if let Some(db) = &market.db {
            let instrument = Instrument::find(db, symbol, near).await?;
            let (symbol, calendar) = (instrument.symbol.clone(), instrument.calendar);
            return Ok(Subject { symbol, calendar, source: Source::Db(Arc::clone(db), instrument) });
        }
        let Some(table) = market.file_trades() else {
            return Err(Error::question(
                format!("{function}: there are no trades"),
                "name a database with --db, or a file with the columns ts, price and size",
            ));
        };
        let calendar = calendar_of(market, symbol, near)?;
        let trades = files::trades(&market.context, table, symbol).await?;
        Ok(Subject { symbol: symbol.to_owned(), calendar, source: Source::File(trades) })
    }

    /// As [`Subject::find`], with the hours of the trade dates that a question of its calendar reaches; see [`Instrument::on`].
    ///
    /// # Errors
    /// As [`Subject::find`].
    pub async fn find_for(
        market: &Market,
        function: &str,
        symbol: &str,
        near: TradeDate,
        reach: impl Fn(&Calendar) -> Result<Option<(TradeDate, TradeDate)>>,
    ) -> Result<Subject> {
        let subject = Subject::find(market, function, symbol, near).await?;
        match (subject.source, reach(subject.calendar)?) {
            (Source::Db(db, instrument), Some((first, last))) => {
                let instrument = instrument.on(&db, first, last)?;
                Ok(Subject { calendar: instrument.calendar, source: Source::Db(db, instrument), ..subject })
            }
            (source, _) => Ok(Subject { source, ..subject }),
        }
    }

    /// The tick size on a day, where it is known.
    ///
    /// # Errors
    /// What the server says.
    pub async fn tick_size(&self, day: TradeDate) -> Result<Option<f64>> {
        let Source::Db(db, instrument) = &self.source else {
            let root = Symbol::parse(&self.symbol, day).ok().and_then(|symbol| symbol.root().map(str::to_owned));
            let product = market::product(root.as_deref().unwrap_or(&self.symbol));
            return Ok(product.map(|product| product.terms(day).tick_size));
        };
        let sql = format!(
            "SELECT tick_size::float8 FROM market.instrument_terms
             WHERE instrument_id = {} AND from_date <= {} AND tick_size IS NOT NULL ORDER BY from_date DESC LIMIT 1",
            instrument.id,
            date(day)
        );
        if !db.has_server() {
            return db.archive.as_ref().map_or(Ok(None), |archive| archive.tick_size(&instrument.symbol, day));
        }
        let row = db.leader().await?.query_opt(&sql, &[]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// The database and the instrument's number there.
    pub fn stored(&self) -> Option<(&Arc<Db>, i32)> {
        match &self.source {
            Source::Db(db, instrument) => Some((db, instrument.id)),
            Source::File(_) => None,
        }
    }

    /// Hands the trades of the sessions `first..=last`, now or as they were known at an instant, to `each`.
    ///
    /// # Errors
    /// Where retention dropped them, unless `minutes` takes the minute bars of such sessions; what the server says.
    pub async fn walk(
        &self,
        (first, last): (TradeDate, TradeDate),
        known: Option<Nanos>,
        what: &str,
        each: Each<'_>,
        minutes: Option<&mut Vec<MinuteBar>>,
    ) -> Result<Walked> {
        let sessions: Vec<Session<'static>> = self.calendar.sessions(first, last)?.collect();
        let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(Walked::default()) };
        let (from, till) = (head.from, tail.till);
        if let Some(until) = known {
            return self.walk_known(sessions, until, what, each, minutes).await;
        }
        match &self.source {
            Source::File(trades) => {
                let lies = |s: &&Session<'_>| trades.lower_bound(s.from) < trades.lower_bound(s.till);
                // A file does not change.
                let states = sessions.iter().filter(lies).map(|s| (s.trade_date, State::Final)).collect();
                let mut sessions = BySession::new(sessions);
                sessions
                    .push(&trades.slice(trades.lower_bound(from)..trades.lower_bound(till)), &mut |s, t| each(s, t))?;
                sessions.finish(&mut |s, t| each(s, t))?;
                Ok(Walked(states))
            }
            Source::Db(db, instrument) => {
                let (mut states, dropped) = states(db, instrument.id, first, last).await?;
                match (dropped.missing.first(), minutes) {
                    (None, _) => {}
                    (Some(_), Some(minutes)) if dropped.minutes.is_empty() => {
                        *minutes = stored_minutes(db, instrument.id, first, last).await?;
                        return Ok(Walked(states));
                    }
                    (Some(oldest), _) => {
                        return Err(dropped::trades(Made::Other(what), &self.symbol, dropped.missing.len(), *oldest));
                    }
                }
                let mut rows = live_rows(db, instrument.id, from, till).await?;
                let gone = sessions.iter().filter(|s| dropped.trades.contains(&s.trade_date));
                for session in gone {
                    // what came after retention dropped the session's trades changes nothing of it
                    rows.forget(session.from, session.till);
                }
                let rows = Arc::new(rows);
                let lies = |s: &&Session<'_>| rows.trades.lower_bound(s.from) < rows.trades.lower_bound(s.till);
                states.extend(sessions.iter().filter(lies).map(|s| (s.trade_date, State::Provisional)));
                let mut sessions = BySession::new(sessions);
                let mut overlay = Overlay::new(Arc::clone(&rows), 0..rows.len());
                let mut blocks = Blocks::open(db, instrument.id, first, last, Narrow::default()).await?;
                let mut trades = Trades::new();
                while let Some((_, part)) = blocks.next().await? {
                    let bytes = match part {
                        Part::Block(bytes) => bytes,
                        Part::Pages(mut pages) => {
                            while let Some(page) = pages.next_page()? {
                                sessions.push(&page, &mut |s, t| each(s, t))?;
                            }
                            continue;
                        }
                    };
                    let header = Header::parse(&bytes)?;
                    for (at, page) in header.pages.iter().enumerate() {
                        if overlay.hits(page.last) {
                            sessions.push(overlay.merge(&bytes, &header, at)?, &mut |s, t| each(s, t))?;
                        } else {
                            trades.clear();
                            block::decode_page(&bytes, &header, at, &mut trades)?;
                            sessions.push(&trades, &mut |s, t| each(s, t))?;
                        }
                    }
                }
                sessions.push(overlay.rest(), &mut |s, t| each(s, t))?;
                sessions.finish(&mut |s, t| each(s, t))?;
                Ok(Walked(states))
            }
        }
    }
}

impl Subject {
    /// As `walk`, as it was known at an instant.
    async fn walk_known(
        &self,
        sessions: Vec<Session<'static>>,
        until: Nanos,
        what: &str,
        each: Each<'_>,
        minutes: Option<&mut Vec<MinuteBar>>,
    ) -> Result<Walked> {
        let (Some(head), Some(tail)) = (sessions.first(), sessions.last()) else { return Ok(Walked::default()) };
        let (from, till, first, last) = (head.from, tail.till, head.trade_date, tail.trade_date);
        let Source::Db(db, instrument) = &self.source else {
            return Err(Error::question(
                format!("{what}: a file does not tell when its trades became known"),
                "leave out known_at, or load the file into a database with ingest",
            ));
        };
        require_server(db, "known_at")?;
        let as_of = rows_as_of(db, instrument.id, from, till, until).await?;
        let sealed = sealed(db, instrument.id, (first, last), until).await?;
        let states = states_as_of(db, instrument, &sessions, &sealed, &as_of, until).await?;
        let mut rows = as_of.rows;
        let (mut lost, mut same) = (Vec::new(), true);
        for session in &sessions {
            let Some(sealed) = sealed.get(&session.trade_date).filter(|sealed| sealed.dropped) else { continue };
            // what came after retention dropped the session's trades changes nothing of it; a correction would
            let corrected = rows_of_session(&rows, session).any(|i| rows.ops[i] != Op::Trade);
            rows.forget(session.from, session.till);
            if sealed.known.0 <= until {
                same &= !corrected && sealed.known.1 <= until && !sealed.bare;
                lost.push(session.trade_date);
            }
        }
        match (minutes, lost.first()) {
            (_, None) => {}
            (Some(minutes), Some(_)) if same => {
                *minutes = stored_minutes(db, instrument.id, first, last).await?;
                return Ok(Walked(states));
            }
            (_, Some(oldest)) => {
                return Err(dropped::trades_known(Made::Other(what), &self.symbol, lost.len(), *oldest));
            }
        }
        let rows = Arc::new(rows);
        let mut sessions = BySession::new(sessions);
        let mut overlay = Overlay::new(Arc::clone(&rows), 0..rows.len()).known(Some(until));
        let mut blocks = Blocks::open(db, instrument.id, first, last, Narrow::default()).await?;
        while let Some((_, part)) = blocks.next().await? {
            // what retention dropped is refused before; the archive does not keep what was known when
            let Part::Block(bytes) = part else { continue };
            let header = Header::parse(&bytes)?;
            for at in 0..header.pages.len() {
                sessions.push(overlay.merge(&bytes, &header, at)?, &mut |s, t| each(s, t))?;
            }
        }
        sessions.push(overlay.rest(), &mut |s, t| each(s, t))?;
        sessions.finish(&mut |s, t| each(s, t))?;
        Ok(Walked(states))
    }
}

/// The argument `known_at`, whose microsecond is in it to its end; `None` for now.
///
/// # Errors
/// If it is no instant.
pub fn known_at(args: &Arguments<'_>, at: usize) -> Result<Option<Nanos>> {
    Ok(args.instant(at)?.map(|ts| ts.div_euclid(1000).saturating_mul(1000).saturating_add(999)))
}

/// The minute bars of sealed sessions, which outlive their trades.
async fn stored_minutes(db: &Arc<Db>, instrument: i32, first: TradeDate, last: TradeDate) -> Result<Vec<MinuteBar>> {
    let mut stream = Minutes::open(db, instrument, first, last).await?;
    let mut minutes = Vec::new();
    while let Some((_, bytes)) = stream.next().await? {
        decode_minutes(&bytes, &mut minutes)?;
    }
    Ok(minutes)
}
