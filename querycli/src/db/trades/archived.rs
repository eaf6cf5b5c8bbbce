//! Trades of an archive alone: the columns of its files are those of the view, and nothing lies over them.

use super::columns::Page;
use super::{Form, Maker, Scope, Work};
use crate::archive::{Batches, Contents, Manifest};
use crate::db::{Db, Instrument};
use crate::error::Result;
use arrow::array::RecordBatch;
use market::{Calendar, TradeDate};
use std::collections::VecDeque;
use std::sync::Arc;

/// Sessions whose manifests are asked for at once.
const SOME: usize = 64;

/// Reads session after session.
pub struct Reader {
    db: Arc<Db>,
    scope: Scope,
    form: Form,
    /// Columns of the files.
    wanted: Vec<String>,
    sessions: VecDeque<((i32, String), TradeDate)>,
    /// Of these the next, with their manifests.
    some: VecDeque<(i32, Manifest)>,
    /// The files of the next.
    files: Option<Contents>,
    /// Of an instrument, with the hours that its sessions were made with.
    maker: Option<(i32, &'static Calendar, Maker)>,
    batches: Option<Batches>,
    work: Work,
}

impl Reader {
    /// Finds the sessions of this partition; opens none.
    pub fn open(db: Arc<Db>, scope: Scope, form: Form, work: Work) -> Result<Reader> {
        let (parts, number) = scope.share;
        let ((first, last), _) = scope.reach();
        let mut sessions = Vec::new();
        if let Some(archive) = &db.archive {
            if scope.instruments.is_empty() {
                archive.expect_all()?;
            }
            for instrument in Instrument::archived(archive, &scope.instruments)? {
                let days = archive.days(&instrument.1)?;
                let days = days.into_iter().filter(|day| (first..=last).contains(day));
                sessions.extend(days.map(|day| (instrument.clone(), day)));
            }
        }
        // Sessions of one instrument are much of a size, so every so many is a fair share.
        let sessions = sessions.into_iter().skip(number).step_by(parts).collect();
        let mut wanted: Vec<String> = form.schema().fields().iter().map(|field| field.name().clone()).collect();
        let mut also = |names: &[&str]| wanted.extend(names.iter().map(|name| (*name).to_owned()));
        if form.asks(&["trade_date", "segment"]) {
            also(&["ts"]);
        }
        if form.asks(&["segment"]) {
            also(&["flags"]);
        }
        if form.asks(&["bar"]) {
            also(&["ts", "price", "size", "seq"]);
        }
        Ok(Reader {
            db,
            scope,
            form,
            wanted,
            sessions,
            some: VecDeque::new(),
            files: None,
            maker: None,
            batches: None,
            work,
        })
    }

    /// The next rows; `None` at the end.
    pub fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let (Some(batches), Some((.., maker))) = (&mut self.batches, &mut self.maker) {
                if let Some(page) = batches.next_page()? {
                    self.work.pages_decoded.add(1);
                    match maker.page(&Page::Archived(&page))? {
                        Some(rows) => return Ok(Some(self.counted(rows))),
                        None => continue,
                    }
                }
                self.batches = None;
            }
            if self.some.is_empty() && !self.sessions.is_empty() {
                self.open_some()?;
                continue;
            }
            let next = self.some.front().map(|(id, _)| *id);
            if let Some((.., mut maker)) = self.maker.take_if(|(id, ..)| Some(*id) != next)
                && let Some(rows) = maker.finish()?
            {
                return Ok(Some(self.counted(rows)));
            }
            let (Some((id, manifest)), Some(archive)) = (self.some.pop_front(), &self.db.archive) else {
                return Ok(None);
            };
            let Some(bytes) = self.files.as_mut().map(Contents::next_file).transpose()?.flatten() else { continue };
            self.work.archived_sessions.add(1);
            self.batches = Some(Batches::open(bytes, &self.wanted, self.scope.instants)?);
            let calendar = archive.calendar(&manifest, &self.db.calendars)?;
            let before = self.maker.take_if(|(_, of, _)| !of.is_same(calendar));
            let form = &self.form;
            let symbol = manifest.symbol;
            self.maker.get_or_insert_with(|| (id, calendar, form.of(Instrument { id, symbol, calendar })));
            if let Some((.., mut before)) = before
                && let Some(rows) = before.finish()?
            {
                return Ok(Some(self.counted(rows)));
            }
        }
    }

    /// Reads the next manifests, and begins with the files of those that have trades in the range.
    fn open_some(&mut self) -> Result<()> {
        let Some(archive) = &self.db.archive else { return Ok(()) };
        let next: Vec<_> = self.sessions.drain(..SOME.min(self.sessions.len())).collect();
        archive.expect(next.iter().map(|((_, symbol), day)| (symbol.as_str(), *day)));
        let (low, high) = self.scope.instants;
        for ((id, symbol), day) in next {
            let manifest = archive.manifest(&symbol, day)?;
            let meets = |manifest: &Manifest| low <= manifest.last_ts && manifest.first_ts <= high;
            self.some.extend(manifest.filter(meets).map(|manifest| (id, manifest)));
        }
        self.files = Some(archive.contents(self.some.iter().map(|(_, manifest)| manifest.trades.clone())));
        Ok(())
    }

    fn counted(&self, rows: RecordBatch) -> RecordBatch {
        self.work.output_rows.add(rows.num_rows());
        rows
    }
}
