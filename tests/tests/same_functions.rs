//! What `querycli` takes is what SQL declares: the same functions with the same parameters in the same order.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use tests::cluster;

/// `("sessions", &["calendar", ...]),`: the rows of a table in the program's source.
fn declared_by_querycli() -> Result<BTreeMap<String, Vec<String>>> {
    let source = std::fs::read_to_string(tests::root().join("querycli/src/rewrite.rs"))?;
    let table = source.split("const FUNCTIONS").nth(1).and_then(|rest| rest.split("\n];").next());
    let table = table.context("querycli/src/rewrite.rs has a table FUNCTIONS")?;
    let mut all = BTreeMap::new();
    for row in table.split("&[").skip(4).zip(table.split("(\"").skip(1)) {
        let (parameters, name) =
            (row.0.split(']').next().unwrap_or_default(), row.1.split('"').next().unwrap_or_default());
        let parameters = parameters.split('"').skip(1).step_by(2).map(str::to_owned).collect();
        all.insert(name.to_owned(), parameters);
    }
    Ok(all)
}

#[tokio::test]
async fn querycli_declares_functions_as_sql_does() -> Result<()> {
    let ours = declared_by_querycli()?;
    assert!(ours.len() >= 16 && ours["sessions"].last().is_some_and(|last| last == "hours"), "{ours:?}");
    let client = cluster::database("same_functions").await?.client().await?;
    let sql = "SELECT p.proname::text, coalesce(p.proargnames[1:p.pronargs], '{}') FROM pg_proc p
               WHERE p.pronamespace = 'market'::regnamespace";
    let mut catalog: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for row in client.query(sql, &[]).await? {
        catalog.entry(row.get(0)).or_default().push(row.get(1));
    }
    // of several symbols the first parameter is symbols; the program takes both under one name
    let singular = |name: &String| if name == "symbols" { "symbol".to_owned() } else { name.clone() };
    for (name, parameters) in &ours {
        let forms = catalog.get(name).with_context(|| format!("SQL has no function {name}"))?;
        let same = forms.iter().any(|form| form.iter().map(singular).eq(parameters.iter().cloned()));
        assert!(same, "{name}: querycli has {parameters:?}, SQL {forms:?}");
    }
    Ok(())
}
