//! The options of `sameport run`.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use sameport_policy::addr::{AddrSpec, PortSpec};
use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::source;
use sameport_policy::bind::verdict::SharedPort;
use sameport_policy::launch::UserSpec;
use sameport_policy::model::name::RunName;
pub(super) use sameport_policy::option_values::ReadyArgument;
use sameport_policy::option_values::{parse_expected, parse_ready};
use sameport_policy::output;
use sameport_policy::traffic::TrafficPolicy;

use super::drain_args::DrainArgs;
use crate::args::{
    number, parse_copies, parse_duration, parse_port, parse_tcp_address, variable_parser,
};

const EXAMPLES: &str = "\
Examples:
  sameport run -- python3 -m http.server 8080      from two terminals: both answer on 8080
  sameport run --group web -- ./another-server     and different programs, each with the group
  sameport run -n 4 -- ./server --port 8080        four copies at once
  sameport run --port 53 -- unbound -d             share port 53, leave its other ports alone
  sameport run --map 80=127.0.0.1:8080 -- nginx -g 'daemon off;'    it asks for 80, it gets 8080
  sameport run --name web -n 4 -- node server.js   workers that `sameport restart web` replaces
  sameport run --name web --detach --wait -- node server.js         back when it is ready
  sameport run --private -- ./api                  no other program can join its ports, not even root's
  sameport run --source 127.0.0.9 -- curl http://127.0.0.1:8080/    connects from this address";

const AFTER: &str = "\
The program is not changed: where it binds a fixed port, the socket gets SO_REUSEPORT first, and the \
kernel gives each new connection to one of the members. Only sockets of one user can share: those of \
runs of the same command in the same directory, or of the same --group, or with --join all of them.

Exits with the program's own code (with -n, the first that is not 0), 128+n after signal n, 126 or 127 \
when the command cannot be executed or found. With --name: 0 after `sameport stop`; after the last worker \
was given up its code, or 1. With --detach: 0 when the run has begun, with --wait when every worker is ready; \
otherwise the code of the error.";

/// Run a program, unmodified, on shared ports
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Number of copies to start, 1 to 1024, or `auto`: one for each processor that this process may use
    #[arg(short = 'n', value_name = "N", default_value = "1", value_parser = parse_copies)]
    pub(super) copies: u16,
    /// Share only this port, of TCP and UDP or, as 53/udp, of one; can be repeated [default: every fixed
    /// port]
    #[arg(long = "port", value_name = "PORT", value_parser = parse_port)]
    pub(super) ports: Vec<SharedPort>,
    /// Bind TO where the program asks for FROM: each PORT, ADDR or ADDR:PORT, FROM with /tcp or /udp for
    /// one protocol only; can be repeated, the most specific rule applies
    #[arg(long = "map", value_name = "FROM=TO")]
    pub(super) rules: Vec<MapRule>,
    /// Make the program's connections come from this address, and from this port if given
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = source::read)]
    pub(super) source: Option<SocketAddr>,
    /// Allow binds to addresses that are not this machine's (IP_TRANSPARENT; needs CAP_NET_ADMIN)
    #[arg(long)]
    pub(super) transparent: bool,
    /// Allow binds to addresses that no interface has yet (IP_FREEBIND)
    #[arg(long)]
    pub(super) freebind: bool,
    /// Give each worker a port of its own, for inspectors and metrics: where the program asks for PORT,
    /// the second worker binds PORT+1, and so on; can be repeated
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    pub(super) each: Vec<SharedPort>,
    /// Which worker gets the next connection; `auto`: `two-choices` (the less loaded of two random ones),
    /// without root `random` [default: one that is ready, by the kernel's hash]
    #[arg(long, value_name = "POLICY", value_parser = PolicyParser)]
    pub(super) policy: Option<PolicyArgument>,
    /// Keep a QUIC connection at the worker whose socket its connection id names, also when the client's
    /// address changes or workers come and go: docs/udp.md
    #[arg(long)]
    pub(super) connection_id: bool,
    /// The interposer that changes the program's binds
    #[arg(long, value_enum, default_value_t = ViaArgument::Auto)]
    pub(super) via: ViaArgument,
    /// With --via preload: whether programs that the command executes load the library too
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(super) children: Option<ChildrenArgument>,
    #[command(flatten)]
    pub(super) launch: LaunchArgs,
    #[command(flatten)]
    pub(super) named: NamedArgs,
    #[command(flatten)]
    pub(super) together: TogetherArgs,
    /// Print each line of the program with the name of the run and the number of its worker in front,
    /// standard error too; to a terminal in colours
    #[arg(long)]
    pub(super) prefix: bool,
    /// Do not report members of the group or refused addresses
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Allow io_uring, whose binds sameport does not see
    #[arg(long)]
    pub(super) allow_io_uring: bool,
    /// Start a set-user-ID program or one with file capabilities even though, without root, it
    /// does not get what its file grants
    #[arg(long)]
    pub(super) no_new_privs: bool,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// How the command is executed.
#[derive(clap::Args)]
#[command(next_help_heading = "Execution")]
pub(super) struct LaunchArgs {
    /// Run the command as this user, with this group or the user's own; needs root. The workers get no
    /// capability, and so bind no port below 1024: --listen opens one for them
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(super) user: Option<UserSpec>,
    /// Run the command in this directory; each start follows its symbolic links anew
    #[arg(long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Set a variable in the command's environment; without `=VALUE` to the value that it has here, which other
    /// users then do not see; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable_parser())]
    pub(super) env: Vec<(OsString, OsString)>,
}

/// The runs that share with this one.
#[derive(clap::Args)]
pub(super) struct TogetherArgs {
    /// Share with every run of this group [default: with the same command in the same directory]
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<RunName>,
    /// Share with every socket on the port, of this run or not
    #[arg(long)]
    pub(super) join: bool,
    /// Let the kernel refuse every socket outside the group, also root's: the group's sockets get an
    /// owner of their own (needs root or CAP_CHOWN; by seccomp only)
    #[arg(long, conflicts_with = "join")]
    pub(super) private: bool,
}

/// The options of a named run.
#[derive(clap::Args)]
#[command(next_help_heading = "Named runs")]
pub(super) struct NamedArgs {
    /// Keep the workers running: restart them after a crash, hold their listening sockets meanwhile,
    /// and let `sameport status|restart|scale|upgrade|stop NAME` control them
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<RunName>,
    /// Readiness check, in addition to listening on the previous worker's addresses: `tcp` (accepts a
    /// connection), `http:/PATH` or `http://HOST[:PORT]/PATH` (answers 2xx or 3xx), `notify` (sends
    /// READY=1), `exec:CMD` (exits with 0)
    #[arg(long, value_name = "CHECK", requires = "name", value_parser = parse_ready)]
    pub(super) ready: Option<ReadyArgument>,
    /// Time limit for a worker to become ready, such as 500ms, 30s or 2m
    #[arg(long, value_name = "TIME", requires = "name", default_value = "30s",
          value_parser = parse_duration)]
    pub(super) ready_timeout: Duration,
    /// Number of workers that a restart replaces at once; 0: one, and the old one ends first
    #[arg(long, value_name = "N", requires = "name", default_value_t = 1,
          value_parser = number::<u16>(0..=1024))]
    pub(super) surge: u16,
    /// `own`: each worker has its own queue of connections; `shared`: all accept from one
    #[arg(long, value_enum, requires = "name", default_value_t = QueueArgument::Own)]
    pub(super) queue: QueueArgument,
    /// Listen here from the start and pass the socket to every worker, as systemd does (LISTEN_FDS):
    /// 8080, 127.0.0.1:8080, [::1]:8080, localhost:8080; can be repeated
    #[arg(long, value_name = "ADDR", requires = "name", conflicts_with = "no_hold",
          value_parser = parse_tcp_address)]
    pub(super) listen: Vec<AddrSpec>,
    /// Close listening sockets with their worker
    #[arg(long, requires = "name")]
    pub(super) no_hold: bool,
    /// Run in the background, without this terminal: returns when the workers are started
    #[arg(long, requires = "name")]
    pub(super) detach: bool,
    /// With --detach: return when every worker is ready, with exit code 0. If one is not ready within TIME, the
    /// run is stopped, and the exit code is 1 [default TIME: --ready-timeout and 30 s]
    #[arg(long, value_name = "TIME", requires = "detach", num_args = 0..=1, require_equals = true,
          value_parser = parse_duration)]
    pub(super) wait: Option<Option<Duration>>,
    #[command(flatten)]
    pub(super) drain: DrainArgs,
    #[command(flatten)]
    pub(super) keeping: KeepingArgs,
}

/// How a named run keeps its workers running.
#[derive(clap::Args)]
pub(super) struct KeepingArgs {
    /// Number of restarts after consecutive crashes, before a worker is given up [default: no limit]
    #[arg(long, value_name = "N", requires = "name",
          value_parser = number::<u32>(0..=u64::from(u32::MAX)))]
    pub(super) max_restarts: Option<u32>,
    /// Append the standard output and error of the workers to this file; `status` shows the last lines
    /// of a worker that ended badly
    #[arg(long, value_name = "FILE", requires = "name", conflicts_with = "prefix")]
    pub(super) log: Option<PathBuf>,
    /// Size of a file with the output of a run in the background, after which the next one begins
    /// [default: 10M]
    #[arg(long, value_name = "SIZE", requires = "name", conflicts_with_all = ["log", "prefix"],
          value_parser = output::parse_size)]
    pub(super) log_size: Option<u64>,
    /// Number of these files that are kept [default: 5]
    #[arg(long, value_name = "N", requires = "name", conflicts_with_all = ["log", "prefix"],
          value_parser = number::<u32>(1..=1000))]
    pub(super) log_files: Option<u32>,
    /// The file of services that the run belongs to: `sameport up` sets it
    #[arg(long, value_name = "FILE", requires = "name", hide = true)]
    pub(super) origin: Option<PathBuf>,
    /// A worker is ready only when it listens on this port, or on this address and port; can be
    /// repeated [default: the addresses of the last run, or those that it opens within 200 ms]
    #[arg(long, value_name = "PORT", requires = "name", value_parser = parse_expected)]
    pub(super) expect: Vec<PortSpec>,
}

/// The values of `--policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyArgument {
    /// The best one of this machine.
    Auto,
    /// This one.
    Only(TrafficPolicy),
}

/// Reads a policy, and names those that a shell completes.
#[derive(Clone)]
pub(super) struct PolicyParser;

impl TypedValueParser for PolicyParser {
    type Value = PolicyArgument;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<PolicyArgument, clap::Error> {
        let parse = |text: String| match text.as_str() {
            "auto" => Ok(PolicyArgument::Auto),
            text => text.parse().map(PolicyArgument::Only),
        };
        StringValueParser::new().try_map(parse).parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = TrafficPolicy::ALL.iter().map(|policy| policy.name());
        Some(Box::new(names.chain(["auto"]).map(PossibleValue::new)))
    }
}

/// The values of `--queue`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum QueueArgument {
    /// A queue for each worker
    Own,
    /// One queue for all
    Shared,
}

/// The values of `--via`.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ViaArgument {
    /// The first of these that works
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
pub(super) enum ChildrenArgument {
    /// Keep LD_PRELOAD
    Inherit,
    /// Remove it
    Strip,
}
