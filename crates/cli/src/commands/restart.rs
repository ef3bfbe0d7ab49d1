//! `sameport restart`.

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, number};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport restart web               one worker after the other
  sameport restart web --surge 2     two at once
  sameport restart web --surge 0     each worker ends before its replacement starts
  sameport restart web --now         without waiting for requests in hand
  sameport restart web --json        each step as a line of JSON";

const AFTER: &str = "\
A worker gets no new connections from the moment its replacement is ready. It finishes what it has in \
hand (`run --drain`), and then receives the stop signal, while the restart goes on with the next worker. A \
replacement that does not become ready ends the restart, and the old worker stays. Another change is \
accepted while only drains remain. Ctrl-C ends this output, not the restart. If the supervisor was killed, \
this command starts it again with the same options, detached from the terminal; it takes over the workers, \
their environment and their output. The supervisor of a service is started by `systemctl restart` instead.

Exits with 1 when a worker was not replaced.";

/// Replace every worker of a named run, without losing a connection
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Number of replacements that start at once, 0 to 1024 [default: that of `run`]
    #[arg(long, value_name = "N", value_parser = number::<u16>(0..=1024))]
    surge: Option<u16>,
    /// Old workers get the stop signal as soon as their replacement is ready, whatever they have in
    /// hand
    #[arg(long)]
    now: bool,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use sameport_supervisor::control::client::ClientError;

    use super::run::killed::revive;
    use crate::error::client_failure;
    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_steps;

    let runs = runs_of(args.owner.user.as_deref())?;
    let done = format!("{} is restarted", args.name);
    let request = ControlRequest::Restart { surge: args.surge, now: args.now };
    print_steps(args.json, &done, |on_update| match runs.change(&args.name, request, on_update) {
        Err(ClientError::SupervisorDead(dead)) if dead.record.is_some() => {
            revive(&args.name, dead, args.json, on_update)
        }
        result => result.map_err(|error| client_failure(&args.name, &error)),
    })
}
