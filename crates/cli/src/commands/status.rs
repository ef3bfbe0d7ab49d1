//! `sameport status`.

use sameport_policy::model::name::RunName;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport status                your named runs
  sameport status web            the workers and addresses of one, or how it ended
  sameport status web --check    for monitoring: exits with 0 if every worker is ready
  sameport status web --json     for programs";

const AFTER: &str = "\
`sameport run --name` starts a named run. STATE: starting, ready, draining (no new connections), waiting \
(crashed, starts again after a pause) or given-up (--max-restarts). QUEUE: waiting connections and their limit. \
HELD: the sockets outlive their workers. STEERED: dead, starting and draining workers get no new connections. \
CONNS: open connections, `-` where they cannot be counted.

Exits with 1 when the run does not exist, has ended, or its supervisor does not answer; with --check also when a \
worker is not ready.";

/// Show named runs: workers, addresses, queues
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this run, in full
    name: Option<RunName>,
    /// Print one line, and exit with 0 if every worker of the run is ready, else with 1
    #[arg(long, requires = "name", conflicts_with = "json")]
    check: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::operations::runtime_dir::runtime_dir;
    use crate::output::{status, stderr, stdout};
    use sameport_supervisor::control::client::{Client, now};

    let runs = Client::new(runtime_dir());
    if let Some(name) = &args.name {
        return one(&args, name, runs.status(name), now());
    }
    let found = runs.list();
    if found.is_empty() && !args.json {
        stderr::print("there is no named run");
        stderr::hint("`sameport run --name web -- COMMAND` starts one");
    }
    let text = if args.json { status::list_json(&found) } else { status::list(&found, now()) };
    stdout::write(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints one run. For a run that has ended, what is known of its end; the failure follows.
#[cfg(target_os = "linux")]
fn one(
    args: &Args,
    name: &RunName,
    answer: Result<
        Box<sameport_supervisor::control::protocol::RunStatus>,
        sameport_supervisor::control::client::ClientError,
    >,
    now: u64,
) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::client_failure;
    use crate::output::{ended, status, stdout};

    match answer {
        Ok(found) if args.check => {
            let (text, all_ready) = status::check(&found, now);
            stdout::write(&text)?;
            Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Ok(found) => {
            let text = if args.json { status::json(&found) } else { status::text(&found, now) };
            stdout::write(&text)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if !args.check {
                let text = if args.json {
                    ended::json(name, &error)
                } else {
                    ended::text(name, &error, now)
                };
                stdout::write(&text)?;
            }
            Err(client_failure(name, &error))
        }
    }
}
