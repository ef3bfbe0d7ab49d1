//! `sameport completions`: completion scripts for shells.

use std::process::ExitCode;

use clap_complete::Shell;

use crate::error::VerbResult;
use crate::output::stdout;

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell to complete in
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  sameport completions bash > ~/.local/share/bash-completion/completions/sameport
  sameport completions fish > ~/.config/fish/completions/sameport.fish
  sameport completions zsh > ~/.zfunc/_sameport";

pub(crate) fn run(args: Args, mut definition: clap::Command) -> VerbResult {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut definition, "sameport", &mut script);
    stdout::write(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
