//! A new package outside of the workspace, which depends on the archive of the library, and runs.

use std::fs;
use std::path::Path;

use super::cargo::{Outcome, cargo, output, published};
use crate::workspace::{root, target_folder};

/// The program of the user.
const PROGRAM: &str = include_str!("../../fresh_user/main.rs");

/// The last line of the program.
const LAST_LINE: &str = "all of it works";

pub(super) fn run() -> Outcome {
    let folder = std::env::temp_dir().join(format!("sameport-fresh-user-{}", std::process::id()));
    let outcome = build_and_run(&folder);
    // A failed run may have made nothing.
    let _ = fs::remove_dir_all(&folder);
    outcome
}

fn build_and_run(folder: &Path) -> Outcome {
    let unpacked = |name: &str| {
        let published = published()?;
        let found = published.iter().find(|(it, _)| it == name);
        let (_, version) = found.ok_or_else(|| format!("{name} is not published"))?;
        let path = target_folder().join("package").join(format!("{name}-{version}"));
        path.canonicalize().map_err(|error| {
            format!("{}: {error}\nhint: cargo xtask package --only archives", path.display())
        })
    };
    let manifest = manifest(&unpacked("sameport")?, &unpacked("sameport-addr")?);
    let write = || {
        fs::create_dir_all(folder.join("src"))?;
        fs::write(folder.join("Cargo.toml"), &manifest)?;
        fs::write(folder.join("src/main.rs"), PROGRAM)?;
        // The versions of this workspace, which are on this machine.
        fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock"))
    };
    write().map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut command = cargo();
    command.args(["run", "--offline"]).current_dir(folder);
    let printed = output(command.env("CARGO_TARGET_DIR", target_folder()))?;
    if printed.stdout.lines().last() != Some(LAST_LINE) {
        return Err(format!("{}the last line is not \"{LAST_LINE}\"", printed.stdout));
    }
    Ok(printed.stdout)
}

/// The features of tokio are those of the workspace, so that one build of it serves both.
fn manifest(sameport: &Path, addr: &Path) -> String {
    format!(
        "[package]\nname = \"fresh-user\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n\
         [dependencies]\nsameport = {{ path = {sameport:?}, features = [\"tokio\"] }}\n\
         tokio = {{ version = \"1\", features = [\"io-util\", \"macros\", \"net\", \"rt\", \"sync\", \"time\"] }}\n\n\
         [patch.crates-io]\nsameport-addr = {{ path = {addr:?} }}\n\n[workspace]\n"
    )
}
