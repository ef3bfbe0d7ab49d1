//! The command line of `sameport run` as another process reads it in `/proc/PID/cmdline`.
//!
//! Only the run's identity is read: its name, its group, its command and its directory. The process has accepted
//! the command line already, so the values of the other options are skipped unread. A test in
//! `crates/cli` compares the options below with the definition that `run` parses.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::path::PathBuf;
use std::slice::Iter;

use crate::launch;
use crate::membership::RunIdentity;
use crate::model::name::RunName;

/// The verb.
const RUN: &str = "run";

/// Long options of `run` that take a value, without the dashes.
pub const OPTIONS: &[&str] = &[
    "children",
    "drain",
    "drain-timeout",
    "directory",
    "each",
    "env",
    "expect",
    "grace",
    "group",
    "listen",
    "log",
    "map",
    "max-restarts",
    "name",
    "origin",
    "policy",
    "port",
    "queue",
    "ready",
    "ready-timeout",
    "source",
    "stop-signal",
    "surge",
    "user",
    "via",
];

/// Long options of `run` without a value.
pub const SWITCHES: &[&str] = &[
    "allow-io-uring",
    "connection-id",
    "freebind",
    "join",
    "no-hold",
    "no-new-privs",
    "private",
    "quiet",
    "transparent",
];

/// Short options of `run` that take a value.
pub const SHORT_OPTIONS: &[char] = &['n'];

/// Short options of `run` without a value.
pub const SHORT_SWITCHES: &[char] = &['q'];

/// Options with which the supervisor itself binds for its workers.
const BINDING_OPTIONS: [&str; 3] = ["--map", "--each", "--listen"];

/// Whether the supervisor of a run with this command line binds addresses for its workers.
#[must_use]
pub fn binds_for_workers(words: &[String]) -> bool {
    has_any_option(words, &BINDING_OPTIONS)
}

/// Whether a command line of `sameport run` has one of these options.
#[must_use]
pub fn has_any_option(words: &[String], options: &[&str]) -> bool {
    let mut own = words.iter().take_while(|word| *word != "--");
    own.any(|word| options.contains(&word.split('=').next().unwrap_or_default()))
}

/// The identity of a run, from its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunLine {
    /// `--name`.
    pub name: Option<RunName>,
    /// `--group`.
    pub group: Option<RunName>,
    /// Program and arguments, after `--`.
    pub command: Vec<OsString>,
    /// `--directory`.
    pub directory: Option<PathBuf>,
}

impl RunLine {
    /// Reads a command line. `None`: it is not one of `sameport run`, or it has an option that this
    /// version does not know.
    #[must_use]
    pub fn read(words: &[OsString]) -> Option<Self> {
        let (_program, words) = words.split_first()?;
        let (verb, words) = words.split_first()?;
        if verb != RUN {
            return None;
        }
        let mut line = Self { name: None, group: None, command: Vec::new(), directory: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == "--" {
                line.command = words.as_slice().to_vec();
                break;
            }
            match word.to_str()?.strip_prefix("--") {
                Some(option) => line.read_long(option, &mut words)?,
                None => skip_short(word.to_str()?.strip_prefix('-')?, &mut words)?,
            }
        }
        (!line.command.is_empty()).then_some(line)
    }

    /// The identity of the run whose supervisor is in the directory `own`; `None` there: not known.
    #[must_use]
    pub fn identity(self, own: Option<&Path>) -> RunIdentity {
        let directory = launch::working_directory(own, self.directory.as_deref());
        RunIdentity { group: self.group, command: self.command, directory }
    }

    /// Reads one long option; its value is after `=`, or the next word.
    fn read_long(&mut self, option: &str, words: &mut Iter<'_, OsString>) -> Option<()> {
        let (option, value) = match option.split_once('=') {
            Some((option, value)) => (option, Some(OsStr::new(value))),
            None => (option, None),
        };
        if SWITCHES.contains(&option) {
            return value.is_none().then_some(());
        }
        if !OPTIONS.contains(&option) {
            return None;
        }
        let value = match value {
            Some(value) => value,
            None => words.next()?,
        };
        let place = match option {
            "name" => &mut self.name,
            "group" => &mut self.group,
            "directory" => {
                self.directory = Some(value.into());
                return Some(());
            }
            _ => return Some(()),
        };
        *place = Some(value.to_str()?.parse().ok()?);
        Some(())
    }
}

/// The same command line for another number of workers, in another directory, with another command.
/// `None`: it is not one of `sameport run`, or it has an option that this version does not know.
#[must_use]
pub fn rewritten(
    words: &[OsString],
    copies: u16,
    directory: Option<&Path>,
    command: &[OsString],
) -> Option<Vec<OsString>> {
    RunLine::read(words)?;
    let (program, rest) = words.split_first()?;
    let mut line: Vec<OsString> = vec![program.clone(), RUN.into(), format!("-n{copies}").into()];
    if let Some(directory) = directory {
        line.extend(["--directory".into(), directory.into()]);
    }
    let mut rest = rest.get(1..)?.iter();
    while let Some(word) = rest.next() {
        let text = word.to_str()?;
        if text == "--" {
            break;
        }
        let Some(option) = text.strip_prefix("--") else {
            let short = text.strip_prefix('-')?;
            let switches: String =
                short.chars().take_while(|it| SHORT_SWITCHES.contains(it)).collect();
            skip_short(short, &mut rest)?;
            if !switches.is_empty() {
                line.push(format!("-{switches}").into());
            }
            continue;
        };
        let (name, value) = match option.split_once('=') {
            Some((name, _)) => (name, None),
            None if OPTIONS.contains(&option) => (option, rest.next()),
            None => (option, None),
        };
        if name != "directory" || directory.is_none() {
            line.push(word.clone());
            line.extend(value.cloned());
        }
    }
    line.push("--".into());
    line.extend(command.iter().cloned());
    Some(line)
}

/// The words of a command line without `--directory`.
#[must_use]
pub fn without_directory(words: &[String]) -> Vec<String> {
    let mut line = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let option = word.strip_prefix("--").unwrap_or_default();
        if word == "--" {
            line.push(word.clone());
            line.extend(rest.cloned());
            break;
        }
        let value = OPTIONS.contains(&option).then(|| rest.next()).flatten();
        if option.split('=').next() != Some("directory") {
            line.push(word.clone());
            line.extend(value.cloned());
        }
    }
    line
}

/// Skips a word of short options: switches, then perhaps an option with its value, which is the rest
/// of the word or the next word.
fn skip_short(options: &str, words: &mut Iter<'_, OsString>) -> Option<()> {
    let mut options = options.chars();
    let mut is_empty = true;
    while let Some(option) = options.next() {
        is_empty = false;
        if SHORT_OPTIONS.contains(&option) {
            return if options.as_str().is_empty() { words.next().map(drop) } else { Some(()) };
        }
        if !SHORT_SWITCHES.contains(&option) {
            return None;
        }
    }
    (!is_empty).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(Option<String>, Option<String>, String)> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let RunLine { name, group, command, directory: _ } = RunLine::read(&words)?;
        let text = |name: RunName| name.as_str().to_owned();
        let command: Vec<_> = command.iter().map(|word| word.to_str().unwrap()).collect();
        Some((name.map(text), group.map(text), command.join(" ")))
    }

    #[test]
    fn run_lines_are_read() {
        let cases = [
            ("sameport run -- api 80", (None, None, "api 80")),
            ("/usr/bin/sameport run --name web -n4 -- api", (Some("web"), None, "api")),
            ("sameport run --name=web --group=g -qn 4 -- api", (Some("web"), Some("g"), "api")),
            ("sameport run --port 80 --port=81 -n=4 --group g -- a", (None, Some("g"), "a")),
            ("sameport run --private -- api -- --name x", (None, None, "api -- --name x")),
            ("sameport run --source 127.0.0.9 --join -- api", (None, None, "api")),
            ("sameport run --user www:www --env A=--name -- api", (None, None, "api")),
        ];
        for (line, (name, group, command)) in cases {
            let expected = (name.map(str::to_owned), group.map(str::to_owned), command.to_owned());
            assert_eq!(read(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn without_a_directory_every_other_word_stays() {
        for (line, expected) in [
            ("--directory /app -- api --directory x", "-- api --directory x"),
            ("-n 2 --directory=/app -q -- api", "-n 2 -q -- api"),
            ("--name --directory --join -- api", "--name --directory --join -- api"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(without_directory(&words).join(" "), expected, "{line}");
        }
    }

    #[test]
    fn the_directory_is_part_of_the_identity() {
        let directory = |line: &str, own: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            RunLine::read(&words).unwrap().identity(Some(Path::new(own))).directory
        };
        for (line, own, expected) in [
            ("sameport run -- api", "/srv", "/srv"),
            ("sameport run --directory /app -- api", "/srv", "/app"),
            ("sameport run --directory=current -- api", "/srv", "/srv/current"),
        ] {
            assert_eq!(directory(line, own), Some(expected.into()), "{line}");
        }
    }

    #[test]
    fn lines_are_rewritten() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let rewrite = |line: &str, directory: Option<&str>| {
            let line = rewritten(&words(line), 3, directory.map(Path::new), &words("b --x"))?;
            Some(line.join(OsStr::new(" ")).into_string().unwrap())
        };
        for (line, directory, expected) in [
            ("sameport run -- a", None, "sameport run -n3 -- b --x"),
            ("sp run -n 4 --name web -- a -n 9", None, "sp run -n3 --name web -- b --x"),
            ("sp run -qn4 -n=2 --quiet -- a", None, "sp run -n3 -q --quiet -- b --x"),
            ("sp run -qn 4 --group=g -- a", None, "sp run -n3 -q --group=g -- b --x"),
            ("sp run --directory d -- a", None, "sp run -n3 --directory d -- b --x"),
            ("sp run --directory d -- a", Some("/e"), "sp run -n3 --directory /e -- b --x"),
            ("sp run --directory=d -q -- a", Some("/e"), "sp run -n3 --directory /e -q -- b --x"),
        ] {
            assert_eq!(rewrite(line, directory).as_deref(), Some(expected), "{line}");
        }
        for line in ["sameport ls 80", "sameport run --unknown -- a", "sameport run --"] {
            assert_eq!(rewrite(line, None), None, "{line}");
        }
    }

    #[test]
    fn other_lines_are_not() {
        for line in [
            "",
            "sameport",
            "sameport ls 80",
            "sameport run",
            "sameport run api",
            "sameport run --",
            "sameport run - -- api",
            "sameport run --new-option 1 -- api",
            "sameport run -x -- api",
            "sameport run --quiet=yes -- api",
            "sameport run --name",
            "sameport run --name ../web -- api",
            "sameport --name web run -- api",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
