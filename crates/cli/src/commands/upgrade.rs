//! `sameport upgrade`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use sameport_policy::model::name::RunName;
use sameport_policy::traffic::{CanaryShare, RulesError};

use crate::args::{OwnerArgs, parse_duration, variable_parser};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport upgrade web -- node server-v2.js
  sameport upgrade web --directory /srv/web/v2 --env MODE=new
  sameport upgrade web --json -- /srv/web/v2/server --port 8080
  sameport upgrade web --canary 10% -- node server-v2.js
  sameport upgrade web --promote
  sameport upgrade web --rollback
  sameport upgrade web --canary 5% --after 10m -- node server-v2.js";

const AFTER: &str = "\
The command starts in the directory and with the environment of the workers before it; --directory and --env \
change these. Each old worker drains and \
ends after its replacement is ready; a replacement that does not become ready ends the upgrade, and the old \
command stays. Ctrl-C ends this output, not the upgrade.

--canary keeps the old workers, and starts workers of the new command beside them: as many as the share means, at \
least one. They get the share of new connections, independent of their number. --promote replaces the old workers, \
--rollback ends the new ones; neither loses a connection. With --after the canary is promoted when the time is over, \
and rolled back as soon as one of its workers ends or is not ready in time.

Exits with 1 when the old command stays, 3 when the canary takes a privilege or kernel that this machine lacks, 126 or \
127 when the new command cannot be executed or found.";

/// Replace the workers of a named run by those of another command
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
    /// Keep the old workers, and give the new ones this share of new connections: 0.01% to 99.99%
    #[arg(long, value_name = "N%", value_parser = parse_share)]
    canary: Option<CanaryShare>,
    /// Promote the canary after this time, or roll it back at its first failure
    #[arg(long, value_name = "TIME", value_parser = parse_time, requires = "canary")]
    after: Option<Duration>,
    /// Replace the old workers by those of the canary's command
    #[arg(long, conflicts_with_all = CANARY_CONFLICTS)]
    promote: bool,
    /// End the workers of the canary
    #[arg(long, conflicts_with_all = CANARY_CONFLICTS, conflicts_with = "promote")]
    rollback: bool,
    /// Start the new workers in this directory; later restarts follow its symbolic links anew
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Set a variable in the environment of the new workers, without `=VALUE` to the value that it has here; can
    /// be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable_parser())]
    env: Vec<(OsString, OsString)>,
    /// The new program and its arguments, after `--` [default with --directory or --env: as before]
    #[arg(
        last = true,
        required_unless_present_any = ["directory", "env", "promote", "rollback"],
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

const CANARY_CONFLICTS: [&str; 5] = ["canary", "after", "directory", "env", "command"];

fn parse_share(text: &str) -> Result<CanaryShare, RulesError> {
    text.parse()
}

fn parse_time(text: &str) -> Result<Duration, &'static str> {
    match parse_duration(text)? {
        Duration::ZERO => Err("an upgrade without --canary replaces all workers at once"),
        time => Ok(time),
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_change;

    let runs = runs_of(args.owner.user.as_deref())?;
    let (name, json) = (args.name.clone(), args.json);
    let done = match (args.canary, args.promote, args.rollback) {
        (Some(share), ..) => format!("the canary of {name} gets {share} of new connections"),
        (_, true, _) => format!("the canary of {name} is promoted"),
        (_, _, true) => format!("the canary of {name} is rolled back"),
        _ => format!("{name} is upgraded"),
    };
    let request = request(args)?;
    print_change(&name, json, &done, |on_update| runs.change(&name, request, on_update))
}

#[cfg(target_os = "linux")]
fn request(
    args: Args,
) -> Result<sameport_supervisor::control::protocol::ControlRequest, crate::error::Failure> {
    use sameport_supervisor::control::protocol::{ControlRequest, UpgradedLaunch};

    use crate::error::directory_failure;

    let Args { canary, after, promote, rollback, directory, env: environment, command, .. } = args;
    let directory = directory.map(|directory| {
        std::path::absolute(&directory).map_err(|error| directory_failure(&directory, &error))
    });
    let directory = directory.transpose()?.map(Into::into);
    Ok(match (canary, directory) {
        _ if promote => ControlRequest::Promote,
        _ if rollback => ControlRequest::RollBack,
        (Some(share), directory) => ControlRequest::Canary {
            launch: UpgradedLaunch { command, directory, environment },
            share,
            promotes_after: after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        },
        // A supervisor of an earlier build knows this request only.
        (None, None) if environment.is_empty() => ControlRequest::Upgrade { command },
        (None, directory) => ControlRequest::UpgradeWith { command, directory, environment },
    })
}
