//! `sameport completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::ValueEnum;
use clap_complete::Shell;

use crate::error::VerbResult;
use crate::output::{completions, stdout};

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell to complete in
    #[arg(required = true)]
    shell: Option<Shell>,
    /// Print the words that the scripts offer, one a line
    #[arg(long, hide = true, exclusive = true)]
    list: Option<KnownWords>,
}

/// Words that the scripts ask for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum KnownWords {
    /// The names of this user's runs.
    Runs,
    /// The ports of listening sockets.
    Ports,
}

const EXAMPLES: &str = "\
Examples:
  sameport completions bash > ~/.local/share/bash-completion/completions/sameport
  sameport completions fish > ~/.config/fish/completions/sameport.fish
  sameport completions zsh > ~/.zfunc/_sameport";

pub(crate) fn run(args: Args, mut definition: clap::Command) -> VerbResult {
    let text = match (args.shell, args.list) {
        (Some(shell), _) => completions::script(shell, &mut definition),
        (None, Some(list)) => known(list),
        (None, None) => String::new(),
    };
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(target_os = "linux")]
fn known(words: KnownWords) -> String {
    use crate::operations::list::listening_ports;
    use crate::operations::named_runs::names;

    let lines = match words {
        KnownWords::Runs => names(),
        KnownWords::Ports => listening_ports().iter().map(u16::to_string).collect(),
    };
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(not(target_os = "linux"))]
fn known(_: KnownWords) -> String {
    String::new()
}
