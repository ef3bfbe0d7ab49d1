//! `cargo xtask bpf`: compiles the eBPF programs of `crates/sys/bpf/`, whose objects are committed so
//! that `cargo build` needs no eBPF compiler.
//!
//! One compiler of one version makes the same bytes everywhere; another may not. The pinned one is
//! Debian 12's clang-14 (1:14.0.6-12), and its strip.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Compile the eBPF programs of crates/sys/bpf/
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing; say whether the committed objects are what their sources compile to
    #[arg(long)]
    check: bool,
}

const CLANG: &str = "clang-14";
const STRIP: &str = "llvm-strip-14";
const VERSION: &str = "14.0.6";
const PACKAGES: &str = "apt-get install clang-14 llvm-14";

/// `-g` for the types of maps, which strip leaves in; the rest of what it brings, strip takes out.
const FLAGS: &[&str] = &[
    "--target=bpfel",
    "-mcpu=v3",
    "-O2",
    "-g",
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-Werror",
    // Not every program calls every helper that kernel.h declares.
    "-Wno-unused-variable",
    // No path of this machine in the object.
    "-fdebug-compilation-dir=.",
];

pub(crate) fn run(args: &Args) -> ExitCode {
    let package = crate::workspace::root().join("crates/sys");
    if let Err(missing) = toolchain() {
        eprintln!("error: {missing}");
        eprintln!("hint: {PACKAGES}");
        return ExitCode::from(3);
    }
    match sources(&package).iter().map(|source| compile(&package, source, args.check)).collect() {
        Ok(done) => {
            let done: Vec<CompiledObject> = done;
            report(&done, args.check)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// An object, and whether the file that was there had the same bytes.
struct CompiledObject {
    object: PathBuf,
    size: usize,
    same: bool,
}

fn toolchain() -> Result<(), String> {
    for program in [CLANG, STRIP] {
        let output = Command::new(program)
            .arg("--version")
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        let version = String::from_utf8_lossy(&output.stdout);
        if !version.contains(VERSION) {
            let first = version.lines().next().unwrap_or_default();
            return Err(format!("{program}: version {VERSION} is needed, this is {first}"));
        }
    }
    Ok(())
}

/// Every `bpf/*.bpf.c`, from the folder of the package: an object contains the path of its source.
fn sources(package: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(package.join("bpf")).expect("bpf/ is in the package");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut found: Vec<_> = names
        .filter(|name| name.to_string_lossy().ends_with(".bpf.c"))
        .map(|name| Path::new("bpf").join(name))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no source in {}", package.join("bpf").display());
    found
}

/// Compiles beside, and puts the result in its place unless it is only to be checked.
fn compile(package: &Path, source: &Path, check: bool) -> Result<CompiledObject, String> {
    let object = source.with_extension("o");
    let aside = std::env::temp_dir().join(format!("sameport-bpf-{}.o", std::process::id()));
    let in_words = |error: std::io::Error| format!("{}: {error}", object.display());
    let made =
        step(Command::new(CLANG).args(FLAGS).arg("-c").arg(source).arg("-o").arg(&aside), package)
            .and_then(|()| step(Command::new(STRIP).arg("-g").arg(&aside), package))
            .and_then(|()| fs::read(&aside).map_err(in_words));
    // Where a compiler failed there may be nothing to remove.
    let _ = fs::remove_file(&aside);
    let made = made?;
    let committed = fs::read(package.join(&object)).unwrap_or_default();
    let done = CompiledObject { same: made == committed, size: made.len(), object: object.clone() };
    if !check && !done.same {
        fs::write(package.join(&object), made).map_err(in_words)?;
    }
    Ok(done)
}

fn step(command: &mut Command, package: &Path) -> Result<(), String> {
    let status = command.current_dir(package).status().map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
}

fn report(done: &[CompiledObject], check: bool) -> ExitCode {
    for CompiledObject { object, size, same } in done {
        let what = match (same, check) {
            (true, _) => "as committed",
            (false, true) => "DIFFERS from its source",
            (false, false) => "written",
        };
        eprintln!("{}: {size} bytes, {what}", object.display());
    }
    if check && done.iter().any(|one| !one.same) {
        eprintln!("hint: cargo xtask bpf");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
