//! How far long work is, on the standard error of a terminal; nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What is answered sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// A bar or a counter; it removes itself.
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    shown: AtomicBool,
}

fn wanted() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

impl Progress {
    fn new(wanted: bool, count: Option<u64>, template: &str) -> Progress {
        let bar = wanted.then(|| {
            let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(count, ProgressDrawTarget::hidden()).with_style(style)
        });
        Progress { bar, begun: Instant::now(), shown: AtomicBool::new(false) }
    }

    /// Rows as they come; none where the rows themselves go to the terminal.
    pub fn rows(to_terminal: bool) -> Progress {
        Progress::new(!to_terminal && wanted(), None, "{spinner} {human_pos} rows, {elapsed}")
    }

    /// So many steps, of sessions or whatever they are called.
    pub fn steps(count: u64, what: &str) -> Progress {
        Progress::new(wanted(), Some(count), &format!("{{bar:32}} {{pos}}/{{len}} {what}, {{eta}} left"))
    }

    /// More is done.
    pub fn advance(&self, by: usize) {
        if let Some(bar) = &self.bar {
            bar.inc(by as u64);
        }
        self.tick();
    }

    /// Still at work.
    pub fn tick(&self) {
        let Some(bar) = &self.bar else { return };
        if self.begun.elapsed() >= PATIENCE && !self.shown.swap(true, Ordering::Relaxed) {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
        }
        bar.tick();
    }

    /// A line on the standard error that the bar does not run into.
    pub fn note(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
