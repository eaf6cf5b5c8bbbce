//! The table functions `sessions` and `session_of`, the table `calendars`, and how table functions read their arguments.

use crate::error::{Error, external};
use crate::known::Calendars;
use crate::postgres::read_instant;
use crate::scalar::instant_type;
use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemTable, TableFunctionArgs, TableFunctionImpl, TableProvider};
use datafusion::common::{Result, ScalarValue};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::Expr;
use market::{Calendar, Nanos, Segment, Segments, TradeDate, When};
use std::sync::Arc;

/// The arguments of a table function, in declared order.
pub struct Arguments<'a> {
    function: &'static str,
    exprs: &'a [Expr],
}

impl<'a> Arguments<'a> {
    /// Of a call.
    pub fn new(function: &'static str, args: &TableFunctionArgs<'a, '_>) -> Arguments<'a> {
        Arguments { function, exprs: args.exprs() }
    }

    /// A constant; `None` if it is left out or NULL.
    pub fn value(&self, at: usize) -> Result<Option<&'a ScalarValue>> {
        match self.exprs.get(at) {
            None => Ok(None),
            Some(Expr::Literal(value, _)) => Ok((!value.is_null()).then_some(value)),
            Some(other) => Err(external(Error::question(
                format!("{}: argument {} is not a constant: {other}", self.function, at + 1),
                "querycli plans table functions before it reads rows; use constants",
            ))),
        }
    }

    /// A text.
    pub fn text(&self, at: usize) -> Result<Option<String>> {
        let Some(value) = self.value(at)? else { return Ok(None) };
        match value.try_as_str().flatten() {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong(at, "a text")),
        }
    }

    /// A text that must be given.
    pub fn required(&self, at: usize, name: &str) -> Result<String> {
        self.text(at)?.ok_or_else(|| self.missing(name))
    }

    /// A date that must be given, as a date or as text.
    pub fn date(&self, at: usize, name: &str) -> Result<TradeDate> {
        match self.value(at)? {
            Some(ScalarValue::Date32(Some(days))) => Ok(TradeDate(*days)),
            Some(value) => match value.try_as_str().flatten() {
                Some(text) => TradeDate::parse(text).map_err(external),
                None => Err(self.wrong(at, "a date")),
            },
            None => Err(self.missing(name)),
        }
    }

    /// An instant, as one or as text.
    pub fn instant(&self, at: usize) -> Result<Option<Nanos>> {
        let Some(value) = self.value(at)? else { return Ok(None) };
        if let Some(text) = value.try_as_str().flatten() {
            match text.trim().to_ascii_lowercase().as_str() {
                "infinity" => return Ok(Some(Nanos::MAX)),
                "-infinity" => return Ok(Some(Nanos::MIN)),
                _ => {}
            }
        }
        if let Some(ts) = value.try_as_str().flatten().and_then(read_instant).and_then(|written| written.nanos()) {
            return Ok(Some(ts));
        }
        let wanted = DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, Some("UTC".into()));
        match value.cast_to(&wanted) {
            Ok(ScalarValue::TimestampNanosecond(Some(ts), _)) => Ok(Some(ts)),
            _ => Err(self.wrong(at, "a timestamp such as 2025-11-28 14:30:00+00")),
        }
    }

    /// A number.
    pub fn number(&self, at: usize) -> Result<Option<f64>> {
        let Some(value) = self.value(at)? else { return Ok(None) };
        match value.cast_to(&DataType::Float64) {
            Ok(ScalarValue::Float64(Some(number))) => Ok(Some(number)),
            _ => Err(self.wrong(at, "a number")),
        }
    }

    /// A boolean.
    pub fn boolean(&self, at: usize) -> Result<Option<bool>> {
        let Some(value) = self.value(at)? else { return Ok(None) };
        match value.cast_to(&DataType::Boolean) {
            Ok(ScalarValue::Boolean(Some(value))) => Ok(Some(value)),
            _ => Err(self.wrong(at, "true or false")),
        }
    }

    /// A range whose ends are the arguments `at` and `at + 1`: two dates are trade dates, other ends instants.
    pub fn when(&self, at: usize) -> Result<When> {
        let is_date = |at: usize| -> Result<bool> {
            Ok(self.value(at)?.is_some_and(|value| {
                let text = value.try_as_str().flatten();
                value.data_type() == DataType::Date32 || text.is_some_and(|text| TradeDate::parse(text).is_ok())
            }))
        };
        let when = if is_date(at)? && is_date(at + 1)? {
            When::Dates(self.date(at, "first date")?, self.date(at + 1, "last date")?)
        } else {
            let instant = |at, name: &str| self.instant(at)?.ok_or_else(|| self.missing(name));
            When::Instants(instant(at, "first date")?, instant(at + 1, "last date")?)
        };
        when.check().map_err(external)
    }

    fn wrong(&self, at: usize, wanted: &str) -> datafusion::common::DataFusionError {
        external(Error::question(
            format!("{}: argument {} is not {wanted}", self.function, at + 1),
            format!("give {wanted}"),
        ))
    }

    fn missing(&self, name: &str) -> datafusion::common::DataFusionError {
        external(Error::question(format!("{}: {name} is NULL", self.function), format!("give a {name}")))
    }
}

struct Sessions(Arc<Calendars>);
struct SessionOf(Arc<Calendars>);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sessions")
    }
}

impl std::fmt::Debug for SessionOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("session_of")
    }
}

/// Registers the table functions.
pub fn register(context: &SessionContext, calendars: &Arc<Calendars>) {
    context.register_udtf("sessions", Arc::new(Sessions(Arc::clone(calendars))));
    context.register_udtf("session_of", Arc::new(SessionOf(Arc::clone(calendars))));
}

pub(crate) fn field(name: &str, kind: DataType) -> Field {
    Field::new(name, kind, true)
}

pub(crate) fn instants(values: Vec<Nanos>) -> ArrayRef {
    let micros = values.into_iter().map(|ts| ts.div_euclid(1000));
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}

pub(crate) fn dates(values: Vec<TradeDate>) -> ArrayRef {
    Arc::new(Date32Array::from_iter_values(values.into_iter().map(|d| d.0)))
}

pub(crate) fn table(fields: Vec<Field>, columns: Vec<ArrayRef>) -> Result<Arc<dyn TableProvider>> {
    let schema: SchemaRef = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

/// Both dates, unless they run backwards.
pub(crate) fn forwards(first: TradeDate, last: TradeDate) -> Result<(TradeDate, TradeDate)> {
    match first <= last {
        true => Ok((first, last)),
        false => Err(external(Error::question(
            format!("the first date {first} is after the last date {last}"),
            "name the earlier date first; both are included",
        ))),
    }
}

impl TableFunctionImpl for Sessions {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("sessions", &args);
        let calendar = self.0.find(&args.required(0, "calendar")?).map_err(external)?;
        let (first, last) = forwards(args.date(1, "first date")?, args.date(2, "last date")?)?;
        let segments = match args.text(3)? {
            Some(text) => Segments::parse(&text).map_err(external)?,
            None => Segments::ETH,
        };
        let (mut days, mut clearing, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut opens, mut closes, mut irregular, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let hours = args.text(4)?;
        let actual = match hours.as_deref() {
            None | Some("scheduled") => None,
            Some("actual") => {
                let halts = self.0.halts(calendar, (first, last)).map_err(external)?;
                Some(calendar.actual(first, last, &halts).map_err(external)?)
            }
            Some(other) => {
                return Err(external(Error::question(
                    format!("invalid hours \"{other}\""),
                    "use scheduled, or actual for what outages and halts left of the schedule",
                )));
            }
        };
        for (at, scheduled) in calendar.sessions(first, last).map_err(external)?.enumerate() {
            let session = match actual.as_ref().map(|actual| &actual[at]) {
                Some(actual) => market::Session {
                    spans: (&actual.spans).into(),
                    irregular: scheduled.irregular || actual.differs,
                    note: &actual.note,
                    ..scheduled
                },
                None => scheduled,
            };
            for span in session.spans.iter().filter(|span| segments.contains(span.segment)) {
                days.push(session.trade_date);
                clearing.push(session.clearing_date);
                names.push(span.segment.name());
                opens.push(span.open);
                closes.push(span.close);
                irregular.push(session.irregular);
                notes.push((!session.note.is_empty()).then(|| session.note.to_owned()));
            }
        }
        let fields = vec![
            field("trade_date", DataType::Date32),
            field("clearing_date", DataType::Date32),
            field("segment", DataType::Utf8),
            field("opens_at", instant_type()),
            field("closes_at", instant_type()),
            field("irregular", DataType::Boolean),
            field("note", DataType::Utf8),
        ];
        let columns: Vec<ArrayRef> = vec![
            dates(days),
            dates(clearing),
            Arc::new(StringArray::from(names)),
            instants(opens),
            instants(closes),
            Arc::new(BooleanArray::from(irregular)),
            Arc::new(StringArray::from(notes)),
        ];
        table(fields, columns)
    }
}

impl TableFunctionImpl for SessionOf {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let args = Arguments::new("session_of", &args);
        let fields = vec![
            field("trade_date", DataType::Date32),
            field("segment", DataType::Utf8),
            field("opens_at", instant_type()),
            field("closes_at", instant_type()),
        ];
        let (Some(ts), Some(name)) = (args.instant(0)?, args.text(1)?) else {
            // STRICT in SQL: no row for NULL
            let schema: SchemaRef = Arc::new(Schema::new(fields));
            return Ok(Arc::new(MemTable::try_new(schema, vec![vec![]])?));
        };
        let session = self.0.find(&name).map_err(external)?.session_at(ts).map_err(external)?;
        let (segment, open, close) = match session.spans.iter().find(|s| s.open <= ts && ts < s.close) {
            Some(span) => (span.segment, span.open, span.close),
            None => {
                let open = session.spans.iter().map(|s| s.close).filter(|close| *close <= ts).max();
                let close = session.spans.iter().map(|s| s.open).filter(|open| *open > ts).min();
                (Segment::Off, open.unwrap_or(session.from), close.unwrap_or(session.till))
            }
        };
        let columns: Vec<ArrayRef> = vec![
            dates(vec![session.trade_date]),
            Arc::new(StringArray::from(vec![segment.name()])),
            instants(vec![open]),
            instants(vec![close]),
        ];
        table(fields, columns)
    }
}

/// The table `calendars`: those in force.
///
/// # Errors
/// A shipped calendar that cannot be read.
pub fn calendars(calendars: &Calendars) -> Result<Arc<dyn TableProvider>> {
    let all: Vec<&Calendar> = calendars.all().map_err(external)?;
    let text = |of: fn(&Calendar) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(|c| of(c))))
    };
    let columns: Vec<ArrayRef> = vec![
        text(|c| c.id().to_owned()),
        text(|c| c.name().to_owned()),
        text(|c| c.time_zone().to_owned()),
        text(|c| c.main().to_string()),
        dates(all.iter().map(|c| c.known().0).collect()),
        dates(all.iter().map(|c| c.known().1).collect()),
        Arc::new(Int32Array::from_iter_values(all.iter().map(|c| c.version() as i32))),
        text(|c| c.source().to_owned()),
    ];
    let fields = vec![
        field("id", DataType::Utf8),
        field("name", DataType::Utf8),
        field("time_zone", DataType::Utf8),
        field("main_segments", DataType::Utf8),
        field("known_from", DataType::Date32),
        field("known_to", DataType::Date32),
        field("version", DataType::Int32),
        field("source", DataType::Utf8),
    ];
    table(fields, columns)
}
