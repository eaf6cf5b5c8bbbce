//! Lists `calendars/*.toml` for `calendar/builtin.rs`: a new file there is a new calendar, without a line of code. And what releases
//! shipped and today's files replace, `../sql/released/*/calendars/*.toml`.

use std::path::Path;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=calendars");
    let root = env::var("CARGO_MANIFEST_DIR").expect("set by cargo");
    let folder = Path::new(&root).join("calendars");
    let mut files = Vec::new();
    for entry in fs::read_dir(&folder).expect("calendars/ is in the repository") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            println!("cargo::rerun-if-changed={}", path.display());
            let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let file: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let id = file["id"].as_str().unwrap_or_else(|| panic!("{}: id is text", path.display())).to_string();
            let aliases = file.get("aliases").and_then(|list| list.as_array()).cloned().unwrap_or_default();
            let aliases: Vec<String> = aliases.iter().filter_map(|alias| alias.as_str().map(str::to_string)).collect();
            files.push((id, aliases, path));
        }
    }
    files.sort();
    let mut code = format!("const COUNT: usize = {};\n", files.len());
    let ids: Vec<&String> = files.iter().map(|(id, ..)| id).collect();
    code += &format!("pub(super) const IDS: &[&str] = &{ids:?};\n");
    let rows: Vec<String> =
        files.iter().map(|(_, _, path)| format!("include_str!({:?})", path.to_str().expect("a UTF-8 path"))).collect();
    code += &format!("const FILES: [&str; COUNT] = [{}];\n", rows.join(", "));
    let aliases: Vec<(&String, usize)> =
        files.iter().enumerate().flat_map(|(at, (_, names, _))| names.iter().map(move |name| (name, at))).collect();
    code += &format!("const ALIASES: &[(&str, usize)] = &{aliases:?};\n");
    code += &kept(&Path::new(&root).join("../sql/released"));
    let out = Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("calendars.rs");
    fs::write(&out, code).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

/// Released texts by id and version, as code.
fn kept(releases: &Path) -> String {
    println!("cargo::rerun-if-changed={}", releases.display());
    let mut rows = Vec::new();
    for release in fs::read_dir(releases).expect("sql/released is in the repository") {
        let folder = release.expect("readable").path().join("calendars");
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("readable").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let file: toml::Table = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let id = file["id"].as_str().unwrap_or_else(|| panic!("{}: id is text", path.display())).to_string();
                let version = file["version"].as_integer().unwrap_or_else(|| panic!("{}: no version", path.display()));
                rows.push(format!("({id:?}, {version}, include_str!({:?}))", path.to_str().expect("a UTF-8 path")));
            }
        }
    }
    rows.sort();
    format!("pub(super) const KEPT: &[(&str, u32, &str)] = &[{}];\n", rows.join(", "))
}
