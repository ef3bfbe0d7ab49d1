//! `sameport run`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::time::Duration;

use sameport_policy::addr::{AddrSpec, AddrSpecError};
use sameport_policy::bind::map;
use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::source;
use sameport_policy::model::name::RunName;

use crate::duration::parse_duration;
use crate::error::{Failure, VerbResult};

const EXAMPLES: &str = "\
Examples:
  sameport run -- python3 -m http.server 8080      from two terminals: both answer on 8080
  sameport run --group web -- ./another-server     and different programs, each with the group
  sameport run -n 4 -- ./server --port 8080        four copies at once
  sameport run --port 53 -- unbound -d             share port 53, leave its other ports alone
  sameport run --map 80=127.0.0.1:8080 -- nginx -g 'daemon off;'    it asks for 80, it gets 8080
  sameport run --name web -n 4 -- node server.js   workers that `sameport restart web` replaces
  sameport run --private -- ./api                  nobody else gets onto its ports, root included
  sameport run --source 127.0.0.9 -- curl http://127.0.0.1:8080/    where connections come from";

const AFTER: &str = "\
The program is not changed: where it binds a fixed port, the socket gets SO_REUSEPORT first, and \
the kernel gives each new connection to one of the members. Only sockets of one user can share: those of \
runs of the same command in the same directory, or of the same --group, or with --join anybody's. \
Exit code: the program's own (with -n, the first that is not 0), 128+n after signal n, 126 or 127 \
when the command cannot be executed or found; with --name 0 when the run was stopped, and when every \
worker was given up the code of the last one, or 1; 2 when the command line is wrong, 3 when this \
machine cannot (see `sameport doctor`).";

/// Run a program, unmodified, on ports that others share
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// How many copies to start, 1 to 1024
    #[arg(short = 'n', value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    copies: u16,
    /// Share only this port; may be given several times [default: every fixed port]
    #[arg(long = "port", value_name = "PORT", value_parser = sameport_policy::addr::parse_fixed_port)]
    ports: Vec<u16>,
    /// Bind TO where the program asks for FROM: each PORT, ADDR or ADDR:PORT, FROM perhaps with tcp:
    /// or udp: before it; may be given several times, the most specific wins
    #[arg(long = "map", value_name = "FROM=TO")]
    rules: Vec<MapRule>,
    /// Make the program's connections come from this address, a port of it if given
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = source::read)]
    source: Option<SocketAddr>,
    /// Let it bind addresses that are not this machine's (IP_TRANSPARENT; needs CAP_NET_ADMIN)
    #[arg(long)]
    transparent: bool,
    /// How the program's binds are reached
    #[arg(long, value_enum, default_value_t = ViaArgument::Auto)]
    via: ViaArgument,
    /// With --via preload: whether programs that the command executes are reached too
    #[arg(long, value_enum, value_name = "WHICH")]
    children: Option<ChildrenArgument>,
    #[command(flatten)]
    named: NamedArgs,
    #[command(flatten)]
    together: TogetherArgs,
    /// Do not say who shares, or why an address was refused
    #[arg(short, long)]
    quiet: bool,
    /// Let the program use io_uring, whose binds sameport does not see
    #[arg(long)]
    allow_io_uring: bool,
    /// Start a set-user-ID program or one with file capabilities even though, without root, it
    /// does not get what its file grants
    #[arg(long)]
    no_new_privs: bool,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// With whom it shares.
#[derive(clap::Args)]
struct TogetherArgs {
    /// Share with every run that names this group [default: with the same command in the same
    /// directory]
    #[arg(long, value_name = "NAME")]
    group: Option<RunName>,
    /// Share with whoever is on the port, whether they belong to this run or not
    #[arg(long)]
    join: bool,
    /// Let the kernel refuse everybody who is not of the group, root included: its sockets get an owner
    /// of their own (needs root or CAP_CHOWN; by seccomp only)
    #[arg(long, conflicts_with = "join")]
    private: bool,
}

/// What makes a run a named one.
#[derive(clap::Args)]
#[command(next_help_heading = "Workers that live on")]
struct NamedArgs {
    /// Keep the workers running: start them again when they crash, hold their listening sockets
    /// meanwhile, and let `sameport status|restart|scale|upgrade|stop NAME` see to them
    #[arg(long, value_name = "NAME")]
    name: Option<RunName>,
    /// When a worker is ready, beside listening on what the one before it listened on: `tcp` (it
    /// accepts), `http:PATH` (it answers 2xx or 3xx), `notify` (it sends READY=1), `exec:CMD` (this
    /// succeeds)
    #[arg(long, value_name = "HOW", requires = "name", value_parser = ready)]
    ready: Option<ReadyArgument>,
    /// How long a worker may take to get ready, such as 500ms, 30s or 2m
    #[arg(long, value_name = "TIME", requires = "name", default_value = "30s",
          value_parser = parse_duration)]
    ready_timeout: Duration,
    /// How many workers a restart replaces at once; 0: one, and the old one ends first
    #[arg(long, value_name = "N", requires = "name", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(0..=1024))]
    surge: u16,
    /// How long a worker may take to end after SIGTERM, before it is killed
    #[arg(long, value_name = "TIME", requires = "name", default_value = "30s",
          value_parser = parse_duration)]
    grace: Duration,
    /// `own`: each worker has a queue of connections of its own; `shared`: all accept from one
    #[arg(long, value_enum, requires = "name", default_value_t = QueueArgument::Own)]
    queue: QueueArgument,
    /// Listen here from the start and pass the socket to every worker, as systemd does (LISTEN_FDS):
    /// 8080, 127.0.0.1:8080, [::1]:8080, localhost:8080; may be given several times
    #[arg(long, value_name = "ADDR", requires = "name", conflicts_with = "no_hold",
          value_parser = fixed)]
    listen: Vec<AddrSpec>,
    /// Let listening sockets end with their worker
    #[arg(long, requires = "name")]
    no_hold: bool,
}

/// The values of `--ready`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ReadyArgument {
    Tcp,
    Http(String),
    Notify,
    Exec(OsString),
}

fn ready(text: &str) -> Result<ReadyArgument, &'static str> {
    match text.split_once(':') {
        None if text == "tcp" => Ok(ReadyArgument::Tcp),
        None if text == "notify" => Ok(ReadyArgument::Notify),
        Some(("http", path)) if path.starts_with('/') && !path.contains([' ', '\r', '\n']) => {
            Ok(ReadyArgument::Http(path.to_owned()))
        }
        Some(("exec", command)) if !command.trim().is_empty() => {
            Ok(ReadyArgument::Exec(command.into()))
        }
        _ => Err("write tcp, http:/PATH, notify or exec:COMMAND"),
    }
}

/// An address that the next run has too.
fn fixed(text: &str) -> Result<AddrSpec, String> {
    let wanted: AddrSpec = text.parse().map_err(|error: AddrSpecError| error.to_string())?;
    match wanted.port {
        0 => Err(format!("{text} is no fixed port: write one from 1 to 65535")),
        _ => Ok(wanted),
    }
}

/// The values of `--queue`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum QueueArgument {
    /// Its own queue for each worker
    Own,
    /// One queue for all
    Shared,
}

/// The values of `--via`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ViaArgument {
    /// The first of these that can
    Auto,
    /// Any program, static ones too; no privilege
    Seccomp,
    /// Dynamically linked programs, by LD_PRELOAD
    Preload,
    /// Any program, by eBPF; needs root
    Cgroup,
}

/// The values of `--children`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ChildrenArgument {
    /// They inherit LD_PRELOAD
    Inherit,
    /// They do not
    Strip,
}

/// Two rules for one address would leave it to chance which one counts.
fn refuse_contradiction(rules: &[MapRule]) -> Result<(), Failure> {
    match map::contradiction(rules) {
        None => Ok(()),
        Some((earlier, later)) => {
            let (earlier, later) = (rules[earlier], rules[later]);
            Err(Failure::usage(format!("--map {later}: contradicts --map {earlier}"))
                .hint("keep one of the two"))
        }
    }
}

/// Nobody means to listen on one address twice.
fn refuse_twice(listen: &[AddrSpec]) -> Result<(), Failure> {
    let twice = listen.iter().enumerate().find(|(place, wanted)| listen[..*place].contains(wanted));
    match twice {
        None => Ok(()),
        Some((_, wanted)) => Err(Failure::usage(format!("--listen {wanted} is given twice"))
            .hint("each worker gets one socket for it: leave one out")),
    }
}

/// What is private must not depend on who would have to keep it so.
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

/// An option that only one interposer knows must not be ignored by another.
fn refuse_what_is_not_for_it(args: &Args) -> Result<(), Failure> {
    let other = matches!(args.via, ViaArgument::Preload | ViaArgument::Cgroup);
    let refused = match args {
        Args { children: Some(_), .. } if args.via != ViaArgument::Preload => {
            Some(("--children", "preload"))
        }
        Args { named: NamedArgs { queue: QueueArgument::Shared, .. }, .. } if other => {
            Some(("--queue shared", "seccomp"))
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

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use sameport_policy::bind::verdict::PortSet;
    use sameport_policy::lifecycle::LifecycleSettings;
    use sameport_policy::lifecycle::QueueMode;
    use sameport_policy::seccomp::filter::IoUring;
    use sameport_policy::systemd::Activation;

    use crate::error::run_failure;
    use crate::output::run::reporter::StderrLines;
    use sameport_supervisor;
    use sameport_supervisor::HANDOVER_FD;
    use sameport_supervisor::{
        BindOptions, ChildPolicy, InterposerChoice, InterposerKind, NamedOptions, ReadyCheck,
        RunEnvironment, RunPlan, SharingScope,
    };

    refuse_contradiction(&args.rules)?;
    refuse_twice(&args.named.listen)?;
    refuse_half_private(&args)?;
    refuse_what_is_not_for_it(&args)?;
    let text = |name| std::env::var_os(name).map(|value| value.into_string().unwrap_or_default());
    let plan = RunPlan {
        command: args.command,
        copies: args.copies,
        bind_options: BindOptions {
            ports: match args.ports {
                none if none.is_empty() => PortSet::All,
                some => PortSet::Only(some.into_iter().collect()),
            },
            rules: args.rules,
            source: args.source,
            transparent: args.transparent,
        },
        scope: SharingScope { group: args.together.group, join: args.together.join },
        private: args.together.private,
        io_uring: if args.allow_io_uring { IoUring::Allow } else { IoUring::Refuse },
        give_up_privileges: args.no_new_privs,
        interposer: match args.via {
            ViaArgument::Auto => InterposerChoice::Auto,
            ViaArgument::Seccomp => InterposerChoice::Only(InterposerKind::Seccomp),
            ViaArgument::Preload => InterposerChoice::Only(InterposerKind::Preload),
            ViaArgument::Cgroup => InterposerChoice::Only(InterposerKind::Cgroup),
        },
        preload_library: sameport_preload::LIBRARY.ok_or(sameport_preload::WHY_NOT),
        child_policy: match args.children {
            None | Some(ChildrenArgument::Inherit) => ChildPolicy::Inherit,
            Some(ChildrenArgument::Strip) => ChildPolicy::Strip,
        },
        search_path: std::env::var_os("PATH"),
        environment: RunEnvironment {
            runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            ld_preload: std::env::var_os("LD_PRELOAD"),
            notify_socket: std::env::var_os("NOTIFY_SOCKET"),
            activation: Activation {
                pid: text("LISTEN_PID"),
                count: text("LISTEN_FDS"),
                names: text("LISTEN_FDNAMES"),
            },
        },
        named: args.named.name.map(|name| NamedOptions {
            name,
            settings: LifecycleSettings {
                copies: args.copies,
                surge: args.named.surge,
                ready_timeout: args.named.ready_timeout,
                grace: args.named.grace,
            },
            ready: match args.named.ready {
                None => ReadyCheck::Listens,
                Some(ReadyArgument::Tcp) => ReadyCheck::Tcp,
                Some(ReadyArgument::Http(path)) => ReadyCheck::Http(path),
                Some(ReadyArgument::Notify) => ReadyCheck::Notify,
                Some(ReadyArgument::Exec(command)) => ReadyCheck::Exec(command),
            },
            hold: !args.named.no_hold,
            queue: match args.named.queue {
                QueueArgument::Own => QueueMode::PerWorker,
                QueueArgument::Shared => QueueMode::Shared,
            },
            listen: args.named.listen,
            directory: std::env::current_dir().unwrap_or_default(),
            arguments: std::env::args_os().collect(),
            environment: std::env::vars_os().filter(|(name, _)| name != HANDOVER_FD).collect(),
            handover_fd: std::env::var(HANDOVER_FD).ok().and_then(|number| number.parse().ok()),
        }),
    };
    let mut notices = StderrLines::new(args.quiet);
    let outcome = sameport_supervisor::run(&plan, &mut |event| notices.report(&event));
    notices.finish();
    outcome.map(Into::into).map_err(|error| run_failure(&plan, &error))
}

#[cfg(test)]
mod tests;
