//! The calendars that a stream puts in force one after the other, and their sessions.

use anyhow::Result;
use market::{Calendar, Session};
use tests::ledger::Window;
use tests::store;

/// A calendar of the user's own, to be changed.
pub const ACME: &str = r#"schema = 1
id = "ACME"
tz = "America/New_York"
main = "RTH"
known = [2025-11-01, 2025-12-31]
[[hours]]
days = "mon-fri"
PRE  = "04:00-09:30"
RTH  = "09:30-16:00"
POST = "16:00-20:00"
[holidays]
"Thanksgiving" = "4th thu nov"
"#;

/// What the user changes it into: a holiday, an early close, other hours, a holiday less, a Saturday, a roll.
pub fn calendars() -> Vec<String> {
    vec![
        ACME.to_owned(),
        ACME.replace("[holidays]", "[closed]\n\"2025-12-02\" = \"flood\"\n[holidays]"),
        format!("{ACME}[[special]]\non = \"2025-11-28\"\nRTH = \"09:30-13:00\"\nPOST = \"13:00-17:00\"\n"),
        ACME.replace(
            "[holidays]",
            "[[hours]]\ndays = \"mon-fri\"\nfrom = 2025-11-24\nto = 2025-11-26\nPRE = \"04:00-09:00\"\nRTH = \"09:00-16:00\"\nPOST = \"16:00-20:00\"\n[holidays]",
        ),
        ACME.replace("\"Thanksgiving\" = \"4th thu nov\"\n", "\"Christmas\" = \"dec 25\"\n"),
        format!("{ACME}[[special]]\non = \"2025-11-29\"\nopen_day = true\nRTH = \"10:00-12:00\"\n"),
        ACME.replace("POST = \"16:00-20:00\"", "POST = \"16:00-20:00\"\nroll = \"20:00\""),
        ACME.replace("RTH  = \"09:30-16:00\"", "RTH  = \"09:30-12:00, 13:00-16:00\""),
    ]
}

/// A version of the calendar and its sessions.
pub struct Known {
    /// Its file.
    pub toml: String,
    /// Sessions around the trades.
    pub sessions: Vec<Session<'static>>,
    /// Their storage windows.
    pub windows: Vec<Window>,
}

impl Known {
    pub fn new(toml: String) -> Result<Known> {
        let calendar: &'static Calendar = Box::leak(Box::new(Calendar::from_toml(&toml)?));
        let sessions: Vec<_> = store::sessions(calendar, "2025-11-10", "2025-12-19")?;
        let windows = sessions.iter().map(|s| Window { date: s.trade_date.0, from: s.from, till: s.till }).collect();
        Ok(Known { toml, sessions, windows })
    }

    /// The session of an instant.
    pub fn at(&self, ts: i64) -> usize {
        self.windows.iter().position(|w| w.holds(ts)).expect("trades lie between the sessions known here")
    }
}
