//! A wrong command line as one error and one hint: the usage of the verb, or the line that was meant.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use sameport_policy::addr::PortSpec;

use super::{Failure, unknown_verb};
use crate::output::shell::{os_command, word};
use crate::output::text::{printable, shorten};
use crate::system::System;

/// Refuses a first argument that is no verb.
///
/// clap would compare the word with every verb, character by character, which takes seconds for the longest
/// argument that Linux passes, and would suggest the verb with the most similar spelling.
pub(crate) fn refuse_unknown_verb(definition: fn() -> clap::Command) -> Result<(), Failure> {
    let line = arguments();
    let Some(word) = line.first() else { return Ok(()) };
    if word.as_encoded_bytes().starts_with(b"-") || is_verb(word, &definition()) {
        return Ok(());
    }
    Err(unknown_verb::refusal(&line, System::HERE, &|line| parses(line, definition), &is_program))
}

/// The command line. For clap `--help` after `help` is a verb; here it is the help that `help` prints.
pub(crate) fn typed() -> Vec<OsString> {
    let is_help = arguments().first().is_some_and(|verb| verb == "help");
    let is_kept = |word: &OsString| !(is_help && (word == "--help" || word == "-h"));
    std::env::args_os().filter(is_kept).collect()
}

/// clap's report without its usage block: the first paragraph on one line, and a hint.
pub(crate) fn failure(error: &clap::Error, definition: fn() -> clap::Command) -> Failure {
    let line = arguments();
    let parses = |line: &[OsString]| parses(line, definition);
    let text = with_controls(error);
    let mut paragraphs = text.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let message = first.split_whitespace().collect::<Vec<_>>().join(" ");
    let tips: Vec<&str> = paragraphs.collect();
    let hint = if error.kind() == ErrorKind::InvalidSubcommand {
        if let (Some(verb), Some(extra)) = (line.get(1), line.get(2))
            && is_verb(verb, &definition())
        {
            let extra = shorten(&word(&extra.to_string_lossy()));
            return Failure::usage(format!("unexpected argument {extra} found"))
                .hint(format!("`sameport help {}` shows the help", word(&verb.to_string_lossy())));
        }
        // `sameport help WORD`.
        return unknown_verb::refusal(
            line.get(1..).unwrap_or_default(),
            System::HERE,
            &parses,
            &is_program,
        );
    } else if let Some((meant, value)) = with_option(error, &line, &parses) {
        format!("{value} is an option: sameport {}", os_command(meant))
    } else if let Some(meant) = with_dashes(error, &line, &parses) {
        format!("the command comes after `--`: sameport {}", os_command(meant))
    } else if let Some(meant) = with_port_first(error, &line, &parses) {
        format!("the port comes first: sameport {}", os_command(meant))
    } else if let Some(meant) = without_scheme(error, &line, &parses) {
        format!("an address is no URL: sameport {}", os_command(meant))
    } else if let Some(meant) = with_name(error, &line, &parses) {
        format!("only a named run has this option: sameport {}", os_command(meant))
    } else if let Some(tip) = spelling(&tips) {
        printable(tip)
    } else {
        usage(line.first(), definition())
    };
    Failure::usage(shorten(&message)).hint(hint)
}

/// clap's report. clap removes control sequences from arguments; here they stay, escaped.
fn with_controls(error: &clap::Error) -> String {
    let mut text = error.to_string();
    for kind in [ContextKind::InvalidArg, ContextKind::InvalidValue] {
        let Some(ContextValue::String(argument)) = error.get(kind) else { continue };
        let removed = anstream::adapter::strip_str(argument).to_string();
        if removed != *argument {
            text = text.replacen(&format!("'{removed}'"), &word(argument), 1);
        }
    }
    text
}

/// The arguments of this process.
fn arguments() -> Vec<OsString> {
    std::env::args_os().skip(1).collect()
}

fn is_verb(word: &OsStr, definition: &clap::Command) -> bool {
    word == "help" || definition.get_subcommands().any(|verb| *verb.get_name() == *word)
}

/// Whether these arguments are a correct command line.
fn parses(line: &[OsString], definition: fn() -> clap::Command) -> bool {
    definition().try_get_matches_from([&["sameport".into()], line].concat()).is_ok()
}

#[cfg(target_os = "linux")]
fn is_program(word: &OsStr) -> bool {
    let path = std::env::var_os("PATH");
    sameport_supervisor::control::command::find_absolute(word, path.as_deref()).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn is_program(word: &OsStr) -> bool {
    std::path::Path::new(word).is_file()
}

/// A lone number below is a number of copies; servers have no ports below that of FTP's data.
const FIRST_PORT: u16 = 20;

/// The line with `--port` before a port, or `-n` before a number, and `--` before the command, if this makes
/// it correct; and what the value is.
fn with_option(
    error: &clap::Error,
    line: &[OsString],
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<(Vec<OsString>, &'static str)> {
    let Some(ContextValue::String(unexpected)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let is_run = line.first().is_some_and(|verb| verb == "run");
    if !is_run || error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    PortSpec::parse_fixed(unexpected).ok()?;
    let is_number = unexpected.parse::<u16>().is_ok_and(|number| number < FIRST_PORT);
    let (name, value) =
        if is_number { ("-n", "the number of copies") } else { ("--port", "the port") };
    let at = line.iter().position(|word| word == unexpected.as_str())?;
    let option: &[OsString] = &[name.into(), unexpected.into()];
    let dashes: &[OsString] = &["--".into()];
    let (before, after) = (&line[..at], &line[at + 1..]);
    [[before, option, after].concat(), [before, option, dashes, after].concat()]
        .into_iter()
        .find(|meant| parses(meant))
        .map(|meant| (meant, value))
}

/// The line with `--` before the command, if this makes it correct.
fn with_dashes(
    error: &clap::Error,
    line: &[OsString],
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<Vec<OsString>> {
    let Some(ContextValue::String(unexpected)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let verb = line.first().filter(|verb| *verb == "run" || *verb == "upgrade")?;
    if error.kind() != ErrorKind::UnknownArgument || unexpected.starts_with('-') {
        return None;
    }
    // The same word may be the value of an option before.
    let places = (1..line.len()).filter(|at| line[*at].to_string_lossy() == *unexpected);
    let mut meant = places.map(|at| {
        let dashes: &[OsString] = &["--".into()];
        // A `--` behind the command has become superfluous, or is the program's own.
        [&line[..at], dashes, &line[at..]].concat()
    });
    meant.find(|meant| parses(meant) && meant.first() == Some(verb))
}

/// The line with its port in the first place, if this makes it correct.
fn with_port_first(
    error: &clap::Error,
    line: &[OsString],
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<Vec<OsString>> {
    let (verb, words) =
        line.split_first().filter(|(verb, _)| *verb == "steer" || *verb == "drain")?;
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let is_port =
        |word: &OsString| word.to_str().is_some_and(|it| PortSpec::parse_fixed(it).is_ok());
    let at = words.iter().position(is_port).filter(|at| *at > 0)?;
    let (verb, port) = (std::slice::from_ref(verb), &words[at..=at]);
    let meant = [verb, port, &words[..at], &words[at + 1..]].concat();
    parses(&meant).then_some(meant)
}

/// The line with `HOST:PORT` in the place of a URL, if this makes it correct.
fn without_scheme(
    error: &clap::Error,
    line: &[OsString],
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<Vec<OsString>> {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else {
        return None;
    };
    let (scheme, rest) = value.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?;
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let default = match scheme.to_ascii_lowercase().as_str() {
        _ if has_port => "",
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return None,
    };
    let address = format!("{host}{default}");
    let at = line.iter().position(|word| word == value.as_str())?;
    let meant = [&line[..at], &[address.into()], &line[at + 1..]].concat();
    parses(&meant).then_some(meant)
}

/// The line with a name for the run, if an option of named runs is all that makes it wrong.
fn with_name(
    error: &clap::Error,
    line: &[OsString],
    parses: &dyn Fn(&[OsString]) -> bool,
) -> Option<Vec<OsString>> {
    let is_run = line.first().is_some_and(|verb| verb == "run");
    if !is_run || error.kind() != ErrorKind::MissingRequiredArgument {
        return None;
    }
    let name = ["--name", "NAME"].map(OsString::from);
    let meant = [&line[..1], &name, &line[1..]].concat();
    parses(&meant).then_some(meant)
}

/// clap's tip about an option with a similar name. For an unknown option clap also suggests to pass it "as
/// a value", which is never right here.
fn spelling<'a>(paragraphs: &[&'a str]) -> Option<&'a str> {
    let tips = paragraphs.iter().find_map(|paragraph| paragraph.trim().strip_prefix("tip: "))?;
    tips.lines().next().filter(|tip| !tip.starts_with("to pass "))
}

/// How the verb is used, and where its examples are.
fn usage(verb: Option<&OsString>, mut definition: clap::Command) -> String {
    definition.build();
    let name = verb.and_then(|verb| verb.to_str()).unwrap_or_default();
    let (usage, help) = match definition.find_subcommand_mut(name) {
        Some(verb) => (verb.render_usage().to_string(), format!("sameport {name} --help")),
        None => (definition.render_usage().to_string(), "sameport --help".to_owned()),
    };
    let usage = usage.split_whitespace().skip(1).collect::<Vec<_>>().join(" ");
    format!("usage: {usage}; `{help}` shows examples")
}
