//! The hint for a word that is no verb: the verb that other tools call so, the verb that it misspells, or the
//! program that it names.

use std::ffi::{OsStr, OsString};

use sameport_policy::spelling;

use super::{Failure, needs_linux};
use crate::output::shell::{os_command, word as quoted};
use crate::output::text::shorten;
use crate::system::System;

/// The longest word that is compared with the verbs, in bytes.
const LONGEST: usize = 24;

/// Each verb, its usual arguments, and its effect.
const VERBS: &[(&str, &str, &str)] = &[
    ("run", "-- COMMAND", "starts a program on shared ports"),
    ("status", "NAME", "shows a named run, and its last output with `run --log`"),
    ("logs", "NAME", "shows what the workers of a named run wrote"),
    ("restart", "NAME", "replaces the workers of a named run"),
    ("scale", "NAME N", "changes the number of workers of a named run"),
    (
        "upgrade",
        "NAME -- COMMAND",
        "replaces the workers of a named run by those of another command",
    ),
    ("stop", "NAME", "ends a named run"),
    ("reexec", "NAME", "replaces the supervisor of a named run"),
    ("install-service", "NAME -- COMMAND", "writes a systemd service of a named run"),
    ("up", "", "makes the named runs those of sameport.toml"),
    ("down", "", "stops the named runs of sameport.toml"),
    ("steer", "PORT", "shows who gets the next connection"),
    ("drain", "PORT MEMBER", "gives a member of a port no new connections"),
    ("agent", "--listen ADDR NAME", "answers the agent-check of HAProxy"),
    ("listen", "ADDR", "listens on an address"),
    ("dial", "ADDR", "connects to an address"),
    ("ls", "", "lists the sockets on ports and their processes"),
    ("top", "", "shows the members of ports live"),
    ("metrics", "", "serves metrics for Prometheus"),
    ("why", "PORT", "explains who holds a port, and what would work"),
    ("audit", "", "finds programs that took a port from another"),
    ("attach", "--unit UNIT", "shares the ports of a running service"),
    ("detach", "--unit UNIT", "undoes `sameport attach`"),
    ("guard", "PORT --allow WHO", "restricts who may bind a port"),
    ("preload", "", "writes the preload library to a file"),
    ("doctor", "", "lists what this machine can do"),
    ("completions", "SHELL", "prints a completion script"),
    ("manual", "", "prints the manual page"),
    ("help", "", "lists the verbs"),
];

/// The words of other tools, and the verb with that meaning.
const MEANINGS: &[(&str, &[&str])] = &[
    (
        "ls",
        &[
            "list", "show", "netstat", "ss", "lsof", "fuser", "ps", "port", "ports", "sockets",
            "dir", "members",
        ],
    ),
    ("why", &["who", "whose", "whois", "explain", "check", "reason", "what", "blame"]),
    (
        "stop",
        &[
            "kill",
            "quit",
            "end",
            "terminate",
            "term",
            "rm",
            "remove",
            "delete",
            "shutdown",
            "halt",
            "close",
            "killall",
            "pkill",
        ],
    ),
    ("run", &["start", "exec", "launch", "serve", "spawn", "share", "wrap"]),
    ("restart", &["reload", "respawn", "reboot", "cycle", "roll", "hup"]),
    ("upgrade", &["deploy", "update", "replace", "rollout", "swap"]),
    (
        "guard",
        &[
            "ban", "lock", "protect", "block", "deny", "allow", "forbid", "firewall", "restrict",
            "reserve",
        ],
    ),
    (
        "status",
        &["info", "stat", "stats", "state", "health", "describe", "inspect", "monitor", "runs"],
    ),
    ("logs", &["log", "journal", "output", "tail"]),
    ("up", &["apply", "compose", "services"]),
    ("metrics", &["prometheus", "exporter", "scrape"]),
    ("agent", &["haproxy-agent", "agent-check"]),
    ("install-service", &["install", "unit", "service"]),
    ("scale", &["resize", "workers", "replicas"]),
    ("top", &["htop", "watch", "live", "dashboard"]),
    ("steer", &["balance", "policy", "weight", "weights", "traffic", "route", "lb"]),
    ("drain", &["quiesce", "cordon", "disable"]),
    ("audit", &["scan", "verify", "detect"]),
    ("doctor", &["diagnose", "diag", "probe", "test", "selftest", "capabilities", "support"]),
    ("dial", &["connect"]),
    ("listen", &["open", "accept"]),
    ("attach", &["inject", "hook"]),
    ("detach", &["unhook", "release"]),
    ("completions", &["completion", "complete"]),
    ("manual", &["man", "doc", "docs"]),
];

/// The words that mean an option of a verb: the arguments before and behind those of the user, the same with
/// a placeholder, and the effect.
const OPTIONS: &[(&[&str], &str, &str, &str, &str)] = &[
    (
        &["unguard", "unlock", "unblock", "unban", "unprotect"],
        "guard",
        "--off",
        "guard PORT --off",
        "ends a guard",
    ),
    (
        &["undrain", "uncordon"],
        "drain",
        "--undo",
        "drain PORT MEMBER --undo",
        "gives a member new connections again",
    ),
    (
        &["promote"],
        "upgrade",
        "--promote",
        "upgrade NAME --promote",
        "gives a canary every connection",
    ),
    (&["rollback"], "upgrade", "--rollback", "upgrade NAME --rollback", "ends a canary"),
    (
        &["canary"],
        "upgrade",
        "--canary 10%",
        "upgrade NAME --canary 10% -- COMMAND",
        "gives a new version a share of new connections",
    ),
    (&["version"], "--version", "", "--version", "prints the version"),
];

/// The refusal of the word `line[0]`. `parses`: whether these arguments are a correct command line.
/// `is_program`: whether the shell would execute this word.
pub(super) fn refusal(
    line: &[OsString],
    system: System,
    parses: &dyn Fn(&[OsString]) -> bool,
    is_program: &dyn Fn(&OsStr) -> bool,
) -> Failure {
    let word = line.first().map(|word| word.to_string_lossy()).unwrap_or_default();
    if VERBS.iter().any(|(verb, ..)| *verb == word) && !has(system, &word) {
        return needs_linux(&format!("`{word}`"));
    }
    let hint = suggestion(line, system, parses, is_program)
        .unwrap_or_else(|| "`sameport --help` lists the verbs, with examples".to_owned());
    Failure::usage(format!("unknown verb {}", shorten(&quoted_word(&word)))).hint(hint)
}

fn quoted_word(word: &str) -> String {
    match quoted(word) {
        plain if plain == word => format!("'{word}'"),
        quoted => quoted,
    }
}

/// `help` is a verb of clap.
fn has(system: System, verb: &str) -> bool {
    verb == "help" || system.has(verb)
}

fn suggestion(
    line: &[OsString],
    system: System,
    parses: &dyn Fn(&[OsString]) -> bool,
    is_program: &dyn Fn(&OsStr) -> bool,
) -> Option<String> {
    let (word, rest) = line.split_first()?;
    let text = word.to_str().filter(|text| text.len() <= LONGEST).map(str::to_ascii_lowercase);
    if let Some(hint) = text.as_deref().and_then(|word| by_option(word, rest, system, parses)) {
        return Some(hint);
    }
    if let Some(verb) = text.as_deref().and_then(by_meaning).filter(|verb| has(system, verb)) {
        return Some(advice(verb, rest, parses));
    }
    if is_program(word) {
        let run = under_run(line);
        return parses(&run).then(|| format!("start a program by `sameport {}`", os_command(run)));
    }
    text.as_deref().and_then(|word| misspelt(word, system)).map(|verb| advice(verb, rest, parses))
}

/// `run -- LINE`.
fn under_run(line: &[OsString]) -> Vec<OsString> {
    ["run", "--"].map(OsString::from).into_iter().chain(line.iter().cloned()).collect()
}

/// The command line to type, with these arguments if the verb takes them, and its effect.
fn advice(verb: &str, rest: &[OsString], parses: &dyn Fn(&[OsString]) -> bool) -> String {
    let with_rest = [&[OsString::from(verb)], rest].concat();
    let is_command = |word: &OsString| !word.as_encoded_bytes().starts_with(b"-");
    let found = VERBS.iter().find(|(name, ..)| *name == verb);
    let (usual, effect) = found.map_or(("", ""), |(_, usual, effect)| (*usual, *effect));
    let line = if !rest.is_empty() && parses(&with_rest) {
        os_command(with_rest)
    } else if verb == "run" && rest.first().is_some_and(is_command) {
        os_command(under_run(rest))
    } else {
        format!("{verb} {usual}").trim_end().to_owned()
    };
    format!("`sameport {line}` {effect}")
}

/// The command line with the option that `word` means.
fn by_option(
    word: &str,
    rest: &[OsString],
    system: System,
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<String> {
    let (_, before, behind, usual, effect) = OPTIONS.iter().find(|(words, verb, ..)| {
        words.contains(&word) && (verb.starts_with('-') || has(system, verb))
    })?;
    let typed = [&[OsString::from(before)], rest, &[OsString::from(behind)]].concat();
    let line = match !rest.is_empty() && parses(&typed) {
        true => os_command(typed),
        false => (*usual).to_owned(),
    };
    Some(format!("`sameport {line}` {effect}"))
}

/// The verb that other tools call `word`.
fn by_meaning(word: &str) -> Option<&'static str> {
    MEANINGS.iter().find(|(_, words)| words.contains(&word)).map(|(verb, _)| *verb)
}

/// The verb that `word` misspells.
fn misspelt(word: &str, system: System) -> Option<&'static str> {
    let verbs = VERBS.iter().map(|(verb, ..)| *verb).filter(|verb| has(system, verb));
    spelling::nearest(word, verbs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(line: &str) -> String {
        refused(line, System::Linux).hint.unwrap_or_default()
    }

    fn refused(line: &str, system: System) -> Failure {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let parses = |words: &[OsString]| {
            crate::commands::definition_of(system)
                .try_get_matches_from([&["sameport".into()], words].concat())
                .is_ok()
        };
        let programs = ["nginx", "./server", "htop", "who", "ruby", "less"];
        let is_program = |word: &OsStr| programs.contains(&word.to_str().unwrap_or_default());
        refusal(&words, system, &parses, &is_program)
    }

    #[test]
    fn advice_names_no_verb_that_the_system_lacks() {
        for (line, expected) in [
            ("doctr", "`sameport doctor` lists what this machine can do"),
            ("connect 127.0.0.1:80", "`sameport dial 127.0.0.1:80` connects to an address"),
            ("version", "`sameport --version` prints the version"),
            ("htop", "`sameport --help` lists the verbs, with examples"),
            ("restrt web", "`sameport --help` lists the verbs, with examples"),
            ("unguard 80", "`sameport --help` lists the verbs, with examples"),
            ("nginx", "`sameport --help` lists the verbs, with examples"),
        ] {
            let failure = refused(line, System::Other);
            assert!(failure.message.starts_with("unknown verb "), "{line}: {}", failure.message);
            assert_eq!(failure.hint.as_deref(), Some(expected), "{line}");
        }
        for verb in ["run", "ls", "top", "guard"] {
            let failure = refused(verb, System::Other);
            assert!(failure.message.starts_with(&format!("`{verb}` needs Linux: ")));
        }
    }

    #[test]
    fn every_verb_of_the_command_line_is_described() {
        let definition = crate::commands::definition_of(System::Linux);
        let shown = definition.get_subcommands().filter(|verb| !verb.is_hide_set());
        let verbs: Vec<&str> = shown.map(clap::Command::get_name).collect();
        let described: Vec<&str> = VERBS.iter().map(|(verb, ..)| *verb).collect();
        assert_eq!(described, [&verbs[..], &["help"]].concat());
        for (verb, words) in MEANINGS {
            assert!(described.contains(verb), "{verb}");
            assert!(words.iter().all(|word| !described.contains(word)), "{words:?}");
        }
    }

    #[test]
    fn a_verb_is_found_by_meaning_spelling_or_program() {
        for (line, begin) in [
            ("htop", "`sameport top` shows"),
            ("list", "`sameport ls` lists"),
            ("show 8080", "`sameport ls 8080` lists"),
            ("LSOF", "`sameport ls` lists"),
            ("netstat -tulpn", "`sameport ls` lists"),
            ("ps", "`sameport ls` lists"),
            ("who 8080", "`sameport why 8080` explains"),
            ("explain", "`sameport why PORT` explains"),
            ("kill web", "`sameport stop web` ends"),
            ("kill -9 web", "`sameport stop NAME` ends"),
            ("apply", "`sameport up` makes"),
            ("install web -- ./server", "`sameport install-service web -- ./server` writes"),
            ("prometheus", "`sameport metrics` serves"),
            ("start nginx -g x", "`sameport run -- nginx -g x` starts"),
            ("exec -- nginx", "`sameport run -- nginx` starts"),
            ("start -n 2 -- nginx", "`sameport run -n 2 -- nginx` starts"),
            ("reload web", "`sameport restart web` replaces"),
            ("deploy web -- ./v2", "`sameport upgrade web -- ./v2` replaces"),
            ("ban", "`sameport guard PORT --allow WHO` restricts"),
            ("unguard 8080", "`sameport guard 8080 --off` ends"),
            ("unlock", "`sameport guard PORT --off` ends"),
            ("version", "`sameport --version` prints"),
            ("promote web", "`sameport upgrade web --promote` gives a canary"),
            ("rollback", "`sameport upgrade NAME --rollback` ends a canary"),
            ("canary web 10%", "`sameport upgrade NAME --canary 10% -- COMMAND` gives"),
            ("tail web -f", "`sameport logs web -f` shows"),
            ("staus", "`sameport status NAME` shows"),
            ("sl", "`sameport ls` lists"),
            ("restrat web", "`sameport restart web` replaces"),
            ("doctr", "`sameport doctor` lists"),
            ("hlep", "`sameport help` lists"),
            ("nginx -g x", "start a program by `sameport run -- nginx -g x`"),
            ("./server", "start a program by `sameport run -- ./server`"),
            ("less", "start a program by `sameport run -- less`"),
            ("ruby", "start a program by `sameport run -- ruby`"),
            ("./nothing", "`sameport --help` lists"),
            ("frobnicate", "`sameport --help` lists"),
            ("", "`sameport --help` lists"),
        ] {
            let hint = hint(line);
            assert!(hint.starts_with(begin), "{line}: {hint}");
        }
    }
}
