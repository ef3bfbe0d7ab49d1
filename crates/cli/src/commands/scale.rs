//! `sameport scale`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport scale web 8            eight workers from now on
  sameport scale web 8 --json     every step as a line of JSON";

const AFTER: &str = "\
Workers that are too many get no new connections, finish those they have, and are asked to end. \
Ctrl-C ends this telling, not the change.

Exit code: 0 when there are as many, and all are ready, 1 when not, 2 when the command line is \
wrong, 3 when this machine cannot.";

/// Change how many workers a named run has
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The run
    name: RunName,
    /// How many workers, 1 to 1024
    #[arg(value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    copies: u16,
    /// Lines of JSON on stdout
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use super::change::change;

    let workers = if args.copies == 1 { "worker" } else { "workers" };
    let done = format!("{} has {} {workers}", args.name, args.copies);
    change(&args.name, ControlRequest::Scale { copies: args.copies }, args.json, &done)
}
