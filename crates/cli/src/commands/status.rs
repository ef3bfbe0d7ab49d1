//! `sameport status`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport status                your named runs
  sameport status web            the workers and addresses of one
  sameport status web --json     for programs";

const AFTER: &str = "\
`sameport run --name` starts a named run. STATE: starting, ready, draining (no new connections), waiting \
(crashed, starts again after a pause) or given-up (--max-restarts). QUEUE: waiting connections and their limit. HELD: the \
sockets outlive their workers. STEERED: dead, starting and draining workers get no new connections. CONNS: \
open connections, `-` where they cannot be counted.

Exits with 1 when the run does not exist or its supervisor does not answer.";

/// Show named runs: workers, addresses, queues
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this run, in full
    name: Option<RunName>,
    /// Print one line of JSON
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
            let found = runs.list();
            if found.is_empty() && !args.json {
                stderr::print("there is no named run");
                stderr::hint("`sameport run --name web -- COMMAND` starts one");
            }
            if args.json { status::list_json(&found) } else { status::list(&found, now()) }
        }
    };
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}
