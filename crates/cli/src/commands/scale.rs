//! `sameport scale`.

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, number};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport scale web 8            eight workers
  sameport scale web 8 --json     each step as a line of JSON";

const AFTER: &str = "\
Surplus workers get no new connections, finish what they have in hand and receive the stop signal. Ctrl-C ends this \
output, not the change.

Exits with 1 when a worker did not become ready.";

/// Change the number of workers of a named run
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Number of workers, 1 to 1024
    #[arg(value_name = "N", value_parser = number::<u16>(1..=1024))]
    copies: u16,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_change;

    let workers = if args.copies == 1 { "worker" } else { "workers" };
    let runs = runs_of(args.owner.user.as_deref())?;
    let done = format!("{} has {} {workers}", args.name, args.copies);
    let request = ControlRequest::Scale { copies: args.copies };
    print_change(&args.name, args.json, &done, |on_update| {
        runs.change(&args.name, request, on_update)
    })
}
