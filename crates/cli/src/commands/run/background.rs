//! `sameport run --detach`: the process that starts the supervisor, and returns.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use sameport_policy::model::name::RunName;
use sameport_supervisor::RunEvent;

use super::args::Args;
use crate::error::{Failure, VerbResult, detach_failure};
use crate::operations::detach;
use crate::operations::detach::DetachProgress;
use crate::operations::named_runs::own_service;
use crate::output::run::background::{begun_text, done_text, output_text};
use crate::output::run::changes::RunChanges;
use crate::output::run::events::event_lines;
use crate::output::{stderr, stdout};

/// The time that `--wait` adds to `--ready-timeout`, which a worker that never listens does not have.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the run in the background.
pub(super) fn start(args: &Args) -> VerbResult {
    refuse_end_with_this_process()?;
    let Some(name) = &args.named.name else {
        return Err(no_name());
    };
    let wait = args.named.wait.map(|limit| limit.unwrap_or(args.named.ready_timeout + PATIENCE));
    let mut progress = progress(name, args.quiet);
    let (arguments, environment) = (env::args_os().collect(), env::vars_os().collect());
    let started = detach::start(arguments, None, environment, wait, &mut progress);
    let run = started.map_err(|error| detach_failure(name, &error))?;
    if !args.quiet {
        // A closed standard output does not end the run.
        let _ = stdout::line(&done_text(&run));
    }
    Ok(ExitCode::SUCCESS)
}

fn no_name() -> Failure {
    Failure::usage("a run in the background needs a name")
        .hint("add --name NAME: `sameport status NAME` and the other verbs reach it by that")
}

/// Prints what happens during the wait.
fn progress(name: &RunName, quiet: bool) -> impl FnMut(DetachProgress<'_>) {
    let mut changes = RunChanges::new(false);
    move |event| match event {
        _ if quiet => {}
        DetachProgress::Begun(pid) => stderr::print(&begun_text(name, pid)),
        DetachProgress::Worker(update) => changes.report(update),
        DetachProgress::Line(line) => stderr::print(line),
        DetachProgress::Output(worker, line) => stderr::print(&output_text(name, worker, line)),
    }
}

/// The lines of an event for the process that waits; none for a change of a worker, which it receives on the control
/// socket.
pub(super) fn lines(event: &RunEvent) -> Vec<String> {
    match event {
        RunEvent::WorkerChanged(_) => Vec::new(),
        event => event_lines(event),
    }
}

/// A supervisor that would end with this process, or that a service manager would not see.
fn refuse_end_with_this_process() -> Result<(), Failure> {
    if std::process::id() == 1 {
        return Err(Failure::usage(
            "this process is pid 1 of a container, which ends with it, and the run in the background too",
        )
        .hint("leave --detach out"));
    }
    let by_variable = env::var_os("NOTIFY_SOCKET").map(|_| "NOTIFY_SOCKET is set");
    let by_cgroup = own_service().map(|_| "this process is a service");
    if let Some(why) = by_variable.or(by_cgroup) {
        return Err(Failure::usage(format!(
            "{why}: the service manager keeps the run, and a run in the background would leave it"
        ))
        .hint("leave --detach out; outside of a service: env -u NOTIFY_SOCKET sameport run --detach …"));
    }
    if env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        return Err(Failure::usage(
            "the sockets of LISTEN_FDS are for this process, and a run in the background is another one",
        )
        .hint("leave --detach out, or open the sockets by --listen"));
    }
    Ok(())
}
