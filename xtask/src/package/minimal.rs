//! The tests of the library with the oldest versions of its dependencies that its manifest permits, and
//! its build with the oldest Rust, if rustup has that.
//!
//! A workspace of its own has the library and what its tests need, because one lock file has one
//! version of a dependency, and the command line needs newer ones.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cargo::{Outcome, cargo, output, with_members};
use crate::workspace::{root, target_folder};

/// The members: the libraries, and what their tests need.
const MEMBERS: &[&str] = &["crates/addr", "crates/sameport", "tests/skips"];

pub(super) fn test() -> Outcome {
    let folder = target_folder().join("minimal");
    workspace(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let run = |arguments: &[&str], bootstrap: bool| {
        let mut command = cargo();
        command.args(arguments).current_dir(&folder).env("CARGO_TARGET_DIR", target_folder());
        if bootstrap {
            // Permits -Z on a stable cargo.
            command.env("RUSTC_BOOTSTRAP", "1");
        }
        output(&mut command)
    };
    run(&["-Zdirect-minimal-versions", "generate-lockfile"], true)?;
    run(&["check", "--locked", "--workspace", "--lib", "--all-features"], false)?;
    let tests = ["test", "--locked", "--package", "sameport", "--all-features", "--tests"];
    let printed = run(&tests, false)?;
    let results = printed.stdout.lines().filter(|line| line.starts_with("test result: "));
    let lock = fs::read_to_string(folder.join("Cargo.lock")).unwrap_or_default();
    let passed = format!("{}\n{} test executables passed", versions(&lock), results.count());
    Ok(format!("{passed}\n{}", oldest_rust(&folder)?))
}

/// Builds the library with its `rust-version`, which CI need not have: clippy's `incompatible_msrv` sees
/// newer functions, but not newer syntax and paths.
fn oldest_rust(folder: &Path) -> Outcome {
    let version = rust_version(&fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default());
    let rustup = |toolchain: &str, arguments: &[&str]| {
        let mut command = Command::new("rustup");
        command.args(["run", toolchain]).args(arguments).current_dir(folder);
        // Variables of the cargo that runs this command.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command.env("CARGO_TARGET_DIR", target_folder().join("oldest-rust"));
        output(&mut command)
    };
    // rustup names a toolchain as it was asked for: 1.75 or 1.75.0.
    let names = [version.clone(), format!("{version}.0")];
    let installed = names.iter().find(|name| rustup(name, &["rustc", "--version"]).is_ok());
    let Some(toolchain) = installed else {
        return Ok(format!(
            "Rust {version} is not installed: `rustup toolchain install {version}`"
        ));
    };
    let check = ["cargo", "check", "--locked", "--package", "sameport", "--lib", "--all-features"];
    rustup(toolchain, &check)?;
    Ok(format!("Rust {version} builds it"))
}

/// Copies the members, and writes the manifest of their workspace.
fn workspace(folder: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for member in MEMBERS {
        copy(&root().join(member), &folder.join(member))?;
    }
    fs::copy(root().join("tests/skips.txt"), folder.join("tests/skips.txt"))?;
    let manifest = fs::read_to_string(root().join("Cargo.toml"))?;
    let library = fs::read_to_string(root().join("crates/sameport/Cargo.toml"))?;
    let manifest = with_members(&manifest, MEMBERS);
    fs::write(folder.join("Cargo.toml"), for_rust(&rust_version(&library), &manifest))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        // A link is followed: the licences are links.
        if from.is_dir() { copy(&from, &to)? } else { fs::copy(&from, &to).map(drop)? }
    }
    Ok(())
}

/// The manifest of a workspace that an older cargo understands. The lock file gets its older format too.
fn for_rust(version: &str, manifest: &str) -> String {
    let newer = format!("rust-version = \"{}\"", rust_version(manifest));
    let older = format!("rust-version = \"{version}\"");
    let manifest = manifest.replace("resolver = \"3\"", "resolver = \"2\"");
    manifest.replace("edition = \"2024\"", "edition = \"2021\"").replace(&newer, &older)
}

/// The first `rust-version` of a manifest, such as 1.75.
fn rust_version(manifest: &str) -> String {
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \""));
    line.unwrap_or_default().trim_end_matches('"').to_owned()
}

/// The tested versions of what the library depends on, for the record.
fn versions(lock: &str) -> String {
    let version = |name: &str| {
        let at = format!("name = \"{name}\"\nversion = \"");
        let found = lock.split(&at).skip(1).filter_map(|rest| rest.split('"').next());
        format!("{name} {}", found.collect::<Vec<_>>().join(" and "))
    };
    ["socket2", "libc", "windows-sys", "tokio", "serde"].map(version).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_cargo_understands_the_manifest() {
        let manifest = "resolver = \"3\"\nedition = \"2024\"\nrust-version = \"1.95\"\n";
        let expected = "resolver = \"2\"\nedition = \"2021\"\nrust-version = \"1.75\"\n";
        assert_eq!(for_rust("1.75", manifest), expected);
    }

    #[test]
    fn versions_of_a_lock_file() {
        let lock = "name = \"libc\"\nversion = \"0.2.1\"\n\nname = \"socket2\"\nversion = \"0.5.1\"\n\
                    name = \"socket2\"\nversion = \"0.6.3\"\n";
        assert!(versions(lock).starts_with("socket2 0.5.1 and 0.6.3, libc 0.2.1, "));
    }
}
