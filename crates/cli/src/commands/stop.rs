//! `sameport stop`.

use std::time::Duration;

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, parse_duration};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport stop web            drain, then end
  sameport stop web --now      end at once
  sameport stop web --announce 5s
                               tell load balancers, serve on for 5 s, then drain and end
  sameport stop web --json     each step as a line of JSON";

const AFTER: &str = "\
With --announce, the run first serves on for that time while `sameport agent` says `drain` and `/readyz` says \
503, so that a load balancer sends new connections elsewhere before an address closes. \
Workers get no new connections, finish what they have in hand (`run --drain`) and receive the stop \
signal; then the supervisor and its `sameport run` end. Ctrl-C ends this output, not the stop. If the \
supervisor was killed, this command ends the workers that it left, in the same way; Ctrl-C then ends them \
at once.";

/// End a named run: its workers drain, then end
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Do not wait for connections in hand; also while the run stops already
    #[arg(long)]
    now: bool,
    /// Announce the run as leaving, and serve on for this time before it stops: 5s, 1m
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "now")]
    announce: Option<Duration>,
    /// Return when the run has ended: the default, for scripts that say so
    #[arg(long)]
    #[allow(dead_code, reason = "names the default")]
    wait: bool,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use sameport_supervisor::control::client::ClientError;

    use super::run::killed::end_orphans;
    use crate::error::client_failure;
    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_steps;

    let runs = runs_of(args.owner.user.as_deref())?;
    let done = format!("{} has stopped", args.name);
    let request = match args.announce {
        Some(time) => ControlRequest::StopAnnounced {
            announce: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
        },
        None if args.now => ControlRequest::StopNow,
        None => ControlRequest::Stop,
    };
    print_steps(args.json, &done, |on_update| match runs.change(&args.name, request, on_update) {
        Err(ClientError::SupervisorDead(dead)) if dead.record.is_some() => {
            end_orphans(&args.name, dead, args.now, args.json, on_update)
        }
        result => result.map_err(|error| client_failure(&args.name, &error)),
    })
}
