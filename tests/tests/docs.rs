//! README and the manual, executed: each page against a fresh database.

use anyhow::Result;
use tests::{cluster, docs};

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_the_manual_runs() -> Result<()> {
    let mut pages = vec![tests::root().join("README.md"), tests::root().join("ARCHITECTURE.md")];
    for entry in std::fs::read_dir(tests::root().join("docs"))? {
        pages.push(entry?.path());
    }
    pages.retain(|page| page.extension().is_some_and(|extension| extension == "md"));
    pages.sort();
    let mut failed = Vec::new();
    for page in pages {
        let database = cluster::database("docs").await?;
        match docs::run_page(&page, &database) {
            Ok(count) => println!("{}: {count} blocks run", page.display()),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    Ok(())
}
