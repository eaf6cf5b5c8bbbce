//! Calendar questions as functions of rows: the same answers as the extension's, from the same crate.

use crate::error::external;
use crate::known::Calendars;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Date32Builder, Float64Builder, NullBufferBuilder, StringArray,
    StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Date32Type, Int32Type, TimeUnit, TimestampNanosecondType};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use market::{BucketCursor, Calendar, Segments, Timeframe, TradeDate};
use std::sync::Arc;

/// Instants in answers: as PostgreSQL keeps them.
pub fn instant_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Instants in arguments: nothing of a file's nanoseconds is lost.
fn exact_instant() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Question {
    TradeDate,
    Segment,
    IsOpen,
    IsSession,
    NextSession,
    NextOpen,
    NextClose,
    SessionBucket,
    BarVwap,
}

use Question as Q;

#[derive(Debug, PartialEq, Eq, Hash)]
struct CalendarFunction {
    question: Question,
    signature: Signature,
    calendars: Shared,
}

/// The session's calendars: the functions of one session are equal, those of two are not.
#[derive(Clone)]
struct Shared(Arc<Calendars>);

impl PartialEq for Shared {
    fn eq(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Shared {}

impl std::hash::Hash for Shared {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::ptr::hash(Arc::as_ptr(&self.0), state);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("calendars")
    }
}

/// All of them, over a session's calendars.
pub fn functions(calendars: &Arc<Calendars>) -> Vec<ScalarUDF> {
    [
        Q::TradeDate,
        Q::Segment,
        Q::IsOpen,
        Q::IsSession,
        Q::NextSession,
        Q::NextOpen,
        Q::NextClose,
        Q::SessionBucket,
        Q::BarVwap,
    ]
    .map(|question| of(question, calendars))
    .into()
}

/// `vwap` of a bar.
pub fn bar_vwap_function(calendars: &Arc<Calendars>) -> ScalarUDF {
    of(Q::BarVwap, calendars)
}

fn of(question: Question, calendars: &Arc<Calendars>) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::new_from_impl(CalendarFunction { question, signature, calendars: Shared(Arc::clone(calendars)) })
}

impl Question {
    /// Types of the arguments, and how many of them must be given.
    fn arguments(self) -> (Vec<DataType>, usize) {
        let (ts, text) = (exact_instant(), DataType::Utf8);
        match self {
            Q::TradeDate | Q::Segment => (vec![ts, text], 2),
            Q::IsOpen | Q::NextOpen | Q::NextClose => (vec![ts, text.clone(), text], 2),
            Q::IsSession => (vec![DataType::Date32, text], 2),
            Q::NextSession => (vec![DataType::Date32, text, DataType::Int32], 2),
            Q::SessionBucket => (vec![text.clone(), ts, text.clone(), text], 3),
            Q::BarVwap => (vec![], 1),
        }
    }
}

impl ScalarUDFImpl for CalendarFunction {
    fn name(&self) -> &str {
        match self.question {
            Q::TradeDate => "trade_date",
            Q::Segment => "segment",
            Q::IsOpen => "is_open",
            Q::IsSession => "is_session",
            Q::NextSession => "next_session",
            Q::NextOpen => "next_open",
            Q::NextClose => "next_close",
            Q::SessionBucket => "session_bucket",
            Q::BarVwap => "bar_vwap",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let (types, least) = self.question.arguments();
        if self.question == Q::BarVwap {
            return match given {
                [DataType::Struct(_)] => Ok(given.to_vec()),
                _ => plan_err!("vwap takes a price and a size, or a bar as ohlc makes them"),
            };
        }
        if given.len() < least || given.len() > types.len() {
            let counts = if least == types.len() { format!("{least}") } else { format!("{least} to {}", types.len()) };
            return plan_err!("{} takes {counts} arguments, not {}", self.name(), given.len());
        }
        for (at, (given, wanted)) in given.iter().zip(&types).enumerate() {
            let fits = match wanted {
                DataType::Timestamp(..) => {
                    matches!(given, DataType::Timestamp(..) | DataType::Date32 | DataType::Null) || is_text(given)
                }
                DataType::Date32 => {
                    matches!(given, DataType::Date32 | DataType::Timestamp(..) | DataType::Null) || is_text(given)
                }
                DataType::Int32 => given.is_integer() || *given == DataType::Null,
                _ => is_text(given) || *given == DataType::Null,
            };
            if !fits {
                return plan_err!("argument {} of {} is of type {given}, not {}", at + 1, self.name(), spoken(wanted));
            }
        }
        Ok(types[..given.len()].to_vec())
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.question {
            Q::TradeDate | Q::NextSession => DataType::Date32,
            Q::Segment => DataType::Utf8,
            Q::IsOpen | Q::IsSession => DataType::Boolean,
            Q::NextOpen | Q::NextClose | Q::SessionBucket => instant_type(),
            Q::BarVwap => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let answer = match self.question {
            Q::BarVwap => bar_vwap(&args.args[0].to_array(rows)?)?,
            question => answer(&self.calendars.0, question, &args.args, rows)?,
        };
        match constant {
            true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&answer, 0)?)),
            false => Ok(ColumnarValue::Array(answer)),
        }
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn spoken(kind: &DataType) -> &'static str {
    match kind {
        DataType::Timestamp(..) => "timestamptz",
        DataType::Date32 => "date",
        DataType::Int32 => "integer",
        _ => "text",
    }
}

/// A text argument: mostly one for all rows.
enum Text {
    One(Option<String>),
    Each(StringArray),
}

impl Text {
    fn new(value: Option<&ColumnarValue>) -> Result<Text> {
        Ok(match value {
            None => Text::One(None),
            Some(ColumnarValue::Scalar(scalar)) => Text::One(scalar.try_as_str().flatten().map(str::to_owned)),
            Some(ColumnarValue::Array(array)) => Text::Each(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()),
        })
    }

    fn get(&self, row: usize) -> Option<&str> {
        match self {
            Text::One(text) => text.as_deref(),
            Text::Each(array) => array.is_valid(row).then(|| array.value(row)),
        }
    }
}

impl Text {
    /// The first row from `start` on with another text; the one at `start` is there.
    fn same_until(&self, start: usize, rows: usize) -> usize {
        let Text::Each(array) = self else { return rows };
        let (bytes, offsets) = (array.value_data(), array.value_offsets());
        let width = (offsets[start + 1] - offsets[start]) as usize;
        // A column of one text repeats itself after each; that is quicker to see than row by row.
        let (from, till) = (offsets[start] as usize, offsets[rows] as usize);
        let even = array.null_count() == 0
            && offsets[start..=rows].windows(2).all(|pair| (pair[1] - pair[0]) as usize == width);
        if even && bytes[from..till - width] == bytes[from + width..till] {
            return rows;
        }
        let first = array.value(start);
        (start + 1..rows).find(|row| array.is_null(*row) || array.value(*row) != first).unwrap_or(rows)
    }
}

/// What the texts of a row say, read once for as long as they stay the same.
struct Site {
    texts: (Option<String>, String, Option<String>),
    calendar: &'static Calendar,
    timeframe: Timeframe,
    segments: Segments,
}

fn site(
    calendars: &Calendars,
    timeframe: Option<&str>,
    name: &str,
    segments: Option<&str>,
) -> crate::error::Result<Site> {
    let calendar = calendars.find(name)?;
    Ok(Site {
        texts: (timeframe.map(str::to_owned), name.to_owned(), segments.map(str::to_owned)),
        calendar,
        timeframe: timeframe.map_or(Ok(Timeframe::Days(1)), Timeframe::parse)?,
        segments: segments.map_or(Ok(calendar.main()), Segments::parse)?,
    })
}

/// What a question's answers are collected in.
enum Answers {
    Date(Date32Builder),
    Text(StringBuilder),
    Bool(BooleanBuilder),
    Instant(TimestampMicrosecondBuilder),
}

impl Answers {
    fn new(question: Question, rows: usize) -> Answers {
        match question {
            Q::TradeDate | Q::NextSession => Answers::Date(Date32Builder::with_capacity(rows)),
            Q::Segment | Q::BarVwap => Answers::Text(StringBuilder::with_capacity(rows, 4 * rows)),
            Q::IsOpen | Q::IsSession => Answers::Bool(BooleanBuilder::with_capacity(rows)),
            Q::NextOpen | Q::NextClose | Q::SessionBucket => {
                Answers::Instant(TimestampMicrosecondBuilder::with_capacity(rows))
            }
        }
    }

    fn null(&mut self) {
        match self {
            Answers::Date(b) => b.append_null(),
            Answers::Text(b) => b.append_null(),
            Answers::Bool(b) => b.append_null(),
            Answers::Instant(b) => b.append_null(),
        }
    }

    fn date(&mut self, value: TradeDate) {
        if let Answers::Date(b) = self {
            b.append_value(value.0);
        }
    }

    fn text(&mut self, value: &str) {
        if let Answers::Text(b) = self {
            b.append_value(value);
        }
    }

    fn bool(&mut self, value: bool) {
        if let Answers::Bool(b) = self {
            b.append_value(value);
        }
    }

    fn instant(&mut self, value: Option<market::Nanos>) {
        if let Answers::Instant(b) = self {
            b.append_option(value.map(|ts| ts.div_euclid(1000)));
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Answers::Date(mut b) => Arc::new(b.finish()),
            Answers::Text(mut b) => Arc::new(b.finish()),
            Answers::Bool(mut b) => Arc::new(b.finish()),
            Answers::Instant(mut b) => Arc::new(b.finish().with_timezone("UTC")),
        }
    }
}

/// `session_bucket` of instants none of which is NULL, with one text each for timeframe and segments and long runs of the same
/// calendar: one look at the calendar a bucket, and a comparison a row.
fn buckets(
    calendars: &Calendars,
    timeframe: &str,
    when: &[i64],
    calendar: &Text,
    segments: Option<&str>,
) -> Result<ArrayRef> {
    let mut opens = Vec::with_capacity(when.len());
    let mut inside = NullBufferBuilder::new(when.len());
    while opens.len() < when.len() {
        let start = opens.len();
        let Some(name) = calendar.get(start) else {
            opens.push(0);
            inside.append_null();
            continue;
        };
        let rows = start..calendar.same_until(start, when.len());
        let site = site(calendars, Some(timeframe), name, segments).map_err(external)?;
        let mut cursor = BucketCursor::new(site.calendar, site.timeframe, site.segments);
        let mut at = rows.start;
        while at < rows.end {
            let bucket = cursor.bucket_at(when[at]).map_err(external)?;
            let (from, till) = cursor.stretch();
            let same = when[at..rows.end].iter().take_while(|ts| from <= **ts && **ts < till).count().max(1);
            opens.resize(at + same, bucket.map_or(0, |bucket| bucket.open.div_euclid(1000)));
            match bucket {
                Some(_) => inside.append_n_non_nulls(same),
                None => inside.append_n_nulls(same),
            }
            at += same;
        }
    }
    let opens = TimestampMicrosecondArray::try_new(opens.into(), inside.finish())?;
    Ok(Arc::new(opens.with_timezone("UTC")))
}

fn answer(calendars: &Calendars, question: Question, args: &[ColumnarValue], rows: usize) -> Result<ArrayRef> {
    // session_bucket puts the timeframe first
    let shift = usize::from(question == Q::SessionBucket);
    let timeframe = Text::new((shift == 1).then(|| &args[0]))?;
    let when = args[shift].to_array(rows)?;
    if question == Q::SessionBucket && when.null_count() == 0 {
        let (calendar, segments) = (Text::new(args.get(2))?, Text::new(args.get(3))?);
        if let (Text::One(Some(timeframe)), Text::One(segments)) = (&timeframe, &segments) {
            let when = when.as_primitive::<TimestampNanosecondType>().values();
            return buckets(calendars, timeframe, when, &calendar, segments.as_deref());
        }
    }
    let calendar = Text::new(args.get(shift + 1))?;
    let with_segments = !matches!(question, Q::NextSession);
    let segments = Text::new(args.get(shift + 2).filter(|_| with_segments))?;
    let counts = match args.get(2) {
        Some(n) if question == Q::NextSession => Some(n.to_array(rows)?),
        _ => None,
    };
    let days = matches!(question, Q::IsSession | Q::NextSession);
    let mut answers = Answers::new(question, rows);
    let mut current: Option<(Site, BucketCursor<'static>)> = None;
    for row in 0..rows {
        let Some(name) = calendar.get(row).filter(|_| when.is_valid(row)) else {
            answers.null();
            continue;
        };
        if shift == 1 && timeframe.get(row).is_none() {
            answers.null();
            continue;
        }
        let texts = (timeframe.get(row), name, segments.get(row));
        let same = current.as_ref().is_some_and(|(site, _)| {
            (site.texts.0.as_deref(), site.texts.1.as_str(), site.texts.2.as_deref()) == texts
        });
        if !same {
            let site = site(calendars, texts.0, texts.1, texts.2).map_err(external)?;
            let cursor = BucketCursor::new(site.calendar, site.timeframe, site.segments);
            current = Some((site, cursor));
        }
        let Some((site, cursor)) = &mut current else { continue };
        if days {
            let day = TradeDate(when.as_primitive::<Date32Type>().value(row));
            let n = match &counts {
                Some(counts) if counts.is_null(row) => {
                    answers.null();
                    continue;
                }
                Some(counts) => counts.as_primitive::<Int32Type>().value(row),
                None => 1,
            };
            match question {
                Q::IsSession => answers.bool(site.calendar.is_session(day).map_err(external)?),
                _ => answers.date(site.calendar.next_session(day, n).map_err(external)?),
            }
            continue;
        }
        let ts = when.as_primitive::<TimestampNanosecondType>().value(row);
        match question {
            Q::TradeDate => answers.date(cursor.session_at(ts).map_err(external)?.trade_date),
            Q::Segment => answers.text(cursor.session_at(ts).map_err(external)?.segment_at(ts).name()),
            Q::IsOpen => answers.bool(site.calendar.is_open(ts, site.segments).map_err(external)?),
            Q::NextOpen => answers.instant(Some(site.calendar.next_open(ts, site.segments).map_err(external)?)),
            Q::NextClose => answers.instant(Some(site.calendar.next_close(ts, site.segments).map_err(external)?)),
            _ => answers.instant(cursor.bucket_at(ts).map_err(external)?.map(|bucket| bucket.open)),
        }
    }
    Ok(answers.finish())
}

fn bar_vwap(bars: &ArrayRef) -> Result<ArrayRef> {
    let mut answers = Float64Builder::with_capacity(bars.len());
    let read = crate::aggregate::Bars::new(bars)?;
    for row in 0..bars.len() {
        answers.append_option(read.get(row)?.and_then(|keyed| keyed.bar.vwap()));
    }
    Ok(Arc::new(answers.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::time::{DAY, MINUTE};

    /// Calendars in long runs, in turns and missing; instants in and out of order: as if each row were asked alone.
    #[test]
    fn buckets_of_many_rows_are_those_of_each() -> crate::error::Result<()> {
        let calendars = Calendars::default();
        let monday = 20_402 * DAY; // 2025-11-10
        let names = |row: usize| match row / 50 {
            0 => Some("XNYS"),
            1 => Some(["CME_EQUITY", "XHKG", "XNYS"][row % 3]),
            2 => (!row.is_multiple_of(7)).then_some("24/7"),
            _ => Some("CME_EQUITY"),
        };
        let whens: Vec<i64> = (0..200i64).map(|row| monday + row * 37 % 200 * 61 * MINUTE).collect();
        for sorted in [false, true] {
            let mut when = whens.clone();
            if sorted {
                when.sort_unstable();
            }
            let texts: StringArray = (0..when.len()).map(names).collect();
            for (first, rows) in [(0, 200), (0, 50), (50, 50), (100, 50), (160, 3), (3, 0)] {
                let calendar = Text::Each(texts.slice(first, rows));
                let found = buckets(&calendars, "65m", &when[first..first + rows], &calendar, Some("ETH"))?;
                let found = found.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().clone();
                for (row, answer) in found.iter().enumerate() {
                    let expected = match names(first + row) {
                        None => None,
                        Some(name) => {
                            let timeframe = Timeframe::parse("65m")?;
                            let calendar = calendars.find(name)?;
                            market::bucket_at(calendar, timeframe, when[first + row], Segments::ETH)?
                                .map(|b| b.open / 1000)
                        }
                    };
                    assert_eq!(answer, expected, "row {row} from {first}, sorted {sorted}");
                }
            }
        }
        Ok(())
    }
}
