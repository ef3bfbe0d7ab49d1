//! The public interface of the published libraries: a snapshot of it, and an example for every function.
//!
//! It is read from the sources, so that the snapshot has what every system and every feature has, and
//! does not depend on the compiler. rustdoc's JSON would have one system, and needs one nightly compiler.

mod crate_tree;
mod documentation;
mod interface;

use std::path::{Path, PathBuf};

use crate_tree::Tree;

/// A library, by its folder in `crates`.
const LIBRARIES: &[&str] = &["addr", "sameport"];

/// The command that accepts a change of the interface.
const RENEW: &str = "RENEW=1 cargo test -p sameport-tests --test public_api";

fn folder(library: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates").join(library)
}

/// The lines that were removed and added, with three lines around each.
fn difference(before: &str, after: &str) -> String {
    let difference = similar::TextDiff::from_lines(before, after);
    difference.unified_diff().context_radius(3).header("snapshot", "sources").to_string()
}

#[test]
fn the_interface_is_the_snapshot() {
    for library in LIBRARIES {
        let folder = folder(library);
        let interface = interface::text(&Tree::read(&folder.join("src/lib.rs")));
        let snapshot = folder.join("public-api.txt");
        if std::env::var_os("RENEW").is_some() {
            std::fs::write(&snapshot, &interface).expect("the snapshot is written");
        }
        let before = std::fs::read_to_string(&snapshot).unwrap_or_default();
        assert!(
            before == interface,
            "\n\ncrates/{library}/public-api.txt: the public interface has changed:\n\n{}\n\
             If that is intended: {RENEW}\n",
            difference(&before, &interface)
        );
    }
}

#[test]
fn every_function_has_an_example() {
    let all = LIBRARIES.iter().flat_map(|library| {
        let functions = documentation::functions(&Tree::read(&folder(library).join("src/lib.rs")));
        assert!(functions.len() > 5, "{library}: only {} functions were found", functions.len());
        functions.into_iter().filter(|function| !function.has_example)
    });
    let lacking: Vec<_> =
        all.map(|it| format!("{}: add an example that is compiled", it.name)).collect();
    assert!(lacking.is_empty(), "\n\n{}\n", lacking.join("\n"));
}

#[test]
fn a_change_is_shown_as_lines() {
    let shown = difference("pub fn a();\npub fn b();\n", "pub fn a();\npub fn b(port: u16);\n");
    assert!(shown.contains("\n-pub fn b();\n+pub fn b(port: u16);\n"), "{shown}");
}
