//! `sameport manual`: the manual pages, from the definitions of `--help`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap_mangen::Man;

use crate::error::{Failure, VerbResult, manual_failure};
use crate::output::stdout;

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
        None => stdout::write(&page(whole))?,
        Some(directory) => write_all_to(directory, whole)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all_to(directory: &Path, whole: clap::Command) -> Result<(), Failure> {
    let verbs: Vec<_> = whole.get_subcommands().cloned().collect();
    for command in std::iter::once(whole).chain(verbs) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = directory.join(format!("{name}.1"));
        fs::write(&path, page(command)).map_err(|error| manual_failure(&path, &error))?;
    }
    Ok(())
}

/// One page, with the examples as a section of their own.
fn page(command: clap::Command) -> String {
    let examples = command.get_before_help().map(ToString::to_string);
    let version = concat!("sameport ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).source(version);
    let mut text = Vec::new();
    // Writing to memory does not fail.
    let _ = man.render(&mut text);
    let mut text = String::from_utf8_lossy(&text).into_owned();
    if let Some(examples) = examples {
        text.push_str(".SH EXAMPLES\n.nf\n");
        let lines = examples.lines().filter(|line| line.starts_with(' '));
        text.extend(
            lines.map(|line| format!("{}\n", line.replace('\\', "\\e").replace('-', "\\-"))),
        );
        text.push_str(".fi\n");
    }
    text
}
