//! `sameport run`.

mod args;
#[cfg(target_os = "linux")]
mod background;
#[cfg(target_os = "linux")]
pub(crate) mod checked;
mod drain_args;
#[cfg(target_os = "linux")]
pub(crate) mod killed;
#[cfg(target_os = "linux")]
mod plan;
pub(crate) mod service;

use sameport_policy::addr::AddrSpec;
use sameport_policy::bind::each;
use sameport_policy::bind::map;
use sameport_policy::bind::map::MapRule;

use crate::error::{Failure, VerbResult, contradicting_maps};

pub(crate) use args::Args;
use args::{NamedArgs, QueueArgument, TogetherArgs, ViaArgument};

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use crate::operations::detach::StartReport;

    if args.named.detach {
        refuse(&args)?;
        return background::start(&args);
    }
    let mut report = StartReport::of_environment();
    foreground(args, &mut report).inspect_err(|failure| report.failed(failure.into()))
}

/// Runs the workers in this process. `report`: for the process that started this one in the background.
#[cfg(target_os = "linux")]
fn foreground(args: Args, report: &mut crate::operations::detach::StartReport) -> VerbResult {
    use sameport_supervisor::RunEvent;

    use crate::error::run_failure;
    use crate::output::run::reporter::StderrLines;

    refuse(&args)?;
    refuse_sizes_of_nothing(&args)?;
    let quiet = args.quiet;
    let mut reporter = StderrLines::new(quiet);
    let plan = plan::run_plan(args)?;
    if std::env::var_os(sameport_supervisor::CHECK).is_some() {
        return check(&plan);
    }
    let outcome = sameport_supervisor::run(&plan, &mut |event| {
        if let RunEvent::Begun { taken_over } = &event {
            report.begun(taken_over.clone());
        }
        if !quiet {
            background::lines(&event).into_iter().for_each(|line| report.line(line));
        }
        reporter.report(&event);
    });
    reporter.finish();
    outcome.map(Into::into).map_err(|error| run_failure(&plan, &error))
}

/// Checks the arguments for a supervisor that is about to have them. Starts nothing.
#[cfg(target_os = "linux")]
fn check(plan: &sameport_supervisor::RunPlan) -> VerbResult {
    use std::process::ExitCode;

    use sameport_supervisor::control::client::ClientError;
    use sameport_supervisor::control::command;
    use sameport_supervisor::control::protocol::ControlReply;

    use crate::error::{client_failure, run_failure};

    let Some(named) = &plan.named else { return Ok(ExitCode::SUCCESS) };
    let directory = plan.launch.directory.as_ref().unwrap_or(&named.directory);
    let path = plan.environment.search_path.as_deref();
    let refusal = command::directory_refusal(directory)
        .or_else(|| command::refusal(&plan.command, path, directory));
    if let Some(ControlReply::Failed { fault, error, hint }) = refusal {
        return Err(client_failure(&named.name, &ClientError::Failed { fault, error, hint }));
    }
    sameport_supervisor::check(plan).map_err(|error| run_failure(plan, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// Options that contradict each other.
fn refuse(args: &Args) -> Result<(), Failure> {
    refuse_contradiction(&args.rules)?;
    refuse_each(args)?;
    refuse_twice(&args.named.listen)?;
    refuse_half_private(args)?;
    refuse_ineffective(args)?;
    refuse_one_queue(args)
}

/// Options of files that only a run in the background has.
#[cfg(target_os = "linux")]
fn refuse_sizes_of_nothing(args: &Args) -> Result<(), Failure> {
    use std::env;

    use sameport_supervisor::{CHECK, CHECK_DETACHED, HANDOVER_FD};

    let keeping = &args.named.keeping;
    let option = match (keeping.log_size, keeping.log_files) {
        (Some(_), _) => "--log-size",
        (None, Some(_)) => "--log-files",
        (None, None) => return Ok(()),
    };
    let is_checked_for_one = env::var_os(CHECK).is_some_and(|it| it == CHECK_DETACHED);
    // A run that was begun by an earlier build goes on.
    let goes_on = HANDOVER_FD.iter().any(|name| env::var_os(name).is_some());
    if is_checked_for_one || goes_on || crate::operations::detach::is_detached() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{option} is for --detach: no other run keeps output in files that are rotated"
    ))
    .hint("leave it out, or start the run in the background: --detach"))
}

/// Two rules for one address: which one applies would depend on their order.
fn refuse_contradiction(rules: &[MapRule]) -> Result<(), Failure> {
    match map::contradiction(rules) {
        None => Ok(()),
        Some((earlier, later)) => {
            let (earlier, later) = (rules[earlier], rules[later]);
            Err(contradicting_maps(earlier, later))
        }
    }
}

/// Ports for each worker that the workers cannot have.
fn refuse_each(args: &Args) -> Result<(), Failure> {
    match each::fault(&args.each, args.copies, &args.rules) {
        None => Ok(()),
        Some(fault) => Err(Failure::usage(fault.to_string())
            .hint("worker k gets PORT+k-1: take ports that are further apart, or lower")),
    }
}

/// An address after --listen that is repeated is a mistake.
fn refuse_twice(listen: &[AddrSpec]) -> Result<(), Failure> {
    let twice = listen.iter().enumerate().find(|(index, spec)| listen[..*index].contains(spec));
    match twice {
        None => Ok(()),
        Some((_, spec)) => Err(Failure::usage(format!("--listen {spec} is given twice"))
            .hint("each worker gets one socket for it: leave one out")),
    }
}

/// Privacy that the program itself or io_uring could break.
fn refuse_half_private(args: &Args) -> Result<(), Failure> {
    let why = match args {
        Args { together: TogetherArgs { private: false, .. }, .. } => return Ok(()),
        Args { via: ViaArgument::Preload, .. } => {
            "--via preload: a library inside the program has the program's rights, and cannot give its \
             sockets another owner"
        }
        Args { via: ViaArgument::Cgroup, .. } => {
            "--via cgroup: eBPF cannot give sockets another owner"
        }
        Args { allow_io_uring: true, .. } => {
            "--allow-io-uring: what a ring binds is not seen, and would not be private"
        }
        _ => return Ok(()),
    };
    Err(Failure::usage(format!("--private cannot be with {why}")).hint("leave one of the two out"))
}

/// An option that the chosen interposer would ignore.
fn refuse_ineffective(args: &Args) -> Result<(), Failure> {
    let other = matches!(args.via, ViaArgument::Preload | ViaArgument::Cgroup);
    let refused = match args {
        Args { children: Some(_), .. } if args.via != ViaArgument::Preload => {
            Some(("--children", "preload"))
        }
        Args { named: NamedArgs { queue: QueueArgument::Shared, .. }, .. } if other => {
            Some(("--queue shared", "seccomp"))
        }
        Args { freebind: true, .. } if args.via == ViaArgument::Cgroup => {
            Some(("--freebind", "seccomp and --via preload"))
        }
        Args { each, .. } if !each.is_empty() && args.via == ViaArgument::Cgroup => {
            Some(("--each", "seccomp and --via preload"))
        }
        Args { allow_io_uring: true, .. } if other => Some(("--allow-io-uring", "seccomp")),
        Args { no_new_privs: true, .. } if other => Some(("--no-new-privs", "seccomp")),
        _ => None,
    };
    match refused {
        None => Ok(()),
        Some((option, via)) => {
            Err(Failure::usage(format!("{option} is for --via {via} only")).hint("leave it out"))
        }
    }
}

/// A policy for workers that all accept from one socket.
fn refuse_one_queue(args: &Args) -> Result<(), Failure> {
    let option = match args {
        Args { policy: None, connection_id: false, .. } => return Ok(()),
        Args { named: NamedArgs { queue: QueueArgument::Shared, .. }, .. } => "--queue shared",
        Args { named: NamedArgs { listen, .. }, .. } if !listen.is_empty() => "--listen",
        _ => return Ok(()),
    };
    let choice = if args.policy.is_some() { "--policy" } else { "--connection-id" };
    Err(Failure::usage(format!(
        "{choice} has nothing to choose with {option}: all workers accept from one socket"
    ))
    .hint("leave one of the two out"))
}

#[cfg(test)]
mod tests;
