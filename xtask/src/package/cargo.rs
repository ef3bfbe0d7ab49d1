//! Runs cargo for the parts of `cargo xtask package`.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::workspace::root;

/// What a part reports, or why it failed.
pub(super) type Outcome = Result<String, String>;

/// The published packages of the workspace, with their versions.
pub(super) fn published() -> Result<Vec<(String, String)>, String> {
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
pub(super) struct Printed {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a command. The error has what it printed.
pub(super) fn output(command: &mut Command) -> Result<Printed, String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        return Ok(Printed { stdout, stderr });
    }
    let arguments: Vec<_> = command.get_args().map(|it| it.to_string_lossy()).collect();
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    Err(format!("{stdout}{stderr}{program} {}: {}", arguments.join(" "), output.status))
}

/// The cargo that runs this command, in the workspace.
pub(super) fn cargo() -> Command {
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

/// The manifest of a workspace with other members.
pub(super) fn with_members(manifest: &str, members: &[&str]) -> String {
    let (before, rest) = manifest.split_once("members = [").unwrap_or((manifest, "]"));
    let (_, after) = rest.split_once(']').unwrap_or(("", rest));
    let members: Vec<String> = members.iter().map(|member| format!("{member:?}")).collect();
    format!("{before}members = [{}]{after}", members.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_are_replaced() {
        let manifest = "[workspace]\nmembers = [\n    \"a\",\n    \"b\",\n]\n[profile]\nx = [1]\n";
        let expected = "[workspace]\nmembers = [\"a\", \"c/d\"]\n[profile]\nx = [1]\n";
        assert_eq!(with_members(manifest, &["a", "c/d"]), expected);
    }
}
