//! `cargo xtask package`: what a user of the registry would get.
//!
//! Packages every published package and builds it from its archive; runs the tests of the library with
//! the oldest versions of its dependencies; builds and runs a program that depends on the archive.

mod archives;
mod fresh_user;
mod minimal;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

/// Package every published package, and use the packages as a user of the registry does
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Archives without surprising files, each built by itself
    Archives,
    /// The tests of the library with the oldest versions of its dependencies
    Minimal,
    /// A new program outside of the workspace, which depends on the archive of the library
    User,
}

/// What a part reports, or why it failed.
type Outcome = Result<String, String>;

type Work = fn() -> Outcome;

pub(crate) fn run(args: &Args) -> ExitCode {
    let parts: [(Part, &str, Work); 3] = [
        (Part::Archives, "archives", archives::verify),
        (Part::Minimal, "oldest dependencies", minimal::test),
        (Part::User, "a user's program", fresh_user::run),
    ];
    let mut code = ExitCode::SUCCESS;
    for (part, name, work) in parts {
        if args.only.is_some_and(|only| only != part) {
            continue;
        }
        let since = Instant::now();
        let (verdict, text) = match work() {
            Ok(text) => ("ok", text),
            Err(text) => {
                code = ExitCode::FAILURE;
                ("FAILED", text)
            }
        };
        eprintln!("{}\n{name}: {verdict}, {} s", text.trim_end(), since.elapsed().as_secs());
    }
    code
}

/// The published packages of the workspace, with their versions.
fn published() -> Result<Vec<(String, String)>, String> {
    let output = output(cargo().args([
        "metadata",
        "--no-deps",
        "--offline",
        "--quiet",
        "--format-version",
        "1",
    ]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    // `publish = false` is an empty list of registries.
    let published = packages.filter(|it| it["publish"].is_null());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    Ok(published.map(|it| (text(&it["name"]), text(&it["version"]))).collect())
}

/// What a command printed.
struct Printed {
    stdout: String,
    stderr: String,
}

/// Runs cargo. The error has what it printed.
fn output(command: &mut Command) -> Result<Printed, String> {
    let output = command.output().map_err(|error| format!("cargo: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(Printed { stdout, stderr });
    }
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    Err(format!("{stdout}{stderr}cargo {}: {}", arguments.join(" "), output.status))
}

/// The cargo that runs this command, in the workspace.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Variables of the package xtask, which a build script of another package must not see.
    for (name, _) in env::vars_os() {
        let is_of_package = name.to_str().is_some_and(|name| {
            name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST")
        });
        if is_of_package {
            command.env_remove(name);
        }
    }
    command
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask/ is in the root")
}

fn target_folder() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
