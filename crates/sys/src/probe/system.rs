//! Probes of kernel settings, io_uring, eBPF and cgroups.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::thread::CapabilitySet;
use sameport_policy::capability::question::ProbeAnswer;
use sameport_policy::capability::restrictions::Lockdown;

use super::answer::{present, usable};
use super::calls;
use crate::bpf::syscall::{self, ProgramSpec};
use crate::proc::sysctl as proc_sysctl;
use crate::process::capability;

/// Reads a value below `/proc/sys`, without its newline. `NotFound` means that the kernel lacks the
/// setting; a missing `/proc` is another error.
pub(super) fn sysctl(path: &str) -> io::Result<String> {
    match fs::read_to_string(format!("/proc/sys/{path}")) {
        Ok(value) => Ok(value.trim().to_owned()),
        Err(_) if !fs::exists("/proc/sys/kernel").unwrap_or(false) => {
            Err(io::Error::other("/proc/sys cannot be seen"))
        }
        Err(error) => Err(error),
    }
}

/// The release and the machine of the running kernel.
pub(super) fn kernel() -> ProbeAnswer {
    let names = rustix::system::uname();
    ProbeAnswer::Yes(format!(
        "{} {}",
        names.release().to_string_lossy(),
        names.machine().to_string_lossy()
    ))
}

/// Whether the kernel moves queued connections of a closed listener to another member.
pub(super) fn tcp_migrate_req() -> ProbeAnswer {
    match sysctl("net/ipv4/tcp_migrate_req") {
        Ok(value) if value == "0" => ProbeAnswer::No("net.ipv4.tcp_migrate_req is 0".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            ProbeAnswer::No("this kernel does not have it: net.ipv4.tcp_migrate_req".into())
        }
        value => present("net.ipv4.tcp_migrate_req", value, |value| {
            format!("net.ipv4.tcp_migrate_req is {value}")
        }),
    }
}

/// The upper limit of every backlog in this network namespace.
pub(super) fn somaxconn() -> ProbeAnswer {
    present("net.core.somaxconn", sysctl("net/core/somaxconn"), |value| value)
}

/// Whether this user may bind ports below `net.ipv4.ip_unprivileged_port_start`.
pub(super) fn low_ports() -> ProbeAnswer {
    let first = match sysctl("net/ipv4/ip_unprivileged_port_start") {
        Ok(value) => value,
        Err(error) => {
            return ProbeAnswer::Unknown(format!("net.ipv4.ip_unprivileged_port_start: {error}"));
        }
    };
    match capability::has(CapabilitySet::NET_BIND_SERVICE) {
        Ok(true) => ProbeAnswer::Yes("by CAP_NET_BIND_SERVICE".into()),
        _ if matches!(first.as_str(), "0" | "1") => {
            ProbeAnswer::Yes(format!("net.ipv4.ip_unprivileged_port_start is {first}"))
        }
        Ok(false) => ProbeAnswer::No(format!("below {first} only with CAP_NET_BIND_SERVICE")),
        Err(error) => ProbeAnswer::Unknown(format!("capget: {error}")),
    }
}

/// Whether programs of this user can create io_uring rings.
pub(super) fn io_uring() -> ProbeAnswer {
    let setting = match sysctl("kernel/io_uring_disabled") {
        Ok(value) => format!("kernel.io_uring_disabled is {value}"),
        // Linux 6.6 introduced the setting.
        Err(_) => "there is no kernel.io_uring_disabled".into(),
    };
    let error = calls::io_uring_without_parameters();
    match error.raw_os_error() {
        Some(libc::EFAULT) => ProbeAnswer::Yes(setting),
        _ => usable::<()>(&format!("{setting}; io_uring_setup"), Err(error), |()| String::new()),
    }
}

/// Loads a socket filter of two instructions, `r0 = 0; exit`, without attaching it.
fn load_program() -> io::Result<OwnedFd> {
    let instructions: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    syscall::load_program(&ProgramSpec {
        kind: syscall::BPF_PROG_TYPE_SOCKET_FILTER,
        instructions: &instructions,
        ..ProgramSpec::default()
    })
}

/// Whether this user may load eBPF programs.
pub(super) fn ebpf() -> ProbeAnswer {
    let setting = || match sysctl("kernel/unprivileged_bpf_disabled") {
        Ok(value) => format!("kernel.unprivileged_bpf_disabled is {value}"),
        Err(error) => format!("kernel.unprivileged_bpf_disabled: {error}"),
    };
    match load_program() {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => ProbeAnswer::No(format!(
            "not permitted for this user: bpf(BPF_PROG_LOAD): {error}; {}",
            setting()
        )),
        // The program is valid on every kernel, so EINVAL does not mean that eBPF is absent.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            ProbeAnswer::Unknown(format!("bpf(BPF_PROG_LOAD): {error}"))
        }
        loaded => usable("bpf(BPF_PROG_LOAD)", loaded, |_| "loaded a socket filter".into()),
    }
}

/// The mount point of cgroup v2, and the cgroup of this process.
pub(super) fn cgroup2() -> ProbeAnswer {
    let (mounts, own) =
        match (fs::read_to_string("/proc/self/mountinfo"), fs::read_to_string("/proc/self/cgroup"))
        {
            (Ok(mounts), Ok(own)) => (mounts, own),
            (Err(error), _) | (_, Err(error)) => {
                return ProbeAnswer::Unknown(format!("/proc/self: {error}"));
            }
        };
    let place = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("unknown");
    match mount_of("cgroup2", &mounts) {
        Some(path) if mount_of("cgroup", &mounts).is_some() => {
            ProbeAnswer::Yes(format!("{path}, beside version 1; own cgroup {place}"))
        }
        Some(path) => ProbeAnswer::Yes(format!("{path}; own cgroup {place}")),
        None => ProbeAnswer::No("not mounted where this process can see it".into()),
    }
}

/// The first mount point of a file system type in `/proc/self/mountinfo`, escaped as there (a space
/// is `\040`). The type follows a field that is a single `-`, see proc_pid_mountinfo(5).
fn mount_of<'a>(kind: &str, mountinfo: &'a str) -> Option<&'a str> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == kind).then(|| before.split(' ').nth(4))?
    })
}

/// The kernel's lockdown.
pub(super) fn kernel_memory() -> ProbeAnswer {
    match proc_sysctl::lockdown() {
        Some(Lockdown::Confidentiality) => ProbeAnswer::No(
            "the kernel is locked down (lockdown=confidentiality), which keeps even root from it"
                .into(),
        ),
        Some(Lockdown::Integrity) => ProbeAnswer::Yes("lockdown=integrity permits it".into()),
        Some(Lockdown::None) => ProbeAnswer::Yes("lockdown=none".into()),
        None => ProbeAnswer::Yes("the kernel has no lockdown".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_type() {
        let hybrid = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 master:2 - cgroup cgroup rw,cpu
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let cases = [
            (hybrid, Some("/sys/fs/cgroup/unified"), Some("/sys/fs/cgroup/cpu")),
            ("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n", Some("/sys/fs/cgroup"), None),
            ("30 1 0:26 / /cgroup2 rw - tmpfs cgroup2 rw\n", None, None),
            ("", None, None),
            (" - cgroup2", None, None),
            ("no dash at all cgroup2", None, None),
        ];
        for (text, version2, version1) in cases {
            assert_eq!(mount_of("cgroup2", text), version2, "{text}");
            assert_eq!(mount_of("cgroup", text), version1, "{text}");
        }
    }

    #[test]
    fn settings_are_those_of_proc() {
        let read = |path| fs::read_to_string(path).unwrap().trim().to_owned();
        assert_eq!(somaxconn(), ProbeAnswer::Yes(read("/proc/sys/net/core/somaxconn")));
        let kernel = kernel();
        let release = read("/proc/sys/kernel/osrelease");
        assert!(kernel.text().starts_with(&release), "{kernel:?} {release}");
    }
}
