//! `halted_seconds`, a function of rows that asks the database: which instrument, and when it stood still.

use crate::bars::calendar_of;
use crate::db::Instrument;
use crate::error::{Error, Result, external};
use crate::execute;
use crate::known::{HALT, halt};
use crate::tables::Market;
use arrow::array::{Array, ArrayRef, AsArray, Float64Builder};
use arrow::datatypes::{DataType, TimeUnit, TimestampNanosecondType};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use market::calendar::Halt;
use market::time::DAY;
use market::{Calendar, Nanos, Segments, TradeDate};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Debug)]
struct HaltedSeconds {
    market: Arc<Market>,
    signature: Signature,
}

impl PartialEq for HaltedSeconds {
    fn eq(&self, other: &HaltedSeconds) -> bool {
        Arc::ptr_eq(&self.market, &other.market)
    }
}

impl Eq for HaltedSeconds {}

impl std::hash::Hash for HaltedSeconds {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(Arc::as_ptr(&self.market), state);
    }
}

/// Registers the function.
pub fn register(context: &SessionContext, market: &Arc<Market>) {
    // not folded while a statement is planned: a symbol that is not there ends the transaction, and would be asked for again
    let signature = Signature::user_defined(Volatility::Volatile);
    let function = HaltedSeconds { market: Arc::clone(market), signature };
    context.register_udf(ScalarUDF::new_from_impl(function));
}

impl ScalarUDFImpl for HaltedSeconds {
    fn name(&self) -> &str {
        "halted_seconds"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> datafusion::common::Result<Vec<DataType>> {
        if !(3..=4).contains(&given.len()) {
            return plan_err!(
                "halted_seconds takes a symbol, two instants and perhaps segments, as in halted_seconds('SPY', bar_at, bar_end)"
            );
        }
        let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        for (at, given) in given.iter().enumerate() {
            let instant = matches!(at, 1 | 2);
            let fits = instant && matches!(given, DataType::Timestamp(..) | DataType::Date32);
            if !(fits || is_text(given) || *given == DataType::Null) {
                let wanted = if instant { "timestamptz" } else { "text" };
                return plan_err!("argument {} of halted_seconds is of type {given}, not {wanted}", at + 1);
            }
        }
        let instant = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        Ok([DataType::Utf8, instant.clone(), instant, DataType::Utf8][..given.len()].to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> datafusion::common::Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let columns: Vec<ArrayRef> =
            args.args.iter().map(|arg| arg.to_array(rows)).collect::<datafusion::common::Result<_>>()?;
        let answer = execute::wait(answers(&self.market, &columns, rows)).map_err(external)?;
        Ok(match constant {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?),
            false => ColumnarValue::Array(answer),
        })
    }
}

/// What stood still when, as far as it is known.
struct Subject {
    calendar: &'static Calendar,
    /// Whether the symbol is its own, and means it on every date.
    lasting: bool,
    halts: Vec<Halt>,
}

async fn answers(market: &Market, columns: &[ArrayRef], rows: usize) -> Result<ArrayRef> {
    let texts = |at: usize| columns.get(at).map(|column| column.as_string::<i32>());
    let instants = |at: usize| columns[at].as_primitive::<TimestampNanosecondType>();
    let (symbols, segments) = (texts(0), texts(3));
    let (froms, tills) = (instants(1), instants(2));
    let mut subjects: HashMap<(String, Option<TradeDate>), Subject> = HashMap::new();
    // an archive is asked of as much as the rows of a symbol need
    let mut reaches: HashMap<&str, (Nanos, Nanos)> = HashMap::new();
    for row in (0..rows).filter(|row| froms.is_valid(*row) && tills.is_valid(*row)) {
        if let Some(symbol) = symbols.as_ref().filter(|symbols| symbols.is_valid(row)).map(|symbols| symbols.value(row))
        {
            let reach = reaches.entry(symbol).or_insert((Nanos::MAX, Nanos::MIN));
            *reach = (reach.0.min(froms.value(row)), reach.1.max(tills.value(row)));
        }
    }
    let mut answers = Float64Builder::with_capacity(rows);
    for row in 0..rows {
        let symbol = symbols.as_ref().filter(|symbols| symbols.is_valid(row)).map(|symbols| symbols.value(row));
        let Some(symbol) = symbol.filter(|_| froms.is_valid(row) && tills.is_valid(row)) else {
            answers.append_null();
            continue;
        };
        let (from, till): (Nanos, Nanos) = (froms.value(row), tills.value(row));
        let selected = match segments.as_ref().filter(|segments| segments.is_valid(row)) {
            Some(segments) => Segments::parse(segments.value(row))?,
            None => Segments::ETH,
        };
        let near = TradeDate(from.div_euclid(DAY) as i32);
        let (always, then) = ((symbol.to_owned(), None), (symbol.to_owned(), Some(near)));
        if !subjects.contains_key(&always) && !subjects.contains_key(&then) {
            let found = subject(market, symbol, near, reaches[symbol]).await?;
            subjects.insert(if found.lasting { always.clone() } else { then.clone() }, found);
        }
        let found = subjects.get(&always).or_else(|| subjects.get(&then));
        let found = found.ok_or_else(|| Error::world("an instrument was found and lost", "please report it"))?;
        let halted = found.calendar.halted(from, till, selected, &found.halts)?;
        answers.append_value(halted as f64 / 1e9);
    }
    Ok(Arc::new(answers.finish()))
}

async fn subject(market: &Market, symbol: &str, near: TradeDate, (from, till): (Nanos, Nanos)) -> Result<Subject> {
    let Some(db) = &market.db else {
        let calendar = calendar_of(market, symbol, near)?;
        return Ok(Subject { calendar, lasting: false, halts: Vec::new() });
    };
    let found = Instrument::find(db, symbol, near).await?;
    if let (Some(archive), false) = (&db.archive, db.has_server()) {
        let date = |ts: Nanos| found.calendar.filing(ts).trade_date;
        let (first, last) = (date(from), date(till));
        let found = found.on(db, first, last)?;
        let halts = archive.halts(&found, from, till)?;
        return Ok(Subject { calendar: found.calendar, lasting: found.symbol == symbol, halts });
    }
    let near = (near, near);
    let mut halts = market.calendars.halts(found.calendar, near)?;
    let sql = format!("SELECT {HALT} FROM market.calendar_exceptions WHERE instrument_id = $1 AND kind <> 'schedule'");
    halts.extend(db.leader().await?.query(&sql, &[&found.id]).await?.iter().map(halt));
    Ok(Subject { calendar: found.calendar, lasting: found.symbol == symbol, halts })
}
