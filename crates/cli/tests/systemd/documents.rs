//! docs/systemd.md is true: its files and commands as they are printed.

use sameport_console::{Page, same};

use crate::harness::{find_program, skip};
use crate::machine::{Setup, Systemd};
use crate::traffic::shipped;

/// The code blocks of docs/systemd.md.
fn blocks() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/systemd.md");
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').unwrap().1.into())
        .collect()
}

/// The blocks that begin with a comment that is the path of a file, without that line.
pub(crate) fn files_of_docs() -> Vec<(String, String)> {
    let path = |block: &String| {
        let (first, rest) = block.split_once('\n')?;
        let path = first.strip_prefix("# ")?;
        path.starts_with(['/', '~']).then(|| (path.to_owned(), format!("{rest}\n")))
    };
    blocks().iter().filter_map(path).collect()
}

/// The commands of a block, without the comments.
fn commands(block: &str) -> Vec<&str> {
    let lines = block.lines().filter_map(|line| line.strip_prefix("$ "));
    lines.map(|line| line.split(" #").next().unwrap().trim_end()).collect()
}

const SERVER: &str = "
require('http').createServer((request, response) => response.end('ok\\n')).listen(8080)
";

#[test]
fn first_example_works_as_printed() {
    if find_program("node").is_none() {
        return skip("systemd-docs", "needs node");
    }
    let docs = files_of_docs();
    let (path, conf) = &docs[0];
    assert_eq!(path, "/etc/sameport/web.conf");
    let setup = Setup {
        units: &[("sameport@.service", &shipped("sameport@.service"))],
        files: &[(path, conf), ("/srv/web/server.js", SERVER)],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-docs", &setup) else { return };
    let blocks = blocks();
    let block = blocks.iter().find(|block| block.starts_with("$ systemctl start sameport@web"));
    let commands = commands(block.unwrap());
    assert!(commands.len() >= 4, "{commands:?}");
    for command in commands {
        machine.shell(command);
    }
    assert_eq!(machine.property("sameport@web", "StatusText"), "4 of 4 workers ready");
}

/// docs/guides/systemd.md, with the unit of the package.
#[test]
fn commands_of_the_guide_print_what_it_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/systemd.md");
    let page = Page::new(&std::fs::read_to_string(path).unwrap());
    let setup = Setup {
        units: &[("sameport@.service", &shipped("sameport@.service"))],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-guide", &setup) else { return };
    let blocks = page.blocks().into_iter().filter(|block| block.mark == "systemd");
    let steps: Vec<_> = blocks.flat_map(|block| block.steps().unwrap()).collect();
    assert!(steps.len() > 6, "{steps:?}");
    for step in steps {
        let command = format!("exec 2>&1; {}", step.command);
        let exited = machine.run_words(&["sh", "-c", &command]);
        let output: Vec<String> =
            exited.stdout.lines().map(|it| it.trim_end().to_owned()).collect();
        let (line, command) = (step.line, step.command);
        assert!(same(&step.output, &output), "line {line}: {command}: {output:#?}");
    }
}

/// A unit that systemd warns about has a wrong line.
#[test]
fn systemd_knows_every_line_of_the_units() {
    let docs = files_of_docs();
    let names = ["sameport@.service", "sameport@web.socket", "sameport-guard.service"];
    let texts = names.map(shipped);
    let mut units: Vec<(&str, &str)> =
        names.iter().copied().zip(texts.iter().map(String::as_str)).collect();
    for (path, text) in &docs {
        if let Some(name) = path.strip_prefix("/etc/systemd/system/") {
            units.push((name, text));
        } else if let Some(name) = path.strip_prefix("~/.config/systemd/user/") {
            units.push((name, text));
        }
    }
    assert!(units.len() > names.len(), "{docs:?}");
    let setup = Setup {
        units: &units,
        files: &[("/srv/web/server.js", SERVER), ("/etc/sameport/web.conf", "")],
        ..Setup::default()
    };
    let Some(machine) = Systemd::boot("systemd-verify", &setup) else { return };
    for (name, text) in &units {
        // A template is checked by one of its instances.
        let name = name.replace("@.", "@web.");
        let loaded = machine.property(&name, "LoadState");
        assert_eq!(loaded, "loaded", "{name}: {text}");
    }
    let journal = machine.journal("*");
    let wrong = |line: &&str| line.contains("Unknown") || line.contains("ignoring");
    let wrong: Vec<_> = journal.lines().filter(wrong).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
