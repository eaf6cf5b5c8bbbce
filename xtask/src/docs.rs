//! `cargo xtask docs`: docs/calendars from the calendars, docs/sql.md from the catalog, and the outputs in README and docs/ from what the examples print.

use crate::pg;
use crate::test::step;
use anyhow::{Context, Result};
use std::fs;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

/// Writes a page and a picture for every calendar, and the table of all. The test that finds stale ones writes them.
pub fn calendars() -> Result<()> {
    step("docs/calendars");
    let mut pages = pg::cargo();
    pages.args(["test", "-p", "market", "--test", "calendar_pages", "every_calendar_has_its_page"]);
    pg::check(pages.env("BELLWETHER_UPDATE_DOCS", "1"), "the pages of the calendars cannot be written")
}

/// Writes all of it; the catalog and the examples are those of a throwaway server with the extension as it is now.
pub fn run() -> Result<()> {
    calendars()?;
    pg::build_all()?;
    let server = Server::at(&Server::directory(&format!("docs-{}", std::process::id())))?;
    server.install(&Install::built()?)?;
    let _lifeline = server.remove_at_exit()?;
    server.init(Durability::Throwaway)?;
    server.start()?;
    pg::make_database(&server, pg::DATABASE)?;

    step("docs/sql.md");
    let surface = pg::query(&server, pg::DATABASE, xtask::SURFACE)?;
    let path = workspace::root().join("docs/sql.md");
    let text = format!("{}{}\n", xtask::SURFACE_HEADING, surface.trim_end());
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;

    step("the examples' outputs");
    let mut examples = pg::cargo();
    examples.args(["test", "--workspace", "--test", "docs"]).args(pg::features());
    examples.env("BELLWETHER_UPDATE_DOCS", "1").env("BELLWETHER_TEST_DB", server.url("postgres"));
    pg::check(&mut examples, "an example fails")?;
    server.stop()
}
