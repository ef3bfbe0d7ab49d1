//! The archives of the published packages: their files, their sizes, and a build of each.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use super::cargo::{Outcome, cargo, output, published, target_folder};

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

/// `cargo package` for all published packages at once: cargo builds each from its archive, with the
/// archives of the others in place of the registry.
pub(super) fn verify() -> Outcome {
    let published = published()?;
    let mut text = String::new();
    let mut wrong = Vec::new();
    for (name, _) in &published {
        let list = output(cargo().args(["package", "--list", "--allow-dirty", "--package", name]))?;
        let files: BTreeSet<&str> = list.stdout.lines().collect();
        wrong.extend(surprising(name, &files));
    }
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let mut command = cargo();
    // A clone with changes can be checked as well.
    command.args(["package", "--locked", "--allow-dirty"]);
    for (name, _) in &published {
        command.args(["--package", name]);
    }
    let printed = output(&mut command)?;
    for (name, version) in &published {
        let archive = target_folder().join("package").join(format!("{name}-{version}.crate"));
        let bytes = fs::metadata(&archive).map_err(|error| format!("{archive:?}: {error}"))?.len();
        let _ = writeln!(text, "{name} {version}: {} KiB", bytes.div_ceil(1024));
        if bytes > LARGEST * 1024 {
            wrong.push(format!("{name}: more than {LARGEST} KiB: see `include` in its Cargo.toml"));
        }
    }
    wrong.extend(warnings(&printed.stderr));
    if wrong.is_empty() { Ok(text) } else { Err(text + &wrong.join("\n")) }
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
