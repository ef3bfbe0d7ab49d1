//! `sameport doctor`: the abilities of this machine.

use std::process::ExitCode;

use crate::error::VerbResult;
use crate::operations::examine::examine;
use crate::output::{doctor, stdout};

/// List what this machine can do: yes, no or could not tell, and why
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Print one line of JSON: facts and abilities with answer yes, no or unknown
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  sameport doctor            what works here, as two tables
  sudo sameport doctor       the same for root
  sameport doctor --json     for programs";

const AFTER: &str = "\
Every fact is found by trying; nothing is changed or left behind.

Exits with 3 when `sameport run` does not work here.";

pub(crate) fn run(args: Args) -> VerbResult {
    let found = examine();
    let text = if args.json {
        doctor::json(&found.facts, &found.abilities)
    } else {
        doctor::text(&found.facts, &found.abilities)
    };
    stdout::write(&text)?;
    Ok(if found.is_of_no_use() { ExitCode::from(3) } else { ExitCode::SUCCESS })
}
