//! Advice for a run that does not start.

use std::path::Path;

use sameport_policy::traffic::RefusalCause;
use sameport_supervisor::{
    InheritError, InterposerKind, PolicyError, PrivateGroupError, RunError, RunPlan,
};
use sameport_sys::bpf::AttachError;
use sameport_sys::preload::Obstacle;
use sameport_sys::process::{FileCapability, StartError};
use sameport_sys::run_files::ClaimError;

use super::address::open_failure;
use super::launch::{start_failure, takeover_failure};
use super::sandbox::{own_directory, sandbox_failure};
use super::{DOCTOR, Failure};
use crate::output::text::{printable, shorten};

/// The hint where the preload library cannot be used.
const OTHER_INTERPOSER: &str = "use --via seccomp, or --via cgroup as root";

/// An interposer's name, as `--via` has it.
pub(crate) fn interposer_name(interposer: InterposerKind) -> &'static str {
    match interposer {
        InterposerKind::Seccomp => "seccomp",
        InterposerKind::Preload => "preload",
        InterposerKind::Cgroup => "cgroup",
    }
}

/// A run that could not start or continue.
pub(crate) fn run_failure(plan: &RunPlan, error: &RunError) -> Failure {
    let failure = match error {
        RunError::Inherit(error) => inherit_failure(error, plan.scope.private),
        error => Failure::from(error),
    };
    let message = match (error, &plan.named) {
        (
            RunError::Start(
                StartError::NotFound | StartError::NotExecutable(_) | StartError::Fork(_),
            ),
            _,
        ) => {
            let program = plan.command.first().map(|name| name.to_string_lossy());
            let program = match shorten(&program.unwrap_or_default()) {
                empty if empty.is_empty() => "\"\"".to_owned(),
                program => program,
            };
            format!("{program}: {}", failure.message)
        }
        (RunError::Start(StartError::Directory(_)), _) => {
            let directory = plan.launch.directory.as_ref().map(|path| path.to_string_lossy());
            let directory = shorten(&printable(&directory.unwrap_or_default()));
            format!("--directory {directory}: {}", failure.message)
        }
        (RunError::Start(StartError::Log(_)), Some(_)) => {
            let log = plan.output.log_file().unwrap_or_default();
            format!("--log {}: {}", shorten(&printable(&log.to_string_lossy())), failure.message)
        }
        (RunError::ClaimName(_) | RunError::TakeOver(_), Some(named)) => {
            format!("--name {}: {}", named.name, failure.message)
        }
        _ => failure.message,
    };
    Failure { message, ..failure }
}

fn descriptor_limit(copies: u16, needed: u64, limit: u64) -> Failure {
    let message = format!(
        "{copies} workers take {needed} descriptors of the supervisor, and its limit is {limit}"
    );
    let hint =
        "raise the hard limit (`ulimit -Hn`, LimitNOFILE= of a service), or start fewer workers";
    Failure::unsupported(message).hint(hint)
}

fn library_not_loaded(path: &Path, exists: bool) -> Failure {
    let removed = if exists { "" } else { ", which was removed" };
    Failure::unsupported(format!("the program did not load {}{removed}", path.display()))
        .hint("the dynamic linker says why with LD_DEBUG=libs")
}

impl From<&RunError> for Failure {
    fn from(error: &RunError) -> Self {
        let cannot = |message: String, hint: &str| Self::unsupported(message).hint(hint);
        match error {
            _ if error.is_nested() => cannot(
                "this process already runs under another supervisor's seccomp listener, and the \
                 kernel allows only one"
                    .into(),
                "start it outside that `sameport run`, container or sandbox, or by --via preload",
            ),
            RunError::NotLocal(ip) => cannot(
                format!("{ip} is not an address of this machine"),
                "`ip address` lists the ones it has; --freebind allows one that comes later, \
                 --transparent any, as root",
            ),
            RunError::TransparentNotPermitted => cannot(
                "setsockopt: IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW".into(),
                "run it as root",
            ),
            RunError::NotPrivate(error) => private_group_failure(error),
            RunError::UnknownArchitecture => cannot(
                format!("the system calls of {} are not known", std::env::consts::ARCH),
                "seccomp filters exist for x86_64, aarch64 and riscv64",
            ),
            RunError::LosesPrivilege(path, capability) => cannot(
                format!(
                    "{} {}, and gets nothing from that under a filter without root",
                    path.display(),
                    has_capability(*capability)
                ),
                "run sameport as root, give it ambient capabilities (setpriv --ambient-caps), or \
                 start it without: --no-new-privs",
            ),
            RunError::WorkerAccess(call, errno) => cannot(
                format!("{call}: {errno}: this kernel, or a sandbox around sameport, forbids it"),
                "allow that call in the container's profile, or use --via preload",
            ),
            RunError::PtraceScope(scope) => ptrace_scope(*scope),
            RunError::Sandboxed(refused) => sandbox_failure(refused),
            RunError::NoLibrary(why) => super::no_library(why).hint(OTHER_INTERPOSER),
            RunError::NotLoadable(path, obstacle) => not_loadable(path, obstacle),
            RunError::PreloadDir(why) => cannot(
                format!("no directory for the preload library: {why}"),
                &format!("{}, or use --via seccomp", own_directory()),
            ),
            RunError::Policy(error) => policy_failure(error),
            RunError::Inherit(error) => inherit_failure(error, false),
            RunError::ClaimName(ClaimError::InUse(owner)) => {
                let owner = owner.map(|pid| format!(" by pid {pid}")).unwrap_or_default();
                Self::failed(format!("this name is in use{owner}"))
                    .hint("`sameport restart` or `upgrade` replaces its workers, `stop` ends it; or take another --name")
            }
            RunError::ClaimName(why) => {
                cannot(format!("no directory for the run's files: {why}"), own_directory())
            }
            RunError::LibraryNotLoaded(path, exists) => library_not_loaded(path, *exists),
            RunError::DescriptorLimit { copies, needed, limit } => {
                descriptor_limit(*copies, *needed, *limit)
            }
            RunError::LogDirectory(error) => super::logs::directory_failure(error),
            RunError::TooManyRules(limit) => {
                cannot(format!("the preload library takes at most {limit} rules"), OTHER_INTERPOSER)
            }
            RunError::Cgroup(_)
            | RunError::Attach(_)
            | RunError::CgroupCannotSet(_)
            | RunError::CgroupNotEach => cgroup_failure(error),
            RunError::TakeOver(error) => takeover_failure(error),
            RunError::Start(error) => start_failure(error),
            RunError::System(call, why) => Self::failed(format!("{call}: {why}")),
            RunError::NoInterposer(skipped) => no_interposer(skipped),
        }
    }
}

/// A policy that this machine, or this user, cannot have.
fn policy_failure(error: &PolicyError) -> Failure {
    let failure = match error.refusal.cause() {
        RefusalCause::Means => Failure::unsupported(&error.refusal),
        RefusalCause::Rules | RefusalCause::Members => Failure::usage(&error.refusal),
    };
    let hint = policy_hint(error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What makes the policy possible: without an option of the run, or with eBPF.
fn policy_hint(error: &PolicyError) -> Option<String> {
    let leave_out = error.leave_out.map(|option| format!("leave {option} out"));
    let with_ebpf = error.refusal.next_step();
    match (leave_out, &error.extended) {
        (Some(leave_out), Some(why)) => Some(match with_ebpf {
            Some(with_ebpf) => format!("{leave_out}; with it {with_ebpf}: {why}"),
            None => leave_out,
        }),
        (Some(leave_out), None) => Some(leave_out),
        (None, Some(why)) => with_ebpf.map(|next| format!("{next}: {why}")),
        (None, None) => with_ebpf,
    }
}

/// Yama keeps the supervisor from its workers.
fn ptrace_scope(scope: u8) -> Failure {
    let (permits, hint) = match scope {
        2 => (
            "only with CAP_SYS_PTRACE",
            "run it as root, or as root: sysctl -w kernel.yama.ptrace_scope=1; or use --via preload",
        ),
        _ => (
            "to no process until the next boot",
            "use --via preload, or --via cgroup as root; after a boot, \
             kernel.yama.ptrace_scope=1 permits it",
        ),
    };
    let message = format!(
        "pidfd_getfd: kernel.yama.ptrace_scope is {scope}, which permits access to workers {permits}"
    );
    Failure::unsupported(message).hint(hint)
}

/// A program that ignores LD_PRELOAD.
fn not_loadable(path: &Path, obstacle: &Obstacle) -> Failure {
    let (reason, hint) = match obstacle {
        Obstacle::Static => {
            ("is statically linked and loads no library".into(), "use --via seccomp")
        }
        Obstacle::Go => (
            "is a Go program, which makes its system calls without libc".into(),
            "use --via seccomp",
        ),
        Obstacle::OtherMachine => ("is for another machine".into(), OTHER_INTERPOSER),
        Obstacle::GainsPrivilege(capability) => {
            (format!("{}, so LD_PRELOAD is ignored", has_capability(*capability)), OTHER_INTERPOSER)
        }
    };
    Failure::unsupported(format!("{} {reason}", path.display())).hint(hint)
}

fn private_group_failure(error: &PrivateGroupError) -> Failure {
    let (message, hint) = match error {
        PrivateGroupError::NeedsCapability => (
            "fchown: --private gives its sockets an owner of their own, which needs CAP_CHOWN"
                .to_owned(),
            "run it as root; or as a service with AmbientCapabilities=CAP_CHOWN; or give a copy of \
             sameport the capability, closed to others: chmod 750 COPY; setcap cap_chown+ep COPY",
        ),
        PrivateGroupError::NotMapped(uid) => (
            format!(
                "fchown: uid {uid}, the owner of this private group, is not mapped in this user \
                 namespace"
            ),
            "run it outside of the container",
        ),
        PrivateGroupError::OwnerExists(uid, name) => (
            format!("uid {uid}, the owner of this private group, belongs to user {name}"),
            "choose another --group",
        ),
        PrivateGroupError::Refused(errno) => (format!("fchown: {errno}"), DOCTOR),
    };
    Failure::unsupported(message).hint(hint)
}

fn cgroup_reason(error: &RunError) -> String {
    match error {
        RunError::Attach(why @ AttachError::NotPermitted(..)) => {
            format!("{why} (needs CAP_BPF and CAP_NET_ADMIN)")
        }
        RunError::Attach(why) => why.to_string(),
        RunError::Cgroup(why) => why.to_string(),
        _ => String::new(),
    }
}

fn cgroup_failure(error: &RunError) -> Failure {
    const OTHERS: &str = "use --via seccomp or --via preload";
    let (message, hint) = match error {
        RunError::CgroupCannotSet(option) => {
            (format!("a cgroup's programs cannot set {option}"), OTHERS)
        }
        RunError::CgroupNotEach => {
            ("--each: a cgroup's programs cannot tell the workers of a run apart".into(), OTHERS)
        }
        error => (
            cgroup_reason(error),
            "--via seccomp needs neither root nor cgroups; `sameport doctor` says more",
        ),
    };
    Failure::unsupported(message).hint(hint)
}

/// The first interposer's failure; its hint also says why the others failed.
fn no_interposer(skipped: &[(InterposerKind, RunError)]) -> Failure {
    let mut failures = skipped.iter().map(|(kind, error)| (*kind, Failure::from(error)));
    let Some((_, first)) = failures.next() else { return Failure::unsupported(String::new()) };
    let others = failures.map(|(kind, failure)| {
        format!("{} cannot either: {}", interposer_name(kind), failure.message)
    });
    let hint = first.hint.into_iter().chain(others).collect::<Vec<_>>().join("; ");
    Failure::unsupported(first.message).hint(hint)
}

fn has_capability(capability: FileCapability) -> &'static str {
    match capability {
        FileCapability::UserId => "is set-user-ID",
        FileCapability::GroupId => "is set-group-ID",
        FileCapability::Capabilities => "has file capabilities",
    }
}

/// A run that cannot use the sockets of the service manager or of `--listen`.
fn inherit_failure(error: &InheritError, is_private: bool) -> Failure {
    const PROTOCOL: &str = "see sd_listen_fds(3); without LISTEN_PID no socket is taken";
    match error {
        InheritError::Unnamed(count) => {
            let sockets = if *count == 1 { "a socket" } else { "sockets" };
            Failure::usage(format!(
                "the service manager passed {sockets} (LISTEN_FDS={count}), and only a named \
                     run takes passed sockets"
            ))
            .hint("add --name NAME")
        }
        InheritError::NotHeld => Failure::usage(
            "the service manager passed sockets (LISTEN_FDS), and --no-hold holds none",
        )
        .hint("leave --no-hold out"),
        InheritError::InvalidActivation(invalid) => {
            let (name, value) = (invalid.0, shorten(&invalid.1));
            Failure::failed(format!("{name}={value} is not valid")).hint(PROTOCOL)
        }
        InheritError::NotOpen(number, why) => {
            Failure::failed(format!("LISTEN_FDS: descriptor {number} is not open: {why}"))
                .hint(PROTOCOL)
        }
        InheritError::NotListening { number, name } => Failure::failed(format!(
            "LISTEN_FDS: descriptor {number} ({}) is neither a listening TCP socket nor a \
                 bound UDP socket over IPv4 or IPv6",
            shorten(name)
        ))
        .hint("leave it out of the socket unit: ListenStream= and ListenDatagram= with a port"),
        InheritError::Open(address, errno) => open_failure(*address, *errno, is_private),
        InheritError::Resolve(address, error) => {
            Failure::usage(format!("--listen {address}: the name does not resolve: {error}"))
        }
        InheritError::AlreadyBound { number, name } => Failure::unsupported(format!(
            "LISTEN_FDS: descriptor {number} ({}) was bound before it was passed, which is \
                 too late for --private",
            shorten(name)
        ))
        .hint("leave the socket unit out, and open it by --listen"),
        InheritError::OtherGroup { address } => Failure::failed(format!(
            "the socket on {address} that the service manager kept belongs to another group: \
                 --private, --group or the command was different"
        ))
        .hint(
            "stop the service, which closes it, and start it again; a --group stays when a \
                 command changes",
        ),
        InheritError::System(errno) => Failure::failed(format!("LISTEN_FDS: {errno}")),
    }
}
