//! Text files with a separator: which one it is, and the columns of many.

use crate::error::{Error, Result, external};
use crate::files::{Kind, Source};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::execution::context::SessionContext;
use datafusion::prelude::CsvReadOptions;
use std::io::Read as _;
use std::path::Path;

/// What is between the columns of a file that is called .csv and begins so: a comma, unless its first line has none and just one
/// of the others that are in use.
///
/// Where two of them are, no header tells which one is meant; then it is one column, as it would be of a comma.
pub fn separator(head: &[u8]) -> u8 {
    let mut seen = [false; 4];
    let mut quoted = false;
    for byte in head {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            byte if !quoted => {
                if let Some(at) = SEPARATORS.iter().position(|separator| separator == byte) {
                    seen[at] = true;
                }
            }
            _ => {}
        }
    }
    let mut found = SEPARATORS.iter().zip(seen).filter(|(_, seen)| *seen).map(|(separator, _)| *separator);
    match (found.next(), found.next()) {
        (Some(separator), None) => separator,
        _ => b',',
    }
}

const SEPARATORS: [u8; 4] = *b",;\t|";

/// Headers are shorter.
pub const HEAD: u64 = 64 * 1024;

/// What files of a kind with separators are, whose first one begins so.
///
/// # Errors
/// A header that has a name twice: there would be no telling which is meant.
pub fn separated(kind: Kind, head: &[u8], shown: &str) -> Result<Kind> {
    let byte = match kind {
        Kind::Separated(b',') => separator(head),
        Kind::Separated(byte) => byte,
        other => return Ok(other),
    };
    let mut names = names(head, byte);
    names.sort_unstable();
    match names.windows(2).find(|two| two[0] == two[1] && !two[0].is_empty()) {
        Some(two) => {
            let message = format!("{shown} has two columns called \"{}\"", two[0]);
            Err(Error::question(message, "give one another name in the header"))
        }
        None => Ok(Kind::Separated(byte)),
    }
}

/// The names in a header; none of one that is cut.
fn names(head: &[u8], separator: u8) -> Vec<String> {
    let (mut names, mut name, mut quoted) = (Vec::new(), Vec::new(), false);
    for byte in head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head) {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => {
                names.push(String::from_utf8_lossy(&name).into_owned());
                return names;
            }
            byte if *byte == separator && !quoted => {
                names.push(String::from_utf8_lossy(&std::mem::take(&mut name)).into_owned());
            }
            byte => name.push(*byte),
        }
    }
    Vec::new()
}

/// How files here begin: the first that has bytes.
pub fn head_of<'a>(files: impl Iterator<Item = &'a Path>) -> Vec<u8> {
    let head = |file: &Path| {
        let mut head = Vec::new();
        std::fs::File::open(file).ok()?.take(HEAD).read_to_end(&mut head).ok().filter(|read| *read > 0)?;
        Some(head)
    };
    files.filter_map(head).next().unwrap_or_default()
}

/// The columns that fit every CSV file of a folder: 682 in one and 681.5 in another are floats, seconds and microseconds are
/// microseconds, and what fits nothing else is text.
///
/// Values are read by their place in the line, so that the headers must be the same.
pub async fn common(context: &SessionContext, source: &Source, delimiter: u8) -> datafusion::common::Result<Schema> {
    let mut fields: Vec<Field> = Vec::new();
    let mut first: Option<&String> = None;
    for file in &source.members {
        let options = CsvReadOptions::default().file_extension(&source.extension).delimiter(delimiter);
        let frame = context.read_csv(file.as_str(), options).await?;
        let found = frame.schema().as_arrow().fields();
        let Some(first) = first.filter(|_| !found.is_empty()) else {
            if !found.is_empty() {
                first = Some(file);
                fields = found.iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
            }
            continue;
        };
        if !found.iter().map(|field| field.name()).eq(fields.iter().map(Field::name)) {
            let named = |file: &str| decoded(file.strip_prefix(&source.path).unwrap_or(file));
            let of = |names: Vec<&String>| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(external(Error::question(
                format!(
                    "{} has the columns {}, and {} has {}",
                    named(first),
                    of(fields.iter().map(Field::name).collect()),
                    named(file),
                    of(found.iter().map(|field| field.name()).collect()),
                ),
                "the CSV files of a folder are read as one table, so that their headers must be the same; name the files one by one",
            )));
        }
        for (known, field) in fields.iter_mut().zip(found) {
            *known = Field::new(known.name(), wider(known.data_type(), field.data_type()), true);
        }
    }
    Ok(Schema::new(fields))
}

/// A name out of a URL.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let code = more.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        match code.filter(|_| *first == b'%').and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &more[2..];
            }
            None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wider(a: &DataType, b: &DataType) -> DataType {
    use DataType::{Float64, Int64, Null, Timestamp, Utf8};
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Int64, Float64) | (Float64, Int64) => Float64,
        // the finer unit holds both
        (Timestamp(one, zone), Timestamp(other, _)) => Timestamp(*one.max(other), zone.clone()),
        _ => Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn the_header_tells_the_separator() {
        let check = |head: &str, expected: char| assert_eq!(char::from(separator(head.as_bytes())), expected, "{head}");
        check("ts;price;size\n1,5;2;3\n", ';');
        check("ts\tprice\r\n", '\t');
        check("ts|price", '|');
        check("ts,price;size\n", ',');
        check("ts\n1;2\n", ',');
        check("ts;price|size\n", ',');
        check("\"a,b\";\"c|d\"\n", ';');
        check("\"a\nb\";c\n", ';');
        check("", ',');
        assert_eq!(names(b"\xef\xbb\xbfa;\"b;c\";d\r\n1;2;3", b';'), ["a", "b;c", "d"]);
        assert!(separated(Kind::Separated(b'\t'), b"a\tb\ta\n", "x.tsv").is_err());
        assert_eq!(decoded("a%5B1%5D/%C3%9C%2x"), "a[1]/Ü%2x");
    }

    #[test]
    fn two_types_become_the_one_that_holds_both() {
        let ts = |unit| DataType::Timestamp(unit, None);
        assert_eq!(wider(&DataType::Int64, &DataType::Float64), DataType::Float64);
        assert_eq!(wider(&ts(TimeUnit::Second), &ts(TimeUnit::Microsecond)), ts(TimeUnit::Microsecond));
        assert_eq!(wider(&ts(TimeUnit::Nanosecond), &ts(TimeUnit::Microsecond)), ts(TimeUnit::Nanosecond));
        assert_eq!(wider(&DataType::Null, &DataType::Date32), DataType::Date32);
        assert_eq!(wider(&DataType::Int64, &DataType::Date32), DataType::Utf8);
    }
}
