//! The environment of a row: its users, its network namespace, its port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::Stop;
use crate::model::{
    Kernel, OTHER_DEVICE, Operation, Opt, Port, ROOT, Row, Step, UID_1000, UID_1001, Uid,
};
use crate::netns::{self, error_name, with_effective_uid};

/// Any port is free in the row's own network namespace.
const PORT_IN_OWN_NETNS: u16 = 7070;
const LOW_PORT: u16 = 81;

/// The rights of this process.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    /// Err: why the process cannot open sockets of other users.
    other_users: Result<(), String>,
    /// Err: why rows run in the network namespace of the process.
    own_netns: Result<(), String>,
    cpus: Vec<usize>,
    kernel: Kernel,
}

impl Rights {
    /// Moves the process, which must have one thread, into a new network namespace, and into a new
    /// user namespace if the former needs one.
    pub(crate) fn probe() -> Self {
        let euid = rustix::process::geteuid().as_raw();
        let mut own_netns = netns::new_netns();
        if own_netns.is_err() {
            own_netns = netns::new_user_namespace(&netns::uid_map(euid, euid))
                .and_then(|()| netns::new_netns());
        }
        let other_users = if euid == ROOT {
            with_effective_uid(UID_1001, || Ok(()))
                .map_err(|error| format!("needs other users: seteuid: {}", error_name(&error)))
        } else {
            Err("needs root".to_owned())
        };
        // A row that opens too many sockets for the limit is skipped on EMFILE.
        let maximum = getrlimit(Resource::Nofile).maximum;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        Self {
            other_users,
            own_netns: own_netns.map_err(|error| {
                format!("needs a network namespace: unshare: {}", error_name(&error))
            }),
            cpus: allowed_cpus(),
            kernel: running_kernel(),
        }
    }

    /// Root becomes an ordinary user without privileges, for good. The process must have one thread.
    pub(crate) fn give_up_root() -> io::Result<()> {
        let user = rustix::process::Uid::from_raw(UID_1000);
        let group = rustix::process::Gid::from_raw(UID_1000);
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(group, group, group)?;
        rustix::thread::set_thread_res_uid(user, user, user)?;
        // The change of user made root the owner of /proc/self, where uid maps are written.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
        Ok(())
    }

    /// Why the row cannot run here.
    pub(crate) fn skip_reason(&self, row: &Row) -> Option<String> {
        let needs_users = has_several_users(row);
        let needs_netns = row.steps.iter().any(needs_own_netns);
        let needs_cpus = row.steps.iter().any(|step| matches!(step, Step::PinToCpu(_)));
        match (&self.other_users, &self.own_netns) {
            (Err(reason), _) if needs_users => Some(reason.clone()),
            (_, Err(reason)) if needs_netns => Some(reason.clone()),
            _ if needs_cpus && self.cpus.len() < 2 => Some("needs two processors".to_owned()),
            _ => None,
        }
    }
}

fn running_kernel() -> Kernel {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    Kernel::parse(&release).unwrap_or_else(|| panic!("the kernel has no release: {release}"))
}

/// Whether the row needs sockets of several users, which only root can open.
pub(crate) fn has_several_users(row: &Row) -> bool {
    row.steps.iter().any(needs_other_users)
}

fn needs_other_users(step: &Step) -> bool {
    match step {
        Step::Open(open, _) => open.uid != UID_1000,
        Step::Call(call, _) => {
            matches!(call.operation, Operation::Chown(_))
                || call.by.is_some_and(|uid| uid != UID_1000)
        }
        Step::FromUserNamespace { .. } => true,
        _ => false,
    }
}

fn needs_own_netns(step: &Step) -> bool {
    match step {
        Step::Open(open, _) => opens_on_other_device(step) || open.port == Port::Low,
        Step::NewNetns | Step::Sysctl(..) | Step::FromUserNamespace { .. } => true,
        _ => false,
    }
}

fn opens_on_other_device(step: &Step) -> bool {
    matches!(step, Step::Open(open, _) if open.options.contains(&Opt::Device(OTHER_DEVICE)))
}

fn allowed_cpus() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
}

/// The environment of one row, for the thread that entered it.
#[derive(Debug)]
pub(super) struct Environment {
    rights: Rights,
    port: u16,
}

impl Environment {
    /// Moves the calling thread into a new network namespace where that is possible.
    pub(super) fn enter(rights: &Rights, row: &Row) -> Result<Self, Stop> {
        if rights.own_netns.is_err() {
            return Ok(Self { rights: rights.clone(), port: free_port()? });
        }
        netns::new_netns()?;
        if row.steps.iter().any(opens_on_other_device) && !netns::add_bridge(OTHER_DEVICE)? {
            return Err(Stop::Skip("needs bridge devices in this kernel".to_owned()));
        }
        Ok(Self { rights: rights.clone(), port: PORT_IN_OWN_NETNS })
    }

    pub(super) fn port(&self, port: Port) -> u16 {
        match port {
            Port::Row => self.port,
            Port::Any => 0,
            Port::Low => LOW_PORT,
        }
    }

    pub(super) fn has_own_netns(&self) -> bool {
        self.rights.own_netns.is_ok()
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.rights.kernel
    }

    pub(super) fn cpu(&self, nth: usize) -> usize {
        self.rights.cpus[nth]
    }

    pub(super) fn pin(&self, nth: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(self.cpu(nth));
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Calls `call` as `uid`. Without other users every uid stands for the process's own.
    pub(super) fn with_uid<T>(
        &self,
        uid: Uid,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.rights.other_users.is_err() { call() } else { with_effective_uid(uid, call) }
    }
}

/// A port that is free for TCP and UDP on every address.
fn free_port() -> io::Result<u16> {
    let any = if UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok() {
        IpAddr::from(Ipv6Addr::UNSPECIFIED) // dual-stack: IPv4 too
    } else {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..32 {
        let tcp = TcpListener::bind((any, 0))?;
        let port = tcp.local_addr()?.port();
        match UdpSocket::bind((any, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Tests of this file, which the harness of the table runs.
pub(crate) mod checks {
    use super::*;
    use crate::table::TABLE;

    pub(crate) fn a_row_that_needs_more_rights_is_skipped() {
        let rights = Rights {
            other_users: Err("needs root".to_owned()),
            own_netns: Err("needs a network namespace".to_owned()),
            cpus: vec![0],
            kernel: Kernel(6, 18),
        };
        let reason = |name| {
            let row = TABLE.iter().copied().flatten().find(|row| row.name == name);
            rights.skip_reason(row.expect("the table has this row"))
        };
        assert_eq!(reason("reserved-uid").as_deref(), Some("needs root"));
        assert_eq!(reason("network-namespaces").as_deref(), Some("needs a network namespace"));
        assert_eq!(reason("incoming-cpu").as_deref(), Some("needs two processors"));
        assert_eq!(reason("rp-rp"), None);
    }

    /// After root became another user: no row with sockets of several users runs, every other row needs
    /// at most a network namespace, and the process cannot become root again.
    pub(crate) fn an_ordinary_user_has_no_other_users(rights: &Rights) {
        for row in TABLE.iter().copied().flatten() {
            let reason = rights.skip_reason(row);
            if has_several_users(row) {
                assert_eq!(reason.as_deref(), Some("needs root"), "{}", row.name);
            } else {
                assert_ne!(reason.as_deref(), Some("needs root"), "{}", row.name);
            }
        }
        for other in [ROOT, UID_1001] {
            let become_other = with_effective_uid(other, || Ok(()));
            let error = become_other.expect_err("an ordinary user has no other uid");
            let refused = [Some(libc::EPERM), Some(libc::EINVAL)];
            assert!(refused.contains(&error.raw_os_error()), "uid {other}: {error}");
        }
    }
}
