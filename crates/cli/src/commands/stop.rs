//! `sameport stop`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport stop web            drain, then end
  sameport stop web --json     every step as a line of JSON";

const AFTER: &str = "\
Workers get no new connections, finish those they have, and are asked to end; then the supervisor \
ends, and its `sameport run` with it. Ctrl-C ends this telling, not the stopping.

Exit code: 0 when it has stopped, 1 when not, 2 when the command line is wrong, 3 when this machine \
cannot.";

/// End a named run: its workers drain, then end
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The run
    name: RunName,
    /// Lines of JSON on stdout
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_supervisor::control::protocol::ControlRequest;

    use super::change::change;

    let done = format!("{} has stopped", args.name);
    change(&args.name, ControlRequest::Stop, args.json, &done)
}
