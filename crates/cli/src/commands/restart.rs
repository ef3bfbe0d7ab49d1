//! `sameport restart`.

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, WaitArgs, number};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport restart web               one worker after the other
  sameport restart web --surge 2     two at once
  sameport restart web --surge 0     each worker ends before its replacement starts
  sameport restart web --now         without waiting for requests in hand
  sameport restart web --no-wait     returns when the first replacement starts
  sameport restart web --json        each step as a line of JSON";

const AFTER: &str = "\
A worker gets no new connections from the moment its replacement is ready. It finishes what it has in \
hand (`run --drain`), and then receives the stop signal, while the restart goes on with the next worker. A \
replacement that does not become ready ends the restart, and the old worker stays. Another change is \
accepted while only drains remain. Ctrl-C ends this output, not the restart. If the supervisor was killed, \
this command starts it again in the background with the same options; it takes over the workers, their \
environment and, unless the run was in the background already (`run --detach`), their output. The supervisor of a service is started by `systemctl restart` instead.

Exits with 1 when a worker was not replaced, or not within the TIME of --wait.";

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
    #[command(flatten)]
    wait: WaitArgs,
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
    use crate::operations::wait;
    use crate::output::run::changes::print_until;

    let Args { name, owner, surge, now, wait, json } = args;
    let (runs, wait) = (runs_of(owner.user.as_deref())?, wait.wait());
    let change = format!("the restart of {name}");
    let done = format!("{name} is restarted");
    let request = ControlRequest::Restart { surge, now };
    print_until(&name, json, &change, &done, |on_update| {
        match wait::change(&runs, &name, request, wait, on_update) {
            Err(ClientError::SupervisorDead(dead)) if dead.record.is_some() => {
                revive(&name, dead, json, wait, on_update)
            }
            result => result.map_err(|error| client_failure(&name, &error)),
        }
    })
}
