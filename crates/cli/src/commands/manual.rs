//! `sameport manual`: the manual pages, from the definitions of `--help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::{Failure, VerbResult, manual_failure};
use crate::output::manual::page;
use crate::output::stdout;
use crate::system::System;

/// Print the manual page, or write one for sameport and one for each verb
#[derive(clap::Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Args {
    /// Write sameport.1, sameport-run.1 and so on into this directory, which must exist
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  sameport manual | man -l -                   read it here
  sameport manual --out /usr/share/man/man1    install the pages";

pub(crate) fn run(args: Args, definition: clap::Command) -> VerbResult {
    let mut whole = definition.disable_help_subcommand(true);
    whole.build();
    match &args.out {
        None => {
            let verbs = verbs(&whole);
            stdout::write(&page(whole, &verbs, System::HERE))?;
        }
        Some(directory) => write_all_to(directory, whole)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all_to(directory: &Path, whole: clap::Command) -> Result<(), Failure> {
    let (names, verbs) = (verbs(&whole), listed(&whole).cloned().collect::<Vec<_>>());
    for command in std::iter::once(whole).chain(verbs) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command, &names, System::HERE))
            .map_err(|error| manual_failure(&path, &error))?;
    }
    Ok(())
}

/// The verbs for users. The supervisor starts the others.
fn listed(whole: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    whole.get_subcommands().filter(|verb| !verb.is_hide_set())
}

fn verbs(whole: &clap::Command) -> Vec<String> {
    listed(whole).map(|verb| verb.get_name().to_owned()).collect()
}
