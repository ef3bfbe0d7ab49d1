//! No import cycle between the files of a package.

use std::collections::{BTreeMap, BTreeSet};

use source_tree::{Source, cycles, imports};

use super::offenders::FILES_IN_CYCLES;
use super::{SOURCES, beyond, none};

/// Each file in a cycle, with those files of the cycle from which it imports.
fn files_in_cycles(sources: &[Source]) -> BTreeMap<String, String> {
    let packages: BTreeSet<&str> = sources.iter().map(Source::package).collect();
    let mut found = BTreeMap::new();
    for package in packages {
        let graph = imports(sources, package);
        for cycle in cycles(&graph) {
            for file in &cycle {
                let imported = cycle.iter().filter(|it| graph[file].contains(*it));
                let imported = imported.map(String::as_str).collect::<Vec<_>>().join(", ");
                let length = cycle.len();
                found.insert(
                    file.clone(),
                    format!("{file}, in a cycle of {length} files, imports from {imported}"),
                );
            }
        }
    }
    found
}

#[test]
fn files_import_without_a_cycle() {
    let found = files_in_cycles(&SOURCES);
    let rule = "move what both files need to a file that imports neither";
    none(beyond("FILES_IN_CYCLES", FILES_IN_CYCLES, rule, &found));
}

/// The files in cycles of a package `a` with these files.
fn in_cycles(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files
        .iter()
        .map(|(name, text)| Source::new(&format!("crates/a/src/{name}"), text))
        .collect();
    let prefix = "crates/a/src/";
    files_in_cycles(&sources).into_keys().map(|it| it.replace(prefix, "")).collect()
}

#[test]
fn a_cycle_is_seen_however_it_is_written() {
    let lib = ("lib.rs", "mod b; mod c { pub mod d; }");
    let d = ("c/d.rs", "use crate::b::B; pub struct D;");
    let sides = [
        "use crate::c::d::D; pub struct B;",
        "use super::c::{d::{self, D as E}}; pub struct B;",
        "pub struct B; fn f() { use crate::c; c::d::D; }",
        "pub struct B(crate::c::d::D);",
        "pub struct B; mod inner { use super::super::c::d::*; fn f(_: D) {} }",
        "pub use crate::c::d::D; pub struct B(D);",
        "pub(crate) use crate::c::d as e; pub struct B(e::D);",
    ];
    for b in sides {
        assert_eq!(in_cycles(&[lib, ("b.rs", b), d]), ["b.rs", "c/d.rs"], "{b}");
    }
    let parent =
        [("lib.rs", "mod b; use b::B; pub struct L(B);"), ("b.rs", "pub struct B(crate::L);")];
    assert_eq!(in_cycles(&parent), ["b.rs", "lib.rs"]);
    let placed = [
        ("lib.rs", "#[path = \"x/y.rs\"] mod b; fn f() { self::b::g() }"),
        ("x/y.rs", "pub fn g() { super::f() }"),
    ];
    assert_eq!(in_cycles(&placed), ["lib.rs", "x/y.rs"]);
}

#[test]
fn what_is_no_cycle_is_not_seen_as_one() {
    let lib = ("lib.rs", "mod b; mod c;");
    let c = ("c.rs", "use crate::b::B; pub struct C;");
    let sides = [
        "pub struct B;",
        "pub struct B; #[cfg(test)] mod tests { use crate::c::C; }",
        "pub struct B; #[cfg(test)] use crate::c::C;",
        "pub struct B; // crate::c::C\nconst T: &str = \"crate::c::C\";",
        "pub struct B; pub(in crate::c) struct E;",
        "pub struct B; use other::c::C; use ::c::C as D;",
        // A re-export for others.
        "pub struct B; pub use crate::c::C;",
    ];
    for b in sides {
        assert_eq!(in_cycles(&[lib, ("b.rs", b), c]), [""; 0], "{b}");
    }
    // A re-export leads to the file that defines the item.
    let facade = [
        ("lib.rs", "mod b;"),
        ("b/mod.rs", "mod c; mod d; pub use c::C; pub use d::*;"),
        ("b/c.rs", "pub struct C(super::D);"),
        ("b/d.rs", "pub struct D;"),
    ];
    assert_eq!(in_cycles(&facade), [""; 0]);
}
