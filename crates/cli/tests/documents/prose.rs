//! What the pages say between their commands: links, options, messages, counts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{PAGES, path_of, read};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The text of a page without its blocks of code.
fn prose(page: &str) -> String {
    let text = read(page).text();
    let outside = text.split("\n```").step_by(2).map(|part| match part.split_once('\n') {
        // What follows the fence that ends a block.
        Some(("", rest)) => rest,
        _ => part,
    });
    outside.collect::<Vec<_>>().join("\n")
}

/// The texts between backquotes.
fn inline_code(text: &str) -> Vec<String> {
    let mut code = vec![];
    for line in text.lines() {
        // Two backquotes around text that has some.
        let (doubled, single): (Vec<_>, Vec<_>) =
            line.split("``").enumerate().partition(|(index, _)| index % 2 == 1);
        code.extend(doubled.into_iter().map(|(_, text)| text.trim().to_owned()));
        for (_, part) in single {
            code.extend(part.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    code
}

#[test]
fn links_lead_to_files() {
    let mut broken = vec![];
    for page in PAGES.iter().chain(&["ARCHITECTURE", "CONTRIBUTING", "docs/install"]) {
        let text = prose(page);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if target.contains("://") {
                continue;
            }
            let path = match file {
                "" => path_of(page),
                file => path_of(page).parent().unwrap().join(file),
            };
            let Ok(linked) = std::fs::read_to_string(&path) else {
                if !path.is_dir() {
                    broken.push(format!("{page}: {target}"));
                }
                continue;
            };
            let headings = linked.lines().filter(|line| line.starts_with('#')).map(slug);
            if !anchor.is_empty() && !headings.into_iter().any(|heading| heading == anchor) {
                broken.push(format!("{page}: {target}: no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The anchor that GitHub gives a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

fn help(words: &[&str]) -> Option<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sameport")).args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// The verbs of `sameport --help`.
fn verbs() -> BTreeSet<String> {
    let help = help(&[]).unwrap();
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines().filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
}

/// Commands in the text have verbs and options that exist. The blocks are run.
#[test]
fn commands_in_the_text_exist() {
    let verbs = verbs();
    let mut helps: BTreeMap<String, String> = BTreeMap::new();
    let mut wrong = vec![];
    for page in PAGES {
        for code in inline_code(&prose(page)) {
            let Some(rest) = code.strip_prefix("sameport ") else { continue };
            // What follows `--` belongs to the program of the user.
            let ours = rest.split(" -- ").next().unwrap_or_default();
            let mut words = ours.split_whitespace();
            let Some(verb) = words.next().filter(|word| word.starts_with(char::is_lowercase))
            else {
                continue;
            };
            if !verbs.contains(verb) {
                wrong.push(format!("{page}: {code}: no verb {verb}"));
                continue;
            }
            let help = helps.entry(verb.to_owned()).or_insert_with(|| help(&[verb]).unwrap());
            for option in words.filter(|word| word.starts_with("--")) {
                let known =
                    help.split_whitespace().any(|word| word.trim_end_matches(',') == option);
                if !known {
                    wrong.push(format!("{page}: {code}: no option {option}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn readme_lists_every_verb_and_counts_the_servers() {
    let readme = read("README").text();
    let missing: Vec<String> = verbs()
        .into_iter()
        .filter(|verb| verb != "help" && !readme.contains(&format!("`sameport {verb}`")))
        .collect();
    assert!(missing.is_empty(), "not in the README: {missing:?}");
    let servers = read("docs/servers").text();
    let names = servers.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let names: BTreeSet<&str> = names.map(|(name, _)| name).collect();
    let count = names.iter().filter(|name| **name != "server").count();
    assert!(readme.contains(&format!("**{count} servers**")), "docs/servers.md has {count}");
}

fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match path.extension() {
            _ if path.is_dir() => sources(&path, text),
            Some(rust) if rust == "rs" => *text += &std::fs::read_to_string(&path).unwrap(),
            _ => {}
        }
    }
}

/// Each message in the first column of docs/guides/troubleshooting.md is in the sources.
#[test]
fn messages_of_troubleshooting_exist() {
    let mut text = String::new();
    for crate_name in ["cli", "supervisor", "sys", "policy"] {
        sources(&root().join("crates").join(crate_name).join("src"), &mut text);
    }
    // A string goes on in the next line after a backslash.
    let mut joined = String::new();
    for part in text.split("\\\n") {
        joined += if joined.is_empty() { part } else { part.trim_start() };
    }
    let page = prose("docs/guides/troubleshooting");
    let first = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let parts: Vec<String> = first
        .flat_map(|(message, _)| inline_code(message))
        .flat_map(|code| code.split('…').map(|it| it.trim().to_owned()).collect::<Vec<_>>())
        .filter(|part| part.len() > 3)
        .collect();
    assert!(parts.len() > 30, "{parts:?}");
    let missing: Vec<&String> = parts.iter().filter(|part| !joined.contains(*part)).collect();
    assert!(missing.is_empty(), "no source has {missing:#?}");
}
