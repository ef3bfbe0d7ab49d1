//! `cargo xtask targets`: type-checks the workspace for every supported system.
//!
//! Debian's package `rust-web-src` has the source of the standard library, from which cargo builds
//! the standard library of each target. Type checks need no linker.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::workspace::{root, target_folder};

/// Type-check the workspace for every supported system
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these targets, such as x86_64-unknown-freebsd
    targets: Vec<String>,
}

/// The packages that are checked for a target.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// The whole workspace.
    Workspace,
    /// The library with its features and tests. No other package has code for one of these systems
    /// (`tests/structure/forbidden.rs`), so that the workspace for FreeBSD stands for them.
    Library,
    /// The library only: a system without a file of its own, where sharing is unsupported, and which
    /// tokio does not support.
    Bare,
}

impl Scope {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Workspace => &["--workspace", "--all-features"],
            Self::Library => &["--package", "sameport", "--all-features", "--all-targets"],
            Self::Bare => &["--package", "sameport"],
        }
    }
}

/// At least one target for each file and table of `crates/sameport/src/system`, and Linux with another
/// architecture and another C library. The processor makes no difference on the other systems.
const TARGETS: &[(&str, Scope)] = &[
    ("x86_64-pc-windows-msvc", Scope::Workspace),
    ("aarch64-apple-darwin", Scope::Workspace),
    ("x86_64-unknown-freebsd", Scope::Workspace),
    ("aarch64-unknown-linux-gnu", Scope::Workspace),
    ("x86_64-unknown-linux-musl", Scope::Workspace),
    ("x86_64-unknown-netbsd", Scope::Library),
    ("x86_64-unknown-openbsd", Scope::Library),
    ("x86_64-unknown-dragonfly", Scope::Library),
    ("x86_64-unknown-illumos", Scope::Library),
    ("x86_64-unknown-haiku", Scope::Bare),
];

/// The paths of Debian's packages. PATH can have another Rust first.
const CARGO: &str = "/usr/bin/cargo";
const RUSTC: &str = "/usr/bin/rustc";
pub(crate) const PACKAGES: &str = "rustc-web cargo-web rust-web-src";

pub(crate) fn run(args: &Args) -> ExitCode {
    let chosen = match chosen(&args.targets) {
        Ok(chosen) => chosen,
        Err(unknown) => {
            eprintln!("error: {unknown} is not a target of this project");
            let known: Vec<_> = TARGETS.iter().map(|(target, _)| *target).collect();
            eprintln!("hint: one of {}", known.join(", "));
            return ExitCode::from(2);
        }
    };
    if let Err(missing) = toolchain() {
        eprintln!("error: {missing}");
        eprintln!("hint: apt-get install {PACKAGES}");
        return ExitCode::from(3);
    }

    let started = Instant::now();
    let failed = failed(&chosen);
    let (seconds, all) = (started.elapsed().as_secs(), chosen.len());
    if failed.is_empty() {
        eprintln!("{all} targets type-check, {seconds} s");
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {} of {all} targets do not type-check: {}", failed.len(), failed.join(", "));
    eprintln!("hint: cargo xtask targets {}", failed[0]);
    ExitCode::FAILURE
}

/// Checks the targets of a scope at once, because the standard library of a target is one crate after
/// the other: another target uses the second processor. An error does not name its target, so those
/// of a failed scope are checked again one by one, from what is built.
fn failed(chosen: &[(&'static str, Scope)]) -> Vec<&'static str> {
    let mut failed = Vec::new();
    for scope in [Scope::Workspace, Scope::Library, Scope::Bare] {
        let of_scope = chosen.iter().filter(|(_, it)| *it == scope);
        let targets: Vec<&'static str> = of_scope.map(|(target, _)| *target).collect();
        if targets.is_empty() {
            continue;
        }
        let since = Instant::now();
        let passed = check(&targets, scope);
        let verdict = if passed { "ok" } else { "FAILED" };
        eprintln!("{}: {verdict}, {} s", targets.join(", "), since.elapsed().as_secs());
        if passed {
            continue;
        }
        for target in targets {
            eprintln!("{target}:");
            if !check(&[target], scope) {
                failed.push(target);
            }
        }
    }
    failed
}

/// The named targets, or all targets without names. The error is the first unknown name.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, Scope)>, &str> {
    if names.is_empty() {
        return Ok(TARGETS.to_vec());
    }
    let find = |name: &String| TARGETS.iter().find(|(target, _)| target == name).copied();
    names.iter().map(|name| find(name).ok_or(name.as_str())).collect()
}

/// Checks that Debian's Rust is installed and new enough, with the source of the standard library.
pub(crate) fn toolchain() -> Result<(), String> {
    let query = |arguments: &[&str]| {
        let output = Command::new(RUSTC).args(arguments).env_remove("RUSTUP_TOOLCHAIN").output();
        output
            .ok()
            .filter(|output| output.status.success())
            .and_then(|output| String::from_utf8(output.stdout).ok())
            .ok_or_else(|| format!("{RUSTC} is not installed or does not run"))
    };
    if !Path::new(CARGO).exists() {
        return Err(format!("{CARGO} is not installed"));
    }
    let version = query(&["--version"])?;
    if minor(&version).is_none_or(|minor| minor < minor_of_this_project()) {
        return Err(format!("{RUSTC} is too old: {}", version.trim()));
    }
    let source =
        Path::new(query(&["--print", "sysroot"])?.trim()).join("lib/rustlib/src/rust/library");
    if !source.join("std/src/lib.rs").exists() {
        return Err(format!("no source of the standard library in {}", source.display()));
    }
    Ok(())
}

/// The minor version: 96 for `rustc 1.96.0 (…)` and for `1.96`.
fn minor(version: &str) -> Option<u32> {
    version
        .trim_start_matches("rustc ")
        .strip_prefix("1.")?
        .split(['.', '-', ' '])
        .next()?
        .trim()
        .parse()
        .ok()
}

fn minor_of_this_project() -> u32 {
    minor(env!("CARGO_PKG_RUST_VERSION")).unwrap_or(0)
}

fn check(targets: &[&str], scope: Scope) -> bool {
    let mut command = cargo();
    // Without std's features, because backtraces are not checked.
    command.args(["check", "--quiet", "-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
    for target in targets {
        command.args(["--target", target]);
    }
    command.args(scope.arguments());
    // Code that is unused on one system is reported only here.
    command.args(["-Zwarnings", "--config", "build.warnings='deny'"]);
    match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            eprintln!("error: {CARGO}: {error}");
            false
        }
    }
}

/// Debian's cargo in the workspace, whose `-Zbuild-std` builds the standard library of a target.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(CARGO);
    // One folder for all targets, so that build scripts are built once.
    command.env("CARGO_TARGET_DIR", target_folder().join("systems"));
    // Variables of the cargo that runs this command, which are wrong for another cargo.
    let is_of_cargo = |name: &str| {
        let fixed = ["RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTC_WRAPPER", "CARGO"];
        fixed.contains(&name)
            || name == "CARGO_ENCODED_RUSTFLAGS"
            || name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST")
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_cargo) {
            command.env_remove(name);
        }
    }
    // Permits -Zbuild-std and -Zwarnings on a stable compiler.
    command.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1").current_dir(root());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_parsed() {
        let cases = [
            ("rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n", Some(96)),
            ("rustc 1.63.0\n", Some(63)),
            ("rustc 1.97.0-nightly (x)", Some(97)),
            ("1.95", Some(95)),
            ("rustc two", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(minor(text), expected, "{text}");
        }
        assert!(minor_of_this_project() >= 95);
    }

    #[test]
    fn targets_are_chosen_by_name() {
        assert_eq!(chosen(&[]).map(|all| all.len()), Ok(TARGETS.len()));
        let named = |name: &str| {
            let names = [name.to_owned()];
            chosen(&names).map(|found| found[0].0).map_err(str::to_owned)
        };
        assert_eq!(named("x86_64-unknown-haiku"), Ok("x86_64-unknown-haiku"));
        assert_eq!(named("vax"), Err("vax".to_owned()));
    }
}
