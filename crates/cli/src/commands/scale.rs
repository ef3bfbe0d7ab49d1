//! `sameport scale`.

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, WaitArgs, number};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport scale web 8              eight workers
  sameport scale web 8 --wait=1m    exit code 1 if they are not ready after a minute
  sameport scale web 8 --json       each step as a line of JSON";

const AFTER: &str = "\
Surplus workers get no new connections, finish what they have in hand and receive the stop signal. Ctrl-C ends this \
output, not the change.

Exits with 1 when a worker did not become ready, or not within the TIME of --wait.";

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
    #[command(flatten)]
    wait: WaitArgs,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use crate::error::client_failure;
    use crate::operations::named_runs::runs_of;
    use crate::operations::wait;
    use crate::output::run::changes::print_until;

    let Args { name, owner, copies, wait, json } = args;
    let workers = if copies == 1 { "worker" } else { "workers" };
    let (runs, wait) = (runs_of(owner.user.as_deref())?, wait.wait());
    let change = format!("the change of {name} to {copies} {workers}");
    let done = format!("{name} has {copies} {workers}");
    let request = ControlRequest::Scale { copies };
    print_until(&name, json, &change, &done, |on_update| {
        let changed = wait::change(&runs, &name, request, wait, on_update);
        changed.map_err(|error| client_failure(&name, &error))
    })
}
