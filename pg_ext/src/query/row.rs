//! A bar as a row of `session_ohlc`.

use super::state::State;
use crate::fmgr::{Rows, float8, int8};
use crate::instrument::Instrument;
use crate::time;
use market::ohlc::SessionBar;
use market::{TradeDate, money};
use pgrx::pg_sys::Datum;
use std::collections::HashMap;

/// The states of sessions.
pub type States = HashMap<TradeDate, State>;

/// The columns of a bar; with many symbols, the symbol stands before them.
pub const COLUMNS: usize = 11;
/// Where `vwap` stands among them, from zero.
pub const VWAP: usize = 9;

/// The columns of a bar, its state as text; prices are NULL where no trade has one. Dividing for the `vwap` that nobody asked
/// for would cost a tenth of a bar.
#[inline]
pub fn columns(b: &SessionBar, state: Datum, with_vwap: bool) -> [Option<Datum>; COLUMNS] {
    let price = |p: i64| (b.bar.priced > 0).then(|| float8(money::to_f64(p)));
    [
        Some(Datum::from(time::pg_days(b.label))),
        Some(int8(time::micros(b.open_at))),
        Some(int8(time::micros(b.close_at))),
        price(b.bar.open),
        price(b.bar.high),
        price(b.bar.low),
        price(b.bar.close),
        Some(float8(money::volume_to_f64(b.bar.volume))),
        Some(int8(b.bar.trades)),
        if with_vwap { b.bar.vwap().map(float8) } else { None },
        Some(state),
    ]
}

/// Finds the states of bars that come in order.
#[derive(Default)]
pub struct StateOf {
    days: Option<(TradeDate, TradeDate, State)>,
}

impl StateOf {
    /// The worst state of a bar's sessions.
    #[inline]
    pub fn bar(&mut self, states: &States, b: &SessionBar) -> State {
        let state = match self.days {
            Some((first, last, state)) if (first, last) == (b.trade_date, b.last_date) => state,
            _ => {
                // sessions without trades have no state and do not count
                let days = (b.trade_date.0..=b.last_date.0).filter_map(|d| states.get(&TradeDate(d)).copied());
                days.reduce(State::worst).unwrap_or(State::Provisional)
            }
        };
        self.days = Some((b.trade_date, b.last_date, state));
        state
    }
}

/// Writes the bars of one instrument as rows.
pub struct Writer<'r> {
    rows: &'r mut Rows,
    symbol: Option<Datum>,
    /// The state written last, as text.
    last: Option<(State, Datum)>,
    state_of: StateOf,
}

impl<'r> Writer<'r> {
    pub fn new(rows: &'r mut Rows, instrument: &Instrument, with_symbol: bool) -> Writer<'r> {
        let symbol = with_symbol.then(|| rows.text(&instrument.symbol));
        Writer { rows, symbol, last: None, state_of: StateOf::default() }
    }

    pub fn put(&mut self, states: &States, b: &SessionBar) {
        let state = self.state_of.bar(states, b);
        let state = match self.last {
            Some((s, datum)) if s == state => datum,
            _ => {
                let datum = self.rows.text(&state.text());
                self.last = Some((state, datum));
                datum
            }
        };
        let columns = columns(b, state, true);
        match self.symbol {
            Some(symbol) => {
                let mut all = [Some(symbol); COLUMNS + 1];
                all[1..].copy_from_slice(&columns);
                self.rows.put(all);
            }
            None => self.rows.put(columns),
        }
    }
}
