//! `sameport upgrade`.

use std::ffi::OsString;
use std::path::PathBuf;

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, variable_parser};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport upgrade web -- node server-v2.js
  sameport upgrade web --directory /srv/web/v2 --env MODE=new
  sameport upgrade web --json -- /srv/web/v2/server --port 8080";

const AFTER: &str = "\
The command starts in the directory and with the environment of the workers before it; --directory and --env \
change these. Each old worker drains and \
ends after its replacement is ready; a replacement that does not become ready ends the upgrade, and the old \
command stays. Ctrl-C ends this output, not the upgrade.

Exits with 1 when the old command stays, 126 or 127 when the new one cannot be executed or found.";

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
    /// Start the new workers in this directory; later restarts follow its symbolic links anew
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Set a variable in the environment of the new workers; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable_parser())]
    env: Vec<(OsString, OsString)>,
    /// The new program and its arguments, after `--` [default with --directory or --env: as before]
    #[arg(last = true, required_unless_present_any = ["directory", "env"], value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use crate::error::directory_failure;
    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_change;

    let runs = runs_of(args.owner.user.as_deref())?;
    let done = format!("{} is upgraded", args.name);
    let directory = args.directory.map(|directory| {
        std::path::absolute(&directory).map_err(|error| directory_failure(&directory, &error))
    });
    let request = match (directory.transpose()?, args.env) {
        // A supervisor of an earlier build knows this request only.
        (None, environment) if environment.is_empty() => {
            ControlRequest::Upgrade { command: args.command }
        }
        (directory, environment) => ControlRequest::UpgradeWith {
            command: args.command,
            directory: directory.map(Into::into),
            environment,
        },
    };
    print_change(&args.name, args.json, &done, |on_update| {
        runs.change(&args.name, request, on_update)
    })
}
