//! Claims about the harness itself.

use anyhow::Result;
use tests::cluster;

#[tokio::test]
async fn every_test_gets_a_database_of_its_own() -> Result<()> {
    let (one, other) = (cluster::database("one").await?, cluster::database("one").await?);
    assert_ne!(one.name, other.name);
    one.client().await?.batch_execute("CREATE TABLE only_here ()").await?;
    let found = other.client().await?.query_one("SELECT to_regclass('only_here') IS NULL", &[]).await?;
    assert!(found.get::<_, bool>(0));
    Ok(())
}

#[tokio::test]
async fn the_extension_is_installed_without_touching_the_system() -> Result<()> {
    let client = cluster::database("installed").await?.client().await?;
    let version = client.query_one("SELECT extversion FROM pg_extension WHERE extname = 'bellwether'", &[]).await?;
    let control = std::fs::read_to_string(xtask::workspace::root().join("sql/bellwether.control"))?;
    assert!(control.contains(&format!("default_version = '{}'", version.get::<_, String>(0))), "{control}");
    let system = xtask::workspace::pg_config().parent().map(|bin| bin.join("../lib/bellwether.so"));
    assert!(!system.is_some_and(|path| path.exists()));
    Ok(())
}
