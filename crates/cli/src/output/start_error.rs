//! Why `run` could not start its workers: in words, and with the exit code for it.

use std::net::SocketAddr;

use sameport_policy::model::{Address, Protocol};
use sameport_policy::refusal::Refusal;
use sameport_sys::Errno;
use sameport_sys::bpf::AttachError;
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{FileCapability, StartError};
use sameport_sys::run_files::ClaimError;
use sameport_sys::seccomp::InstallStage;

use super::refusal::words;
use crate::error::{ExitKind, Failure, shortened};
use sameport_supervisor::conflict::{self, RefusedCaller, look_at};
use sameport_supervisor::{InheritError, InterposerKind, PrivateGroupError, RunError, RunPlan};

/// An interposer's name, as `--via` has it.
pub(crate) fn name(via: InterposerKind) -> &'static str {
    match via {
        InterposerKind::Seccomp => "seccomp",
        InterposerKind::Preload => "preload",
        InterposerKind::Cgroup => "cgroup",
    }
}

/// What happened, without the next step.
pub(crate) fn reason(error: &RunError) -> String {
    match error {
        _ if error.is_nested() => "this process already runs under another supervisor's seccomp \
                                   listener, and the kernel allows only one"
            .into(),
        RunError::NotLocal(ip) => format!("{ip} is not an address of this machine"),
        RunError::TransparentNotPermitted => {
            "setsockopt: IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW".into()
        }
        RunError::NotPrivate(PrivateGroupError::NeedsCapability) => {
            "fchown: --private gives its sockets an owner of their own, which needs CAP_CHOWN"
                .into()
        }
        RunError::NotPrivate(PrivateGroupError::NotMapped(uid)) => format!(
            "fchown: the owner of this private group, user id {uid}, is none of this user namespace"
        ),
        RunError::NotPrivate(PrivateGroupError::OwnerExists(uid, name)) => {
            format!("the owner of this private group, user id {uid}, is {name}'s already")
        }
        RunError::NotPrivate(PrivateGroupError::Refused(errno)) => format!("fchown: {errno}"),
        RunError::UnknownArchitecture => {
            format!("the system calls of {} are not known", std::env::consts::ARCH)
        }
        RunError::LosesPrivilege(path, gain) => format!(
            "{} {}, and gets nothing from that under a filter without root",
            path.display(),
            gains(*gain)
        ),
        RunError::WorkerAccess(call, errno) => {
            format!("{call}: {errno}: this kernel, or a sandbox around us, forbids it")
        }
        RunError::NoLibrary(why) => format!("this build has no preload library: {why}"),
        RunError::NotLoadable(path, obstacle) => {
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
        RunError::PreloadDir(why) => format!("there is no place for the preload library: {why}"),
        RunError::Inherit(why) => given(why, false).message,
        RunError::ClaimName(ClaimError::InUse(by)) => {
            let by = by.map(|pid| format!(" by pid {pid}")).unwrap_or_default();
            format!("this name is in use{by}")
        }
        RunError::ClaimName(why) => format!("there is no place for the run's files: {why}"),
        RunError::LibraryNotLoaded(path, true) => {
            format!("the program did not load {}", path.display())
        }
        RunError::LibraryNotLoaded(path, false) => {
            format!("the program did not load {}, which somebody has removed", path.display())
        }
        RunError::TooManyRules(most) => format!("the preload library has room for {most} rules"),
        RunError::Cgroup(why) => why.to_string(),
        RunError::Attach(why @ AttachError::NotPermitted(..)) => {
            format!("{why} (needs CAP_BPF and CAP_NET_ADMIN)")
        }
        RunError::Attach(why) => why.to_string(),
        RunError::CgroupNotTransparent => "a cgroup's programs cannot set IP_TRANSPARENT".into(),
        RunError::Start(StartError::Filter(InstallStage::Filter, Errno::INVAL)) => {
            "seccomp: this kernel has no user notification (Linux 5.0), or no filters".into()
        }
        RunError::Start(StartError::Filter(InstallStage::Filter, errno)) => {
            format!("seccomp: SECCOMP_SET_MODE_FILTER: {errno}")
        }
        RunError::Start(StartError::Filter(InstallStage::NoNewPrivs, errno)) => {
            format!("prctl: PR_SET_NO_NEW_PRIVS: {errno}")
        }
        RunError::Start(StartError::Cgroup(errno)) => format!("write to cgroup.procs: {errno}"),
        RunError::Start(StartError::Fork(why)) => format!("fork: {why}"),
        RunError::Start(StartError::NotFound) => "command not found".into(),
        RunError::Start(StartError::NotExecutable(why)) => format!("cannot be executed: {why}"),
        RunError::System(call, why) => format!("{call}: {why}"),
        RunError::NoInterposer(passed) => {
            passed.first().map(|(_, error)| reason(error)).unwrap_or_default()
        }
    }
}

/// Why a run cannot have the sockets that it was given.
fn given(error: &InheritError, is_private: bool) -> Failure {
    let could_not = |message: String| Failure::new(ExitKind::CouldNotBeDone, message);
    match error {
        InheritError::Unnamed(count) => {
            let sockets = if *count == 1 { "a socket" } else { "sockets" };
            Failure::usage(format!(
                "the service manager has passed on {sockets} (LISTEN_FDS={count}), and only a named \
                 run can take what it was passed"
            ))
            .hint("add --name NAME")
        }
        InheritError::NotHeld => Failure::usage(
            "the service manager has passed on sockets (LISTEN_FDS), and --no-hold holds none",
        )
        .hint("leave --no-hold out"),
        InheritError::InvalidActivation(unreadable) => {
            let (name, value) = (unreadable.0, shortened(&unreadable.1));
            could_not(format!("{name}={value} does not say what was passed on"))
                .hint("see sd_listen_fds(3); without LISTEN_PID nothing is taken")
        }
        InheritError::NotOpen(number, why) => {
            could_not(format!("LISTEN_FDS: descriptor {number} was not passed on: {why}"))
                .hint("see sd_listen_fds(3); without LISTEN_PID nothing is taken")
        }
        InheritError::NotListening { number, name } => could_not(format!(
            "LISTEN_FDS: descriptor {number} ({}) is neither a listening TCP socket nor a bound UDP \
             socket over IPv4 or IPv6",
            shortened(name)
        ))
        .hint("leave it out of the socket unit: ListenStream= and ListenDatagram= with a port"),
        InheritError::Open(address, errno) => listen_failure(*address, *errno, is_private),
        InheritError::Resolve(spec, error) => {
            Failure::usage(format!("--listen {spec}: the name does not resolve: {error}"))
        }
        InheritError::AlreadyBound { number, name } => Failure::new(
            ExitKind::MachineCannot,
            format!(
                "LISTEN_FDS: descriptor {number} ({}) was bound before it was passed on, which is too \
                 late for --private",
                shortened(name)
            ),
        )
        .hint("leave the socket unit out, and open it by --listen"),
        InheritError::OtherGroup { address } => could_not(format!(
            "the socket on {address} that the service manager has kept is of another group: --private, \
             --group or the command was another one"
        ))
        .hint("stop the service, which closes it, and start it again; a --group stays when a command \
               changes"),
        InheritError::System(errno) => could_not(format!("LISTEN_FDS: {errno}")),
    }
}

/// Why an address of `--listen` could not be opened, and which socket is in the way.
fn listen_failure(address: SocketAddr, errno: Errno, is_private: bool) -> Failure {
    let kind = match errno {
        Errno::ACCESS | Errno::PERM | Errno::AFNOSUPPORT => ExitKind::MachineCannot,
        _ => ExitKind::CouldNotBeDone,
    };
    let caller = RefusedCaller {
        uid: sameport_sys::effective_user(),
        shared: true,
        needs_privilege: errno == Errno::ACCESS,
    };
    let on = Address::new(Protocol::Tcp, address);
    let refusal = match errno {
        Errno::ADDRINUSE | Errno::ACCESS if !is_private => {
            look_at(&[&on]).ok().map(|members| conflict::reason(&on, caller, &members))
        }
        _ => None,
    };
    match refusal.filter(|refusal| *refusal != Refusal::Unexplained) {
        Some(refusal) => {
            let (message, hint) = words(&on, &refusal);
            Failure::new(kind, format!("--listen {address}: {message}")).hint(hint)
        }
        None => Failure::new(kind, format!("--listen {address}: {errno}"))
            .hint(format!("`sameport ls {}` shows which sockets have the port", address.port())),
    }
}

fn gains(gain: FileCapability) -> &'static str {
    match gain {
        FileCapability::UserId => "is set-user-ID",
        FileCapability::GroupId => "is set-group-ID",
        FileCapability::Capabilities => "has file capabilities",
    }
}

/// The error line, the hint, the exit code.
pub(crate) fn failure(plan: &RunPlan, error: &RunError) -> Failure {
    if let RunError::Inherit(error) = error {
        return given(error, plan.private);
    }
    let program = plan.command.first().map(|name| name.to_string_lossy().into_owned());
    let program = match shortened(&program.unwrap_or_default()) {
        nothing if nothing.is_empty() => "\"\"".to_owned(),
        named => named,
    };
    let kind = match error {
        RunError::Start(StartError::NotFound) => ExitKind::NotFound,
        RunError::Start(StartError::NotExecutable(_)) => ExitKind::NotExecutable,
        RunError::Start(StartError::Fork(_) | StartError::Cgroup(_))
        | RunError::ClaimName(ClaimError::InUse(_))
        | RunError::System(..) => ExitKind::CouldNotBeDone,
        _ => ExitKind::MachineCannot,
    };
    let message = match error {
        RunError::Start(
            StartError::NotFound | StartError::NotExecutable(_) | StartError::Fork(_),
        ) => {
            format!("{program}: {}", reason(error))
        }
        RunError::ClaimName(_) => match &plan.named {
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
fn hint(error: &RunError) -> Option<String> {
    let hint = match error {
        _ if error.is_nested() => {
            "start it outside that `sameport run`, container or sandbox, or \
                                   by --via preload"
        }
        RunError::NotLocal(_) => {
            "`ip address` lists the ones it has; --transparent allows others, as root"
        }
        RunError::TransparentNotPermitted => "run it as root",
        RunError::NotPrivate(PrivateGroupError::NeedsCapability) => {
            "run it as root; or as a service with AmbientCapabilities=CAP_CHOWN; or give a copy of \
             sameport the capability, closed to others: chmod 750 COPY; setcap cap_chown+ep COPY"
        }
        RunError::NotPrivate(PrivateGroupError::NotMapped(_)) => "run it outside of the container",
        RunError::NotPrivate(PrivateGroupError::OwnerExists(..)) => "give it another --group",
        RunError::NotPrivate(PrivateGroupError::Refused(_)) => {
            "`sameport doctor` says what this machine can do"
        }
        RunError::UnknownArchitecture => "it knows x86_64, aarch64 and riscv64",
        RunError::LosesPrivilege(..) => {
            "run sameport as root, give it ambient capabilities (setpriv --ambient-caps), or start \
             it without: --no-new-privs"
        }
        RunError::NotLoadable(_, Obstacle::Static | Obstacle::Go) => "use --via seccomp",
        RunError::WorkerAccess(..) => {
            "allow that call in the container's profile, or use --via preload"
        }
        RunError::ClaimName(ClaimError::InUse(_)) => {
            "take another --name, or `sameport stop` that run first"
        }
        RunError::ClaimName(_) => "set XDG_RUNTIME_DIR to a folder of yours",
        RunError::PreloadDir(_) => "set XDG_RUNTIME_DIR to a folder of yours, or use --via seccomp",
        RunError::NotLoadable(..) | RunError::TooManyRules(_) | RunError::NoLibrary(_) => {
            "use --via seccomp, or --via cgroup as root"
        }
        RunError::LibraryNotLoaded(..) => "the dynamic linker says why with LD_DEBUG=libs",
        RunError::Cgroup(_) | RunError::Attach(_) => {
            "--via seccomp needs neither root nor cgroups; `sameport doctor` says more"
        }
        RunError::CgroupNotTransparent => "use --via seccomp or --via preload",
        RunError::Start(StartError::NotFound) => "after `--` comes the program, then its arguments",
        RunError::Start(StartError::Filter(..)) => {
            "`sameport doctor` says what this machine can do"
        }
        RunError::NoInterposer(passed) => return Some(no_way(passed)),
        RunError::Inherit(_) | RunError::Start(_) | RunError::System(..) => return None,
    };
    Some(hint.into())
}

/// What the first would need, and why the others are no way out.
fn no_way(passed: &[(InterposerKind, RunError)]) -> String {
    let first = passed.first().and_then(|(_, error)| hint(error));
    let others = passed
        .iter()
        .skip(1)
        .map(|(via, error)| format!("{} cannot either: {}", name(*via), reason(error)));
    first.into_iter().chain(others).collect::<Vec<_>>().join("; ")
}
