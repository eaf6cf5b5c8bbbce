//! Every C function of the extension is declared in SQL, and no SQL file declares one twice.
//!
//! The other direction needs no test: CREATE FUNCTION fails for a function that the library does not have.

use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

fn read_all(dir: &Path, extension: &str, text: &mut String) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, extension, text)?;
        } else if path.extension().is_some_and(|found| found == extension) {
            text.push_str(&std::fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

#[test]
fn every_c_function_is_declared_in_sql() -> Result<()> {
    let (mut rust, mut sql) = (String::new(), String::new());
    read_all(&tests::root().join("pg_ext/src"), "rs", &mut rust)?;
    read_all(&tests::root().join("sql/extension"), "sql", &mut sql)?;
    // `v1!(name => pg_finfo_name)` is what makes a Rust function a C function of PostgreSQL.
    let functions: Vec<&str> = rust
        .split("=> pg_finfo_")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect();
    assert!(functions.len() > 30, "found only {functions:?}");
    let missing: Vec<&&str> =
        functions.iter().filter(|name| !sql.contains(&format!("AS 'MODULE_PATHNAME', '{name}'"))).collect();
    assert!(missing.is_empty(), "not declared in sql/extension: {missing:?}");
    Ok(())
}

#[test]
fn no_function_is_declared_twice() -> Result<()> {
    let mut sql = String::new();
    read_all(&tests::root().join("sql/extension"), "sql", &mut sql)?;
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for declaration in sql.split("CREATE FUNCTION ").skip(1) {
        let end = declaration.find("\nRETURNS").or_else(|| declaration.find(" RETURNS"));
        // functions with OUT parameters have no RETURNS
        let end = end.or_else(|| declaration.find("\nLANGUAGE")).unwrap_or(0);
        *seen.entry(declaration[..end].split_whitespace().collect::<Vec<_>>().join(" ")).or_default() += 1;
    }
    let twice: Vec<&String> = seen.iter().filter(|(_, count)| **count > 1).map(|(name, _)| name).collect();
    assert!(twice.is_empty(), "{twice:?}");
    Ok(())
}
