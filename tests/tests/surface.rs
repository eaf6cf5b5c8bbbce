//! The SQL surface explains itself: comments, declared volatility, grants, and docs/sql.md equal to the catalog.

use anyhow::Result;
use tests::cluster;

/// Names of objects in schema market that a query finds wanting.
async fn wanting(sql: &str) -> Result<Vec<String>> {
    let client = cluster::database("surface").await?.client().await?;
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn every_public_object_has_a_comment() -> Result<()> {
    let found = wanting(
        "SELECT 'function ' || p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'market'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL
         UNION ALL
         SELECT 'relation ' || c.oid::regclass::text FROM pg_class c
         WHERE c.relnamespace = 'market'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
           AND obj_description(c.oid, 'pg_class') IS NULL
         UNION ALL
         SELECT 'type ' || t.oid::regtype::text FROM pg_type t
         WHERE t.typnamespace = 'market'::regnamespace AND t.typtype IN ('b', 'd', 'e', 'r') AND t.typcategory <> 'A'
           AND obj_description(t.oid, 'pg_type') IS NULL
         UNION ALL
         SELECT 'schema market' WHERE obj_description('market'::regnamespace, 'pg_namespace') IS NULL ORDER BY 1",
    )
    .await?;
    assert!(found.is_empty(), "without COMMENT:\n{}", found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn readers_are_stable_and_parallel_safe() -> Result<()> {
    let found = wanting(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'market'::regnamespace
           AND p.proname IN ('sessions', 'session_of', 'auctions', 'trade_date', 'segment', 'is_open', 'is_session', 'next_session',
                             'next_open', 'next_close', 'session_bucket', 'session_ohlc', 'activity_ohlc', 'session_flow',
                             'session_levels', 'session_profile', 'session_stat', 'halted_seconds')
           AND (p.provolatile = 'v' OR p.proparallel <> 's') ORDER BY 1",
    )
    .await?;
    assert!(found.is_empty(), "volatile or not parallel safe:\n{}", found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn set_returning_functions_estimate_their_rows() -> Result<()> {
    let found = wanting(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'market'::regnamespace AND p.proretset AND p.prorows = 1000 AND p.procost IN (1, 100)
         ORDER BY 1",
    )
    .await?;
    assert!(found.is_empty(), "ROWS and COST left at their defaults:\n{}", found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn security_definers_pin_their_search_path() -> Result<()> {
    let found = wanting(
        "SELECT p.oid::regprocedure::text FROM pg_proc p
         WHERE p.pronamespace = 'market'::regnamespace AND p.prosecdef
           AND NOT coalesce(p.proconfig::text LIKE '%search_path%', false) ORDER BY 1",
    )
    .await?;
    assert!(found.is_empty(), "SECURITY DEFINER without search_path:\n{}", found.join("\n"));
    Ok(())
}

#[tokio::test]
async fn the_reference_equals_the_catalog() -> Result<()> {
    let client = cluster::database("reference").await?.client().await?;
    let rows = client.query(xtask::SURFACE, &[]).await?;
    let body: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let expected = format!("{}{}\n", xtask::SURFACE_HEADING, body.join("\n").trim_end());
    let page = tests::root().join("docs/sql.md");
    if std::env::var_os("BELLWETHER_UPDATE_DOCS").is_some() {
        std::fs::write(&page, &expected)?;
    }
    let found = std::fs::read_to_string(&page).unwrap_or_default();
    let differs = expected.lines().zip(found.lines()).find(|(catalog, page)| catalog != page);
    assert!(found == expected, "docs/sql.md is not the catalog; run `cargo xtask docs`; first difference: {differs:?}");
    Ok(())
}
