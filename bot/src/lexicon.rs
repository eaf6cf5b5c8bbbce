//! Which words a question may have? A closed list, the symbols of the database, numbers and dates. Any other word, and any
//! character no question needs, refuses the whole question; so no text of a user gets further than this file.

use crate::error::{Refusal, RefusalKind};
use crate::instruments::{Directory, Ticker};
use chrono::{NaiveDate, Weekday};
use market::nearest::nearest;
use market::{Segment, Segments};

/// Characters a question may have.
pub const MOST_CHARACTERS: usize = 200;
/// Words a question may have.
pub const MOST_WORDS: usize = 40;
const MARKS: &str = " \t\n.,?!'’-/:_$=";

/// What a word of a question means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// `what`, `show`, `how`: asks for a number.
    What,
    /// `chart`, `candles`.
    Chart,
    /// `is`, `was`, `does`: may ask whether something is open.
    Is,
    /// `when`.
    When,
    /// `time`, as in `what time`.
    Time,
    /// `hours`, `schedule`.
    Hours,
    /// `help`.
    Help,
    /// A measure of a session.
    Stat(Stat),
    /// `closed`, `trading`: only ever a state.
    State,
    /// `rth`, `overnight`.
    Segments(Segments),
    /// `5m`, `daily`.
    Timeframe(market::Timeframe),
    /// `minute` after a number.
    Minute,
    /// `hour` after a number.
    Hour,
    /// A number of sessions or minutes, or a day of a month, or a year.
    Number(u32),
    /// `2025-11-24`.
    Date(NaiveDate),
    /// `november`: 11.
    MonthName(u32),
    /// `monday`.
    Weekday(Weekday),
    /// `session`, `day`.
    Session,
    /// `week`.
    Week,
    /// `month`.
    Month,
    /// `last`, `previous`.
    Last,
    /// `this`, `current`, `now`.
    This,
    /// `next`.
    Next,
    /// `today`.
    Today,
    /// `yesterday`.
    Yesterday,
    /// `tomorrow`.
    Tomorrow,
    /// `ago`.
    Ago,
    /// `to`, `and`.
    To,
    /// `from`, `between`.
    From,
    /// An instrument of the database.
    Symbol(Ticker),
    /// A calendar, by the name of a place or an exchange.
    Place(&'static str),
}

/// A measure of a session or of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stat {
    /// First price.
    Open,
    /// Highest price.
    High,
    /// Lowest price.
    Low,
    /// Last price.
    Close,
    /// High minus low.
    Range,
    /// Sum of sizes.
    Volume,
    /// Volume-weighted average price.
    Vwap,
    /// Number of trades.
    Trades,
    /// All of them.
    Bar,
}

/// Words that say nothing about the question.
const FILLERS: &[&str] = &[
    "the", "of", "on", "in", "a", "an", "for", "please", "me", "at", "during", "over", "it", "its", "s", "so", "far",
    "price", "much", "many", "number", "with", "market", "markets", "exchange", "like", "by", "full", "whole", "hi",
    "hello", "hey", "thanks", "you", "can", "could", "i", "get", "see", "have", "had", "there",
];

/// Every other word and its meaning. Two-word names come first, since the longest match wins.
const PHRASES: &[(&str, &str, Word)] = &[
    ("new", "york", Word::Place("XNYS")),
    ("hong", "kong", Word::Place("XHKG")),
    ("wall", "street", Word::Place("XNYS")),
    ("after", "hours", Word::Segments(Segments::only(Segment::Post))),
    ("pre", "market", Word::Segments(Segments::only(Segment::Pre))),
    ("post", "market", Word::Segments(Segments::only(Segment::Post))),
    ("regular", "hours", Word::Segments(Segments::RTH)),
    ("extended", "hours", Word::Segments(Segments::ETH)),
    ("trading", "hours", Word::Hours),
    ("opening", "hours", Word::Hours),
    ("right", "now", Word::This),
];

fn meaning(word: &str) -> Option<Word> {
    use market::timeframe::Timeframe::{Days, Intraday, Month, Week};
    let only = |segment| Word::Segments(Segments::only(segment));
    Some(match word {
        "what" | "what's" | "whats" | "show" | "give" | "tell" | "how" | "which" => Word::What,
        "chart" | "charts" | "plot" | "graph" | "draw" | "candles" | "candlestick" | "candlesticks" | "bars" => {
            Word::Chart
        }
        "is" | "are" | "was" | "were" | "does" | "did" | "do" | "will" => Word::Is,
        "when" | "when's" | "whens" => Word::When,
        "time" => Word::Time,
        "hours" | "schedule" | "times" => Word::Hours,
        "help" | "commands" | "examples" => Word::Help,
        "open" | "opened" | "opening" | "opens" => Word::Stat(Stat::Open),
        "high" | "highest" | "highs" | "top" | "max" | "maximum" => Word::Stat(Stat::High),
        "low" | "lowest" | "lows" | "bottom" | "min" | "minimum" => Word::Stat(Stat::Low),
        "close" | "closes" | "closing" | "last-price" => Word::Stat(Stat::Close),
        "closed" | "trading" => Word::State,
        "range" => Word::Stat(Stat::Range),
        "volume" | "vol" => Word::Stat(Stat::Volume),
        "vwap" => Word::Stat(Stat::Vwap),
        "trades" => Word::Stat(Stat::Trades),
        "bar" | "ohlc" | "ohlcv" | "candle" | "summary" => Word::Stat(Stat::Bar),
        "rth" | "regular" => Word::Segments(Segments::RTH),
        "eth" | "globex" | "extended" => Word::Segments(Segments::ETH),
        "overnight" | "on-session" => only(Segment::On),
        "premarket" | "pre-market" | "pre" => only(Segment::Pre),
        "postmarket" | "post-market" | "after-hours" | "afterhours" | "post" => only(Segment::Post),
        "daily" => Word::Timeframe(Days(1)),
        "weekly" => Word::Timeframe(Week),
        "monthly" => Word::Timeframe(Month),
        "hourly" => Word::Timeframe(Intraday(market::time::HOUR)),
        "minute" | "minutes" | "mins" => Word::Minute,
        "hour" => Word::Hour,
        "session" | "sessions" | "day" | "days" => Word::Session,
        "week" | "weeks" => Word::Week,
        "month" | "months" => Word::Month,
        "last" | "previous" | "past" | "prior" | "latest" => Word::Last,
        "this" | "current" | "now" => Word::This,
        "next" => Word::Next,
        "today" => Word::Today,
        "yesterday" => Word::Yesterday,
        "tomorrow" => Word::Tomorrow,
        "ago" => Word::Ago,
        "to" | "until" | "through" | "and" => Word::To,
        "from" | "between" | "since" => Word::From,
        "monday" | "mon" => Word::Weekday(Weekday::Mon),
        "tuesday" | "tue" | "tues" => Word::Weekday(Weekday::Tue),
        "wednesday" | "wed" => Word::Weekday(Weekday::Wed),
        "thursday" | "thu" | "thurs" => Word::Weekday(Weekday::Thu),
        "friday" | "fri" => Word::Weekday(Weekday::Fri),
        "saturday" | "sat" => Word::Weekday(Weekday::Sat),
        "sunday" | "sun" => Word::Weekday(Weekday::Sun),
        "ny" | "nyse" | "nasdaq" | "us" | "usa" => Word::Place("XNYS"),
        "london" | "lse" => Word::Place("XLON"),
        "tokyo" | "tse" | "jpx" | "japan" => Word::Place("XTKS"),
        "hk" | "hkex" | "hongkong" => Word::Place("XHKG"),
        "comex" => Word::Place("CME_METALS"),
        "nymex" => Word::Place("CME_ENERGY"),
        "cme" => Word::Place("CME_EQUITY"),
        _ => {
            return MONTHS
                .iter()
                .position(|(short, long)| [short, long].contains(&&word))
                .map(|at| Word::MonthName(at as u32 + 1));
        }
    })
}

const MONTHS: [(&str, &str); 12] = [
    ("jan", "january"),
    ("feb", "february"),
    ("mar", "march"),
    ("apr", "april"),
    ("may", "may"),
    ("jun", "june"),
    ("jul", "july"),
    ("aug", "august"),
    ("sep", "september"),
    ("oct", "october"),
    ("nov", "november"),
    ("dec", "december"),
];

/// Words offered when one is misspelt.
const SUGGESTED: &[&str] = &[
    "open",
    "high",
    "low",
    "close",
    "range",
    "volume",
    "vwap",
    "trades",
    "chart",
    "hours",
    "when",
    "yesterday",
    "today",
    "last",
    "sessions",
    "session",
    "week",
    "month",
    "overnight",
    "premarket",
    "rth",
    "eth",
    "daily",
    "hourly",
    "weekly",
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "london",
    "tokyo",
    "nyse",
    "what",
    "help",
    "between",
    "ago",
];

/// Reads a question into words.
///
/// # Errors
/// A refusal that names the first character or word that is not understood, with near matches.
pub fn read(question: &str, directory: &Directory) -> Result<Vec<Word>, Refusal> {
    // Counted before anything else looks at the text, so that long texts cost nothing.
    if question.chars().nth(MOST_CHARACTERS).is_some() {
        return Err(too_long());
    }
    if let Some(c) = question.chars().find(|c| !c.is_ascii_alphanumeric() && !MARKS.contains(*c)) {
        let shown = if c.is_control() { "a control character".to_string() } else { format!("the character {c:?}") };
        return Err(Refusal::new(
            RefusalKind::Character,
            format!("I cannot read {shown}."),
            "Use letters, digits and plain punctuation, as in: what was ES's RTH high yesterday?",
        ));
    }
    let texts: Vec<&str> = question
        .split(|c: char| c.is_whitespace() || matches!(c, ',' | '?' | '!'))
        .map(bare)
        .filter(|text| !text.is_empty())
        .collect();
    if texts.len() > MOST_WORDS {
        return Err(too_long());
    }
    let mut words = Vec::with_capacity(texts.len());
    let mut at = 0;
    while at < texts.len() {
        let lower = texts[at].to_ascii_lowercase();
        let following = texts.get(at + 1).map(|text| text.to_ascii_lowercase()).unwrap_or_default();
        if let Some((_, _, word)) = PHRASES.iter().find(|(one, two, _)| *one == lower && *two == following) {
            words.push(word.clone());
            at += 2;
            continue;
        }
        at += 1;
        // `ON` among words that are not shouted is the overnight segment; `on` is nothing.
        if texts[at - 1] == "ON" && question.bytes().any(|b| b.is_ascii_lowercase()) {
            words.push(Word::Segments(Segments::only(Segment::On)));
            continue;
        }
        if FILLERS.contains(&lower.as_str()) {
            continue;
        }
        words.push(word(texts[at - 1], &lower, directory)?);
    }
    Ok(words)
}

fn word(text: &str, lower: &str, directory: &Directory) -> Result<Word, Refusal> {
    // `$LOW` is the symbol, `low` the price.
    if let Some(symbol) = text.strip_prefix('$') {
        return directory.ticker(symbol).map(Word::Symbol).ok_or_else(|| unknown_symbol(symbol, directory));
    }
    if let Some(word) = meaning(lower) {
        return Ok(word);
    }
    if lower.bytes().all(|b| b.is_ascii_digit()) {
        let number = lower.parse().ok().filter(|number| *number <= 9_999);
        return number.map(Word::Number).ok_or_else(|| unknown_word(text, directory));
    }
    if let Some(number) = ordinal(lower) {
        return Ok(Word::Number(number));
    }
    if let Ok(date) = NaiveDate::parse_from_str(lower, "%Y-%m-%d") {
        return Ok(Word::Date(date));
    }
    if let Some(ticker) = directory.ticker(text) {
        return Ok(Word::Symbol(ticker));
    }
    // After the symbols: a unit alone, such as `m`, is a ticker to some and a timeframe to nobody.
    if lower.starts_with(|c: char| c.is_ascii_digit())
        && let Ok(timeframe) = market::Timeframe::parse(if text.ends_with('M') { text } else { lower })
    {
        return Ok(Word::Timeframe(timeframe));
    }
    if lower.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'/' | b'.' | b'-')) {
        return Err(Refusal::new(
            RefusalKind::UnknownWord,
            format!("I cannot read \"{text}\"."),
            "Write dates as 2025-11-24 or 24 nov 2025.",
        ));
    }
    let like_a_symbol = text.len() <= 12
        && text.chars().any(|c| c.is_ascii_uppercase())
        && !text.chars().any(|c| c.is_ascii_lowercase());
    Err(if like_a_symbol { unknown_symbol(text, directory) } else { unknown_word(text, directory) })
}

/// The word without quotes, a possessive and a full stop.
fn bare(text: &str) -> &str {
    let text = text.trim_matches(|c| matches!(c, '.' | '\'' | '’' | ':' | '-' | '/' | '='));
    let text = ["'s", "’s", "'S", "’S"].into_iter().find_map(|ending| text.strip_suffix(ending)).unwrap_or(text);
    // "what's" keeps nothing of its verb, and needs none.
    text.trim_matches(|c| matches!(c, '\'' | '’'))
}

/// `24th`: 24.
fn ordinal(text: &str) -> Option<u32> {
    let digits = ["st", "nd", "rd", "th"].into_iter().find_map(|ending| text.strip_suffix(ending))?;
    digits.parse().ok().filter(|day| (1..=31).contains(day))
}

fn too_long() -> Refusal {
    Refusal::new(
        RefusalKind::TooLong,
        format!("That is too long for a question: at most {MOST_CHARACTERS} characters and {MOST_WORDS} words."),
        "Ask for one thing at a time, as in: what was ES's RTH high yesterday?",
    )
}

/// Refuses a word. The characters were checked, so it can be repeated.
fn unknown_word(text: &str, directory: &Directory) -> Refusal {
    let near: Vec<String> = nearest(text, SUGGESTED.iter().copied())
        .into_iter()
        .chain(nearest(text, directory.names()))
        .map(|name| format!("\"{name}\""))
        .collect();
    let hint = match near.as_slice() {
        [] => "Ask for open, high, low, close, range, volume or vwap of a symbol, a chart, or when a market opens. \
               \"help\" shows examples."
            .to_string(),
        near => format!("Did you mean {}?", near.join(" or ")),
    };
    Refusal::new(RefusalKind::UnknownWord, format!("I do not know the word \"{}\".", shortened(text)), hint)
}

/// Refuses a symbol.
pub fn unknown_symbol(text: &str, directory: &Directory) -> Refusal {
    let hint = match nearest(text, directory.names()) {
        Some(name) => format!("Did you mean {name}?"),
        None => match directory.some_names(8) {
            names if names.is_empty() => "The database has no instruments yet.".to_string(),
            names => format!("Symbols I know: {names}."),
        },
    };
    Refusal::new(RefusalKind::UnknownSymbol, format!("I do not know the symbol \"{}\".", shortened(text)), hint)
}

fn shortened(text: &str) -> String {
    // Only ASCII reaches this far.
    if text.len() <= 32 { text.to_string() } else { format!("{}...", text.chars().take(32).collect::<String>()) }
}
