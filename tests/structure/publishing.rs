//! What the registry and the users of a package need: manifests, licence files, versions of dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::dependencies::{metadata, metadata_of_everything};
use super::{none, root};

/// The packages that are published, in the order in which they are. All others have `publish = false`.
const PUBLISHED: &[&str] = &[
    "sameport-addr",
    "sameport",
    "sameport-policy",
    "sameport-preload",
    "sameport-sys",
    "sameport-supervisor",
    "sameport-cli",
];

/// Libraries, whose users choose the versions of dependencies: they state the oldest that passes.
const LIBRARIES: &[&str] = &["sameport-addr", "sameport"];

/// What the registry accepts, as far as this project uses it.
const CATEGORIES: &[&str] = &[
    "asynchronous",
    "command-line-utilities",
    "network-programming",
    "os",
    "os::linux-apis",
    "parser-implementations",
];

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().expect("packages")
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Packages that are published without a place in [`PUBLISHED`], and the reverse.
fn unlisted(metadata: &Value) -> Vec<String> {
    let differ = packages(metadata).iter().filter_map(|package| {
        let name = package["name"].as_str()?;
        // `publish = false` is an empty list of registries.
        let is_published = package["publish"].is_null();
        (is_published != PUBLISHED.contains(&name)).then(|| {
            format!("{name}: set `publish = false`, or list it in PUBLISHED in publishing.rs")
        })
    });
    differ.collect()
}

/// What the manifest of a published package lacks.
fn manifest(package: &Value) -> Vec<String> {
    let name = package["name"].as_str().unwrap_or_default();
    let mut lacks = Vec::new();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            lacks.push(format!("{name}: Cargo.toml: {what}"));
        }
    };
    for field in ["description", "license", "repository", "readme", "rust_version"] {
        need(package[field].as_str().is_some_and(|text| !text.is_empty()), field);
    }
    let is_library = texts(&package["targets"][0]["kind"]).contains(&"lib");
    let url = format!("https://docs.rs/{name}");
    need(!is_library || package["documentation"] == url.as_str(), "documentation = docs.rs");
    need(
        !is_library || package["metadata"]["docs"]["rs"].is_object(),
        "[package.metadata.docs.rs] with its targets",
    );
    let keywords = texts(&package["keywords"]);
    let is_keyword = |word: &&str| {
        word.len() <= 20 && word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.is_ascii()
    };
    need((1..=5).contains(&keywords.len()), "1 to 5 keywords");
    need(keywords.iter().all(is_keyword), "a keyword is ASCII, with at most 20 characters");
    let categories = texts(&package["categories"]);
    need((1..=5).contains(&categories.len()), "1 to 5 categories");
    need(categories.iter().all(|it| CATEGORIES.contains(it)), "a category of the registry");
    lacks
}

/// Files that a published package lacks, or has with another content than the project.
fn files(folder: &Path) -> Vec<String> {
    let mut wrong = Vec::new();
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let same = fs::read(folder.join(licence)).ok() == fs::read(root().join(licence)).ok();
        if !same {
            wrong.push(format!("{}: `ln -s ../../{licence}`", folder.display()));
        }
    }
    if !folder.join("README.md").exists() {
        wrong.push(format!("{}: README.md", folder.display()));
    }
    wrong
}

/// The versions of every package in a Cargo.lock.
fn locked(lock: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        let value = |key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        if let Some(package) = value("name") {
            name = package;
        } else if let Some(version) = value("version") {
            found.entry(name).or_default().insert(version);
        }
    }
    found
}

/// Dependencies of the packages of the command line that state another version than Cargo.lock has.
///
/// The tests run with the versions of Cargo.lock. An older one is therefore no promise to make.
fn untested_versions(metadata: &Value, lock: &str) -> Vec<String> {
    let locked = locked(lock);
    let mut found = Vec::new();
    for package in packages(metadata) {
        let name = package["name"].as_str().unwrap_or_default();
        if !PUBLISHED.contains(&name) || LIBRARIES.contains(&name) {
            continue;
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let other = dependency["name"].as_str().unwrap_or_default();
            let stated = dependency["req"].as_str().unwrap_or_default().trim_start_matches('^');
            if dependency["kind"] == "dev" || dependency["path"].is_string() {
                continue;
            }
            let has = locked.get(other);
            // `0.3.1+build` is version 0.3.1.
            let is_locked = |it: &&str| it.split('+').next() == Some(stated);
            if !has.is_some_and(|versions| versions.iter().any(is_locked)) {
                found.push(format!("{name}: {other} {stated}: state {has:?} of Cargo.lock"));
            }
        }
    }
    found
}

/// The parts of a licence expression between `word`, outside of parentheses.
fn split<'a>(expression: &'a str, word: &str) -> Vec<&'a str> {
    let (mut depth, mut parts, mut from) = (0, Vec::new(), 0);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ' ' if depth == 0 && expression[at..].starts_with(word) => {
                parts.push(&expression[from..at]);
                from = at + word.len();
            }
            _ => {}
        }
    }
    parts.push(&expression[from..]);
    parts
}

/// Whether a licence expression of SPDX holds with the allowed licences only.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = expression.replace('/', " OR ");
    // AND binds more tightly than OR.
    let (any, all) = (split(&expression, " OR "), split(&expression, " AND "));
    if any.len() > 1 {
        return any.iter().any(|part| is_allowed(part, allowed));
    }
    if all.len() > 1 {
        return all.iter().all(|part| is_allowed(part, allowed));
    }
    let one = expression.trim();
    match one.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_allowed(inner, allowed),
        None => allowed.contains(one),
    }
}

/// The list after `key = [` of a file in TOML, where it is in one line.
fn list(text: &str, key: &str) -> BTreeSet<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ["));
    let items = line.unwrap_or_default().trim_end_matches(']').split(',');
    items.map(|item| item.trim().trim_matches('"').to_owned()).collect()
}

/// Packages of others whose licence or registry `deny.toml` does not allow.
fn denied(everything: &Value, rules: &str) -> Vec<String> {
    let (licences, registries) = (list(rules, "allow"), list(rules, "allow-registry"));
    let mut found = Vec::new();
    for package in packages(everything) {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        let id = format!("{} {}", text("name"), text("version"));
        if !is_allowed(text("license"), &licences) {
            found.push(format!("{id}: the licence \"{}\" is not in deny.toml", text("license")));
        }
        let source = text("source");
        let registry = source.trim_start_matches("registry+");
        if !source.is_empty() && !registries.contains(registry) {
            found.push(format!("{id}: the source \"{source}\" is not in deny.toml"));
        }
    }
    found
}

#[test]
fn every_package_is_published_or_says_that_it_is_not() {
    let metadata = metadata();
    none(unlisted(&metadata));
    for name in PUBLISHED {
        assert!(packages(&metadata).iter().any(|it| it["name"] == *name), "{name} is no package");
    }
    let mut other = metadata.clone();
    other["packages"][0]["publish"] = match other["packages"][0]["publish"] {
        Value::Null => serde_json::json!([]),
        _ => Value::Null,
    };
    assert_eq!(unlisted(&other).len(), 1);
}

#[test]
fn published_packages_describe_themselves() {
    let metadata = metadata();
    let published = || {
        let all = packages(&metadata).iter();
        all.filter(|it| it["name"].as_str().is_some_and(|name| PUBLISHED.contains(&name)))
    };
    none(published().flat_map(manifest));
    none(published().flat_map(|package| {
        files(Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("/"))
    }));
    let mut bare = published().next().expect("a package").clone();
    let long = ["a-keyword-that-is-too-long"];
    bare["keywords"] = serde_json::json!(long);
    bare["categories"] = serde_json::json!(["sockets"]);
    bare["readme"] = Value::Null;
    assert_eq!(manifest(&bare).len(), 3);
    assert_eq!(files(&root().join("docs")).len(), 3);
}

#[test]
fn stated_versions_are_tested_versions() {
    let metadata = metadata();
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    none(untested_versions(&metadata, &lock));
    let newer = lock.replace("name = \"libc\"\nversion = \"", "name = \"libc\"\nversion = \"9");
    assert!(untested_versions(&metadata, &newer)[0].contains("libc"), "libc of sameport-sys");
}

#[test]
fn licences_and_sources_are_allowed() {
    let rules = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
    let everything = metadata_of_everything();
    assert!(packages(&everything).len() > 50, "the packages of others are missing");
    none(denied(&everything, &rules));
    let stricter = rules.replace("\"Zlib\"", "\"X\"").replace("github.com", "example.com");
    assert!(denied(&everything, &stricter).len() > 50);

    let allowed = list("allow = [\"MIT\", \"Unicode-3.0\"]", "allow");
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("", false),
        ("MIT/Apache-2.0", true),
        ("Apache-2.0 OR MIT", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND Apache-2.0", false),
        ("GPL-2.0 OR MIT AND ISC", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("Apache-2.0 WITH LLVM-exception", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
