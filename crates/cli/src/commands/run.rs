//! `sameport run`.

use std::ffi::OsString;
use std::net::SocketAddr;

use sameport_rules::map::{self, Rule, Side};

use super::Outcome;
use crate::tell::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  sameport run -- python3 -m http.server 8080      from two terminals: both answer on 8080
  sameport run -n 4 -- ./server --port 8080        four copies at once
  sameport run --port 53 -- unbound -d             share port 53, leave its other ports alone
  sameport run --map 80=127.0.0.1:8080 -- nginx -g 'daemon off;'    it asks for 80, it gets 8080
  sameport run --source 127.0.0.9 -- curl http://127.0.0.1:8080/    where connections come from";

const AFTER: &str = "\
The program is not changed: where it binds a fixed port, the socket gets SO_REUSEPORT first, and \
the kernel gives each new connection to one of the members. Only sockets of one user can share. \
Exit code: the program's own (with -n, the first that is not 0), 128+n after signal n, 126 or 127 \
when the command cannot be executed or found, 2 when the command line is wrong, 3 when this \
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
    #[arg(long = "port", value_name = "PORT", value_parser = sameport_rules::wanted::fixed_port)]
    ports: Vec<u16>,
    /// Bind TO where the program asks for FROM: each PORT, ADDR or ADDR:PORT, FROM perhaps with tcp:
    /// or udp: before it; may be given several times, the most specific wins
    #[arg(long = "map", value_name = "FROM=TO")]
    rules: Vec<Rule>,
    /// Make the program's connections come from this address, a port of it if given
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = source)]
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

/// `ADDR` or `ADDR:PORT`; an IPv6 address in brackets.
fn source(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse() {
        Ok(Side { ip: Some(ip), port }) => Ok(SocketAddr::new(ip, port.unwrap_or(0))),
        _ => Err("write ADDR or ADDR:PORT, such as 127.0.0.9 or [::1]:4000"),
    }
}

/// Two rules for one address would leave it to chance which one counts.
fn refuse_contradiction(rules: &[Rule]) -> Result<(), Failure> {
    match map::contradiction(rules) {
        None => Ok(()),
        Some((earlier, later)) => {
            let (earlier, later) = (rules[earlier], rules[later]);
            Err(Failure::usage(format!("--map {later}: contradicts --map {earlier}"))
                .hint("keep one of the two"))
        }
    }
}

/// An option that only one interposer knows must not be ignored by another.
fn refuse_what_is_not_for_it(args: &Args) -> Result<(), Failure> {
    let other = matches!(args.via, ViaArgument::Preload | ViaArgument::Cgroup);
    let refused = match args {
        Args { children: Some(_), .. } if args.via != ViaArgument::Preload => {
            Some(("--children", "preload"))
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
pub(crate) fn run(args: Args) -> Outcome {
    use sameport_rules::bind::Ports;
    use sameport_rules::filter::IoUring;

    use crate::operations::run::{self, Children, Choice, Environment, Plan, Via, Wishes};
    use crate::tell::{running, starting};

    refuse_contradiction(&args.rules)?;
    refuse_what_is_not_for_it(&args)?;
    let plan = Plan {
        command: args.command,
        copies: args.copies,
        wishes: Wishes {
            ports: match args.ports {
                none if none.is_empty() => Ports::All,
                some => Ports::Only(some.into_iter().collect()),
            },
            rules: args.rules,
            source: args.source,
            transparent: args.transparent,
        },
        io_uring: if args.allow_io_uring { IoUring::Allow } else { IoUring::Refuse },
        give_up_privileges: args.no_new_privs,
        choice: match args.via {
            ViaArgument::Auto => Choice::Auto,
            ViaArgument::Seccomp => Choice::Only(Via::Seccomp),
            ViaArgument::Preload => Choice::Only(Via::Preload),
            ViaArgument::Cgroup => Choice::Only(Via::Cgroup),
        },
        children: match args.children {
            None | Some(ChildrenArgument::Inherit) => Children::Inherit,
            Some(ChildrenArgument::Strip) => Children::Strip,
        },
        search_path: std::env::var_os("PATH"),
        environment: Environment {
            runtime_folder: std::env::var_os("XDG_RUNTIME_DIR"),
            preloaded: std::env::var_os("LD_PRELOAD"),
        },
    };
    let mut notices = running::Notices::new(args.quiet);
    let outcome = run::run(&plan, &mut |event| notices.tell(&event));
    notices.finish();
    outcome.map(Into::into).map_err(|error| starting::failure(&plan, &error))
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(args: Args) -> Outcome {
    use crate::tell::failure::Kind;

    refuse_contradiction(&args.rules)?;
    refuse_what_is_not_for_it(&args)?;
    Err(Failure::new(Kind::MachineCannot, "`run` needs Linux: it works by seccomp notification")
        .hint("a program of your own can share a port by the library `sameport`"))
}
