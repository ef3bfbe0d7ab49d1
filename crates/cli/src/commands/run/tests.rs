//! The parser of other processes' command lines, compared with clap.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::{Args as _, FromArgMatches as _};
use sameport_policy::membership::run_line;
use sameport_policy::membership::run_line::RunLine;

use super::*;

fn definition() -> clap::Command {
    Args::augment_args(clap::Command::new("run"))
}

/// A supervisor reads the command line of another one without clap.
#[test]
fn the_parser_of_other_command_lines_knows_every_option() {
    let (mut options, mut switches) = (BTreeSet::new(), BTreeSet::new());
    let (mut short_options, mut short_switches) = (BTreeSet::new(), BTreeSet::new());
    let mut optional = BTreeSet::new();
    for option in definition().get_arguments().filter(|it| !it.is_positional()) {
        let takes_value = option.get_action().takes_values();
        let long = option.get_long().map(str::to_owned);
        let may_be_alone = option.get_num_args().is_some_and(|count| count.min_values() == 0);
        match takes_value {
            true if may_be_alone => &mut optional,
            true => &mut options,
            false => &mut switches,
        }
        .extend(long);
        if takes_value { &mut short_options } else { &mut short_switches }
            .extend(option.get_short());
    }
    let owned = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(options, owned(run_line::OPTIONS));
    assert_eq!(switches, owned(run_line::SWITCHES));
    assert_eq!(optional, owned(run_line::OPTIONAL));
    assert_eq!(short_options, run_line::SHORT_OPTIONS.iter().copied().collect());
    assert_eq!(short_switches, run_line::SHORT_SWITCHES.iter().copied().collect());
}

#[test]
fn both_parsers_read_the_same() {
    let lines = [
        "sameport run -- api 80",
        "sameport run --name web -n4 --ready http:/ok -- api",
        "sameport run -n 4 --group=web --port 80 --port=81 -q -- api -n 5",
        "sameport run -qn4 --name web --listen 8080 --queue=shared -- api -- --group other",
        "sameport run -n=4 --map tcp:80=8080 --source 127.0.0.9 --transparent -- api",
        "sameport run --private --via seccomp --no-new-privs -- api --name web",
        "sameport run --user www-data --directory current --env A=-- --env B= -n auto -- api",
        "sameport run --name web --detach --wait -- api --wait",
        "sameport run --wait=2m --detach --name web -- api",
        "sameport run --name web --detach --wait 2m -- api",
        "sameport run --join api",
        "sameport run --quiet=yes -- api",
        "sameport run --nam web -- api",
        "sameport run --name -- api",
        "sameport run -- ",
        "sameport ls 80",
    ];
    for line in lines {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        let matches = definition().try_get_matches_from(&words[1..]).ok();
        let args = matches.and_then(|matches| Args::from_arg_matches(&matches).ok());
        let by_clap = args.map(|args| RunLine {
            name: args.named.name,
            group: args.together.group,
            command: args.command,
            directory: args.launch.directory,
        });
        assert_eq!(RunLine::read(&words), by_clap, "{line}");
    }
}

/// An option of `run` is a key of a service, or there is a reason that it is none.
#[test]
fn a_file_of_services_has_a_key_for_every_option() {
    use sameport_policy::services::keys::{KEYS, ServiceKey, WITHOUT_KEY};

    let definition = definition();
    let options = definition.get_arguments().filter(|it| !it.is_positional());
    let names: BTreeSet<String> = options
        .filter_map(|it| it.get_long().map(str::to_owned).or(it.get_short().map(String::from)))
        .collect();
    let keys = KEYS.iter().filter_map(ServiceKey::option);
    let known: BTreeSet<String> =
        keys.chain(WITHOUT_KEY.iter().map(|(name, _)| *name)).map(str::to_owned).collect();
    assert_eq!(names, known, "a row of services::keys::KEYS, or a reason in WITHOUT_KEY");
}
