//! `docs/servers.md` lists exactly these servers with these options, and CI installs all of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::server::Server;
use crate::{names, python, runtimes, sessions, stores, web};

const TABLES: [(&str, &[(&str, Server)]); 6] = [
    ("Web servers, caches and proxies", web::SERVERS),
    ("Python", python::SERVERS),
    ("Ruby, PHP, JavaScript, Perl, Go, Java", runtimes::SERVERS),
    ("Sessions", sessions::SERVERS),
    ("Databases, caches, queues", stores::SERVERS),
    ("Name servers", names::SERVERS),
];

fn all() -> impl Iterator<Item = &'static (&'static str, Server)> {
    TABLES.iter().flat_map(|(_, servers)| servers.iter())
}

fn file(name: &str) -> String {
    let path = format!("{}/../../{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn at_least_forty_servers_with_different_names() {
    let names: BTreeSet<&str> = all().map(|(name, _)| *name).collect();
    assert!(names.len() >= 40, "{}", names.len());
    assert_eq!(names.len(), all().count());
}

/// The tables of the documentation.
fn tables() -> String {
    let mut text = String::new();
    for (heading, servers) in TABLES {
        let _ = write!(text, "### {heading}\n\n");
        text += "| server | package | options | reason |\n|---|---|---|---|\n";
        for (name, server) in servers {
            let options = server.options.join(" ");
            let options = if options.is_empty() { options } else { format!("`{options}`") };
            let cells = [*name, server.package, &options, server.reason];
            let _ = writeln!(text, "| {} |", cells.join(" | ").replace("  ", " "));
        }
        text.push('\n');
    }
    text
}

#[test]
fn documentation_lists_every_server_with_its_options() {
    let expected = tables();
    let documented = file("docs/servers.md");
    assert!(documented.contains(&expected), "docs/servers.md does not contain:\n{expected}");
}

#[test]
fn options_have_a_reason() {
    let lacking = all().filter(|(_, server)| server.options.is_empty() != server.reason.is_empty());
    assert_eq!(lacking.map(|(name, _)| *name).collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn ci_installs_every_server() {
    let (script, skips) = (file(".ci/run"), file("tests/skips.txt"));
    let lines = script.lines().filter_map(|line| line.trim().strip_prefix('"'));
    let installed: BTreeSet<&str> =
        lines.filter_map(|line| line.split_whitespace().next()).collect();
    let may_skip = |name: &str| skips.contains(&format!("\nservers-{name}: "));
    let absent = all().flat_map(|(name, server)| {
        let needs = server.needs.iter().filter(|need| !installed.contains(*need));
        needs.filter(|_| !may_skip(name)).map(move |need| format!("{name}: {need}"))
    });
    assert_eq!(absent.collect::<Vec<_>>(), [""; 0]);
}
