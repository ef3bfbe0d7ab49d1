//! `sameport reexec`.

use std::ffi::OsString;

use sameport_policy::model::name::RunName;

use crate::args::OwnerArgs;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport reexec web                             after the installation of a new sameport
  sameport reexec web /opt/sameport-2/sameport    another file";

const AFTER: &str = "\
The supervisor executes the new program in its own process: its pid, its workers and their sockets stay, \
and no connection is lost.

Exits with 1 when the old supervisor goes on, 126 or 127 when the program cannot be executed or found.";

/// Replace the supervisor of a named run by a newly installed sameport
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The name of the run
    name: RunName,
    #[command(flatten)]
    owner: OwnerArgs,
    /// The program [default: the file that the supervisor was started from]
    program: Option<OsString>,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use crate::error::program_failure;
    use sameport_supervisor::control::command;
    use sameport_supervisor::control::protocol::ControlRequest;

    use crate::operations::named_runs::runs_of;
    use crate::output::run::changes::print_change;

    let path = std::env::var_os("PATH");
    let absolute = |program: OsString| {
        let located = command::find_absolute(&program, path.as_deref());
        located.map_err(|fault| program_failure(&program, fault))
    };
    let program = args.program.map(absolute).transpose()?.map(Into::into);
    let runs = runs_of(args.owner.user.as_deref())?;
    let done = format!("{} has a new supervisor", args.name);
    let request = ControlRequest::Reexec { program };
    print_change(&args.name, args.json, &done, |on_update| {
        runs.change(&args.name, request, on_update)
    })
}
