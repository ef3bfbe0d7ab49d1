//! Where a row runs: which users there are, whether it has a network of its own, and the one port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_thread_res_uid};
use sameport_policy::kernel_rules::model::{Act, OTHER_DEVICE, Opt, Port, Row, Step, User};

use super::{Stop, kernel};
use crate::process::startup;

const ANN: u32 = 1000;
const BOB: u32 = 1001;
const RESERVED: u32 = 60_777;
/// Nobody else is in a row's own network, so any port will do.
const PORT_IN_OWN_NETWORK: u16 = 7070;
const LOW_PORT: u16 = 81;

/// What this process may do, found out once.
#[derive(Clone, Debug)]
pub struct Rights {
    /// Or why there are no users but the one who runs this.
    other_users: Result<(), String>,
    /// Or why rows run on the machine's own loopback.
    own_network: Result<(), String>,
    cpus: Vec<usize>,
}

impl Rights {
    /// Tries it. Must be called while the process has one thread, and moves it: into a network namespace
    /// of its own, and where that needs one, into a user namespace. For a process that does nothing else.
    #[must_use]
    pub fn probe() -> Self {
        let euid = rustix::process::geteuid().as_raw();
        let mut own_network = kernel::new_network();
        if own_network.is_err() {
            own_network = kernel::new_user_namespace(&kernel::user_map(euid, euid))
                .and_then(|()| kernel::new_network());
        }
        let other_users = if euid == 0 {
            effective(BOB)
                .and_then(|()| effective(0))
                .map_err(|e| format!("needs other users: seteuid: {}", kernel::error_name(&e)))
        } else {
            Err("needs root".to_owned())
        };
        // A refusal shows later, as EMFILE in the one row that opens many sockets.
        startup::raise_descriptor_limit();
        Self {
            other_users,
            own_network: own_network.map_err(|e| {
                format!("needs a network namespace: unshare: {}", kernel::error_name(&e))
            }),
            cpus: allowed_cpus(),
        }
    }

    /// Why the row cannot run here, if it cannot.
    #[must_use]
    pub fn refuse(&self, row: &Row) -> Option<String> {
        let needs_users = row.steps.iter().any(needs_other_users);
        let needs_network = row.steps.iter().any(needs_own_network);
        let needs_cpus = row.steps.iter().any(|step| matches!(step, Step::Pin(_)));
        match (&self.other_users, &self.own_network) {
            (Err(why), _) if needs_users => Some(why.clone()),
            (_, Err(why)) if needs_network => Some(why.clone()),
            _ if needs_cpus && self.cpus.len() < 2 => Some("needs two processors".to_owned()),
            _ => None,
        }
    }
}

fn needs_other_users(step: &Step) -> bool {
    match step {
        Step::Open(open, _) => open.user != User::Ann,
        Step::Call(call, _) => {
            matches!(call.act, Act::Chown(_)) || call.by.is_some_and(|user| user != User::Ann)
        }
        Step::FromUserNamespace { .. } => true,
        _ => false,
    }
}

fn needs_own_network(step: &Step) -> bool {
    match step {
        Step::Open(open, _) => opens_on_other_device(step) || open.port == Port::Low,
        Step::NewNetwork | Step::Sysctl(..) | Step::FromUserNamespace { .. } => true,
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

/// Sets the calling thread's effective user, and with it its rights and the owner of new sockets.
fn effective(uid: u32) -> io::Result<()> {
    Ok(set_thread_res_uid(None, rustix::process::Uid::from_raw(uid), None)?)
}

/// The surroundings of one row. Belongs to the thread that made it.
#[derive(Debug)]
pub(super) struct Room {
    rights: Rights,
    port: u16,
}

impl Room {
    /// Gives the calling thread a network of its own where that is possible.
    pub(super) fn enter(rights: &Rights, row: &Row) -> Result<Self, Stop> {
        if rights.own_network.is_err() {
            return Ok(Self { rights: rights.clone(), port: free_port()? });
        }
        kernel::new_network()?;
        if row.steps.iter().any(opens_on_other_device) && !kernel::add_device(OTHER_DEVICE)? {
            return Err(Stop::Skip("needs bridge devices in this kernel".to_owned()));
        }
        Ok(Self { rights: rights.clone(), port: PORT_IN_OWN_NETWORK })
    }

    pub(super) fn port(&self, which: Port) -> u16 {
        match which {
            Port::TheOne => self.port,
            Port::Any => 0,
            Port::Low => LOW_PORT,
        }
    }

    pub(super) fn cpu(&self, nth: usize) -> usize {
        self.rights.cpus[nth]
    }

    pub(super) fn pin(&self, nth: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        set.set(self.cpu(nth));
        Ok(sched_setaffinity(None, &set)?)
    }

    /// Does `act` with the effective user `user`.
    pub(super) fn acting_as<T>(
        &self,
        user: User,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.rights.other_users.is_err() || user == User::Root {
            return act();
        }
        effective(uid(user))?;
        let result = act();
        effective(0).expect("the saved user is root");
        result
    }
}

pub(super) fn uid(user: User) -> u32 {
    match user {
        User::Ann => ANN,
        User::Bob => BOB,
        User::Root => 0,
        User::Reserved => RESERVED,
    }
}

/// A port of the machine's own that is free for TCP and UDP, on every address, at this moment.
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
