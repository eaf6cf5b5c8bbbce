//! A calendar file, read: every mistake in it is an error with a line number.

use super::around_clock;
use super::expand::is_inside;
use super::rule::{Rule, months, weekday, weekdays};
use crate::error::{Error, Result};
use crate::nearest::nearest;
use crate::session::{Segment, Segments};
use crate::time::{MINUTE, Nanos, TradeDate};
use chrono::Weekday;
use chrono_tz::Tz;
use std::cell::Cell;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Minutes after midnight (wall clock) of the trade date's civil day; negative on the day before. Times that count from
/// the previous session's day (`21:00-1s`) lie below [`PREVIOUS_SESSION`]` / 2`, so that they sort before all others.
pub(crate) type Minutes = i32;

/// What is added to a time of the previous session's day.
pub(crate) const PREVIOUS_SESSION: Minutes = -1_000_000;

/// Names and the dates that each of them closes.
pub(crate) type Closures = Vec<(String, Vec<Rule>)>;

/// What a calendar file says.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub id: String,
    pub name: String,
    pub aliases: Vec<String>,
    pub tz: Tz,
    pub main: Segments,
    pub known: (TradeDate, TradeDate),
    /// From this date on its days are a projection, not announced.
    pub projected_from: Option<TradeDate>,
    pub version: u32,
    pub source: String,
    pub week_start: Weekday,
    pub grace: Nanos,
    pub restart_at_segments: bool,
    /// Whether the night session before a holiday is held; if so it belongs to the session after the holiday.
    pub nights_before_holidays: bool,
    pub hours: Vec<Hours>,
    pub holidays: Closures,
    /// From this index on, `holidays` are closures of single occasions.
    pub one_off_from: usize,
    pub specials: Vec<Special>,
}

/// One regime: the hours of some weekdays over a range of dates.
#[derive(Clone, Debug)]
pub(crate) struct Hours {
    pub line: usize,
    pub from: TradeDate,
    pub to: TradeDate,
    pub days: u8,
    /// The months in which it holds, a bit per month from January.
    pub months: u16,
    /// `while = "dst Zone"`: only in (or, if false, outside) that zone's summer time.
    pub season: Option<(bool, Tz)>,
    pub windows: Windows,
    /// When `OFF` trades begin to belong to the next session.
    pub roll: Option<Minutes>,
    /// Empty where the calendar's own source covers the row.
    pub source: String,
    /// From when on weekly bars begin on this day.
    pub week_start: Option<Weekday>,
}

/// Hours of single days.
#[derive(Clone, Debug)]
pub(crate) struct Special {
    pub line: usize,
    pub name: String,
    /// Empty for the scheduled grid; `outage` for hours that nobody planned.
    pub class: String,
    pub on: Vec<Rule>,
    /// `None` where the special leaves the regular window alone, an empty list where it removes it.
    pub windows: Windows,
    pub truncate: Option<Minutes>,
    /// A session even on a weekday or holiday without one.
    pub open_day: bool,
    /// Its trades clear with the next regular session.
    pub clears_next: bool,
    /// No session at all.
    pub closed: bool,
    /// What stands in the file before it does not count on its days: an exception of a single day.
    pub replaces: bool,
    /// Empty where the calendar's own source covers it.
    pub source: String,
}

/// The windows of a day by their keys: `ON`, `PRE`, `RTH`, `POST` beside each other, or `ETH` with `RTH` inside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Windows {
    pub by_segment: [Option<Vec<(Minutes, Minutes)>>; 4],
    pub eth: Option<Vec<(Minutes, Minutes)>>,
    pub open_auction: Option<Vec<(Minutes, Minutes)>>,
    pub close_auction: Option<Vec<(Minutes, Minutes)>>,
    pub break_auction: Option<Vec<(Minutes, Minutes)>>,
    pub intraday_auction: Option<Vec<(Minutes, Minutes)>>,
}

/// A bit for each month.
pub(crate) const ALL_MONTHS: u16 = 0xfff;

const EARLIEST: TradeDate = TradeDate(-25_567); // 1900-01-01
const LATEST: TradeDate = TradeDate(84_006); // 2200-01-01
const LARGEST_FILE: usize = 1 << 20;
/// Rows of hours and of special hours: every day is compared with each row of hours.
const MOST_HOURS: usize = 200;
const MOST_SPECIALS: usize = 5_000;
/// Days that the rules of a file may name in all, counting each rule's: a file of ranges over centuries would fill the memory.
const MOST_DATES: i64 = 200_000;

impl Spec {
    /// Reads a calendar file.
    pub(crate) fn parse(text: &str) -> Result<Spec> {
        let mut file = File { name: "calendar".into(), text, dates: Cell::new(0) };
        if text.len() > LARGEST_FILE {
            let reason = format!("the file has {} bytes; a calendar file has at most {LARGEST_FILE}", text.len());
            return Err(file.error(Some(LARGEST_FILE..text.len()), reason));
        }
        let root = DeTable::parse(text).map_err(|e| file.error(e.span(), e.message().to_string()))?;
        let root = root.get_ref();
        if let Some(id) = root.get("id").and_then(|id| id.get_ref().as_str()) {
            file.name = format!("calendar {}", id.chars().take(64).collect::<String>());
        }
        file.spec(root)
    }
}

/// The file being read, for its errors.
struct File<'t> {
    name: String,
    text: &'t str,
    /// How many days its rules have named so far.
    dates: Cell<i64>,
}

type Node<'t> = Spanned<DeValue<'t>>;

impl<'t> File<'t> {
    fn error(&self, span: Option<Range<usize>>, reason: impl Into<String>) -> Error {
        let line = span.map(|span| self.line(span.start));
        Error::InvalidSpec { name: self.name.clone(), line, reason: reason.into() }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
    }

    fn at<T>(&self, node: &Node<'t>, reason: impl Into<String>) -> Result<T> {
        Err(self.error(Some(node.span()), reason))
    }

    fn spec(&self, root: &DeTable<'t>) -> Result<Spec> {
        const KEYS: [&str; 20] = [
            "schema",
            "id",
            "name",
            "aliases",
            "alias",
            "tz",
            "main",
            "known",
            "projected_from",
            "version",
            "source",
            "week_start",
            "grace_minutes",
            "restart_at_segments",
            "nights_before_holidays",
            "hours",
            "holidays",
            "closed",
            "closed_lists",
            "special",
        ];
        self.keys(root, &KEYS)?;
        let schema = self.required(root, "schema")?;
        if self.integer(schema)? != 1 {
            return self.at(schema, "this version reads schema = 1");
        }
        let id_node = self.required(root, "id")?;
        let id = self.string(id_node)?.to_string();
        // A day boundary has a space and a colon in its id: 24/7@17:00 America/New_York.
        let plain = id.strip_prefix(around_clock::PREFIX).map(|boundary| boundary.replace([':', ' ', '+'], ""));
        let plain = plain.as_deref().unwrap_or(&id);
        if plain.is_empty() || id.len() > 64 || !plain.chars().all(|c| c.is_ascii_alphanumeric() || "_/-.".contains(c))
        {
            return self.at(id_node, "an id is 1 to 64 letters, digits, _ / - or .");
        }
        let tz = self.zone(self.required(root, "tz")?)?;
        let hours = self.list(root, "hours", |node, table| self.hours(node, table))?;
        if hours.is_empty() {
            return Err(self.error(None, "there is no [[hours]] row, so there would be no session"));
        }
        let specials = self.list(root, "special", |node, table| self.special(node, table))?;
        for (key, rows, most) in [("hours", hours.len(), MOST_HOURS), ("special", specials.len(), MOST_SPECIALS)] {
            if let Some(node) = root.get(key).filter(|_| rows > most) {
                return self.at(node, format!("{rows} rows [[{key}]]; a calendar file has at most {most}"));
            }
        }
        let (holidays, one_off_from) = self.holidays(root)?;
        let futures = hours.iter().any(|row| row.windows.eth.is_some());
        Ok(Spec {
            name: self.optional(root, "name", Self::string)?.map_or_else(|| id.clone(), str::to_string),
            aliases: match root.get("aliases").or_else(|| root.get("alias")) {
                Some(node) => self.strings(node)?.into_iter().map(|(_, text)| text.to_string()).collect(),
                None => Vec::new(),
            },
            tz,
            main: match root.get("main") {
                Some(node) => self
                    .string(node)
                    .and_then(|text| Segments::parse(text).or_else(|e| self.at(node, format!("{e}; {}", e.hint()))))?,
                None if futures => Segments::ETH,
                None => Segments::RTH,
            },
            known: self.known(self.required(root, "known")?)?,
            projected_from: self.optional(root, "projected_from", Self::date)?,
            version: match root.get("version") {
                Some(node) => {
                    u32::try_from(self.integer(node)?).or_else(|_| self.at(node, "a version is 0 or more"))?
                }
                None => 1,
            },
            source: self.optional(root, "source", Self::string)?.unwrap_or_default().to_string(),
            week_start: root.get("week_start").map_or(Ok(Weekday::Mon), |node| self.weekday(node))?,
            grace: match root.get("grace_minutes") {
                Some(node) => match self.integer(node)? {
                    minutes @ 0..=1440 => minutes * MINUTE,
                    _ => return self.at(node, "the grace is 0 to 1440 minutes"),
                },
                None => 30 * MINUTE,
            },
            restart_at_segments: self.optional(root, "restart_at_segments", Self::boolean)?.unwrap_or(!futures),
            nights_before_holidays: self.optional(root, "nights_before_holidays", Self::boolean)?.unwrap_or(false),
            id,
            hours,
            holidays,
            one_off_from,
            specials,
        })
    }

    fn known(&self, node: &Node<'t>) -> Result<(TradeDate, TradeDate)> {
        let Some([first, last]) =
            node.get_ref().as_array().and_then(|array| array.get(0..2)).map(|pair| [&pair[0], &pair[1]])
        else {
            return self.at(node, "known = [first date, last date]");
        };
        let known = (self.date(first)?, self.date(last)?);
        if known.0 > known.1 || known.0 < EARLIEST || known.1 > LATEST {
            return self.at(node, format!("known dates run forward and lie between {EARLIEST} and {LATEST}"));
        }
        Ok(known)
    }

    fn hours(&self, node: &Node<'t>, table: &DeTable<'t>) -> Result<Hours> {
        const KEYS: [&str; 19] = [
            "days",
            "from",
            "to",
            "months",
            "while",
            "roll",
            "week_start",
            "name",
            "source",
            "ON",
            "PRE",
            "RTH",
            "POST",
            "ETH",
            "open_auction",
            "close_auction",
            "break_auction",
            "intraday_auction",
            "class",
        ];
        self.keys(table, &KEYS)?;
        let days = self.required_in(node, table, "days")?;
        let windows = self.windows(table)?;
        let row = Hours {
            line: self.line(node.span().start),
            from: self.optional(table, "from", Self::date)?.unwrap_or(TradeDate(i32::MIN)),
            to: self.optional(table, "to", Self::date)?.unwrap_or(TradeDate(i32::MAX)),
            days: weekdays(self.string(days)?).map_or_else(|| self.at(days, "days are such as \"mon-fri\""), Ok)?,
            months: match table.get("months") {
                Some(node) => {
                    months(self.string(node)?).map_or_else(|| self.at(node, "months are such as \"nov-feb\""), Ok)?
                }
                None => ALL_MONTHS,
            },
            season: self.optional(table, "while", Self::season)?,
            roll: match table.get("roll") {
                Some(node) => minutes(self.string(node)?).map_or_else(|| self.at(node, TIME), |time| Ok(Some(time)))?,
                None => None,
            },
            week_start: table.get("week_start").map(|node| self.weekday(node)).transpose()?,
            windows,
            source: self.optional(table, "source", Self::string)?.unwrap_or_default().to_string(),
        };
        // A special may take the break away, regular hours may not.
        let regular = &row.windows.by_segment[Segment::Rth as usize];
        let breaks = row.windows.eth.is_some() || regular.as_ref().is_some_and(|rth| rth.len() > 1);
        if let (Some(node), Some([_, ..]), false) =
            (table.get("break_auction"), row.windows.break_auction.as_deref(), breaks)
        {
            return self.at(node, "break_auction needs a break: two windows of RTH");
        }
        match row.windows.spans() {
            Ok(spans) if spans.is_empty() => self.at(node, "a row of hours needs a window: RTH, or ETH, PRE, POST, ON"),
            Ok(spans) if row.windows.intraday_auction.iter().flatten().any(|window| !is_inside(&spans, *window)) => {
                self.at(table.get("intraday_auction").unwrap_or(node), "intraday_auction lies inside a window of RTH")
            }
            Ok(_) => Ok(row),
            Err(reason) => self.at(node, reason),
        }
    }

    fn special(&self, node: &Node<'t>, table: &DeTable<'t>) -> Result<Special> {
        const KEYS: [&str; 19] = [
            "name",
            "class",
            "on",
            "truncate",
            "open_day",
            "closed",
            "replaces",
            "trade_date",
            "source",
            "ON",
            "PRE",
            "RTH",
            "POST",
            "ETH",
            "open_auction",
            "close_auction",
            "break_auction",
            "intraday_auction",
            "while",
        ];
        self.keys(table, &KEYS)?;
        let clears_next = match table.get("trade_date") {
            Some(node) if self.string(node)? == "next" => true,
            Some(node) => return self.at(node, "trade_date = \"next\" is the only value"),
            None => false,
        };
        Ok(Special {
            line: self.line(node.span().start),
            name: self.optional(table, "name", Self::string)?.unwrap_or("special hours").to_string(),
            class: self.optional(table, "class", Self::string)?.unwrap_or_default().to_string(),
            on: self.rules(self.required_in(node, table, "on")?)?,
            windows: self.windows(table)?,
            truncate: match table.get("truncate") {
                Some(node) => minutes(self.string(node)?).map_or_else(|| self.at(node, TIME), |time| Ok(Some(time)))?,
                None => None,
            },
            open_day: self.optional(table, "open_day", Self::boolean)?.unwrap_or(false),
            closed: self.optional(table, "closed", Self::boolean)?.unwrap_or(false),
            replaces: self.optional(table, "replaces", Self::boolean)?.unwrap_or(false),
            clears_next,
            source: self.optional(table, "source", Self::string)?.unwrap_or_default().to_string(),
        })
    }

    fn windows(&self, table: &DeTable<'t>) -> Result<Windows> {
        let read = |key: &str| match table.get(key) {
            None => Ok(None),
            Some(node) if node.get_ref().as_bool() == Some(false) => Ok(Some(Vec::new())),
            Some(node) => spans(self.string(node)?).or_else(|reason| self.at(node, reason)).map(Some),
        };
        let windows = Windows {
            by_segment: [read("ON")?, read("PRE")?, read("RTH")?, read("POST")?],
            eth: read("ETH")?,
            open_auction: read("open_auction")?,
            close_auction: read("close_auction")?,
            break_auction: read("break_auction")?,
            intraday_auction: read("intraday_auction")?,
        };
        let beside = ["ON", "PRE", "POST"].iter().any(|key| table.contains_key(*key));
        if let Some(node) = table.get("ETH").filter(|_| beside) {
            return self.at(node, "ETH is the whole session: beside it only RTH may stand, not ON, PRE or POST");
        }
        let auctions = [
            ("open_auction", &windows.open_auction),
            ("close_auction", &windows.close_auction),
            ("break_auction", &windows.break_auction),
            ("intraday_auction", &windows.intraday_auction),
        ];
        for (key, window) in auctions {
            if let (Some(node), Some([_, _, ..])) = (table.get(key), window.as_deref()) {
                return self.at(node, "an auction has one window");
            }
        }
        Ok(windows)
    }

    /// Holidays and one-off closures alike: a name and the dates it closes, and where the one-off ones begin.
    fn holidays(&self, root: &DeTable<'t>) -> Result<(Closures, usize)> {
        let mut closures = Vec::new();
        for key in ["holidays", "closed_lists"] {
            for (name, node) in self.optional(root, key, Self::table)?.into_iter().flatten() {
                closures.push((name.get_ref().to_string(), self.rules(node)?));
            }
        }
        let one_off_from = closures.len();
        for (rule, node) in self.optional(root, "closed", Self::table)?.into_iter().flatten() {
            let dates = self.rule(rule.get_ref()).map_err(|reason| self.error(Some(rule.span()), reason))?;
            closures.push((self.string(node)?.to_string(), vec![dates]));
        }
        Ok((closures, one_off_from))
    }

    fn rules(&self, node: &Node<'t>) -> Result<Vec<Rule>> {
        let rules = self.strings(node)?;
        rules.into_iter().map(|(node, text)| self.rule(text).or_else(|reason| self.at(node, reason))).collect()
    }

    fn rule(&self, text: &str) -> std::result::Result<Rule, String> {
        let rule = Rule::parse(text)?;
        self.dates.set(self.dates.get().saturating_add(match &rule {
            Rule::Dates(first, last) => i64::from(last.0) - i64::from(first.0) + 1,
            Rule::Yearly(_) => 100,
        }));
        match self.dates.get() > MOST_DATES {
            true => {
                Err(format!("the rules up to here name more than {MOST_DATES} days; give ranges no longer than needed"))
            }
            false => Ok(rule),
        }
    }

    fn weekday(&self, node: &Node<'t>) -> Result<Weekday> {
        weekday(self.string(node)?).map_or_else(|| self.at(node, "a weekday is mon, tue, ... sun"), Ok)
    }

    fn season(&self, node: &Node<'t>) -> Result<(bool, Tz)> {
        let text = self.string(node)?;
        let (summer, zone) = match text.split_once(' ') {
            Some(("dst", zone)) => (true, zone),
            Some(("std", zone)) => (false, zone),
            _ => return self.at(node, "while is \"dst Zone\" or \"std Zone\", such as \"dst America/New_York\""),
        };
        self.zone_named(node, zone).map(|zone| (summer, zone))
    }

    fn zone(&self, node: &Node<'t>) -> Result<Tz> {
        self.zone_named(node, self.string(node)?)
    }

    fn zone_named(&self, node: &Node<'t>, name: &str) -> Result<Tz> {
        name.parse().or_else(|_| {
            let hint = nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name()));
            let hint = hint.map(|zone| format!("; did you mean \"{zone}\"?")).unwrap_or_default();
            self.at(node, format!("\"{}\" is no IANA time zone{hint}", shorten(name)))
        })
    }

    // The small readers: one value each, or an error on its line.

    fn keys(&self, table: &DeTable<'t>, known: &[&'static str]) -> Result<()> {
        let Some(key) = table.keys().find(|key| !known.contains(&key.get_ref().as_ref())) else { return Ok(()) };
        let hint = nearest(key.get_ref(), known.iter().copied());
        let hint = hint.map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        Err(self.error(Some(key.span()), format!("unknown key \"{}\"{hint}", shorten(key.get_ref()))))
    }

    fn required<'a>(&self, table: &'a DeTable<'t>, key: &str) -> Result<&'a Node<'t>> {
        table.get(key).ok_or_else(|| self.error(None, format!("the key \"{key}\" is missing")))
    }

    fn required_in<'a>(&self, node: &Node<'t>, table: &'a DeTable<'t>, key: &str) -> Result<&'a Node<'t>> {
        table.get(key).map_or_else(|| self.at(node, format!("the key \"{key}\" is missing")), Ok)
    }

    fn optional<'a, T>(
        &self,
        table: &'a DeTable<'t>,
        key: &str,
        read: impl Fn(&Self, &'a Node<'t>) -> Result<T>,
    ) -> Result<Option<T>> {
        table.get(key).map(|node| read(self, node)).transpose()
    }

    fn string<'a>(&self, node: &'a Node<'t>) -> Result<&'a str> {
        node.get_ref().as_str().map_or_else(|| self.at(node, "a text in quotes is expected"), Ok)
    }

    fn boolean(&self, node: &Node<'t>) -> Result<bool> {
        node.get_ref().as_bool().map_or_else(|| self.at(node, "true or false is expected"), Ok)
    }

    fn table<'a>(&self, node: &'a Node<'t>) -> Result<&'a DeTable<'t>> {
        node.get_ref().as_table().map_or_else(|| self.at(node, "a table is expected"), Ok)
    }

    fn integer(&self, node: &Node<'t>) -> Result<i64> {
        let integer = node.get_ref().as_integer().and_then(|int| i64::from_str_radix(int.as_str(), int.radix()).ok());
        integer.map_or_else(|| self.at(node, "a whole number is expected"), Ok)
    }

    fn date(&self, node: &Node<'t>) -> Result<TradeDate> {
        let text = match node.get_ref().as_datetime() {
            Some(date) => date.to_string(),
            None => self.string(node)?.to_string(),
        };
        TradeDate::parse(&text).or_else(|_| self.at(node, "a date such as 2024-03-15 is expected"))
    }

    /// A text, or a list of texts.
    fn strings<'a>(&self, node: &'a Node<'t>) -> Result<Vec<(&'a Node<'t>, &'a str)>> {
        match node.get_ref().as_array() {
            Some(array) => array.iter().map(|node| Ok((node, self.string(node)?))).collect(),
            None => Ok(vec![(node, self.string(node)?)]),
        }
    }

    fn list<T>(
        &self,
        root: &DeTable<'t>,
        key: &str,
        read: impl Fn(&Node<'t>, &DeTable<'t>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(node) = root.get(key) else { return Ok(Vec::new()) };
        let Some(array) = node.get_ref().as_array() else {
            return self.at(node, format!("rows are written [[{key}]]"));
        };
        array.iter().map(|node| read(node, self.table(node)?)).collect()
    }
}

impl Windows {
    /// The day's spans in time order, or why they contradict each other.
    ///
    /// With `ETH`, its spans are cut at the edges of `RTH`: before it is `ON`, inside `RTH`, after it `POST`. `ETH`
    /// without `RTH` is all regular hours.
    pub(crate) fn spans(&self) -> std::result::Result<Vec<(Segment, Minutes, Minutes)>, String> {
        let rth = self.by_segment[Segment::Rth as usize].as_deref().unwrap_or_default();
        let mut spans = Vec::new();
        match (&self.eth, rth) {
            (Some(eth), []) => spans.extend(eth.iter().map(|&(open, close)| (Segment::Rth, open, close))),
            (Some(eth), [first, .., _] | [first]) => {
                let (from, to) = (first.0, rth[rth.len() - 1].1);
                let (start, end) = (eth.first().map_or(0, |s| s.0), eth.last().map_or(0, |s| s.1));
                if from < start || to > end {
                    return Err("RTH is a window inside ETH and may not reach beyond it".into());
                }
                spans = cut(eth, Some((from, to)));
            }
            (None, _) => {
                for segment in [Segment::On, Segment::Pre, Segment::Rth, Segment::Post] {
                    let windows = self.by_segment[segment as usize].iter().flatten();
                    spans.extend(windows.map(|&(open, close)| (segment, open, close)));
                }
                spans.sort_by_key(|&(_, open, _)| open);
            }
        }
        match spans.windows(2).find(|pair| pair[0].2 > pair[1].1) {
            Some(pair) => Err(format!("{} and {} overlap", pair[0].0, pair[1].0)),
            None => Ok(spans),
        }
    }
}

/// The spans of `ETH` cut at the edges of the regular hours.
pub(crate) fn cut(eth: &[(Minutes, Minutes)], rth: Option<(Minutes, Minutes)>) -> Vec<(Segment, Minutes, Minutes)> {
    let (from, to) = rth.unwrap_or((Minutes::MAX, Minutes::MAX));
    let mut spans = Vec::new();
    for &(open, close) in eth {
        for (segment, least, most) in
            [(Segment::On, Minutes::MIN, from), (Segment::Rth, from, to), (Segment::Post, to, Minutes::MAX)]
        {
            let (open, close) = (open.max(least), close.min(most));
            if open < close {
                spans.push((segment, open, close));
            }
        }
    }
    spans
}

const TIME: &str = "a wall-clock time such as \"09:30\", \"17:00-1d\", \"00:00+1d\" or \"21:00-1s\" is expected";

/// `09:30`, `17:00-1d` (at most three days before or after), `21:00-1s` (on the previous session's day), `02:30-1s+1d`.
fn minutes(text: &str) -> Option<Minutes> {
    let (time, offset) = (text.get(..5)?, text.get(5..)?);
    let (base, offset) = match offset.strip_prefix("-1s") {
        Some(offset) => (PREVIOUS_SESSION, offset),
        None => (0, offset),
    };
    let days = match offset {
        "" => 0,
        _ => offset.strip_suffix('d').filter(|_| offset.starts_with(['+', '-']))?.parse().ok()?,
    };
    let (hour, minute) = time.split_once(':')?;
    let number = |text: &str| text.parse::<i32>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let (hour, minute) = (number(hour)?, number(minute)?);
    let legal = hour < 24 && minute < 60 && (-3..=3).contains(&days);
    legal.then_some(base + hour * 60 + minute + days * 1440)
}

/// `17:00-1d-15:15, 15:30-16:00`.
fn spans(text: &str) -> std::result::Result<Vec<(Minutes, Minutes)>, String> {
    let mut spans = Vec::new();
    if text.len() > 500 {
        return Err("too many windows in one day".into());
    }
    for part in text.split(',') {
        let part = part.trim();
        // The dash between two times is the first one after which a whole time stands.
        let read = part.match_indices('-').find_map(|(dash, _)| minutes(&part[..dash]).zip(minutes(&part[dash + 1..])));
        match read {
            Some((open, close)) if open < close => spans.push((open, close)),
            Some(_) => return Err(format!("\"{}\" closes before it opens; use +1d or -1d", shorten(part))),
            None => {
                return Err(format!(
                    "\"{}\" is no window such as \"09:30-16:00\" or \"17:00-1d-16:00\"",
                    shorten(part)
                ));
            }
        }
    }
    match spans.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        Some(_) => Err("windows follow each other in time and do not overlap".into()),
        None => Ok(spans),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}
