//! Text one line at a time: numbered, bounded, and never half a line of a truncated file.

use std::io::{self, BufRead, BufReader, Read};

/// The longest line that is read; a longer one is skipped and reported.
pub const LONGEST: usize = 64 * 1024;

/// What the reader found.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line without its line break.
    Text(&'a [u8]),
    /// A line over [`LONGEST`]; its beginning.
    TooLong(&'a [u8]),
    /// The end of the source.
    End,
}

/// Lines of a source, counted from 1.
pub struct Lines<'r> {
    reader: BufReader<Box<dyn Read + 'r>>,
    line: Vec<u8>,
    number: u64,
}

impl<'r> Lines<'r> {
    /// Lines of `reader`.
    pub fn new(reader: Box<dyn Read + 'r>) -> Lines<'r> {
        Lines { reader: BufReader::with_capacity(256 * 1024, reader), line: Vec::with_capacity(256), number: 0 }
    }

    /// The number of the line last returned, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The next line; also the first bytes of the source may be looked at with [`Lines::peek`].
    ///
    /// # Errors
    /// A source that breaks off. The part of a line before the break is dropped: a price cut short is a wrong price.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<Line<'_>> {
        self.line.clear();
        let read = (&mut self.reader).take(LONGEST as u64).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(Line::End);
        }
        self.number += 1;
        let complete = self.line.last() == Some(&b'\n');
        if !complete && read == LONGEST {
            self.skip_rest()?;
            self.line.truncate(200);
            return Ok(Line::TooLong(&self.line));
        }
        let mut end = self.line.len() - usize::from(complete);
        if end > 0 && self.line[end - 1] == b'\r' {
            end -= 1;
        }
        let start = if self.number == 1 && self.line.starts_with(b"\xef\xbb\xbf") { 3.min(end) } else { 0 };
        Ok(Line::Text(&self.line[start..end]))
    }

    /// The first bytes that have not been read as a line yet.
    ///
    /// # Errors
    /// A source that cannot be read.
    pub fn peek(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn skip_rest(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            match buffer.iter().position(|&b| b == b'\n') {
                Some(at) => {
                    self.reader.consume(at + 1);
                    return Ok(());
                }
                None => {
                    let all = buffer.len();
                    self.reader.consume(all);
                }
            }
        }
    }
}

/// Splits a line at `delimiter` into `fields` (start and end of each). Fields may be in double quotes; a quoted field
/// cannot contain a line break.
pub fn split(line: &[u8], delimiter: u8, fields: &mut Vec<(u32, u32)>) {
    fields.clear();
    let mut start = 0;
    let mut quoted = false;
    for (at, &byte) in line.iter().enumerate() {
        if byte == b'"' {
            quoted = !quoted;
        } else if byte == delimiter && !quoted {
            fields.push(unquote(line, start, at));
            start = at + 1;
        }
    }
    fields.push(unquote(line, start, line.len()));
}

fn unquote(line: &[u8], mut start: usize, mut end: usize) -> (u32, u32) {
    while start < end && line[start] == b' ' {
        start += 1;
    }
    while end > start && line[end - 1] == b' ' {
        end -= 1;
    }
    if end - start >= 2 && line[start] == b'"' && line[end - 1] == b'"' {
        start += 1;
        end -= 1;
    }
    // A line is at most LONGEST bytes, so positions fit.
    (start as u32, end as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(Box::new(bytes));
        let mut out = vec![];
        loop {
            match lines.next().expect("memory does not break off") {
                Line::Text(text) => out.push(String::from_utf8_lossy(text).into_owned()),
                Line::TooLong(text) => out.push(format!("too long: {}", text.len())),
                Line::End => return out,
            }
        }
    }

    #[test]
    fn line_breaks_and_byte_order_mark_are_not_part_of_a_line() {
        assert_eq!(all(b"\xef\xbb\xbfa,b\r\nc\n\nd"), ["a,b", "c", "", "d"]);
    }

    #[test]
    fn an_endless_line_is_skipped_not_stored() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend_from_slice(b"\nnext\n");
        assert_eq!(all(&text), ["too long: 200", "next"]);
    }

    #[test]
    fn quotes_and_blanks_around_a_field_are_not_part_of_it() {
        let line = br#"1, "a,b" ,,"c""#;
        let mut fields = vec![];
        split(line, b',', &mut fields);
        let text: Vec<_> =
            fields.iter().map(|&(a, z)| std::str::from_utf8(&line[a as usize..z as usize]).expect("ascii")).collect();
        assert_eq!(text, ["1", "a,b", "", "c"]);
    }
}
