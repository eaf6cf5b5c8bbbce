//! `explain_bar`: where a bar begins and ends, and which trades it is made of.

use super::ohlc::one_bar;
use super::state::State;
use super::trades::read_trades;
use crate::error::OrRaise;
use crate::fmgr::{Rows, arg, arg_is_null, arg_option, arg_text, null, text, varlena};
use crate::instrument;
use crate::spi;
use crate::{time, v1};
use market::trade::flags::{NO_HIGH_LOW, NO_LAST, NO_VOLUME, NOT_IN_RTH};
use market::{Class, Segment, Segments, Session, Timeframe, Trade, TradeDate, bucket_at, money};
use pgrx::pg_sys::{Datum, FunctionCallInfo};
use pgrx::prelude::*;

v1!(explain_bar => pg_finfo_explain_bar);

/// What the trades of a bar are counted as.
#[derive(Default)]
struct Counts {
    trades: u64,
    no_volume: u64,
    no_price: u64,
    opening: u64,
    closing: u64,
    first: Option<Trade>,
    last: Option<Trade>,
}

impl Counts {
    fn add(&mut self, trade: &Trade, segment: Segment, class: Class) {
        self.trades += 1;
        self.no_volume += u64::from(trade.flags & NO_VOLUME != 0);
        let form_t = segment == Segment::Rth && trade.flags & NOT_IN_RTH != 0;
        self.no_price += u64::from(form_t || trade.flags & NO_LAST != 0 && trade.flags & NO_HIGH_LOW != 0);
        self.opening += u64::from(class == Class::Open);
        self.closing += u64::from(class == Class::Close);
        self.first = self.first.or(Some(*trade));
        self.last = Some(*trade);
    }
}

fn show(trade: Option<Trade>) -> String {
    trade.map_or("none".to_owned(), |t| {
        let (price, size) = (money::to_f64(t.price), money::to_f64(t.size));
        format!("{} seq {} sub {}: {size} at {price}", market::time::format_instant(t.ts), t.seq, t.sub)
    })
}

/// Whether a trade of the session is in the bar `[open, close)` of the selection.
fn belongs(session: &Session<'_>, segments: Segments, bar: (i64, i64), trade: &Trade) -> Option<(Segment, Class)> {
    let (segment, class) = session.place(trade.ts, trade.flags);
    if !segments.contains(segment) {
        return None;
    }
    // an opening print is in the first regular bar and a closing print in the last, whenever they were printed; the call at
    // midday is in the last before the break
    let at = match class {
        Class::Open => session.open(Segments::RTH)?,
        Class::Close => session.close(Segments::RTH)?.saturating_sub(1),
        Class::Break => session.break_auction.0.saturating_sub(1),
        _ => trade.ts,
    };
    (bar.0 <= at && at < bar.1).then_some((segment, class))
}

/// `explain_bar(symbol text, timeframe text, at timestamptz, segments text) -> setof (item, value)`
///
/// # Safety
/// Called by PostgreSQL.
#[unsafe(no_mangle)]
#[pg_guard]
pub unsafe extern "C-unwind" fn explain_bar(fc: FunctionCallInfo) -> Datum {
    if (0..3).any(|i| arg_is_null(fc, i)) {
        crate::store::invalid("explain_bar: symbol, timeframe and at must not be NULL", "name an instant in the bar")
    }
    let at = time::nanos(arg(fc, 2).value() as i64);
    let instrument = instrument::by_symbol(&arg_text(fc, 0), TradeDate(at.div_euclid(market::time::DAY) as i32));
    let calendar = &instrument.calendar;
    let timeframe = Timeframe::parse(&arg_text(fc, 1)).or_raise();
    let segments = arg_option(fc, 3).map_or(calendar.main(), |s| Segments::parse(&text(s)).or_raise());
    let mut rows = Rows::begin(fc, 2);
    let mut say = |item: &str, value: String| {
        rows.put([Some(varlena(item.as_bytes())), Some(varlena(value.as_bytes()))]);
    };
    let instant = market::time::format_instant;
    say("instrument", instrument.symbol.to_string());
    say("calendar", format!("{} version {}, {}", calendar.id(), calendar.version(), calendar.time_zone()));
    say("segments", segments.to_string());
    let Some(bucket) = bucket_at(calendar, timeframe, at, segments).or_raise() else {
        let session = calendar.session_at(at).or_raise();
        say("bar", format!("none: {} is outside these segments of trade date {}", instant(at), session.trade_date));
        return null(fc);
    };
    let (first, last) = market::bucket::group_of(calendar, timeframe, bucket.trade_date).or_raise();
    say("trade dates", if first == last { first.to_string() } else { format!("{first} to {last}") });
    say("bar", format!("[{}, {})", instant(bucket.open), instant(bucket.close)));
    let sessions: Vec<Session<'_>> = calendar.sessions(first, last).or_raise().collect();
    for session in &sessions {
        let run = session.runs(segments).find(|run| run.0 <= bucket.open && bucket.open < run.1);
        if let (Some(run), true) = (run, timeframe.is_intraday()) {
            say("grid", format!("steps of {timeframe} from {}, last bar cut at {}", instant(run.0), instant(run.1)));
        }
    }
    let mut counts = Counts::default();
    let found = spi::connect(|c| {
        for session in &sessions {
            read_trades(c, &instrument, session.from, session.till, &mut |trades| {
                for trade in trades.iter() {
                    if let Some((segment, class)) = belongs(session, segments, (bucket.open, bucket.close), &trade) {
                        counts.add(&trade, segment, class);
                    }
                }
            });
        }
        one_bar(c, &instrument, timeframe, segments, (first, last), bucket.open)
    });
    match found {
        Some((bar, state)) => {
            let price = |p: i64| if bar.priced > 0 { money::to_f64(p).to_string() } else { "none".to_owned() };
            say("open, high, low, close", [bar.open, bar.high, bar.low, bar.close].map(price).join(", "));
            say("volume", money::volume_to_f64(bar.volume).to_string());
            say("trades that count for volume", bar.trades.to_string());
            say("trades that set prices", bar.priced.to_string());
            say("state", State::text(state));
        }
        None => say("prices", "none: no trade counts in this bar".to_owned()),
    }
    say("trades", counts.trades.to_string());
    say("trades without volume", counts.no_volume.to_string());
    say("trades that set no price", counts.no_price.to_string());
    say("opening auction prints", counts.opening.to_string());
    say("closing auction prints", counts.closing.to_string());
    say("first trade", show(counts.first));
    say("last trade", show(counts.last));
    null(fc)
}
