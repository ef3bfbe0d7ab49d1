//! The licences of the libraries in an executable, whose terms require their notices in every copy.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use super::steps::{ReleaseError, cargo, output_of, step};
use crate::workspace::root;

/// The notices of what is no package: musl and the standard library.
const RUNTIME: &str = "packaging/notices";

/// A library and the files with its licences.
struct Library {
    title: String,
    files: Vec<PathBuf>,
}

/// The notices of all libraries of a target, each text once.
pub(super) fn of_target(target: &str) -> Result<String, ReleaseError> {
    let mut text = String::from("The licences of the libraries in the executable of sameport.\n");
    let runtime = fs::read_to_string(root().join(RUNTIME)).map_err(|error| step(RUNTIME, error))?;
    let _ = write!(text, "\n{}\n", runtime.trim_end());
    let mut seen = BTreeMap::new();
    for library in libraries(target)? {
        let _ = writeln!(text, "\n=== {}", library.title);
        for file in &library.files {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let notice = fs::read(file).map_err(|error| step(&name, error))?;
            let notice = String::from_utf8_lossy(&notice).trim_end().to_owned();
            match seen.get(&notice) {
                Some(title) => {
                    let _ = writeln!(text, "\n{name}: the same text as that of {title}");
                }
                None => {
                    let _ = write!(text, "\n{notice}\n");
                    seen.insert(notice, library.title.clone());
                }
            }
        }
    }
    Ok(text)
}

/// The packages of other projects, sorted by name.
fn libraries(target: &str) -> Result<Vec<Library>, ReleaseError> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--package", "sameport-cli", "--edges", "normal"]);
    tree.args(["--prefix", "none", "--target", target, "--format", "{p}"]);
    let tree = output_of(&mut tree)?;
    let mut metadata = cargo();
    metadata.args(["metadata", "--locked", "--format-version", "1", "--filter-platform", target]);
    let metadata = output_of(&mut metadata)?;
    let metadata: serde_json::Value =
        serde_json::from_str(&metadata).map_err(|error| step("cargo metadata", error))?;
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let word = |name: &str| package[name].as_str().unwrap_or_default().to_owned();
        let key = format!("{} v{}", word("name"), word("version"));
        let is_inside = tree.lines().any(|line| is_package(line, &key));
        if !is_inside || package["source"].is_null() {
            continue;
        }
        let manifest = PathBuf::from(word("manifest_path"));
        let files = notices(manifest.parent().unwrap_or(Path::new("/")))?;
        if files.is_empty() && word("license").is_empty() {
            return Err(ReleaseError::Step(format!("{key} has no licence")));
        }
        let title = format!("{key}: {}", word("license"));
        found.insert(key, Library { title, files });
    }
    Ok(found.into_values().collect())
}

/// Whether a line of `cargo tree` is about a package: `libc v0.2.1 (*)`.
fn is_package(line: &str, key: &str) -> bool {
    line.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

fn notices(directory: &Path) -> Result<Vec<PathBuf>, ReleaseError> {
    let entries = fs::read_dir(directory).map_err(|e| step(&directory.display().to_string(), e))?;
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| is_notice(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    Ok(files)
}

fn is_notice(name: &str) -> bool {
    let name = name.to_uppercase();
    ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
        .iter()
        .any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_whole() {
        assert!(is_package("libc v0.2.1", "libc v0.2.1"));
        assert!(is_package("libc v0.2.1 (*)", "libc v0.2.1"));
        assert!(!is_package("libc v0.2.17", "libc v0.2.1"));
        assert!(!is_package("xlibc v0.2.1", "libc v0.2.1"));
        assert!(is_notice("LICENSE-MIT") && is_notice("license.txt") && is_notice("COPYING"));
        assert!(!is_notice("README.md") && !is_notice("Cargo.toml"));
    }
}
