//! `sameport status`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport status                every named run of yours
  sameport status web            its workers and addresses
  sameport status web --json     for programs";

const AFTER: &str = "\
A run has a name by `sameport run --name`. STATE is starting, ready, draining (no new connections), \
waiting (crashed, and started again after a while) or given-up. QUEUE is waiting connections and \
their limit. HELD: the sockets outlive their workers. STEERED: workers that are dead, starting or \
draining get no new connections. CONNS is open connections, `-` where they cannot be counted.

Exit code: 0 when it is told, 1 when there is no such run, its supervisor is gone or does not \
answer, 2 when the command line is wrong, 3 when this machine cannot.";

/// Show how named runs are: workers, addresses, queues
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this run, with all there is to say about it
    name: Option<RunName>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::client_failure;
    use crate::output::{status, stderr, stdout};
    use sameport_supervisor::control::client::{Client, now};

    let runs = Client::new(std::env::var_os("XDG_RUNTIME_DIR"));
    let text = match &args.name {
        Some(name) => {
            let found = runs.status(name).map_err(|error| client_failure(name, &error))?;
            if args.json { status::json(&found) } else { status::text(&found, now()) }
        }
        None => {
            let found = runs.all();
            if found.is_empty() && !args.json {
                stderr::say("there is no named run");
                stderr::hint("`sameport run --name web -- COMMAND` starts one");
            }
            if args.json { status::list_json(&found) } else { status::list(&found, now()) }
        }
    };
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}
