//! Trades of a database: sealed blocks and archived pages with live rows over them, instrument after instrument.

use super::columns::Page;
use super::{Form, Maker, Scope, Work};
use crate::archive::{Columns, Pages};
use crate::db::{Blocks, Db, Instrument, Narrow, Overlay, Part, live_rows};
use crate::error::Result;
use arrow::array::RecordBatch;
use market::block::{Core, Header, decode_core, decode_page, decode_seq};
use market::{TradeDate, Trades};
use std::collections::VecDeque;
use std::sync::Arc;

/// Reads instrument after instrument, block after block.
pub struct Reader {
    db: Arc<Db>,
    scope: Scope,
    form: Form,
    needs: Needs,
    instruments: VecDeque<Instrument>,
    current: Option<Current>,
    ready: VecDeque<RecordBatch>,
    work: Work,
}

/// How much of a block a query needs beside times, prices and sizes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Nothing.
    Core,
    /// Sequences, of which bars are made.
    Seq,
    /// Everything.
    All,
}

struct Current {
    maker: Maker,
    blocks: Blocks,
    /// Of the archived session that is being read.
    pages: Option<Box<Pages>>,
    /// Whether live rows may lie over archived pages, which then have their identities.
    keys: bool,
    overlay: Overlay,
    core: Core,
    seq: Vec<i64>,
    trades: Trades,
}

impl Reader {
    /// Finds the instruments of this partition; reads nothing of them yet.
    pub async fn open(db: Arc<Db>, scope: Scope, form: Form, work: Work) -> Result<Reader> {
        let (parts, number) = scope.share;
        let all = Instrument::all(&db, &scope.instruments).await?;
        let instruments = all.into_iter().skip(number).step_by(parts).collect();
        let needs = if form.asks(&["sub", "flags", "cond", "ts_recv", "trade_id"]) {
            Needs::All
        } else if form.asks(&["seq", "bar"]) {
            Needs::Seq
        } else {
            Needs::Core
        };
        Ok(Reader { db, scope, form, needs, instruments, current: None, ready: VecDeque::new(), work })
    }

    /// The next page; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.work.output_rows.add(batch.num_rows());
                return Ok(Some(batch));
            }
            let Some(current) = &mut self.current else {
                let Some(instrument) = self.instruments.pop_front() else { return Ok(None) };
                self.current = Some(self.start(instrument).await?);
                continue;
            };
            if let Some(pages) = &mut current.pages {
                match pages.next_page()? {
                    Some(page) => {
                        self.work.pages_decoded.add(1);
                        let page = if current.keys { current.overlay.over(&page) } else { &page };
                        self.ready.extend(current.maker.page(&Page::Trades(page))?);
                    }
                    None => current.pages = None,
                }
                continue;
            }
            match current.blocks.next().await? {
                Some((_, Part::Block(bytes))) => {
                    self.work.blocks.add(1);
                    current.block(&bytes, &self.scope, self.needs, &self.work, &mut self.ready)?;
                }
                Some((_, Part::Pages(pages))) => {
                    self.work.archived_sessions.add(1);
                    current.pages = Some(pages);
                }
                None => {
                    let rest = current.overlay.rest();
                    if !rest.is_empty() {
                        self.ready.extend(current.maker.page(&Page::Trades(rest))?);
                    }
                    self.ready.extend(current.maker.finish()?);
                    self.current = None;
                }
            }
        }
    }

    async fn start(&mut self, instrument: Instrument) -> Result<Current> {
        let ((first, last), (from, till)) = self.scope.reach();
        let clamp = |day: TradeDate| TradeDate(day.0.clamp(-365_000, 365_000));
        let rows = Arc::new(live_rows(&self.db, instrument.id, from, till).await?);
        let columns = match self.needs == Needs::Core && rows.is_empty() {
            true => Columns::Core,
            false => Columns::All,
        };
        let narrow = Narrow { instants: self.scope.instants, columns, ..Narrow::default() };
        let blocks = Blocks::open(&self.db, instrument.id, clamp(first), clamp(last), narrow).await?;
        let overlay = Overlay::new(Arc::clone(&rows), 0..rows.len());
        Ok(Current {
            maker: self.form.of(instrument),
            blocks,
            pages: None,
            keys: !rows.is_empty(),
            overlay,
            core: Core::new(),
            seq: Vec::new(),
            trades: Trades::new(),
        })
    }
}

impl Current {
    fn block(
        &mut self,
        bytes: &[u8],
        scope: &Scope,
        needs: Needs,
        work: &Work,
        ready: &mut VecDeque<RecordBatch>,
    ) -> Result<()> {
        let header = Header::parse(bytes)?;
        for (at, page) in header.pages.iter().enumerate() {
            let made = if self.overlay.hits(page.last) {
                let merged = self.overlay.merge(bytes, &header, at)?;
                self.maker.page(&Page::Trades(merged))?
            } else if page.first.ts > scope.instants.1 || page.last.ts < scope.instants.0 {
                work.pages_skipped.add(1);
                continue;
            } else if needs == Needs::All {
                self.trades.clear();
                decode_page(bytes, &header, at, &mut self.trades)?;
                self.maker.page(&Page::Trades(&self.trades))?
            } else {
                decode_core(bytes, &header, at, &mut self.core)?;
                if needs == Needs::Seq {
                    decode_seq(bytes, &header, at, &mut self.core, &mut self.seq)?;
                }
                self.maker.page(&Page::Core(&self.core, &self.seq))?
            };
            work.pages_decoded.add(1);
            ready.extend(made);
        }
        Ok(())
    }
}
