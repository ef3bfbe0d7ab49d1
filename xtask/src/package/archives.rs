//! The archives of the published packages: their files, their sizes, and a build of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use super::cargo::{Outcome, cargo, output, published, with_members};
use crate::workspace::{root, target_folder};

/// Files of every archive. Cargo adds the first four.
const COMMON: &[&str] = &[
    ".cargo_vcs_info.json",
    "Cargo.lock",
    "Cargo.toml",
    "Cargo.toml.orig",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
];

/// An archive is smaller, in KiB. The largest one is sameport-sys, with the eBPF programs.
const LARGEST: u64 = 400;

/// Packages all published packages, unpacks the archives, and type-checks them in a workspace of their
/// own, where each depends on the unpacked others in place of the registry.
///
/// `cargo package` would build each by itself, with other features of the same dependencies each time:
/// 55 s of processor time. It would also take an archive of the same version that it unpacked before.
pub(super) fn verify() -> Outcome {
    let published = published()?;
    let mut wrong = Vec::new();
    for (name, _) in &published {
        let list = output(cargo().args(["package", "--list", "--allow-dirty", "--package", name]))?;
        wrong.extend(surprising(name, &list.stdout.lines().collect()));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let folder = target_folder().join("package");
    let mut command = cargo();
    // A clone with changes can be checked as well.
    command.args(["package", "--locked", "--allow-dirty", "--no-verify"]);
    for (name, _) in &published {
        command.args(["--package", name]);
    }
    wrong.extend(warnings(&output(&mut command)?.stderr));

    let mut text = String::new();
    for (name, version) in &published {
        let archive = folder.join(format!("{name}-{version}.crate"));
        let bytes = fs::metadata(&archive).map_err(|error| format!("{archive:?}: {error}"))?.len();
        let _ = writeln!(text, "{name} {version}: {} KiB", bytes.div_ceil(1024));
        if bytes > LARGEST * 1024 {
            wrong.push(format!("{name}: more than {LARGEST} KiB: see `include` in its Cargo.toml"));
        }
        unpack(&archive, &folder.join(format!("{name}-{version}")))?;
    }
    workspace(&folder, &published).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut check = cargo();
    check.args(["check", "--workspace", "--all-features", "--offline"]).current_dir(&folder);
    let printed = output(check.env("CARGO_TARGET_DIR", target_folder()))?;
    wrong.extend(warnings(&printed.stderr));
    if wrong.is_empty() { Ok(text) } else { Err(text + &wrong.join("\n")) }
}

/// Unpacks an archive beside it, in place of an older one.
fn unpack(archive: &Path, to: &Path) -> Result<(), String> {
    match fs::remove_dir_all(to) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(format!("{}: {error}", to.display()));
        }
        _ => {}
    }
    let folder = archive.parent().unwrap_or(Path::new("."));
    // The source is newer than what was built from an older archive, whatever its time is there.
    output(Command::new("tar").arg("-xzmf").arg(archive).arg("-C").arg(folder)).map(drop)
}

/// The workspace of the unpacked archives, with the versions and the profiles of this one.
fn workspace(folder: &Path, published: &[(String, String)]) -> std::io::Result<()> {
    let members: Vec<_> =
        published.iter().map(|(name, version)| format!("{name}-{version}")).collect();
    let names: Vec<&str> = members.iter().map(String::as_str).collect();
    let mut manifest = with_members(&fs::read_to_string(root().join("Cargo.toml"))?, &names);
    manifest.push_str("\n[patch.crates-io]\n");
    for ((name, _), member) in published.iter().zip(&members) {
        let _ = writeln!(manifest, "{name} = {{ path = {member:?} }}");
    }
    fs::write(folder.join("Cargo.toml"), manifest)?;
    fs::copy(root().join("Cargo.lock"), folder.join("Cargo.lock")).map(drop)
}

/// Warnings of cargo and of the compiler. Tests are left out of the archives on purpose.
fn warnings(stderr: &str) -> Vec<String> {
    let warnings = stderr.lines().filter(|line| line.starts_with("warning: "));
    warnings
        .filter(|line| !line.starts_with("warning: ignoring test "))
        .map(str::to_owned)
        .collect()
}

/// Files that an archive has and should not have, and files that it lacks.
fn surprising(name: &str, files: &BTreeSet<&str>) -> Vec<String> {
    let is_expected = |file: &str| {
        let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
        let (folder, _) = file.split_once('/').unwrap_or(("", file));
        match folder {
            "src" | "examples" => extension == "rs",
            "bpf" => name == "sameport-sys" && ["c", "h", "o"].contains(&extension),
            "" => COMMON.contains(&file) || (file == "build.rs" && name == "sameport-preload"),
            _ => false,
        }
    };
    let extra = files.iter().filter(|file| !is_expected(file));
    let extra = extra.map(|file| format!("{name}: {file}: a surprise in the archive"));
    let lacking = COMMON.iter().filter(|file| !files.contains(**file));
    // A clone without a commit has no .cargo_vcs_info.json; a library has no Cargo.lock in old cargos.
    let lacking = lacking.filter(|file| !file.starts_with(".cargo") && **file != "Cargo.lock");
    let lacking = lacking.map(|file| format!("{name}: {file}: not in the archive"));
    extra.chain(lacking).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprises_are_named() {
        let with = |name: &str, more: &[&'static str]| {
            let files = COMMON.iter().copied().chain(more.iter().copied()).collect();
            surprising(name, &files)
        };
        assert_eq!(
            with("sameport", &["src/lib.rs", "src/system/bsd.rs", "examples/x.rs"]),
            [""; 0]
        );
        assert_eq!(with("sameport-sys", &["src/lib.rs", "bpf/a.bpf.o", "bpf/kernel.h"]), [""; 0]);
        assert_eq!(with("sameport-preload", &["build.rs"]), [""; 0]);
        for file in ["tests/x.rs", "build.rs", "src/core.dump", "bpf/a.bpf.o", ".env", "a/b/c"] {
            let expected = format!("sameport: {file}: a surprise in the archive");
            assert_eq!(with("sameport", &[file]), [expected]);
        }
        let without: BTreeSet<&str> =
            COMMON.iter().copied().filter(|file| *file != "LICENSE-MIT").collect();
        assert_eq!(surprising("x", &without), ["x: LICENSE-MIT: not in the archive"]);
    }

    #[test]
    fn warnings_are_found() {
        let stderr = "   Packaging x\nwarning: ignoring test `a` as `tests/a.rs` is not included\n\
                      warning: unused variable: `b`\n";
        assert_eq!(warnings(stderr), ["warning: unused variable: `b`"]);
    }
}
