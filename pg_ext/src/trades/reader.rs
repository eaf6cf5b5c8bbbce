//! Reads the trades a scan wants, a part of a session at a time: sealed blocks with live rows over them.

use super::quals::Wanted;
use crate::error::OrRaise;
use crate::fmgr::{Bytes, text};
use crate::query::live_rows;
use crate::spi::{self, Arg, Conn, Mode};
use crate::store::{Span, live_instruments};
use crate::{plans, time};
use market::block::{Core, Header, decode_keyed, decode_page};
use market::{Calendar, LiveRows, Nanos, Trades, overlay};
use pgrx::pg_sys::check_for_interrupts;
use std::collections::HashMap;

plans!(ALL, BY_SYMBOL, BY_ID, PARTS, PAYLOAD);

/// An instrument to read.
pub struct Source {
    /// Its id.
    pub id: i32,
    /// Its symbol.
    pub symbol: String,
    /// Its calendar.
    pub calendar: Calendar,
    /// It may have live rows.
    live: bool,
}

/// From so many instruments on, those without live rows are found out first: each look costs a pass over all of them.
const ASK_FOR_LIVE_FROM: usize = 4;

/// A part of a sealed session: where it is.
struct Part {
    pg_day: i32,
    number: i32,
}

/// The instrument being read.
struct Current {
    source: usize,
    /// Instants, both included.
    from: Nanos,
    till: Nanos,
    parts: std::vec::IntoIter<Part>,
    live: LiveRows,
    live_at: usize,
    live_done: bool,
}

/// Yields trades in batches, instrument by instrument, in order of identity within each.
pub struct Reader {
    wanted: Wanted,
    /// What is read, in this order.
    pub sources: Vec<Source>,
    next: usize,
    current: Option<Current>,
    /// How many blocks were decoded.
    pub blocks: u64,
}

impl Reader {
    /// Begins: finds the instruments that the caller may see.
    pub fn new(wanted: Wanted) -> Reader {
        let mut sources = Vec::new();
        if !wanted.is_nothing() {
            spi::connect(|c| find(c, &wanted, &mut sources));
        }
        Reader { wanted, sources, next: 0, current: None, blocks: 0 }
    }

    /// The next batch into `out`, which is emptied first; the index of its instrument, or `None` at the end.
    pub fn fill(&mut self, out: &mut Trades) -> Option<usize> {
        out.clear();
        loop {
            if self.current.is_none() {
                let source = self.next;
                if source >= self.sources.len() {
                    return None;
                }
                self.next += 1;
                self.current = Some(open(&self.wanted, &self.sources, source));
            }
            let current = self.current.as_mut()?;
            let (id, source) = (self.sources[current.source].id, current.source);
            match current.parts.next() {
                Some(part) => {
                    self.blocks += 1;
                    read_part(id, &part, current, out);
                }
                None if !current.live_done => {
                    current.live.visible(current.live_at..current.live.len(), out);
                    current.live_done = true;
                }
                None => {
                    self.current = None;
                    continue;
                }
            }
            if !out.is_empty() {
                return Some(source);
            }
        }
    }
}

/// A sorted page of trades of one instrument, as far as bars of any trades need it.
#[derive(Clone, Copy)]
pub struct Page<'p> {
    /// Times, prices, sizes; no flags.
    pub core: &'p Core,
    /// Sequences.
    pub seq: &'p [i64],
    /// The first trade that is wanted.
    pub from: usize,
    /// Trades from this instant on are not wanted.
    pub end: Nanos,
}

impl Reader {
    /// The index of the next instrument, for `pages`.
    pub fn next_source(&mut self) -> Option<usize> {
        let source = self.next;
        self.next += 1;
        (source < self.sources.len()).then_some(source)
    }

    /// Calls `each` with the pages of an instrument in order, live rows merged.
    pub fn pages(&mut self, source: usize, each: &mut dyn FnMut(&Page<'_>)) {
        let Current { from, till, parts, live, .. } = open(&self.wanted, &self.sources, source);
        let id = self.sources[source].id;
        let (mut core, mut seq) = (Core::new(), Vec::new());
        let (mut page, mut merged) = (Trades::new(), Trades::new());
        let end = till.saturating_add(1);
        let mut live_at = 0;
        let mut give = |core: &Core, seq: &[i64]| {
            let first = core.ts.partition_point(|&ts| ts < from);
            each(&Page { core, seq, from: first, end });
        };
        let mut blocks = 0;
        for part in parts {
            blocks += 1;
            payload_of(id, &part, &mut |bytes| {
                let header = Header::parse(bytes).or_raise();
                for index in header.pages_between(from, end) {
                    check_for_interrupts!();
                    let last = live.after(header.pages[index].last);
                    if last > live_at {
                        page.clear();
                        merged.clear();
                        decode_page(bytes, &header, index, &mut page).or_raise();
                        overlay(&page, &live, live_at..last, &mut merged);
                        live_at = last;
                        set_keyed(&mut core, &mut seq, &merged);
                    } else {
                        decode_keyed(bytes, &header, index, &mut core, &mut seq).or_raise();
                    }
                    give(&core, &seq);
                }
            });
        }
        merged.clear();
        live.visible(live_at..live.len(), &mut merged);
        set_keyed(&mut core, &mut seq, &merged);
        give(&core, &seq);
        self.blocks += blocks;
    }
}

fn set_keyed(core: &mut Core, seq: &mut Vec<i64>, trades: &Trades) {
    core.set(trades, 0..trades.len());
    core.flags.clear();
    seq.clear();
    seq.extend_from_slice(&trades.seq);
}

fn find(c: &Conn, wanted: &Wanted, sources: &mut Vec<Source>) {
    let mut seen: HashMap<String, Calendar> = HashMap::new();
    let mut add = |v: &[pgrx::pg_sys::Datum], _: &[bool]| {
        // SAFETY: columns are int4, text, text, all NOT NULL.
        let (symbol, calendar) = unsafe { (text(v[1]), text(v[2])) };
        sources.push(Source {
            id: v[0].value() as i32,
            symbol,
            calendar: seen.entry(calendar).or_insert_with_key(|name| crate::calendar::seen(name)).clone(),
            live: true,
        });
    };
    match (&wanted.ids, &wanted.symbols) {
        (Some(ids), _) => {
            for id in ids.iter().filter_map(|id| i32::try_from(*id).ok()) {
                let sql = c"SELECT id, symbol, calendar FROM market.instruments WHERE id = $1";
                c.run(Mode::SameSnapshot, &BY_ID, sql, &[Arg::int4(id)], &mut add);
            }
        }
        (None, Some(symbols)) => {
            for symbol in symbols {
                let sql = c"SELECT id, symbol, calendar FROM market.instruments WHERE symbol = $1";
                c.run(Mode::SameSnapshot, &BY_SYMBOL, sql, &[Arg::text(symbol)], &mut add);
            }
        }
        (None, None) => {
            let sql = c"SELECT id, symbol, calendar FROM market.instruments ORDER BY id";
            c.run(Mode::SameSnapshot, &ALL, sql, &[], &mut add);
        }
    }
    if let Some(symbols) = &wanted.symbols {
        sources.retain(|source| symbols.contains(&source.symbol));
    }
    if sources.len() >= ASK_FOR_LIVE_FROM {
        let ids = live_instruments(c, Span { first: wanted.micros.0, last: wanted.micros.1 });
        sources.iter_mut().for_each(|source| source.live = ids.contains(&source.id));
    }
}

/// Lists the parts of an instrument and reads its live rows.
fn open(wanted: &Wanted, sources: &[Source], source: usize) -> Current {
    let Source { id, calendar, live: has_live, .. } = &sources[source];
    let window = window_of_dates(calendar, wanted.dates);
    let (low, high) = (time::nanos_of_micros(wanted.micros.0), time::nanos_of_micros(wanted.micros.1));
    let from = low.unwrap_or(Nanos::MIN).max(window.0);
    let till = high.map_or(Nanos::MAX, |ts| ts.saturating_add(999)).min(window.1);
    // The storage key of an instant grows with it, so bounds on instants are bounds on trade dates.
    let date_of = |ts: Nanos| time::pg_days(calendar.filing(ts).trade_date);
    let first = low.map_or(wanted.dates.0, |ts| wanted.dates.0.max(date_of(ts)));
    let last = high.map_or(wanted.dates.1, |ts| wanted.dates.1.min(date_of(ts)));
    let mut parts = Vec::new();
    let mut live = LiveRows::default();
    if from <= till {
        spi::connect(|c| {
            c.run(
                Mode::SameSnapshot,
                &PARTS,
                c"SELECT trade_date, part FROM market.trade_blocks
                  WHERE instrument_id = $1 AND trade_date BETWEEN $2 AND $3 AND last_ts >= $4 AND first_ts <= $5
                  ORDER BY first_ts, first_ns, first_seq, first_sub",
                &[
                    Arg::int4(*id),
                    Arg::date(first),
                    Arg::date(last),
                    Arg::timestamptz(wanted.micros.0),
                    Arg::timestamptz(wanted.micros.1),
                ],
                &mut |v, _| parts.push(Part { pg_day: v[0].value() as i32, number: v[1].value() as i32 }),
            );
            if *has_live {
                live = live_rows(c, *id, from, till.saturating_add(1));
            }
        });
    }
    Current { source, from, till, parts: parts.into_iter(), live, live_at: 0, live_done: false }
}

/// Calls `each` with a part's block.
fn payload_of(id: i32, part: &Part, each: &mut dyn FnMut(&[u8])) {
    spi::connect(|c| {
        c.run(
            Mode::SameSnapshot,
            &PAYLOAD,
            c"SELECT payload FROM market.trade_blocks WHERE instrument_id = $1 AND trade_date = $2 AND part = $3",
            &[Arg::int4(id), Arg::date(part.pg_day), Arg::int4(part.number)],
            &mut |v, _| {
                // SAFETY: payload is a bytea, NOT NULL, alive until the closure returns.
                let bytes = unsafe { Bytes::whole(v[0]) };
                each(bytes.get());
            },
        );
    });
}

/// Decodes the wanted pages of a part and puts the live rows up to its end over them.
fn read_part(id: i32, part: &Part, current: &mut Current, out: &mut Trades) {
    let mut page = Trades::new();
    let mut last = None;
    payload_of(id, part, &mut |bytes| {
        let header = Header::parse(bytes).or_raise();
        for index in header.pages_between(current.from, current.till.saturating_add(1)) {
            check_for_interrupts!();
            decode_page(bytes, &header, index, &mut page).or_raise();
        }
        last = Some(header.last);
    });
    let Some(last) = last else { return };
    let end = current.live.after(last);
    overlay(&page, &current.live, current.live_at..end, out);
    current.live_at = end;
}

/// The instants that trades of these trade dates (both included) can have. Beyond the calendar's known range, all.
fn window_of_dates(calendar: &Calendar, dates: (i32, i32)) -> (Nanos, Nanos) {
    let (known_first, known_last) = calendar.known();
    let first = time::trade_date(dates.0);
    let from = match first > known_first && first <= known_last {
        true => calendar.sessions(first, known_last).ok().and_then(|mut days| days.next()).map(|day| day.from),
        false => None,
    };
    let last = time::trade_date(dates.1);
    let till = match last >= known_first && last < known_last {
        true => calendar.next_session(last.plus(1), -1).and_then(|day| calendar.session(day)).ok().flatten(),
        false => None,
    };
    (from.unwrap_or(Nanos::MIN), till.map_or(Nanos::MAX, |day| day.till - 1))
}
