//! `sameport upgrade`.

use std::ffi::OsString;

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport upgrade web -- node server-v2.js
  sameport upgrade web --json -- /srv/web/v2/server --port 8080";

const AFTER: &str = "\
The command is started where the run was: in the supervisor's directory, with its environment. The \
old workers drain and end, each after its successor is ready; a successor that does not get ready \
ends the upgrade, and the old command goes on. Ctrl-C ends this telling, not the upgrade.

Exit code: 0 when every worker is a new one, 1 when the old command goes on, 126 or 127 when the new \
one cannot be executed or found, 2 when the command line is wrong, 3 when this machine cannot.";

/// Replace every worker of a named run by one of another command
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The run
    name: RunName,
    /// Lines of JSON on stdout
    #[arg(long)]
    json: bool,
    /// The new program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use super::change::change;

    let done = format!("{} is upgraded", args.name);
    change(&args.name, ControlRequest::Upgrade { command: args.command }, args.json, &done)
}
