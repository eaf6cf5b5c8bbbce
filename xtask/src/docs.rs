//! `cargo xtask docs`: docs/sql.md from the catalog, and the outputs in README and docs/ from what the examples print.

use crate::pg;
use crate::test::step;
use anyhow::{Context, Result};
use std::fs;
use xtask::prefix::Install;
use xtask::server::{Durability, Server};
use xtask::workspace;

/// Writes both, from a throwaway server with the extension as it is now.
pub fn run() -> Result<()> {
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
