//! Do the examples of a page still work? Runs the fenced blocks of a Markdown page against a fresh database: `sql` with
//! psql, `sh` with this workspace's programs on the path and `BELLWETHER_DB` set. An `output` block after one of them
//! is what it must print; `BELLWETHER_UPDATE_DOCS=1` writes it. Other blocks are left alone, and a page whose first line
//! says `<!-- not run: REASON -->` is not run.

use crate::cluster::{Database, cluster};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

struct Block {
    language: String,
    body: String,
    /// Number of the first line of the body, counted from 0.
    line: usize,
}

/// Runs a page; returns how many blocks were run.
///
/// # Errors
/// With the page's line, what was printed and what was expected.
pub fn run_page(path: &Path, database: &Database) -> Result<usize> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if text.starts_with("<!-- not run") {
        return Ok(0);
    }
    let blocks = blocks(&text);
    let mut outputs = Vec::new();
    let mut count = 0;
    for (at, block) in blocks.iter().enumerate() {
        let expected = blocks.get(at + 1).filter(|next| next.language == "output");
        let mut command = match block.language.as_str() {
            "sql" => psql(database, &block.body)?,
            "sh" => shell(database, &block.body)?,
            _ => continue,
        };
        count += 1;
        let place = format!("{}:{}", path.display(), block.line + 1);
        let out = command.stdin(Stdio::null()).output().with_context(|| format!("{place}: cannot run"))?;
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        let meant_to_fail = block.body.contains("-- error");
        if !out.status.success() && !meant_to_fail {
            bail!("{place}: failed: {stderr}");
        }
        let printed = tidy(&if meant_to_fail { format!("{stdout}{stderr}") } else { stdout.to_string() });
        let Some(expected) = expected else { continue };
        if std::env::var_os("BELLWETHER_UPDATE_DOCS").is_some() {
            outputs.push((expected.line, expected.body.lines().count(), printed));
        } else if printed != tidy(&expected.body) {
            bail!("{place}: printed\n{printed}\nthe page says\n{}", expected.body);
        }
    }
    if !outputs.is_empty() {
        let mut lines: Vec<String> = text.lines().map(str::to_string).collect();
        for (first, count, printed) in outputs.into_iter().rev() {
            lines.splice(first..first + count, printed.lines().map(str::to_string));
        }
        std::fs::write(path, lines.join("\n") + "\n")?;
    }
    Ok(count)
}

fn psql(database: &Database, body: &str) -> Result<Command> {
    let mut psql = Command::new(cluster()?.client_program("psql")?);
    psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=default", "-P", "pager=off"]);
    psql.args(["-d", &database.url, "-c", body]).env("PGTZ", "UTC").env("PGOPTIONS", "-c client_min_messages=warning");
    Ok(psql)
}

fn shell(database: &Database, body: &str) -> Result<Command> {
    let programs = xtask::workspace::programs()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", body]).current_dir(crate::root());
    shell.env("PATH", format!("{}:{path}", programs.display())).env("BELLWETHER_DB", &database.url).env("PGTZ", "UTC");
    Ok(shell)
}

/// Without blanks at the ends of lines and empty lines at both ends, which no editor keeps.
fn tidy(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_string()
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), inside) {
            (Some(language), false) => {
                blocks.push(Block { language: language.trim().to_string(), body: String::new(), line: number + 1 });
                inside = true;
            }
            (Some(_), true) => inside = false,
            (None, true) => {
                if let Some(block) = blocks.last_mut() {
                    block.body.push_str(line);
                    block.body.push('\n');
                }
            }
            (None, false) => {}
        }
    }
    blocks
}
