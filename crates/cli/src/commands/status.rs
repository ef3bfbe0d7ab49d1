//! `sameport status`.

use sameport_policy::model::name::RunName;

use crate::args::OwnerArgs;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport status                your named runs
  sameport status web            the workers and addresses of one, or how it ended
  sameport status web --check    for monitoring: exits with 0 if every worker is ready
  sameport status web --json     for programs
  sudo sameport status --all     the runs of all users and services
  sudo sameport status web --user ann";

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
    #[command(flatten)]
    owner: OwnerArgs,
    /// List the runs of every user and service that this user can see: root sees all
    #[arg(long, conflicts_with_all = ["name", "user"])]
    all: bool,
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

    use crate::operations::named_runs::{runs_of, sees_all};
    use crate::output::{screen, status, stderr, stdout};
    use sameport_supervisor::control::client::now;

    crate::operations::traffic::remove_stale();
    let runs = runs_of(args.owner.user.as_deref())?;
    if let Some(name) = &args.name {
        return one(&args, runs.entry(name), now());
    }
    let found = if args.all { runs.list_all() } else { runs.list() };
    let text = match args.json {
        true => status::list_json(&found),
        false => status::list(&found, args.all, screen::width(), now()),
    };
    stdout::write(&text)?;
    if args.json {
        return Ok(ExitCode::SUCCESS);
    }
    if found.is_empty() {
        stderr::print("there is no named run");
        stderr::hint("`sameport run --name web -- COMMAND` starts one");
    }
    if args.all && !sees_all() {
        stderr::hint("the runs of other users are not listed: only root sees them");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one run. For a run that has ended, what is known of its end; the failure follows.
#[cfg(target_os = "linux")]
fn one(args: &Args, entry: sameport_supervisor::control::client::RunEntry, now: u64) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::client_failure;
    use crate::output::{ended, screen, status, stdout};

    let name = &entry.name;
    match &entry.answer {
        Ok(found) if args.check => {
            let (text, all_ready) = status::check(found, now);
            stdout::write(&text)?;
            Ok(if all_ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        _ if args.json => {
            stdout::write(&status::list_json(std::slice::from_ref(&entry)))?;
            match &entry.answer {
                Ok(_) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(client_failure(name, error)),
            }
        }
        Ok(found) => {
            stdout::write(&status::text(found, screen::width(), now))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if !args.check {
                stdout::write(&ended::text(name, error, screen::width(), now))?;
            }
            Err(client_failure(name, error))
        }
    }
}
