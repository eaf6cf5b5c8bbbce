//! The test programs of the workspace, two at a time.
//!
//! `cargo test` runs one after the other. Many of ours wait: for a server that is killed and comes back, for a reader that is to be
//! cancelled; meanwhile another one works. Each has databases of its own, so none meets another.

use crate::pg::{cargo, features};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

/// A test program, as cargo has built it.
struct Program {
    /// What `cargo test` calls it: the package and what to select it by.
    name: String,
    path: PathBuf,
    /// Tests run in the folder of their package.
    folder: PathBuf,
}

/// Builds all test programs.
fn built() -> Result<VecDeque<Program>> {
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-run", "--message-format=json-render-diagnostics"]).args(features());
    let out = command.stderr(Stdio::inherit()).stdin(Stdio::null()).output().context("cargo does not start")?;
    if !out.status.success() {
        bail!("the tests do not build");
    }
    let mut programs = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines().filter(|line| line.starts_with('{')) {
        let message: Value = serde_json::from_str(line)?;
        if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
            continue;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (Some(path), Some(manifest)) = (text(&message["executable"]), text(&message["manifest_path"])) else {
            continue;
        };
        let folder = Path::new(&manifest).parent().context("a manifest without a folder")?.to_owned();
        let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let select = match message["target"]["kind"][0].as_str() {
            Some("test") => format!("--test {target}"),
            Some("bin") => format!("--bin {target}"),
            Some("example") => format!("--example {target}"),
            _ => "--lib".to_owned(),
        };
        programs.push(Program { name: format!("{package} {select}"), path: path.into(), folder });
    }
    if programs.is_empty() {
        bail!("cargo has built no test program");
    }
    // Cargo tells them as it built them; the same order every time.
    programs.sort_by(|a: &Program, b| a.name.cmp(&b.name));
    Ok(programs.into())
}

/// Runs all of them, and the examples in comments; prints what each says when it has ended.
///
/// # Errors
/// Tests that do not build, or fail: all run all the same, and the error names those that did.
pub fn run(settings: &[(&str, String)]) -> Result<()> {
    let programs = Mutex::new(built()?);
    let failed = Mutex::new(Vec::new());
    let next = || programs.lock().ok().and_then(|mut programs| programs.pop_front());
    let work = || -> Result<()> {
        while let Some(program) = next() {
            let begun = Instant::now();
            let mut command = Command::new(&program.path);
            command.current_dir(&program.folder).env("CARGO_MANIFEST_DIR", &program.folder);
            command.envs(settings.iter().cloned()).stdin(Stdio::null());
            let out = command.output().with_context(|| format!("{} does not start", program.path.display()))?;
            // Locked, so that two programs' lines do not mix.
            let mut shown = std::io::stdout().lock();
            writeln!(shown, "\n     Running {} ({:.1} s)", program.name, begun.elapsed().as_secs_f64())?;
            shown.write_all(&out.stdout)?;
            shown.write_all(&out.stderr)?;
            drop(shown);
            if !out.status.success()
                && let Ok(mut failed) = failed.lock()
            {
                failed.push(format!("{} ({})", program.name, out.status));
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let both = [scope.spawn(work), scope.spawn(work)];
        both.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(_) => bail!("a thread that runs tests panicked"),
        })
    })?;
    let mut failed = failed.into_inner().unwrap_or_default();
    let mut examples = cargo();
    examples.args(["test", "--workspace", "--doc", "--no-fail-fast"]).args(features()).envs(settings.iter().cloned());
    if !examples.status().context("cargo does not start")?.success() {
        failed.push("--doc".to_owned());
    }
    if !failed.is_empty() {
        failed.sort();
        bail!("tests failed: {}; one alone: cargo xtask test --test NAME", failed.join(", "));
    }
    Ok(())
}
