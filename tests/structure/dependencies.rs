//! The dependencies between packages, read from the manifests.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;
use source_tree::Source;

use super::offenders::DEPENDENCIES;
use super::{SOURCES, beyond, none, root};

/// A package and what it may depend on.
struct Package {
    name: &'static str,
    ours: &'static [&'static str],
    /// Packages of others; `None` for any.
    others: Option<&'static [&'static str]>,
}

const PACKAGES: &[Package] = &[
    // Values that every other package shares.
    Package { name: "sameport-addr", ours: &[], others: Some(&["serde"]) },
    // Pure functions: no system, no time.
    Package { name: "sameport-policy", ours: &["sameport-addr"], others: Some(&["serde"]) },
    // Published: std, the bindings of the system, and tokio as an option.
    Package {
        name: "sameport",
        ours: &["sameport-addr"],
        others: Some(&["socket2", "libc", "windows-sys", "tokio"]),
    },
    Package { name: "sameport-sys", ours: &["sameport-policy"], others: None },
    Package {
        name: "sameport-supervisor",
        ours: &["sameport-sys", "sameport-policy"],
        others: None,
    },
    // Runs inside other programs, from files that use `core` only: build.rs takes those of policy.
    Package { name: "sameport-preload", ours: &["sameport-policy"], others: Some(&[]) },
    Package {
        name: "sameport-cli",
        ours: &[
            "sameport-supervisor",
            "sameport-sys",
            "sameport-policy",
            "sameport",
            "sameport-preload",
        ],
        others: None,
    },
    Package { name: "sameport-tests", ours: &[], others: None },
    // A development dependency of packages with tests that can be skipped.
    Package { name: "sameport-skips", ours: &[], others: Some(&[]) },
    // Runs and draws the commands of the documentation.
    Package { name: "sameport-console", ours: &[], others: Some(&[]) },
    // Programs for readers, with servers of others.
    Package { name: "sameport-examples", ours: &["sameport"], others: None },
    // The survey reads sources as the structural tests do.
    Package { name: "sameport-benches", ours: &["sameport"], others: None },
    Package { name: "xtask", ours: &["sameport-tests", "sameport-console"], others: None },
];

/// Dependencies that must stay optional: the library is synchronous, and needs no JSON.
const OPTIONAL: &[(&str, &str)] =
    &[("sameport", "tokio"), ("sameport-addr", "serde"), ("sameport-policy", "serde")];

/// Packages for command lines, and the packages that may depend on them.
const COMMAND_LINE: &[&str] = &["clap", "clap_complete", "clap_mangen", "anstream", "anstyle"];
const PARSES: &[&str] = &["sameport-cli", "sameport-benches", "xtask"];

/// The dependencies that PACKAGES does not allow, development dependencies left out.
fn forbidden(metadata: &Value) -> BTreeMap<String, String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let mut found = BTreeMap::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let mut add = |other: &str, why: &str| {
            let key = format!("{name} -> {other}");
            found.insert(key.clone(), format!("{key}: {why}"));
        };
        let Some(allowed) = PACKAGES.iter().find(|it| it.name == name) else {
            add("", "give the new package its row in PACKAGES in tests/structure/dependencies.rs");
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"] == "dev" {
                continue;
            }
            let other = dependency["name"].as_str().expect("a name");
            let is_ours = packages.iter().any(|package| package["name"] == other);
            let is_allowed = match (is_ours, allowed.others) {
                (true, _) => allowed.ours.contains(&other),
                (false, Some(others)) => others.contains(&other),
                (false, None) => true,
            };
            if !is_allowed {
                add(other, "no dependency of the architecture: pass the value instead");
            }
            if COMMAND_LINE.contains(&other) && !PARSES.contains(&name) {
                add(other, "only the cli, the benchmarks and xtask read a command line");
            }
            if OPTIONAL.contains(&(name, other)) && dependency["optional"] != true {
                add(other, "keep it optional, behind a feature");
            }
        }
    }
    found
}

/// Module files from another package, which would be a dependency that no manifest shows.
fn foreign_files(source: &Source) -> Vec<String> {
    let is_published = source.path.starts_with("crates/") && !source.is_test();
    let foreign = source.foreign_modules().filter(|_| is_published);
    foreign.map(|it| format!("{}: {it}: depend on its package instead", source.path)).collect()
}

/// The packages of the workspace.
pub(super) fn metadata() -> Value {
    cargo_metadata(&["--no-deps", "--offline"])
}

/// The packages of the workspace and of others, for every system. Cargo downloads what is missing.
pub(super) fn metadata_of_everything() -> Value {
    cargo_metadata(&["--locked"])
}

fn cargo_metadata(options: &[&str]) -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1"])
        .args(options)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

#[test]
fn packages_depend_as_the_architecture_says() {
    let rule = "ARCHITECTURE.md has the dependencies";
    none(beyond("DEPENDENCIES", DEPENDENCIES, rule, &forbidden(&metadata())));
}

#[test]
fn a_forbidden_dependency_is_seen() {
    let with = |name: &str, dependency: Value| {
        let mut metadata = metadata();
        let before = forbidden(&metadata).len();
        let packages = metadata["packages"].as_array_mut().expect("packages");
        let package = packages.iter_mut().find(|it| it["name"] == name).expect(name);
        package["dependencies"].as_array_mut().expect("dependencies").push(dependency);
        forbidden(&metadata).len() - before
    };
    let plain = |name: &str| serde_json::json!({ "name": name, "kind": null, "optional": false });
    assert_eq!(with("sameport-policy", plain("libc")), 1);
    assert_eq!(with("sameport-policy", serde_json::json!({ "name": "libc", "kind": "dev" })), 0);
    assert_eq!(with("sameport-sys", plain("sameport")), 1);
    assert_eq!(with("sameport-sys", plain("clap")), 1);
    assert_eq!(with("sameport-supervisor", plain("sameport-cli")), 1);
    assert_eq!(with("sameport", plain("sameport-policy")), 1);
    assert_eq!(with("sameport", plain("tokio")), 1);
    assert_eq!(with("sameport-policy", plain("serde")), 1);
    assert_eq!(with("xtask", plain("sameport")), 1);
    let mut unknown = metadata();
    unknown["packages"][0]["name"] = "newcomer".into();
    assert!(forbidden(&unknown).keys().any(|it| it.starts_with("newcomer -> ")));
}

/// Cargo runs tests in the order of the names of packages. The last one counts the skipped tests.
#[test]
fn the_closing_line_is_last() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let last = packages.iter().max_by_key(|it| it["name"].as_str()).expect("a package");
    assert_eq!(last["name"], "xtask", "move xtask/tests/skipped_tests.rs to the last package");
    let tests = last["targets"].as_array().expect("targets").iter();
    let tests = tests.filter(|it| it["kind"][0] == "test").filter_map(|it| it["name"].as_str());
    assert_eq!(tests.max(), Some("skipped_tests"));
}

#[test]
fn packages_include_no_files_of_each_other() {
    none(SOURCES.iter().flat_map(foreign_files));
    let found = |path: &str| {
        let text = "#[path = \"../../b/src/c.rs\"]\nmod c;\n#[path = \"e.rs\"]\nmod d;\n";
        foreign_files(&Source::new(path, text)).len()
    };
    assert_eq!((found("crates/a/src/lib.rs"), found("crates/a/tests/f.rs")), (1, 0));
}

#[test]
fn every_package_keeps_the_lints() {
    let lacking = |manifest: &str| !manifest.replace(' ', "").contains("[lints]\nworkspace=true");
    none(metadata()["packages"].as_array().expect("packages").iter().filter_map(|package| {
        let path = package["manifest_path"].as_str().expect("a path");
        let text = std::fs::read_to_string(path).expect("a manifest");
        lacking(&text).then(|| format!("{path}: add `[lints]` with `workspace = true`"))
    }));
    assert!(
        lacking("[package]\nname = \"x\"\n") && lacking("[lints.rust]\nunsafe_code = \"allow\"")
    );
}
