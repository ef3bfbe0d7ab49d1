//! One name for one type within a package.

use std::collections::BTreeMap;

use source_tree::{Kind, SHARED_TYPE_NAMES, Source};

use super::offenders::DUPLICATE_TYPES;
use super::{SOURCES, beyond, none};

/// `PACKAGE NAME` of the types that share a name with another type of their package.
fn duplicate_types(sources: &[Source]) -> BTreeMap<String, String> {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|it| !it.is_test()) {
        for item in source.items().into_iter().filter(|it| it.kind == Kind::Type) {
            if !SHARED_TYPE_NAMES.contains(&item.name.as_str()) {
                let key = format!("{} {}", source.package(), item.name);
                places.entry(key).or_default().push(format!("{}:{}", source.path, item.line));
            }
        }
    }
    places.retain(|_, places| places.len() > 1);
    places.into_iter().map(|(key, places)| (key, places.join(", "))).collect()
}

#[test]
fn a_type_has_a_name_of_its_own() {
    let rule = "give each type of a package a name of its own";
    none(beyond("DUPLICATE_TYPES", DUPLICATE_TYPES, rule, &duplicate_types(&SOURCES)));
}

#[test]
fn a_shared_name_is_seen() {
    let found = |one: &str, other: &str| -> Vec<String> {
        let sources = [("b", one), ("c", other)]
            .map(|(name, text)| Source::new(&format!("crates/a/src/{name}.rs"), text));
        duplicate_types(&sources).into_keys().collect()
    };
    for one in ["struct D;", "pub(crate) enum D { E }", "trait D {}", "union D { e: u8 }"] {
        for other in ["type D = u8;", "mod f { pub struct D(u8); }", "fn f() { struct D {} }"] {
            assert_eq!(found(one, other), ["crates/a D"], "{one} {other}");
        }
        for other in ["#[cfg(test)] mod tests { struct D; }", "impl T for U { type D = u8; }"] {
            assert_eq!(found(one, other), [""; 0], "{one} {other}");
        }
        for other in ["trait T { type D; }", "// struct D;", "fn d(d: D) {}", "struct Dd;"] {
            assert_eq!(found(one, other), [""; 0], "{one} {other}");
        }
    }
    assert_eq!(found("struct Args; enum Error {}", "struct Args; enum Error {}"), [""; 0]);
}
