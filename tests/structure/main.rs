//! The structural rules of the project, as in ARCHITECTURE.md.
//!
//! Every check is a function from sources or manifests to complaints. A test feeds each check a
//! broken example, so that a check without effect fails too.

mod dependencies;
mod forbidden;
mod hosted;
mod imports;
mod names;
mod offenders;
mod publishing;
mod shape;
mod size;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use source_tree::Source;

/// Every Rust file of the project.
static SOURCES: LazyLock<Vec<Source>> = LazyLock::new(|| {
    let found = source_tree::sources(&root());
    assert!(found.len() > 20, "only {} sources below {}", found.len(), root().display());
    found
});

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the root").to_owned()
}

/// Fails with one line a complaint. A complaint says how to fix it.
#[track_caller]
fn none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<_> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n\n{}\n", complaints.join("\n"));
}

/// Compares the offenders of a rule, each with its explanation, with a list of known offenders.
///
/// The lists may only shrink: an entry that no longer offends is a complaint too.
fn beyond(name: &str, list: &[&str], rule: &str, found: &BTreeMap<String, String>) -> Vec<String> {
    let file = "tests/structure/offenders.rs";
    let known: BTreeSet<&str> = list.iter().copied().collect();
    let new = found.iter().filter(|(key, _)| !known.contains(key.as_str()));
    let new = new.map(|(key, why)| format!("{rule}: {why}\n  its line in {name}: \"{key}\","));
    let gone = known.iter().filter(|key| !found.contains_key(**key));
    let gone =
        gone.map(|key| format!("{file}: remove \"{key}\" from {name}: it offends no longer"));
    new.chain(gone).collect()
}

#[test]
fn a_list_of_offenders_shrinks_only() {
    let found = |keys: &[&str]| keys.iter().map(|it| ((*it).into(), "why".into())).collect();
    let complaints = |list: &[&str], keys: &[&str]| beyond("LIST", list, "rule", &found(keys));
    assert_eq!(complaints(&["a", "b"], &["a", "b"]), [""; 0]);
    assert_eq!(complaints(&["a"], &["a", "b"]), ["rule: why\n  its line in LIST: \"b\","]);
    let gone = &complaints(&["a", "b"], &["a"])[0];
    assert!(gone.contains("remove \"b\" from LIST"), "{gone}");
}
