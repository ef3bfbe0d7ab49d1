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
    "log-files",
    "log-size",
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
    "detach",
    "freebind",
    "join",
    "no-hold",
    "no-new-privs",
    "prefix",
    "private",
    "quiet",
    "transparent",
];

/// Long options of `run` with a value after `=`, or without one.
pub const OPTIONAL: &[&str] = &["wait"];

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
        if OPTIONAL.contains(&option) {
            return Some(());
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

/// The words of a command line of `sameport run` without those that only its first process reads: `--detach`
/// and `--wait`.
#[must_use]
pub fn undetached(words: &[OsString]) -> Vec<OsString> {
    let mut line = Vec::with_capacity(words.len());
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let text = word.to_str().unwrap_or_default();
        if text == "--" {
            line.push(word.clone());
            line.extend(rest.cloned());
            break;
        }
        let option = text.strip_prefix("--").unwrap_or_default();
        if option == "detach" || OPTIONAL.contains(&option.split('=').next().unwrap_or_default()) {
            continue;
        }
        line.push(word.clone());
        if OPTIONS.contains(&option) {
            line.extend(rest.next().cloned());
        }
    }
    line
}

/// The words of a command line of `sameport run` with `--detach`.
#[must_use]
pub fn detached(words: &[OsString]) -> Vec<OsString> {
    let mut line = undetached(words);
    let end = line.iter().position(|word| word == "--").unwrap_or(line.len());
    line.insert(end, "--detach".into());
    line
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
#[path = "run_line_tests.rs"]
mod tests;
