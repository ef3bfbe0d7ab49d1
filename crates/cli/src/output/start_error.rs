//! Why `run` could not start its workers: in words, and with the exit code for it.

use sameport_sys::Errno;
use sameport_sys::bpf::cgroup_bind::AttachError;
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{Gain, StartError};
use sameport_sys::run_files::ClaimError;
use sameport_sys::seccomp::Stage;

use super::failure::{Failure, Kind, shortened};
use super::open_error::plain;
use sameport_supervisor::{Error, GivenError, NotPrivate, Plan, Via};

/// An interposer's name, as `--via` has it.
pub(crate) fn name(via: Via) -> &'static str {
    match via {
        Via::Seccomp => "seccomp",
        Via::Preload => "preload",
        Via::Cgroup => "cgroup",
    }
}

/// What happened, without the next step.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        _ if error.is_nested() => "this process already runs under another supervisor's seccomp \
                                   listener, and the kernel allows only one"
            .into(),
        Error::NotLocal(ip) => format!("{ip} is not an address of this machine"),
        Error::NotTransparent => {
            "setsockopt: IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW".into()
        }
        Error::NotPrivate(NotPrivate::NeedsCapability) => {
            "fchown: --private gives its sockets an owner of their own, which needs CAP_CHOWN"
                .into()
        }
        Error::NotPrivate(NotPrivate::NotMapped(uid)) => format!(
            "fchown: the owner of this private group, user id {uid}, is none of this user namespace"
        ),
        Error::NotPrivate(NotPrivate::Taken(uid, name)) => {
            format!("the owner of this private group, user id {uid}, is {name}'s already")
        }
        Error::NotPrivate(NotPrivate::Refused(errno)) => format!("fchown: {errno}"),
        Error::UnknownMachine => {
            format!("the system calls of {} are not known", std::env::consts::ARCH)
        }
        Error::LosesPrivilege(path, gain) => format!(
            "{} {}, and gets nothing from that under a filter without root",
            path.display(),
            gains(*gain)
        ),
        Error::CannotReach(call, errno) => {
            format!("{call}: {errno}: this kernel, or a sandbox around us, forbids it")
        }
        Error::NoLibrary(why) => format!("this build has no preload library: {why}"),
        Error::NotLoadable(path, obstacle) => {
            let what = match obstacle {
                Obstacle::Static => "is statically linked, and loads no library".into(),
                Obstacle::Go => "is a Go program, which calls the kernel by itself".into(),
                Obstacle::OtherMachine => "is for another machine".into(),
                Obstacle::GainsPrivilege(gain) => {
                    format!("{}, and ignores LD_PRELOAD therefore", gains(*gain))
                }
            };
            format!("{} {what}", path.display())
        }
        Error::Place(why) => format!("there is no place for the preload library: {why}"),
        Error::Given(why) => given(why).message,
        Error::Name(ClaimError::InUse(by)) => {
            let by = by.map(|pid| format!(" by pid {pid}")).unwrap_or_default();
            format!("this name is in use{by}")
        }
        Error::Name(why) => format!("there is no place for the run's files: {why}"),
        Error::HookNotLoaded(path, true) => {
            format!("the program did not load {}", path.display())
        }
        Error::HookNotLoaded(path, false) => {
            format!("the program did not load {}, which somebody has removed", path.display())
        }
        Error::TooManyRules(most) => format!("the preload library has room for {most} rules"),
        Error::Cgroup(why) => why.to_string(),
        Error::Attach(why @ AttachError::NotPermitted(..)) => {
            format!("{why} (needs CAP_BPF and CAP_NET_ADMIN)")
        }
        Error::Attach(why) => why.to_string(),
        Error::CgroupNotTransparent => "a cgroup's programs cannot set IP_TRANSPARENT".into(),
        Error::Start(StartError::Filter(Stage::Filter, Errno::INVAL)) => {
            "seccomp: this kernel has no user notification (Linux 5.0), or no filters".into()
        }
        Error::Start(StartError::Filter(Stage::Filter, errno)) => {
            format!("seccomp: SECCOMP_SET_MODE_FILTER: {errno}")
        }
        Error::Start(StartError::Filter(Stage::NoNewPrivs, errno)) => {
            format!("prctl: PR_SET_NO_NEW_PRIVS: {errno}")
        }
        Error::Start(StartError::Cgroup(errno)) => format!("write to cgroup.procs: {errno}"),
        Error::Start(StartError::Fork(why)) => format!("fork: {why}"),
        Error::Start(StartError::NotFound) => "command not found".into(),
        Error::Start(StartError::NotExecutable(why)) => format!("cannot be executed: {why}"),
        Error::System(call, why) => format!("{call}: {why}"),
        Error::NoWay(passed) => passed.first().map(|(_, error)| reason(error)).unwrap_or_default(),
    }
}

/// Why a run cannot have the sockets that it was given.
fn given(error: &GivenError) -> Failure {
    let could_not = |message: String| Failure::new(Kind::CouldNotBeDone, message);
    match error {
        GivenError::Unnamed(count) => {
            let sockets = if *count == 1 { "a socket" } else { "sockets" };
            Failure::usage(format!(
                "the service manager has passed on {sockets} (LISTEN_FDS={count}), and only a named \
                 run can take what it was passed"
            ))
            .hint("add --name NAME")
        }
        GivenError::NotHeld => Failure::usage(
            "the service manager has passed on sockets (LISTEN_FDS), and --no-hold holds none",
        )
        .hint("leave --no-hold out"),
        GivenError::Unreadable(unreadable) => {
            let (name, value) = (unreadable.0, shortened(&unreadable.1));
            could_not(format!("{name}={value} does not say what was passed on"))
                .hint("see sd_listen_fds(3); without LISTEN_PID nothing is taken")
        }
        GivenError::NotOpen(number, why) => {
            could_not(format!("LISTEN_FDS: descriptor {number} was not passed on: {why}"))
                .hint("see sd_listen_fds(3); without LISTEN_PID nothing is taken")
        }
        GivenError::NotListening { number, name } => could_not(format!(
            "LISTEN_FDS: descriptor {number} ({}) is neither a listening TCP socket nor a bound UDP \
             socket over IPv4 or IPv6",
            shortened(name)
        ))
        .hint("leave it out of the socket unit: ListenStream= and ListenDatagram= with a port"),
        GivenError::Open(error) => plain(error),
        GivenError::Resolve(wanted, why) => could_not(format!("--listen {wanted}: {why}")),
        GivenError::BoundBefore { number, name } => Failure::new(
            Kind::MachineCannot,
            format!(
                "LISTEN_FDS: descriptor {number} ({}) was bound before it was passed on, which is too \
                 late for --private",
                shortened(name)
            ),
        )
        .hint("leave the socket unit out, and open it by --listen"),
        GivenError::OtherGroup { address } => could_not(format!(
            "the socket on {address} that the service manager has kept is of another group: --private, \
             --group or the command was another one"
        ))
        .hint("stop the service, which closes it, and start it again; a --group stays when a command \
               changes"),
        GivenError::OpenPrivate(address, errno) => {
            could_not(format!("--listen {address}: {errno}"))
                .hint(format!("`sameport ls {}` shows who is there", address.port()))
        }
        GivenError::System(errno) => could_not(format!("LISTEN_FDS: {errno}")),
    }
}

fn gains(gain: Gain) -> &'static str {
    match gain {
        Gain::UserId => "is set-user-ID",
        Gain::GroupId => "is set-group-ID",
        Gain::Capabilities => "has file capabilities",
    }
}

/// The error line, the hint, the exit code.
pub(crate) fn failure(plan: &Plan, error: &Error) -> Failure {
    if let Error::Given(error) = error {
        return given(error);
    }
    let program = plan.command.first().map(|name| name.to_string_lossy().into_owned());
    let program = match shortened(&program.unwrap_or_default()) {
        nothing if nothing.is_empty() => "\"\"".to_owned(),
        named => named,
    };
    let kind = match error {
        Error::Start(StartError::NotFound) => Kind::NotFound,
        Error::Start(StartError::NotExecutable(_)) => Kind::NotExecutable,
        Error::Start(StartError::Fork(_) | StartError::Cgroup(_))
        | Error::Name(ClaimError::InUse(_))
        | Error::System(..) => Kind::CouldNotBeDone,
        _ => Kind::MachineCannot,
    };
    let message = match error {
        Error::Start(StartError::NotFound | StartError::NotExecutable(_) | StartError::Fork(_)) => {
            format!("{program}: {}", reason(error))
        }
        Error::Name(_) => match &plan.named {
            Some(named) => format!("--name {}: {}", named.name, reason(error)),
            None => reason(error),
        },
        _ => reason(error),
    };
    let failure = Failure::new(kind, message);
    match hint(error) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The next step.
fn hint(error: &Error) -> Option<String> {
    let hint = match error {
        _ if error.is_nested() => {
            "start it outside that `sameport run`, container or sandbox, or \
                                   by --via preload"
        }
        Error::NotLocal(_) => {
            "`ip address` lists the ones it has; --transparent allows others, as root"
        }
        Error::NotTransparent => "run it as root",
        Error::NotPrivate(NotPrivate::NeedsCapability) => {
            "run it as root; or as a service with AmbientCapabilities=CAP_CHOWN; or give a copy of \
             sameport the capability, closed to others: chmod 750 COPY; setcap cap_chown+ep COPY"
        }
        Error::NotPrivate(NotPrivate::NotMapped(_)) => "run it outside of the container",
        Error::NotPrivate(NotPrivate::Taken(..)) => "give it another --group",
        Error::NotPrivate(NotPrivate::Refused(_)) => {
            "`sameport doctor` says what this machine can do"
        }
        Error::UnknownMachine => "it knows x86_64, aarch64 and riscv64",
        Error::LosesPrivilege(..) => {
            "run sameport as root, give it ambient capabilities (setpriv --ambient-caps), or start \
             it without: --no-new-privs"
        }
        Error::NotLoadable(_, Obstacle::Static | Obstacle::Go) => "use --via seccomp",
        Error::CannotReach(..) => {
            "allow that call in the container's profile, or use --via preload"
        }
        Error::Name(ClaimError::InUse(_)) => {
            "take another --name, or `sameport stop` that run first"
        }
        Error::Name(_) => "set XDG_RUNTIME_DIR to a folder of yours",
        Error::Place(_) => "set XDG_RUNTIME_DIR to a folder of yours, or use --via seccomp",
        Error::NotLoadable(..) | Error::TooManyRules(_) | Error::NoLibrary(_) => {
            "use --via seccomp, or --via cgroup as root"
        }
        Error::HookNotLoaded(..) => "the dynamic linker says why with LD_DEBUG=libs",
        Error::Cgroup(_) | Error::Attach(_) => {
            "--via seccomp needs neither root nor cgroups; `sameport doctor` says more"
        }
        Error::CgroupNotTransparent => "use --via seccomp or --via preload",
        Error::Start(StartError::NotFound) => "after `--` comes the program, then its arguments",
        Error::Start(StartError::Filter(..)) => "`sameport doctor` says what this machine can do",
        Error::NoWay(passed) => return Some(no_way(passed)),
        Error::Given(_) | Error::Start(_) | Error::System(..) => return None,
    };
    Some(hint.into())
}

/// What the first would need, and why the others are no way out.
fn no_way(passed: &[(Via, Error)]) -> String {
    let first = passed.first().and_then(|(_, error)| hint(error));
    let others = passed
        .iter()
        .skip(1)
        .map(|(via, error)| format!("{} cannot either: {}", name(*via), reason(error)));
    first.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}
