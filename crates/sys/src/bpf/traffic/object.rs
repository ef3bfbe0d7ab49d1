//! The programs: `bpf/traffic.bpf.c`, loaded for a policy and a lane, and `bpf/traffic_count.bpf.c`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use aya::include_bytes_aligned;
use rustix::thread::CapabilitySet;
use sameport_policy::model::Protocol;
use sameport_policy::traffic::model::TrafficPolicy;

use crate::bpf::attach_error::AttachError;
use crate::bpf::object_calls::{link_to_cgroup, pin};
use crate::bpf::object_loader::{LoadedObject, ObjectSettings};
use crate::bpf::pin_dir::{LINK_PREFIX, failed};
use crate::bpf::socket_iter::kernel_offsets;
use crate::bpf::syscall::{
    BPF_CGROUP_INET_SOCK_RELEASE, BPF_CGROUP_SOCK_OPS, BPF_PROG_TYPE_CGROUP_SOCK,
    BPF_PROG_TYPE_SK_REUSEPORT, BPF_PROG_TYPE_SOCK_OPS, BPF_SK_REUSEPORT_SELECT_OR_MIGRATE,
    open_pinned,
};
use crate::cgroup::Cgroup;
use crate::process::capability;
use crate::socket::worker_socket::WorkerSocket;

use super::error::TrafficError;
use super::program::TrafficProgram;

pub(super) static CHOICE: &[u8] = include_bytes_aligned!("../../../bpf/traffic.bpf.o");
pub(super) static COUNT: &[u8] = include_bytes_aligned!("../../../bpf/traffic_count.bpf.o");

/// The most flows of a port of UDP: `FLOWS` of `bpf/traffic_udp.h`.
pub(super) const FLOWS: u32 = 65_536;

/// The number of a policy in `enum policy`.
fn number(policy: TrafficPolicy) -> u32 {
    match policy {
        // For a new connection the kernel's hash is random too.
        TrafficPolicy::Hash | TrafficPolicy::Random | TrafficPolicy::Weights => 0,
        TrafficPolicy::Sticky => 1,
        TrafficPolicy::RoundRobin => 2,
        TrafficPolicy::Standby => 3,
        TrafficPolicy::LeastConnections => 4,
        TrafficPolicy::TwoChoices => 5,
        TrafficPolicy::Cpu => 6,
        TrafficPolicy::Numa => 7,
    }
}

/// Offsets of `sk_reuseport_kern.selected_sk`, `sock.sk_ack_backlog` and `sock.sk_max_ack_backlog`, in bytes.
type QueueOffsets = [u32; 3];

/// What is needed to look at the queue of a listener: CAP_PERFMON, BTF, and no lockdown.
pub(super) fn queue_offsets() -> io::Result<QueueOffsets> {
    if !capability::has(CapabilitySet::PERFMON)? && !capability::has(CapabilitySet::SYS_ADMIN)? {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    if crate::proc::sysctl::is_confidential() {
        return Err(io::Error::other("lockdown=confidentiality"));
    }
    kernel_offsets([
        "sk_reuseport_kern:selected_sk",
        "sock:sk_ack_backlog",
        "sock:sk_max_ack_backlog",
    ])
}

/// The program that chooses among the members of one lane.
#[derive(Debug)]
pub(super) struct Choice(OwnedFd);

impl Choice {
    /// Loads it over the maps that are pinned in this directory.
    pub(super) fn load(
        program: TrafficProgram,
        lane: u32,
        queue: Option<QueueOffsets>,
        maps: &Path,
    ) -> Result<Self, AttachError> {
        let (kind, attach_type) = (BPF_PROG_TYPE_SK_REUSEPORT, BPF_SK_REUSEPORT_SELECT_OR_MIGRATE);
        object(program, lane, queue, maps)?.load("choose", kind, attach_type).map(Self)
    }

    /// The one that is pinned here; `None` if there is none.
    pub(super) fn pinned(path: &Path) -> Option<Self> {
        open_pinned(path).ok().map(Self)
    }

    /// Replaces the program of the socket's group.
    pub(super) fn attach(&self, socket: &WorkerSocket) -> Result<(), AttachError> {
        let attached = socket.steer_by(&self.0);
        attached.map_err(|errno| {
            let error = io::Error::from(errno);
            AttachError::system("setsockopt(SO_ATTACH_REUSEPORT_EBPF)", &error)
        })
    }

    /// Pins it in place of an earlier one.
    pub(super) fn pin(&self, path: &Path) -> Result<(), TrafficError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("unlink", path)(error).into());
            }
            _ => {}
        }
        Ok(pin(&self.0, path).map_err(failed("bpf(BPF_OBJ_PIN)", path))?)
    }
}

/// Makes the maps that only a choice uses.
pub(super) fn make_maps(program: TrafficProgram, maps: &Path) -> Result<(), AttachError> {
    object(program, 0, None, maps).map(drop)
}

fn object(
    program: TrafficProgram,
    lane: u32,
    queue: Option<QueueOffsets>,
    maps: &Path,
) -> Result<LoadedObject, AttachError> {
    let is_udp = program.protocol == Protocol::Udp;
    // A datagram socket has no accept queue.
    let queue = queue.filter(|_| !is_udp);
    let [selected, queued, limit] = queue.unwrap_or_default();
    let constants = [
        ("policy", number(program.policy)),
        ("lane", lane),
        ("reads_queue", queue.is_some().into()),
        ("is_udp", is_udp.into()),
        ("reads_ids", program.connection_ids.into()),
        ("at_selected", selected),
        ("at_queued", queued),
        ("at_limit", limit),
    ];
    let entries = [("flows", if is_udp { FLOWS } else { 1 })];
    LoadedObject::read(CHOICE, &ObjectSettings { maps, constants: &constants, entries: &entries })
}

/// Attaches the programs that count to a cgroup and pins their links beside the maps. For UDP only the one
/// that hears of closed sockets: TCP can have the same port, with a state of its own.
pub(super) fn count(cgroup: &Cgroup, maps: &Path, protocol: Protocol) -> Result<(), TrafficError> {
    // Linux 6.10 tells a sockops program the process.
    let counting = Counting::load(maps, 1).or_else(|_| Counting::load(maps, 0))?;
    if protocol == Protocol::Tcp {
        link(&counting.connections, cgroup, BPF_CGROUP_SOCK_OPS, maps, "connections")?;
    }
    link(&counting.released, cgroup, BPF_CGROUP_INET_SOCK_RELEASE, maps, "released")
}

fn link(
    program: &OwnedFd,
    cgroup: &Cgroup,
    attach_type: u32,
    maps: &Path,
    name: &str,
) -> Result<(), TrafficError> {
    let link = link_to_cgroup(program, cgroup.descriptor(), attach_type);
    let link = link.map_err(|error| AttachError::attaching(&error))?;
    let path = maps.join(format!("{LINK_PREFIX}{name}"));
    Ok(pin(link, &path).map_err(failed("bpf(BPF_OBJ_PIN)", &path))?)
}

/// The programs that count.
struct Counting {
    connections: OwnedFd,
    released: OwnedFd,
}

impl Counting {
    fn load(maps: &Path, knows_process: u32) -> Result<Self, AttachError> {
        let constants = [("knows_process", knows_process)];
        let settings = ObjectSettings { maps, constants: &constants, entries: &[] };
        let object = LoadedObject::read(COUNT, &settings)?;
        Ok(Self {
            connections: object.load("connections", BPF_PROG_TYPE_SOCK_OPS, BPF_CGROUP_SOCK_OPS)?,
            released: object.load(
                "released",
                BPF_PROG_TYPE_CGROUP_SOCK,
                BPF_CGROUP_INET_SOCK_RELEASE,
            )?,
        })
    }
}
