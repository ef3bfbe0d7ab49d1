//! Which crate may know which: the arrows of ARCHITECTURE.md, read from the manifests.

use std::process::Command;

use serde_json::Value;

use super::none;
use super::source::root;

/// A crate, the crates of ours that it may know, and those of others if they are counted.
struct Room {
    name: &'static str,
    ours: &'static [&'static str],
    others: Option<&'static [&'static str]>,
}

const ROOMS: &[Room] = &[
    // Values that every other crate shares: no dependency.
    Room { name: "sameport-addr", ours: &[], others: Some(&[]) },
    // Pure: needs nothing of the world.
    Room { name: "sameport-policy", ours: &["sameport-addr"], others: Some(&[]) },
    // Published: std, the bindings of the system, and tokio for who asks for it.
    Room {
        name: "sameport",
        ours: &["sameport-addr"],
        others: Some(&["socket2", "libc", "windows-sys", "tokio"]),
    },
    Room { name: "sameport-sys", ours: &["sameport-policy"], others: None },
    Room {
        name: "sameport-supervisor",
        ours: &["sameport", "sameport-policy", "sameport-preload", "sameport-sys"],
        others: None,
    },
    // Runs in other people's programs: its object is made of `core` and files of rules. Where it is
    // no such object (macOS, FreeBSD), it goes by libc.
    Room { name: "sameport-preload", ours: &["sameport-policy"], others: Some(&["libc"]) },
    Room {
        name: "sameport-cli",
        ours: &[
            "sameport",
            "sameport-sys",
            "sameport-preload",
            "sameport-policy",
            "sameport-supervisor",
        ],
        others: None,
    },
    Room { name: "sameport-tests", ours: &[], others: None },
    Room { name: "xtask", ours: &[], others: None },
];

/// Crates of others that belong to the command line, and who may have them.
const COMMAND_LINE: &[&str] = &["clap", "clap_complete", "clap_mangen", "anstream", "anstyle"];
const PARSES: &[&str] = &["sameport-cli", "xtask"];

fn complaints(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().expect("packages");
    let mut complaints = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let Some(room) = ROOMS.iter().find(|room| room.name == name) else {
            complaints.push(format!(
                "{name}: give the new crate its arrows in ROOMS in tests/walls/arrows.rs and in \
                 ARCHITECTURE.md"
            ));
            continue;
        };
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            if dependency["kind"] == "dev" {
                continue;
            }
            let other = dependency["name"].as_str().expect("a name");
            let is_ours = packages.iter().any(|package| package["name"] == other);
            let allowed = match (is_ours, room.others) {
                (true, _) => room.ours.contains(&other),
                (false, Some(others)) => others.contains(&other),
                (false, None) => true,
            };
            if !allowed {
                complaints.push(format!("{name} → {other}: no such arrow: pass the value instead"));
            }
            if COMMAND_LINE.contains(&other) && !PARSES.contains(&name) {
                complaints.push(format!("{name} → {other}: only the cli talks to a person"));
            }
            if name == "sameport" && other == "tokio" && dependency["optional"] != true {
                complaints
                    .push("sameport → tokio: the library is synchronous: keep it optional".into());
            }
        }
    }
    complaints
}

fn metadata() -> Value {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {errors}");
    serde_json::from_slice(&output.stdout).expect("cargo metadata writes JSON")
}

#[test]
fn crates_know_only_whom_they_may() {
    let metadata = metadata();
    none(complaints(&metadata));
    for room in ROOMS {
        let packages = metadata["packages"].as_array().expect("packages");
        assert!(packages.iter().any(|it| it["name"] == room.name), "{} is gone", room.name);
    }
}

#[test]
fn a_wrong_arrow_is_seen() {
    let with = |name: &str, dependency: Value| {
        let mut metadata = metadata();
        let before = complaints(&metadata).len();
        let packages = metadata["packages"].as_array_mut().expect("packages");
        let package = packages.iter_mut().find(|it| it["name"] == name).expect(name);
        package["dependencies"].as_array_mut().expect("dependencies").push(dependency);
        complaints(&metadata).len() - before
    };
    let plain = |name: &str| serde_json::json!({ "name": name, "kind": null, "optional": false });
    assert_eq!(with("sameport-policy", plain("libc")), 1);
    assert_eq!(with("sameport-policy", serde_json::json!({ "name": "libc", "kind": "dev" })), 0);
    assert_eq!(with("sameport-sys", plain("sameport")), 1);
    assert_eq!(with("sameport-sys", plain("clap")), 1);
    assert_eq!(with("sameport", plain("sameport-sys")), 1);
    assert_eq!(with("sameport", plain("tokio")), 1);
    assert_eq!(with("xtask", plain("sameport")), 1);
    let mut stranger = metadata();
    stranger["packages"][0]["name"] = "newcomer".into();
    assert!(complaints(&stranger).iter().any(|it| it.starts_with("newcomer: ")));
}

#[test]
fn every_crate_keeps_the_lints() {
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
