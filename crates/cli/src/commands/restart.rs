//! `sameport restart`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport restart web               one worker after the other
  sameport restart web --surge 2     two at once
  sameport restart web --surge 0     each ends before its successor starts
  sameport restart web --json        every step as a line of JSON";

const AFTER: &str = "\
A worker gets no new connections from the moment its successor is ready, finishes those it has, and \
is asked to end. A successor that does not get ready ends the restart: the worker before it stays. \
Ctrl-C ends this telling, not the restart.

Exit code: 0 when every worker is a new one, 1 when not, 2 when the command line is wrong, 3 when \
this machine cannot.";

/// Replace every worker of a named run, without losing a connection
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The run
    name: RunName,
    /// How many successors start at once, 0 to 1024 [default: as `run` was told]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1024))]
    surge: Option<u16>,
    /// Lines of JSON on stdout
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use super::change::change;

    let done = format!("{} is restarted", args.name);
    change(&args.name, ControlRequest::Restart { surge: args.surge }, args.json, &done)
}
