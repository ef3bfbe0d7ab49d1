//! The plan of a run: the command line and the environment in the terms of the supervisor.

use std::env;

use sameport_policy::bind::verdict::PortSet;
use sameport_policy::lifecycle::{LifecycleSettings, QueueMode};
use sameport_policy::seccomp::filter::IoUring;
use sameport_policy::systemd::Activation;
use sameport_policy::watchdog::WatchdogVariables;
use sameport_supervisor::{
    BindOptions, CHECK, ChildrenMode, HANDOVER_FD, InterposerChoice, InterposerKind, KeptLog,
    LaunchOptions, NamedOptions, PolicyChoice, PreloadOptions, ReadyCheck, ReadyOptions, RunBegin,
    RunEnvironment, RunPlan, START_FD, SeccompOptions, SharingScope, TrafficOptions, WorkerOutput,
    WorkerUser,
};

use super::args::{
    Args, ChildrenArgument, LaunchArgs, NamedArgs, PolicyArgument, QueueArgument, ReadyArgument,
    ViaArgument,
};
use crate::error::{Failure, directory_failure, no_log_directory, user_failure};
use crate::operations::detach::is_detached;
use crate::operations::logs;
use crate::operations::named_runs::own_service;
use crate::operations::runtime_dir::runtime_dir;
use crate::output::screen;

/// # Errors
///
/// The user of `--user`, or its group, is not known or not permitted.
pub(super) fn run_plan(args: Args) -> Result<RunPlan, Failure> {
    let output = worker_output(&args)?;
    let launch = launch_options(args.launch)?;
    let environment = environment(&launch);
    Ok(RunPlan {
        output,
        command: args.command,
        launch,
        copies: args.copies,
        bind_options: BindOptions {
            ports: match args.ports {
                all if all.is_empty() => PortSet::All,
                ports => PortSet::Only(ports.into_iter().collect()),
            },
            rules: args.rules,
            source: args.source,
            transparent: args.transparent,
            freebind: args.freebind,
            each: args.each,
        },
        scope: SharingScope {
            group: args.together.group,
            join: args.together.join,
            private: args.together.private,
        },
        traffic: TrafficOptions {
            policy: args.policy.map(|policy| match policy {
                PolicyArgument::Auto => PolicyChoice::Auto,
                PolicyArgument::Only(policy) => PolicyChoice::Only(policy),
            }),
            connection_ids: args.connection_id,
        },
        seccomp: SeccompOptions {
            io_uring: if args.allow_io_uring { IoUring::Allow } else { IoUring::Refuse },
            give_up_privileges: args.no_new_privs,
        },
        interposer: match args.via {
            ViaArgument::Auto => InterposerChoice::Auto,
            ViaArgument::Seccomp => InterposerChoice::Only(InterposerKind::Seccomp),
            ViaArgument::Preload => InterposerChoice::Only(InterposerKind::Preload),
            ViaArgument::Cgroup => InterposerChoice::Only(InterposerKind::Cgroup),
        },
        preload: PreloadOptions {
            library: sameport_preload::LIBRARY.ok_or(sameport_preload::WHY_NOT),
            children: match args.children {
                None | Some(ChildrenArgument::Inherit) => ChildrenMode::Inherit,
                Some(ChildrenArgument::Strip) => ChildrenMode::Strip,
            },
        },
        environment,
        named: named_options(args.copies, args.named),
    })
}

/// Where the output of workers goes. A supervisor in the background has no terminal.
fn worker_output(args: &Args) -> Result<WorkerOutput, Failure> {
    let keeping = &args.named.keeping;
    Ok(match (&keeping.log, &args.named.name) {
        (Some(log), _) => WorkerOutput::File(env::current_dir().unwrap_or_default().join(log)),
        (None, _) if args.prefix => WorkerOutput::Prefixed { color: screen::stdout_is_coloured() },
        (None, Some(name)) if is_detached() => WorkerOutput::Kept(KeptLog {
            directory: logs::own_directory(name).ok_or_else(no_log_directory)?,
            max_size: keeping.log_size.unwrap_or(10 * 1024 * 1024),
            files: keeping.log_files.unwrap_or(5),
        }),
        (None, _) => WorkerOutput::Inherited,
    })
}

fn launch_options(args: LaunchArgs) -> Result<LaunchOptions, Failure> {
    let user =
        args.user.map(|spec| WorkerUser::find(&spec).map_err(|error| user_failure(&spec, &error)));
    let directory = args.directory.map(|directory| {
        std::path::absolute(&directory).map_err(|error| directory_failure(&directory, &error))
    });
    Ok(LaunchOptions {
        user: user.transpose()?,
        directory: directory.transpose()?,
        environment: args.env,
    })
}

fn environment(launch: &LaunchOptions) -> RunEnvironment {
    let of_workers = |name| launch.variable(name).cloned().or_else(|| env::var_os(name));
    let text = |name| env::var_os(name).map(|value| value.into_string().unwrap_or_default());
    RunEnvironment {
        search_path: of_workers("PATH"),
        runtime_dir: runtime_dir(),
        ld_preload: of_workers("LD_PRELOAD"),
        notify_socket: env::var_os("NOTIFY_SOCKET"),
        service: own_service(),
        watchdog: WatchdogVariables { period: text("WATCHDOG_USEC"), pid: text("WATCHDOG_PID") },
        activation: Activation {
            pid: text("LISTEN_PID"),
            count: text("LISTEN_FDS"),
            names: text("LISTEN_FDNAMES"),
        },
        detached: is_detached(),
    }
}

fn named_options(copies: u16, args: NamedArgs) -> Option<NamedOptions> {
    Some(NamedOptions {
        name: args.name?,
        settings: LifecycleSettings {
            copies,
            surge: args.surge,
            ready_timeout: args.ready_timeout,
            grace: args.drain.grace,
            max_restarts: args.keeping.max_restarts,
            must_listen: !args.keeping.expect.is_empty(),
            drain: args.drain.mode(),
            drain_timeout: args.drain.drain_timeout,
        },
        ready: ReadyOptions {
            check: match args.ready {
                None => ReadyCheck::Listens,
                Some(ReadyArgument::Tcp) => ReadyCheck::Tcp,
                Some(ReadyArgument::Http(target)) => ReadyCheck::Http(target),
                Some(ReadyArgument::Notify) => ReadyCheck::Notify,
                Some(ReadyArgument::Exec(command)) => ReadyCheck::Exec(command),
            },
            expect: args.keeping.expect,
        },
        hold: !args.no_hold,
        stop_signal: args.drain.stop_signal,
        queue: match args.queue {
            QueueArgument::Own => QueueMode::PerWorker,
            QueueArgument::Shared => QueueMode::Shared,
        },
        listen: args.listen,
        directory: env::current_dir().unwrap_or_default(),
        arguments: env::args_os().collect(),
        environment: env::vars_os()
            .filter(|(name, _)| {
                HANDOVER_FD.iter().chain([&CHECK, &START_FD]).all(|passed| name != passed)
            })
            .collect(),
        begin: HANDOVER_FD
            .iter()
            .find_map(|name| env::var(name).ok()?.parse().ok())
            .map_or(RunBegin::Start, RunBegin::Resume),
    })
}
