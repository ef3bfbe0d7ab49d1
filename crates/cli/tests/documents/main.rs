//! The commands of the README and of `docs/guides` do what the pages print.
//!
//! Each page runs in two shells of its own, in namespaces: `ann`'s and, if the tests run as root, root's.
//! `SAMEPORT_DOCS=write` replaces printed output that is no longer true by the output of the run, and
//! `SAMEPORT_DOCS=record` all of it.
#![cfg(target_os = "linux")]

#[path = "../harness/mod.rs"]
mod harness;
mod prose;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::{Patience, TIMEOUT, copy_of, find_program, in_test_dir, is_root, keeper, skip};
use sameport_console::{Block, Call, Page, SESSION, Session, Setup, Step, contains, draw, same};

/// The pages whose blocks are run, without `.md`.
const PAGES: &[&str] = &[
    "README",
    "docs/session",
    "docs/guides/README",
    "docs/guides/background",
    "docs/guides/deploy",
    "docs/guides/canary",
    "docs/guides/services",
    "docs/guides/traffic",
    "docs/guides/metrics",
    "docs/guides/taken",
    "docs/guides/logs",
    "docs/guides/protect",
    "docs/guides/systemd",
    "docs/guides/container",
    "docs/guides/haproxy",
    "docs/guides/kubernetes",
    "docs/guides/troubleshooting",
];

/// Words after the language of a block that the test of its page does not run, and who runs it.
const MARKS: &[(&str, &str)] = &[
    ("build", "cargo: listed in BUILDS"),
    ("systemd", "crates/cli/tests/systemd/documents.rs"),
    ("engine", "not run: it needs a container engine"),
];

/// Every command of a `sh build` block. They need a registry, minutes or the whole test suite.
const BUILDS: &[&str] = &[
    // The second half of the first command is run by the test of the README.
    FIRST_COMMAND,
    "cargo test --workspace",
];

const FIRST_COMMAND: &str = "cargo build -p sameport-cli --bins --examples && \
                             target/debug/sameport run -n 2 -- target/debug/examples/hello 8080";

fn path_of(page: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(format!("{page}.md"))
}

fn read(page: &str) -> Page {
    let path = path_of(page);
    Page::new(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Whether the pages are changed; whether also output that is true.
fn writes() -> (bool, bool) {
    let mode = std::env::var("SAMEPORT_DOCS").unwrap_or_default();
    (["write", "record"].contains(&mode.as_str()), mode == "record")
}

/// A page that is run, with what its steps have printed.
struct Run {
    page: Page,
    session: Session,
    /// Steps whose printed output is not true, with the real output.
    differing: Vec<(Step, Vec<String>)>,
    /// Steps that go on in the background.
    background: Vec<(Step, Call)>,
}

/// Runs the blocks of a page. `None`: this machine has no namespaces for it.
fn open(name: &str) -> Option<Session> {
    let test = format!("documents-{}", name.replace('/', "-"));
    for program in ["unshare", "setpriv", "ip", "bash", "curl", "python3"] {
        if find_program(program).is_none() {
            skip(&test, &format!("no {program}"));
            return None;
        }
    }
    let dir = in_test_dir(&test);
    let built = dir.join("home/target/debug");
    std::fs::create_dir_all(built.join("examples")).unwrap();
    let bin = Path::new(env!("CARGO_BIN_EXE_sameport"));
    let hello = bin.with_file_name("examples").join("hello");
    let hello = copy_of(hello.to_str().unwrap(), &format!("{test}-hello"));
    let links =
        [(harness::sameport(), built.join("sameport")), (&hello, built.join("examples/hello"))];
    for (program, link) in links {
        std::os::unix::fs::symlink(program, link).unwrap();
    }
    // Python prints at once, as to a terminal.
    let env = [(keeper::MARK, in_test_dir("").into_os_string()), ("PYTHONUNBUFFERED", "1".into())];
    let setup = Setup {
        dir: &dir,
        programs: &[("sameport", harness::sameport())],
        env: &env,
        is_root: is_root(),
    };
    match Session::open(&setup).unwrap() {
        Ok(session) => Some(session),
        Err(why) => {
            skip(&test, &format!("no namespaces: {why}"));
            None
        }
    }
}

impl Run {
    fn steps(&mut self, block: &Block) {
        let steps = block.steps().unwrap();
        if steps.iter().any(|step| step.is_root) && !self.session.has_root() {
            return skip("documents-root", &format!("needs root: line {} of the page", block.line));
        }
        for step in steps {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        let call = self.finished_call(&step);
        if in_background(&step.command) {
            self.settle(&step, &call);
            self.background.push((step, call));
            return;
        }
        let mut output = call.output().unwrap();
        // The state that a page prints may be reached a moment later, unless it is already another.
        let may_come = only_looks(&step.command) && self.differing.is_empty();
        let patience = Patience::new(TIMEOUT);
        while may_come && !same(&step.output, &output) && !patience.is_over() {
            std::thread::sleep(Duration::from_millis(50));
            output = self.finished_call(&step).output().unwrap();
            if writes().0 {
                break;
            }
        }
        if !same(&step.output, &output) || writes().1 {
            self.differing.push((step, output));
        }
    }

    /// Gives a command to its shell, and waits until the shell has run it.
    fn finished_call(&mut self, step: &Step) -> Call {
        let call = self.session.call(&step.command, step.is_root).unwrap();
        let mut patience = Patience::new(TIMEOUT);
        while call.code().is_none() {
            let output = call.output().unwrap();
            patience.restart_on(output.len());
            let Step { line, command, .. } = step;
            assert!(!patience.is_over(), "line {line}: {command} does not end:\n{output:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        call
    }

    /// Waits for the printed output of a command in the background, or for all that it prints at first.
    fn settle(&mut self, step: &Step, call: &Call) {
        let mut patience = Patience::new(TIMEOUT);
        while !contains(&step.output, &call.output().unwrap()) {
            patience.restart_on(call.output().unwrap().len());
            if patience.is_over() || writes().0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        // What it prints at first.
        if writes().0 {
            std::thread::sleep(Duration::from_secs(3));
        }
        let output = call.output().unwrap();
        if !contains(&step.output, &output)
            || writes().1
            || writes().0 && step.output.is_empty() && !output.is_empty()
        {
            self.differing.push((step.clone(), output));
        }
    }

    /// Fails with what differs, or writes it into the page.
    fn finish(mut self, name: &str) {
        if self.differing.is_empty() {
            return;
        }
        if writes().0 {
            self.differing.sort_by_key(|(step, _)| std::cmp::Reverse(step.line));
            for (step, output) in self.differing {
                self.page.replace_output(&step, output);
            }
            std::fs::write(path_of(name), self.page.text()).unwrap();
            return;
        }
        let mut text = String::new();
        for (step, output) in &self.differing {
            let (printed, output) = (step.output.join("\n  "), output.join("\n  "));
            let (line, command) = (step.line, &step.command);
            text +=
                &format!("{name}.md:{line}: {command}\nprinted:\n  {printed}\nnow:\n  {output}\n");
        }
        for (step, call) in &self.background {
            let output = call.output().unwrap().join("\n  ");
            text += &format!("in the background: {}\n  {output}\n", step.command);
        }
        panic!(
            "{text}SAMEPORT_DOCS=write cargo test -p sameport-cli --test documents writes the output"
        );
    }
}

/// Whether a command ends with `&`, before its comment.
fn in_background(command: &str) -> bool {
    command.split("  # ").next().unwrap_or_default().ends_with('&')
}

/// Whether a command changes nothing, so that it can be repeated.
fn only_looks(command: &str) -> bool {
    let looks =
        ["sameport ls", "sameport status", "sameport why", "target/debug/sameport ls", "curl "];
    looks.iter().any(|first| command.starts_with(first))
}

fn run(name: &str) {
    let page = read(name);
    let Some(session) = open(name) else { return };
    let mut run = Run { page, session, differing: vec![], background: vec![] };
    for block in run.page.blocks() {
        if block.lines.join("\n") == FIRST_COMMAND {
            let command = FIRST_COMMAND.split_once("&& ").unwrap().1;
            let printed = ["hello: pid 7 answers on http://127.0.0.1:8080/".to_owned()].into();
            let (line, command) = (block.line, format!("{command} &"));
            run.step(Step { is_root: false, command, line, height: 1, output: printed });
        }
        if block.language == "console" && block.mark.is_empty() {
            run.steps(&block);
        }
    }
    run.finish(name);
}

#[test]
fn readme() {
    run("README");
}

/// The session of the picture in the README.
#[test]
fn session() {
    run("docs/session");
}

#[test]
fn background() {
    run("docs/guides/background");
}

#[test]
fn deploy() {
    run("docs/guides/deploy");
}

#[test]
fn canary() {
    run("docs/guides/canary");
}

#[test]
fn services() {
    run("docs/guides/services");
}

#[test]
fn traffic() {
    run("docs/guides/traffic");
}

#[test]
fn metrics() {
    run("docs/guides/metrics");
}

#[test]
fn logs() {
    run("docs/guides/logs");
}

#[test]
fn haproxy() {
    if find_program("nc").is_none() {
        return skip("documents-haproxy", "no nc");
    }
    run("docs/guides/haproxy");
}

#[test]
fn taken() {
    run("docs/guides/taken");
}

#[test]
fn protect() {
    run("docs/guides/protect");
}

#[test]
fn troubleshooting() {
    run("docs/guides/troubleshooting");
}

#[test]
fn picture_shows_the_session() {
    let steps: Vec<Step> =
        read("docs/session").blocks().iter().flat_map(|block| block.steps().unwrap()).collect();
    let picture = path_of("docs/session").with_extension("svg");
    let drawn = draw(&steps, SESSION);
    assert!(
        std::fs::read_to_string(&picture).unwrap_or_default() == drawn,
        "docs/session.svg is not docs/session.md: run `cargo xtask record`"
    );
}

#[test]
fn every_block_is_run_or_says_why_not() {
    let mut builds = BTreeSet::new();
    for page in PAGES {
        for block in read(page).blocks() {
            let at = format!("{page}.md:{}: {} {}", block.line, block.language, block.mark);
            let known = MARKS.iter().any(|(mark, _)| *mark == block.mark);
            match (block.language.as_str(), block.mark.as_str()) {
                ("console", "") => assert!(!block.steps().unwrap().is_empty(), "{at}"),
                ("console", _) => assert!(known, "{at}: the mark is not one of {MARKS:?}"),
                ("sh", "build") => {
                    let text = block.lines.join("\n");
                    assert!(BUILDS.contains(&text.as_str()), "{at}: not in BUILDS: {text}");
                    builds.insert(text);
                }
                ("sh" | "bash" | "shell", _) => panic!("{at}: commands are in `console` blocks"),
                ("ini" | "dockerfile" | "rust" | "toml" | "text", "") => {}
                _ => panic!("{at}: unknown language"),
            }
        }
    }
    let missing: Vec<_> = BUILDS.iter().filter(|it| !builds.contains(**it)).collect();
    assert!(missing.is_empty(), "in no page: {missing:?}");
}
