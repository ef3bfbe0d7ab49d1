//! `sameport upgrade`.

use std::ffi::OsString;

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport upgrade web -- node server-v2.js
  sameport upgrade web --json -- /srv/web/v2/server --port 8080";

const AFTER: &str = "\
The command starts in the directory and with the environment of the supervisor. Each old worker drains and \
ends after its replacement is ready; a replacement that does not become ready ends the upgrade, and the old \
command stays. Ctrl-C ends this output, not the upgrade.

Exits with 1 when the old command stays, 126 or 127 when the new one cannot be executed or found.";

/// Replace the workers of a named run by those of another command
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
    /// The new program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use crate::operations::change_run::change_run;
    use crate::output::run::changes::print_change;

    let done = format!("{} is upgraded", args.name);
    let request = ControlRequest::Upgrade { command: args.command };
    print_change(&args.name, args.json, &done, |on_update| {
        change_run(&args.name, request, on_update)
    })
}
