//! The options of a command line of `sameport run`, compared with those of another one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use crate::membership::run_line::{OPTIONS, SHORT_OPTIONS, SHORT_SWITCHES, SWITCHES};

/// The options of a command line that do not say what is executed, where, how often and with which variables:
/// without `--name`, `--directory`, `--env`, `-n`, `--origin`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineOptions {
    /// The values of each, in the order of the line; none of a switch.
    pub options: BTreeMap<String, Vec<OsString>>,
    /// `--origin`: the file that the run belongs to.
    pub origin: Option<PathBuf>,
}

impl LineOptions {
    /// Reads a command line, program name first. `None`: it has an option that this version does not know.
    #[must_use]
    pub fn read(words: &[OsString]) -> Option<Self> {
        let mut line = Self::default();
        let mut words = words.get(2..)?.iter();
        while let Some(word) = words.next() {
            let text = word.to_str()?;
            if text == "--" {
                return Some(line);
            }
            let Some(option) = text.strip_prefix("--") else {
                line.read_short(text.strip_prefix('-')?, &mut words)?;
                continue;
            };
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(OsString::from(value))),
                None if OPTIONS.contains(&option) => (option, Some(words.next()?.clone())),
                None => (option, None),
            };
            match (name, value) {
                ("name" | "directory" | "env", _) => {}
                ("origin", value) => line.origin = value.map(PathBuf::from),
                (name, Some(value)) if OPTIONS.contains(&name) => {
                    line.options.entry(name.to_owned()).or_default().push(value);
                }
                (name, None) if SWITCHES.contains(&name) => {
                    line.options.insert(name.to_owned(), Vec::new());
                }
                _ => return None,
            }
        }
        None
    }

    /// `-n` is the only short option with a value, `-q` the only one without.
    fn read_short(&mut self, text: &str, words: &mut std::slice::Iter<'_, OsString>) -> Option<()> {
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if SHORT_OPTIONS.contains(&letter) {
                return if letters.as_str().is_empty() { words.next().map(drop) } else { Some(()) };
            }
            if !SHORT_SWITCHES.contains(&letter) {
                return None;
            }
            self.options.insert("quiet".to_owned(), Vec::new());
        }
        Some(())
    }

    /// The options in which two lines differ, sorted.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.options.keys().chain(other.options.keys());
        let mut names: Vec<String> = names
            .filter(|name| self.options.get(*name) != other.options.get(*name))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// What a change of an option of a run means for its workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OptionEffect {
    /// The supervisor alone follows it.
    Supervisor,
    /// Workers are started with it: they are replaced.
    Workers,
    /// The same, and they listen on other addresses.
    Addresses,
    /// It holds from the start of a run to its end.
    Fixed,
}

/// The effect of an option. Of one that is not listed the workers are replaced, which is never wrong.
#[must_use]
pub fn effect(option: &str) -> OptionEffect {
    match option {
        "connection-id" | "drain" | "drain-timeout" | "expect" | "grace" | "max-restarts"
        | "policy" | "quiet" | "ready" | "ready-timeout" | "stop-signal" | "surge" => {
            OptionEffect::Supervisor
        }
        "each" | "map" => OptionEffect::Addresses,
        // The interposer of workers that run, the owner of their sockets (the kernel groups those of one user
        // only), and sockets that all of them have.
        "children" | "listen" | "no-hold" | "private" | "queue" | "user" | "via" => {
            OptionEffect::Fixed
        }
        _ => OptionEffect::Workers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn lines_are_compared_by_option() {
        let cases = [
            ("run --name a -n 2 -- x", "run --name a -n4 --directory /d -- y --ready tcp", ""),
            ("run --name a --ready tcp -- x", "run --name a -- x", "ready"),
            ("run --name a --ready=tcp -- x", "run --name a --ready tcp -- x", ""),
            ("run --name a -q -- x", "run --name a --quiet -- x", ""),
            ("run --map 1=2 --map 3=4 -- x", "run --map 3=4 --map 1=2 -- x", "map"),
            ("run --join --policy random -- x", "run --policy two-choices -- x", "join policy"),
            ("run --env A=1 --origin /f -- x", "run --env A=2 --origin /g -- x", ""),
            ("run -qn4 -- x", "run -n 4 -- x", "quiet"),
        ];
        for (one, other, expected) in cases {
            let read = |line| LineOptions::read(&words(&format!("sameport {line}"))).unwrap();
            assert_eq!(read(one).differences(&read(other)).join(" "), expected, "{one} | {other}");
        }
    }

    #[test]
    fn lines_of_other_versions_are_not_read() {
        for line in
            ["sameport", "sameport run --new 1 -- x", "sameport run -x -- y", "sameport run"]
        {
            assert_eq!(LineOptions::read(&words(line)), None, "{line}");
        }
        let read = LineOptions::read(&words("sp run --origin /srv/sameport.toml --name a -- x"));
        assert_eq!(read.unwrap().origin, Some("/srv/sameport.toml".into()));
    }

    #[test]
    fn every_option_that_is_listed_exists() {
        for option in OPTIONS.iter().chain(SWITCHES) {
            let own = ["name", "directory", "env", "origin"].contains(option);
            assert!(own || effect(option) <= OptionEffect::Fixed, "{option}");
        }
        assert_eq!(effect("ready"), OptionEffect::Supervisor);
        assert_eq!(effect("group"), OptionEffect::Workers);
        assert_eq!(effect("map"), OptionEffect::Addresses);
        assert_eq!(effect("via"), OptionEffect::Fixed);
    }
}
