//! `sameport down`.

use std::path::PathBuf;

use sameport_policy::model::name::RunName;

const EXAMPLES: &str = "\
Examples:
  sameport down               stop the services of sameport.toml: drain, then end
  sameport down web           this one only
  sameport down --now         do not wait for requests in hand";

const AFTER: &str = "\
Stops the runs that `up` has started for the file, also those that it does not name any more, all side by side. Their \
workers get no new connections, finish what they have in hand and receive the stop signal, as with `sameport \
stop`. A run that was started by hand is not the file's. The file is not read: it may have an error, or be gone.

Exits with 1 when a run did not stop.";

/// Stop the runs of a file of services
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// These services only [default: all runs of the file]
    #[arg(value_name = "SERVICE")]
    services: Vec<RunName>,
    /// The file [default: sameport.toml or Procfile in this directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Do not wait for connections in hand
    #[arg(long)]
    now: bool,
    /// Print a line of JSON for each run
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) use stopping::{run, stop_run};

#[cfg(target_os = "linux")]
mod stopping {
    use std::path::{Path, PathBuf};
    use std::process::ExitCode;
    use std::time::Duration;

    use sameport_policy::model::name::RunName;
    use sameport_supervisor::control::client::{Client, ClientError};
    use sameport_supervisor::control::protocol::{ControlRequest, WorkerUpdate};

    use super::Args;
    use crate::commands::run::killed::end_orphans;
    use crate::error::{Failure, VerbResult, client_failure, lock_failure, not_of_file};
    use crate::operations::runtime_dir::runtime_dir;
    use crate::operations::up;
    use crate::output::text::pid_remark;
    use crate::output::up::service_json;
    use crate::output::{stderr, stdout};

    /// The longest wait for an `up` of the same file.
    const OTHER: Duration = Duration::from_secs(3600);

    pub(crate) fn run(args: Args) -> VerbResult {
        let origin = up::identity(&file_of(args.file));
        let client = Client::new(runtime_dir());
        let mut waits = |pid: Option<i32>| {
            let pid = pid_remark(pid);
            stderr::print(&format!("a `sameport up` of this file{pid} goes first"));
        };
        let lock = up::lock(&origin, OTHER, &mut waits);
        let _lock = lock.map_err(|error| lock_failure(&error))?;
        let mut names = up::runs_of_file(&client, &origin);
        if let Some(foreign) = args.services.iter().find(|name| !names.contains(name)) {
            return Err(not_of_file(foreign, &origin, &names));
        }
        names.retain(|name| args.services.is_empty() || args.services.contains(name));
        if names.is_empty() && !args.json {
            stderr::print(&format!("no run of {} is there", origin.display()));
        }
        let mut code = ExitCode::SUCCESS;
        let json = args.json;
        up::stop_all(
            names,
            &|name| stop_run(&client, name, args.now, json),
            &mut |name, result| {
                // A closed stdout does not end the stop.
                let _ = match result {
                    Ok(()) if json => stdout::line(&service_json(&name, "stopped", &[], None)),
                    Ok(()) => stdout::line(&format!("{name}: stopped\n")),
                    Err(failure) => {
                        code = ExitCode::FAILURE;
                        match json {
                            true => {
                                stdout::line(&service_json(&name, "failed", &[], Some(&failure)))
                            }
                            false => {
                                failure.report();
                                Ok(())
                            }
                        }
                    }
                };
            },
        );
        Ok(code)
    }

    /// The file that is named, or the one of this directory; it need not exist.
    fn file_of(named: Option<PathBuf>) -> PathBuf {
        let is_there = |name: &&str| Path::new(name).exists();
        let usual = || ["sameport.toml", "Procfile"].into_iter().find(is_there);
        named.unwrap_or_else(|| usual().unwrap_or("sameport.toml").into())
    }

    /// Stops a run, also one whose supervisor was killed.
    pub(crate) fn stop_run(
        client: &Client,
        name: &RunName,
        now: bool,
        json: bool,
    ) -> Result<(), Failure> {
        let request = if now { ControlRequest::StopNow } else { ControlRequest::Stop };
        let mut hear = |update: &WorkerUpdate| {
            if !json && let Some(why) = update.why.as_ref().filter(|why| why.contains("cut")) {
                stderr::print(&format!("{name}: {why}"));
            }
        };
        match client.change(name, request, &mut hear) {
            Err(ClientError::SupervisorDead(dead)) if dead.record.is_some() => {
                end_orphans(name, dead, now, true, &mut hear)
            }
            // It has ended meanwhile.
            Err(error) if error.is_over() => Ok(()),
            result => result.map_err(|error| client_failure(name, &error)),
        }
    }
}
