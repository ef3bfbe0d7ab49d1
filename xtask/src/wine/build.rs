//! The test executables, built for Windows.

use std::path::PathBuf;
use std::process::Stdio;

use super::failure::WineFailure;
use crate::targets;

const TARGET: &str = "x86_64-pc-windows-gnu";

/// The packages whose tests run on every system, and their tests.
const PARTS: [&[&str]; 2] = [
    &["-p", "sameport", "-p", "sameport-addr", "--all-features", "--lib", "--tests"],
    &["-p", "sameport-cli", "--test", "portable"],
];

pub(super) struct Built {
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// Builds all tests. `cargo xtask targets` uses the same folder.
pub(super) fn tests() -> Result<Vec<Built>, WineFailure> {
    let mut built = Vec::new();
    for part in PARTS {
        let mut command = targets::cargo();
        // The features without backtraces, whose crates take seconds. A failed test unwinds.
        command.args(["test", "-Zbuild-std=std,panic_abort,test"]);
        command.args(["-Zbuild-std-features=panic-unwind", "--target", TARGET]);
        command.args(["--no-run", "--quiet", "--message-format", "json-render-diagnostics"]);
        // Nothing reads it, and the linker is faster without.
        command.args(["--config", "profile.dev.debug=0"]).args(part);
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| WineFailure::Failed(format!("cargo: {error}")))?;
        if !output.status.success() {
            return Err(WineFailure::Failed(format!("cargo test --no-run {}", part.join(" "))));
        }
        let lines = String::from_utf8_lossy(&output.stdout);
        built.extend(lines.lines().filter_map(executable));
    }
    Ok(built)
}

/// The test executable of one message of cargo. Files whose tests are Linux's have none.
fn executable(line: &str) -> Option<Built> {
    let message: serde_json::Value = serde_json::from_str(line).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let path = PathBuf::from(message["executable"].as_str()?);
    let package = message["manifest_path"].as_str()?.rsplit('/').nth(1)?.to_owned();
    Some(Built { name: format!("{package} {}", message["target"]["name"].as_str()?), path })
}
