//! The shape of a file: its first line, length, name, unsafe code and, in `commands`, verb.

use std::collections::BTreeSet;
use std::fs;

use source_tree::{Source, in_a_name};

use super::{SOURCES, none, root};

/// Files of more than 400 lines, each with the reason why it is better whole.
const LONG: &[(&str, &str)] = &[(
    "crates/policy/src/lifecycle/tests.rs",
    "one table a question about the same small run, which they share",
)];

/// Names that say nothing about the content of a module.
const NAMELESS: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "manager", "core", "base", "types"];

fn opening(source: &Source) -> Option<String> {
    let opens = source.text.starts_with("//! ");
    (!opens).then(|| format!("{}: open the file with `//!` and its purpose", source.path))
}

fn length(source: &Source) -> Option<String> {
    let (lines, path) = (source.text.lines().count(), &source.path);
    match LONG.iter().find(|(long, _)| long == path) {
        _ if lines > 700 => {
            Some(format!("{path}: {lines} lines: past 700 a file needs a new design"))
        }
        None if lines > 400 => Some(format!(
            "{path}: {lines} lines: split it, or give its reason in LONG in tests/structure/shape.rs"
        )),
        Some(_) if lines <= 400 => Some(format!("{path}: {lines} lines: take it out of LONG")),
        _ => None,
    }
}

/// Names of files and folders, and of modules inside files.
fn nameless(source: &Source) -> Vec<String> {
    let parts = source.path.trim_end_matches(".rs").split('/').map(str::to_owned);
    let modules = source.code.lines().filter_map(|line| {
        let name = line.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
        Some(name.strip_prefix("mod ")?.split(|c| !in_a_name(c)).next()?.to_owned())
    });
    let bad = parts.chain(modules).filter(|name| NAMELESS.contains(&name.as_str()));
    bad.map(|name| format!("{}: `{name}`: name the module after its content", source.path))
        .collect()
}

/// Unsafe code is denied. A file or an item that has it gives the reason; in a comment where the
/// compiler of the package is older than `reason = …` (Rust 1.81).
fn unexplained_unsafe(source: &Source) -> Option<String> {
    let has_unsafe =
        source.lines().any(|(_, line)| line.split(|c| !in_a_name(c)).any(|word| word == "unsafe"));
    let flat: String = source.text.split_whitespace().collect::<Vec<_>>().join(" ");
    let explained = ["expect", "allow"].iter().any(|level| {
        flat.contains(&format!("{level}(unsafe_code, reason ="))
            || flat.contains(&format!("{level}( unsafe_code, reason ="))
    });
    let in_comment = flat.contains("// Reason: ") && flat.contains("#![allow(unsafe_code)]");
    (has_unsafe && !explained && !in_comment).then(|| {
        format!("{}: unsafe: open the file with `#![expect(unsafe_code, reason = …)]`", source.path)
    })
}

/// Every file in `commands` is a verb that `mod.rs` runs.
fn verbs(files: &BTreeSet<String>, register: &Source) -> Vec<String> {
    let run = |verb: &str| register.code.contains(&format!("=> {verb}::run(args"));
    let unknown = files.iter().filter(|verb| !run(verb)).map(|verb| {
        format!("commands/{verb}.rs is no verb of commands/mod.rs: move it to operations or output")
    });
    let modules =
        register.code.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let missing = modules
        .filter(|verb| !files.contains(*verb))
        .map(|verb| format!("commands/mod.rs: `mod {verb}` is not one file: one verb, one file"));
    unknown.chain(missing).collect()
}

#[test]
fn files_open_with_their_purpose() {
    none(SOURCES.iter().filter_map(opening));
    for text in ["use x;\n", "// x\n//! y\n", "//!\n", ""] {
        assert!(opening(&Source::new("a.rs", text)).is_some(), "{text}");
    }
    assert!(opening(&Source::new("a.rs", "//! Its purpose.\n")).is_none());
}

#[test]
fn files_are_short_enough_to_read() {
    none(SOURCES.iter().filter_map(length));
    for (path, reason) in LONG {
        assert!(SOURCES.iter().any(|it| it.path == *path), "LONG: {path} is no file");
        assert!(reason.len() > 20, "LONG: {path} needs a reason");
    }
    let of = |lines: usize| length(&Source::new("a.rs", &"x\n".repeat(lines)));
    assert!(of(400).is_none() && of(401).is_some() && of(701).is_some());
}

#[test]
fn modules_are_named_after_their_content() {
    none(SOURCES.iter().flat_map(nameless));
    let named = |path: &str, text: &str| nameless(&Source::new(path, text)).len();
    assert_eq!(named("crates/x/src/util.rs", ""), 1);
    assert_eq!(named("crates/x/src/common/mod.rs", ""), 1);
    assert_eq!(named("a.rs", "pub(crate) mod helpers;\nmod misc { }\n// mod types;\n"), 2);
    assert_eq!(named("a.rs", "mod utilities;\nmod based;\n"), 0);
}

#[test]
fn unsafe_code_says_why() {
    none(SOURCES.iter().filter_map(unexplained_unsafe));
    let why = |text: &str| unexplained_unsafe(&Source::new("a.rs", text)).is_some();
    assert!(why("//! x\nfn f() { unsafe { g() } }"));
    assert!(why("#![expect(unsafe_code)]\nunsafe fn f() {}"));
    assert!(!why("#![expect(unsafe_code, reason = \"y\")]\nunsafe fn f() {}"));
    assert!(!why("#![expect(\n    unsafe_code,\n    reason = \"y\"\n)]\nunsafe fn f() {}"));
    assert!(why("#![allow(unsafe_code)]\nunsafe fn f() {}"));
    assert!(!why("// Reason: y.\n#![allow(unsafe_code)]\nunsafe fn f() {}"));
    assert!(!why("// unsafe\n#![forbid(unsafe_code)]"));
}

#[test]
fn policy_forbids_unsafe_code() {
    let lib = fs::read_to_string(root().join("crates/policy/src/lib.rs")).expect("policy");
    assert!(lib.contains("\n#![forbid(unsafe_code)]\n"), "crates/policy/src/lib.rs: forbid it");
}

#[test]
fn one_verb_one_file() {
    let folder = root().join("crates/cli/src/commands");
    let entries = fs::read_dir(&folder).expect("commands");
    let names = entries.map(|e| e.expect("an entry").file_name().into_string().expect("a name"));
    let files: BTreeSet<_> =
        names.filter(|n| n != "mod.rs").map(|n| n.trim_end_matches(".rs").to_owned()).collect();
    let text = fs::read_to_string(folder.join("mod.rs")).expect("commands/mod.rs");
    let register = Source::new("crates/cli/src/commands/mod.rs", &text);
    assert!(files.contains("run") && files.contains("ls"), "{files:?}");
    none(verbs(&files, &register));

    let stray: BTreeSet<_> = files.iter().cloned().chain(["stray".to_owned()]).collect();
    assert_eq!(verbs(&stray, &register).len(), 1);
    let fewer: BTreeSet<_> = files.iter().filter(|verb| *verb != "ls").cloned().collect();
    assert_eq!(verbs(&fewer, &register).len(), 1);
}
