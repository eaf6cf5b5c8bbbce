//! What a load did, in numbers.

use std::time::Duration;

/// What a load did.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Sources read: files and archive members.
    pub sources: u64,
    /// Trades read.
    pub read: u64,
    /// Trades the database did not have.
    pub new: u64,
    /// Trades the database had already.
    pub known: u64,
    /// Trades whose identity is there with other content; they are in `dead_letters`.
    pub conflicts: u64,
    /// Lines that are no trades; they are in `dead_letters`.
    pub rejects: u64,
    /// Statistics read: settlements, open interest and the like.
    pub stats: u64,
    /// Statistics the database did not have.
    pub new_stats: u64,
    /// Sessions written.
    pub sessions: u64,
    /// Instruments seen.
    pub instruments: usize,
    /// Instruments made.
    pub created: usize,
    /// Bytes sent, packed.
    pub bytes: u64,
    /// What went wrong with single files; the rest is loaded.
    pub problems: Vec<String>,
    /// From start to end.
    pub elapsed: Duration,
    /// Whether nothing was written.
    pub dry_run: bool,
}

impl Summary {
    /// 0 when every file was read to its end.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.problems.is_empty())
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.elapsed.as_secs_f64();
        let rate = (self.read as f64 / seconds.max(1e-9)) as u64;
        let row = |f: &mut std::fmt::Formatter<'_>, what: &str, value: String| writeln!(f, "{what:<13}{value:>15}");
        row(f, "sources", thousands(self.sources))?;
        row(f, "trades read", thousands(self.read))?;
        if self.dry_run {
            row(f, "sessions", thousands(self.sessions))?;
        } else {
            row(f, "new", thousands(self.new))?;
            row(f, "known", thousands(self.known))?;
            row(f, "conflicts", thousands(self.conflicts))?;
        }
        row(f, "rejects", thousands(self.rejects))?;
        if self.stats > 0 {
            let new = format!("  ({} new)", thousands(self.new_stats));
            row(f, "statistics", format!("{}{}", thousands(self.stats), if self.dry_run { "" } else { &new }))?;
        }
        if !self.dry_run {
            row(f, "sessions", thousands(self.sessions))?;
        }
        let made = match (self.created, self.dry_run) {
            (0, _) => String::new(),
            (n, false) => format!("  ({n} created)"),
            (n, true) => format!("  ({n} would be created)"),
        };
        row(f, "instruments", format!("{}{made}", thousands(self.instruments as u64)))?;
        write!(f, "{:<13}{:>15}  ({} trades/s", "seconds", format!("{seconds:.2}"), thousands(rate))?;
        if self.read > 0 {
            write!(f, ", {:.2} bytes a trade sent", self.bytes as f64 / self.read as f64)?;
        }
        write!(f, ")")?;
        if self.dry_run {
            write!(f, "\ndry run: nothing was written")?;
        } else if self.new == 0 && self.read > 0 && self.conflicts == 0 {
            write!(f, "\nnothing new: every trade was there already")?;
        }
        Ok(())
    }
}

pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
