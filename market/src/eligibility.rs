//! Eligibility: from a venue's raw sale condition to the bits of [`flags`](crate::trade::flags).
//!
//! The raw condition stays with the trade (`cond`), so a later version of a table can be applied to stored trades. Tables are
//! named and versioned; a released version never changes.

use crate::error::{Error, Result};
use crate::trade::flags::{AUCTION_CLOSE, AUCTION_OPEN, NO_HIGH_LOW, NO_LAST, NO_VOLUME};

/// A table of one venue: what each raw condition means.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// `lean-us-equity`.
    pub name: &'static str,
    /// Grows with every change.
    pub version: u32,
    /// Where the rules come from and how they were checked.
    pub source: &'static str,
    rule: fn(cond: u32) -> u32,
}

impl Table {
    /// The flags of a raw condition.
    #[inline]
    pub fn flags(&self, cond: u32) -> u32 {
        (self.rule)(cond)
    }
}

/// The newest version of every table.
pub const TABLES: &[Table] = &[
    Table { name: "none", version: 1, source: "every trade counts for everything", rule: |_| 0 },
    Table {
        name: "lean-us-equity",
        version: 1,
        source: "QuantConnect Lean tick files: found by comparing SPY 2013-10-07 and 08 with the vendor's own bars \
                 (tests/vendor_bars.rs)",
        rule: lean_us_equity,
    },
];

/// The newest table of that name.
///
/// # Errors
/// `Unknown` with the nearest name.
pub fn table(name: &str) -> Result<&'static Table> {
    TABLES.iter().find(|table| table.name == name).ok_or_else(|| Error::Unknown {
        what: "eligibility table",
        name: name.to_string(),
        nearest: crate::nearest::nearest(name, TABLES.iter().map(|table| table.name)).map(str::to_string),
    })
}

/// Set in a Lean condition (which uses 29 bits) when the file's `suspicious` column is 1.
pub const LEAN_SUSPICIOUS: u32 = 1 << 31;

/// Sale conditions of Lean's US equity tick files, with [`LEAN_SUSPICIOUS`] added where the file says so.
///
/// Odd lots, average-price and other off-market conditions (0x1100228) and suspicious prints update volume only, unless the
/// print is also Form T (0x2000), from which extended-hours bars are priced. 0x1000000 marks a print that is in no bar at
/// all; 0x40 an opening print, which is first in the first regular bar; 0x80 a closing print, which belongs to the last
/// regular bar. With 0x200000 they are one venue's own official price and set none.
pub fn lean_us_equity(cond: u32) -> u32 {
    const NOT_PRICED: u32 = 0x0110_0228;
    const FORM_T: u32 = 0x2000;
    const OPENING_PRINT: u32 = 0x40;
    const CLOSING_PRINT: u32 = 0x80;
    const OFFICIAL: u32 = 0x0020_0000;
    const IN_NO_BAR: u32 = 0x0100_0000;
    let mut flags = 0;
    let unpriced = cond & LEAN_SUSPICIOUS != 0 || cond & OFFICIAL != 0;
    if unpriced || (cond & NOT_PRICED != 0 && cond & FORM_T == 0) {
        flags |= NO_LAST | NO_HIGH_LOW;
    }
    if cond & OPENING_PRINT != 0 {
        flags |= AUCTION_OPEN;
    }
    if cond & CLOSING_PRINT != 0 {
        flags |= AUCTION_CLOSE;
    }
    if cond & IN_NO_BAR != 0 {
        flags |= NO_LAST | NO_HIGH_LOW | NO_VOLUME;
    }
    flags
}
