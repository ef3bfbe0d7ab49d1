//! Advice for the errors of the machine: cgroups, guards, sockets that cannot be listed.

use std::io;
use std::path::Path;

use sameport_policy::capability::kernels;
use sameport_sys::bpf::guard::{GuardError as KernelGuardError, PLACE as RECORD};
use sameport_sys::bpf::{AttachError, PinError};
use sameport_sys::cgroup::CgroupError;
use sameport_sys::inspect::InspectError;

use super::{DOCTOR, ExitKind, Failure, contradicting_maps, unresolved};
use crate::operations::attach::Error as AttachmentError;
use crate::operations::audit::Error as AuditError;
use crate::operations::guard::{Error as GuardError, GuardEffect, GuardState, PortHolder};
use crate::operations::why::Error as WhyError;
use crate::output::guard::would_allow;
use crate::output::shell::word;
use crate::output::socket_owner::holder_label;
use crate::output::text::{quotable, shorten};

const PRIVILEGE: &str = "this needs root, or CAP_BPF and CAP_NET_ADMIN";

/// The sockets could not be listed: nothing is known, which must not read as "nothing found".
impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::unsupported(format!("could not look: {error}")).hint(DOCTOR)
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Name { name, source } => unresolved(&name, &source),
            AuditError::Look(error) => error.into(),
        }
    }
}

impl From<WhyError> for Failure {
    fn from(error: WhyError) -> Self {
        match error {
            WhyError::NoUser(user) => Self::usage(format!("no user is called {}", quotable(&user)))
                .hint("write a login name, or a user id"),
            WhyError::OtherUser(user) => Self::unsupported(format!(
                "only root can ask for another user: {}",
                quotable(&user)
            ))
            .hint("leave --user out, or run it as root"),
            WhyError::Name { name, source } => unresolved(&name, &source),
            WhyError::V6onlyOfIpv4(ip) => Self::usage(format!("--v6only: {ip} is an IPv4 address"))
                .hint("leave --v6only out, or write an IPv6 address"),
            WhyError::Machine(why) => Self::unsupported(why).hint(DOCTOR),
            WhyError::Look(why) => Self::unsupported(why),
        }
    }
}

/// `attach` or `detach` failed.
impl From<AttachmentError> for Failure {
    fn from(error: AttachmentError) -> Self {
        match &error {
            AttachmentError::Contradiction(earlier, later) => contradicting_maps(earlier, later),
            AttachmentError::NotLocal(ip) => {
                Self::unsupported(format!("{ip} is not an address of this machine"))
                    .hint("`ip address` lists the ones it has")
            }
            AttachmentError::Open(error) => cgroup_failure(error),
            AttachmentError::Attach(path, error) => attach_failure(path, error),
            AttachmentError::Pin(path, error) => pin_failure(path, error),
            AttachmentError::DropIn(error) => {
                Self::failed(format!("the drop-in of `attach` cannot be removed: {error}"))
                    .hint("root removes it: the file is UNIT.d/50-sameport-attach.conf")
            }
        }
    }
}

fn quoted_path(path: &Path) -> String {
    quotable(&path.to_string_lossy())
}

fn cgroup_failure(error: &CgroupError) -> Failure {
    const OF_A_PROCESS: &str = "/proc/PID/cgroup has that of a process, after 0::";
    match error {
        CgroupError::NotMounted => {
            Failure::unsupported("cgroup v2 is not mounted where this process can see it")
                .hint("mount it: mount -t cgroup2 none DIRECTORY")
        }
        CgroupError::Version1(path) => {
            Failure::usage(format!("{} is a cgroup of version 1", quoted_path(path)))
                .hint("programs can only be attached to version 2: `mount -t cgroup2` lists where")
        }
        CgroupError::NotFound(path) => {
            Failure::usage(format!("there is no cgroup {}", quoted_path(path))).hint(OF_A_PROCESS)
        }
        CgroupError::NotACgroup(path) => {
            Failure::usage(format!("{} is not a cgroup", quoted_path(path))).hint(OF_A_PROCESS)
        }
        CgroupError::UnitNotRunning(unit) => Failure::usage(format!(
            "unit {} is not running",
            quotable(unit)
        ))
        .hint(format!("a unit has a cgroup only while it runs: systemctl start {}", word(unit))),
        CgroupError::NotAUnit(text) => {
            Failure::usage(format!("{} is not the name of a unit", quotable(text)))
                .hint("such as nginx.service; a path goes after --cgroup")
        }
        CgroupError::SeveralUnits(unit, paths) => {
            let paths: Vec<_> = paths.iter().take(4).map(|path| quoted_path(path)).collect();
            let (unit, paths) = (quotable(unit), paths.join(", "));
            Failure::usage(format!("several cgroups belong to unit {unit}: {paths}"))
                .hint("choose one of them by --cgroup")
        }
        CgroupError::NotTheFirst(path) => Failure::unsupported(format!(
            "{} is not the root cgroup of this machine",
            quoted_path(path)
        ))
        .hint("others would be outside of it: run this outside of the container"),
        CgroupError::System(call, path, why) => {
            let kind = match why.kind() {
                io::ErrorKind::PermissionDenied => ExitKind::Unsupported,
                _ => ExitKind::Failed,
            };
            Failure::new(kind, format!("{call} {}: {why}", quoted_path(path)))
        }
    }
}

fn attach_failure(path: &Path, error: &AttachError) -> Failure {
    match error {
        AttachError::NotPermitted(call, why) => {
            Failure::unsupported(format!("{call}: {why}")).hint(PRIVILEGE)
        }
        AttachError::Kernel(why) => Failure::unsupported(shorten(why))
            .hint(format!(
                "it needs Linux {}; `sameport doctor` says what this machine can do",
                kernels::CGROUP
            )),
        AttachError::LockedDown => Failure::unsupported(format!(
            "{error}, and refuses programs that read its memory, even to root"
        ))
        .hint("boot without it; guards that are in force stay, and `sameport guard --off-all` ends them"),
        AttachError::Exclusive => Failure::failed(format!(
            "another program is attached exclusively to {} or above it",
            quoted_path(path)
        ))
        .hint("`bpftool cgroup tree` shows it; its owner has to allow others (BPF_F_ALLOW_MULTI)"),
        AttachError::System(call, why) => {
            Failure::failed(format!("{call}: {}: {why}", quoted_path(path)))
        }
    }
}

fn pin_failure(path: &Path, error: &PinError) -> Failure {
    let path = quoted_path(path);
    match error {
        PinError::NotPermitted(call, file, why) => {
            Failure::unsupported(format!("{call} {}: {why}", quoted_path(file))).hint(PRIVILEGE)
        }
        PinError::NoFileSystem(_) => {
            Failure::unsupported(error).hint("mount it yourself: mount -t bpf bpf /sys/fs/bpf")
        }
        PinError::Already => Failure::failed(format!("sameport is attached to {path} already"))
            .hint(format!(
                "`sameport attach --list` shows how; sameport detach --cgroup {path} ends it"
            )),
        PinError::NotAttached => Failure::failed(format!("sameport is not attached to {path}"))
            .hint("`sameport attach --list` lists the attachments"),
        PinError::System(call, file, why) => {
            Failure::failed(format!("{call} {}: {why}", quoted_path(file)))
        }
    }
}

/// `guard --list` finds that the kernel does not match the list.
pub(crate) fn guard_state_failure(state: GuardState, locked_down: bool) -> Failure {
    Failure::failed(match state {
        GuardState::Interrupted => {
            "a change of guards was interrupted: the kernel may refuse more than this"
        }
        GuardState::Unreserved => {
            "the kernel may pick a guarded port by itself: net.ipv4.ip_local_reserved_ports has \
             lost it"
        }
        GuardState::InForce | GuardState::NotInForce => {
            "the kernel does not do what this list says"
        }
    })
    .hint(match locked_down {
        true => {
            "boot without lockdown=confidentiality, which refuses the programs of guards; then \
             sameport guard --restore"
        }
        false => "sameport guard --restore",
    })
}

impl From<GuardError> for Failure {
    fn from(error: GuardError) -> Self {
        match &error {
            GuardError::NotRoot => Self::unsupported(
                "`guard` needs root: it loads programs into the kernel and sets a sysctl",
            )
            .hint("sudo sameport guard …"),
            GuardError::NoUser(name) => {
                Self::failed(format!("--allow uid={}: there is no such user", quotable(name)))
                    .hint("a number is taken as it is: --allow uid=1000")
            }
            GuardError::Unit(error) => guard_unit_failure(error),
            GuardError::NotAPath(path, why) => {
                Self::failed(format!("{}: {why}", quoted_path(path)))
                    .hint("name a user, or a cgroup above it: --allow cgroup=/PATH")
            }
            GuardError::NoExecutable(path, why) => {
                Self::failed(format!("--allow exe={}: {why}", quotable(path)))
                    .hint("`command -v` prints paths")
            }
            GuardError::LockedOut(effect) => locked_out(effect),
            GuardError::NotGuarded(port) => {
                Self::failed(format!("port {port} is not guarded in this network namespace"))
                    .hint("`sameport guard --list` lists the guarded ports")
            }
            GuardError::Record(why) => Self::failed(format!("{RECORD}: {}", shorten(why))).hint(
                "repair it by hand, or end all guards by `sameport guard --off-all`; until then \
                 the kernel goes on as before",
            ),
            GuardError::Elsewhere => Self::failed(format!(
                "{RECORD} is from before the machine was started, and this is not the network \
                 namespace of its first process"
            ))
            .hint("run `sameport guard --restore` there first"),
            GuardError::File(call, why) => Self::failed(format!("{call} {RECORD}: {why}"))
                .hint("it keeps the guards over a start of the machine; nothing was changed"),
            GuardError::Reserve(why) => {
                Self::unsupported(format!("/proc/sys/net/ipv4/ip_local_reserved_ports: {why}"))
                    .hint("without it the kernel may pick the port itself; nothing was changed")
            }
            GuardError::Look(why) => Self::failed(why),
            GuardError::Guard(KernelGuardError::Open(error)) => cgroup_failure(error),
            GuardError::Guard(KernelGuardError::Attach(error)) => {
                let failure = attach_failure(Path::new("/"), error);
                match error {
                    AttachError::NotPermitted(..) => {
                        failure.hint("this needs root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON")
                    }
                    _ => failure,
                }
            }
            GuardError::Guard(KernelGuardError::Pin(error)) => pin_failure(Path::new("/"), error),
        }
    }
}

/// A unit after `--allow`: its options differ from those of `attach`.
fn guard_unit_failure(error: &CgroupError) -> Failure {
    let failure = match cgroup_failure(error) {
        failure if failure.kind == ExitKind::Usage => Failure { kind: ExitKind::Failed, ..failure },
        failure => failure,
    };
    match error {
        CgroupError::UnitNotRunning(_) => failure.hint(
            "start it first, or name where its processes will be: --allow \
             cgroup=/system.slice/NAME.service",
        ),
        CgroupError::SeveralUnits(..) => failure.hint("choose one of them by --allow cgroup=/PATH"),
        CgroupError::NotAUnit(_) => {
            failure.hint("such as nginx.service; a path goes after --allow cgroup=")
        }
        _ => failure,
    }
}

fn locked_out(effect: &GuardEffect) -> Failure {
    let mut out = effect.holders.iter().filter(|holder| !holder.allowed);
    let Some(PortHolder { holder, address, .. }) = out.next() else {
        return Failure::failed("no process could bind it, without --allow")
            .hint("--allow unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH; or --force");
    };
    let more = match out.count() {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    let failure = Failure::failed(format!(
        "this would lock out {}, which has {} now{more}",
        holder_label(holder),
        address.labelled()
    ));
    match would_allow(effect) {
        Some(allow) => failure
            .hint(format!("{allow}; or --force: its socket stays, and it may not bind again")),
        None => {
            failure.hint("allow it too, or --force: its socket stays, and it may not bind again")
        }
    }
}
