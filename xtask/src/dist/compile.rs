//! Static executables, by the profile `dist` and the targets with musl.
//!
//! rustup's standard library for these targets contains musl, its start files and an unwinder. The only
//! other thing that a build needs is a linker for the architecture.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::architecture::Architecture;
use super::elf::{self, Kind};
use super::steps::{ReleaseError, build_folder, cargo, output_of, step, succeed};
use crate::workspace::{root, target_folder};

/// A compiled executable of an architecture.
pub(super) struct Executable {
    pub(super) architecture: Architecture,
    pub(super) path: PathBuf,
}

/// The linker of a foreign architecture, and its Debian package. `cc` links for this machine.
fn foreign_linker(architecture: Architecture) -> Option<(&'static str, &'static str)> {
    (!architecture.is_here()).then_some(match architecture {
        Architecture::X86 => ("x86_64-linux-gnu-gcc", "gcc-x86-64-linux-gnu"),
        Architecture::Arm => ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
    })
}

/// Checks that the standard library and the linker of an architecture are installed.
pub(super) fn check_tools(architecture: Architecture) -> Result<(), ReleaseError> {
    let target = architecture.target();
    let library = output_of(rustc().args(["--print", "target-libdir", "--target", &target]))?;
    let is_std = |entry: fs::DirEntry| entry.file_name().to_string_lossy().starts_with("libstd-");
    let entries = fs::read_dir(library.trim()).into_iter().flatten();
    if !entries.flatten().any(is_std) {
        let what = format!("no standard library for {target} in {}", library.trim());
        return Err(ReleaseError::Missing(what, format!("rustup target add {target}")));
    }
    if let Some((linker, package)) = foreign_linker(architecture)
        && let Err(failure) = output_of(Command::new(linker).arg("--version"))
    {
        let what = format!("no linker for {}: {failure}", architecture.name());
        return Err(ReleaseError::Missing(what, format!("apt-get install {package}")));
    }
    Ok(())
}

pub(super) fn executable(architecture: Architecture) -> Result<Executable, ReleaseError> {
    let target = architecture.target();
    let mut command = build(&build_folder());
    command.args(["--profile", "dist", "--target", &target]);
    command.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", encoded(&flags()?));
    if let Some((linker, _)) = foreign_linker(architecture) {
        let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
        command.env(variable, linker);
    }
    succeed(&mut command)?;
    let path = build_folder().join(target).join("dist/sameport");
    Ok(Executable { architecture, path })
}

/// The executable of a debug build for this machine.
pub(super) fn for_this_machine() -> Result<PathBuf, ReleaseError> {
    succeed(&mut build(&target_folder()))?;
    Ok(target_folder().join("debug/sameport"))
}

fn build(folder: &Path) -> Command {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "sameport-cli", "--bin", "sameport"]);
    command.arg("--target-dir").arg(folder);
    command
}

/// The compiler of the cargo that runs this command.
pub(super) fn rustc() -> Command {
    Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

/// Flags for a static executable that names no directory of this machine.
fn flags() -> Result<Vec<OsString>, ReleaseError> {
    let mut flags: Vec<OsString> =
        ["-Ctarget-feature=+crt-static", "-Crelocation-model=static"].map(OsString::from).into();
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(env::home_dir()?.join(".cargo"))).unwrap_or_default();
    let sysroot = output_of(rustc().args(["--print", "sysroot"]))?;
    let version = output_of(rustc().arg("-vV"))?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    // The compiler replaces its own path of the standard library by this one, if it is installed.
    let official = format!("/rustc/{}", commit.unwrap_or("unknown"));
    let remapped = [(root(), "/sameport"), (&home, "/cargo"), (&source, &official)];
    for (from, to) in remapped {
        if from.as_os_str().is_empty() {
            continue;
        }
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    Ok(flags)
}

/// As in `CARGO_ENCODED_RUSTFLAGS`, which permits blanks in a flag.
fn encoded(flags: &[OsString]) -> OsString {
    flags.join(&OsString::from("\u{1f}"))
}

/// Checks that an executable needs no file, and starts where there is none.
pub(super) fn check_static(executable: &Executable) -> Result<(), ReleaseError> {
    let path = &executable.path;
    let bytes = fs::read(path).map_err(|error| step(&path.display().to_string(), error))?;
    let found = elf::kind(&bytes).map_err(|why| step(&path.display().to_string(), why))?;
    let expected =
        Kind { architecture: executable.architecture, interpreter: false, dynamic: false };
    if found != expected {
        return Err(ReleaseError::Step(format!("{}: not static: {found:?}", path.display())));
    }
    if executable.architecture.is_here() {
        starts_in_an_empty_root(path)?;
    }
    Ok(())
}

/// Prints the version in a root directory with nothing else. chroot(2) needs root.
fn starts_in_an_empty_root(path: &Path) -> Result<(), ReleaseError> {
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !is_root {
        eprintln!("skipped: the start in an empty root directory needs root");
        return Ok(());
    }
    let empty = env::temp_dir().join(format!("sameport-dist-{}", std::process::id()));
    let name = empty.display().to_string();
    fs::create_dir(&empty).map_err(|error| step(&name, error))?;
    let copied = fs::copy(path, empty.join("sameport")).map_err(|error| step(&name, error));
    let started = copied.and_then(|_| {
        output_of(Command::new("chroot").arg(&empty).args(["/sameport", "--version"]))
    });
    let removed = fs::remove_dir_all(&empty).map_err(|error| step(&name, error));
    let version = started?;
    removed?;
    eprintln!("in an empty root directory: {}", version.trim());
    Ok(())
}
