//! The programs: `bpf/traffic.bpf.c`, loaded for a policy and a lane, and `bpf/traffic_count.bpf.c`.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSock, SkReuseport, SockOps};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use rustix::thread::CapabilitySet;
use sameport_policy::model::Protocol;
use sameport_policy::traffic::model::TrafficPolicy;
use sameport_policy::traffic::plan::TrafficPlan;

use crate::bpf::attach_error::AttachError;
use crate::bpf::pin_dir::{LINK_PREFIX, from_aya};
use crate::bpf::socket_iter::kernel_offsets;
use crate::cgroup::Cgroup;
use crate::process::capability;

use super::error::TrafficError;

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
pub(super) struct Choice(Ebpf);

impl Choice {
    /// Loads it over the maps that are pinned in this directory, or makes them there.
    pub(super) fn load(
        plan: &TrafficPlan,
        lane: u32,
        queue: Option<QueueOffsets>,
        maps: &Path,
    ) -> Result<Self, AttachError> {
        AttachError::check_filter()?;
        let is_udp = plan.protocol == Protocol::Udp;
        // A datagram socket has no accept queue.
        let queue = queue.filter(|_| !is_udp);
        let (policy, reads_queue) = (number(plan.policy), u32::from(queue.is_some()));
        let [selected, queued, limit] = queue.unwrap_or_default();
        let mut object = EbpfLoader::new()
            .btf(None)
            .default_map_pin_directory(maps)
            .override_global("policy", &policy, true)
            .override_global("lane", &lane, true)
            .override_global("reads_queue", &reads_queue, true)
            .override_global("is_udp", &u32::from(is_udp), true)
            .override_global("reads_ids", &u32::from(plan.connection_ids), true)
            .map_max_entries("flows", if is_udp { FLOWS } else { 1 })
            .override_global("at_selected", &selected, true)
            .override_global("at_queued", &queued, true)
            .override_global("at_limit", &limit, true)
            .load(CHOICE)
            .map_err(|error| AttachError::loading(&error))?;
        program(&mut object)?.load().map_err(|error| AttachError::loading(&error))?;
        Ok(Self(object))
    }

    /// Replaces the program of the socket's group.
    pub(super) fn attach(&mut self, socket: impl AsFd) -> Result<(), AttachError> {
        program(&mut self.0)?
            .attach(socket)
            .map_err(|error| AttachError::system("setsockopt(SO_ATTACH_REUSEPORT_EBPF)", &error))
    }

    /// Pins it in place of an earlier one.
    pub(super) fn pin(&mut self, path: &Path) -> Result<(), TrafficError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(crate::bpf::pin_dir::failed("unlink", path)(error).into());
            }
            _ => {}
        }
        program(&mut self.0)?
            .pin(path)
            .map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", path, &error).into())
    }
}

fn program(object: &mut Ebpf) -> Result<&mut SkReuseport, AttachError> {
    let program =
        object.program_mut("choose").ok_or_else(|| AttachError::Kernel("no program".into()))?;
    program.try_into().map_err(|error| AttachError::system("load", &error))
}

/// Attaches the programs that count to a cgroup and pins their links beside the maps. For UDP only the one
/// that hears of closed sockets: TCP can have the same port, with a state of its own.
pub(super) fn count(cgroup: &Cgroup, maps: &Path, protocol: Protocol) -> Result<(), TrafficError> {
    // Linux 6.10 tells a sockops program the process.
    let mut object = load_count(maps, 1).or_else(|_| load_count(maps, 0))?;
    let (at, mode) = (cgroup.descriptor(), CgroupAttachMode::Single);
    let attaching = |error| TrafficError::from(AttachError::attaching(&error));
    if protocol == Protocol::Tcp {
        let program = sock_ops(&mut object)?;
        let link = program.attach(at, mode).and_then(|id| program.take_link(id));
        pin(FdLink::try_from(link.map_err(attaching)?), maps, "connections")?;
    }
    let program = cgroup_sock(&mut object)?;
    let link = program.attach(at, mode).and_then(|id| program.take_link(id)).map_err(attaching)?;
    pin(FdLink::try_from(link), maps, "released")
}

fn pin<E: std::error::Error + 'static>(
    link: Result<FdLink, E>,
    maps: &Path,
    name: &str,
) -> Result<(), TrafficError> {
    let path = maps.join(format!("{LINK_PREFIX}{name}"));
    let link = link.map_err(|error| AttachError::attaching(&error))?;
    link.pin(&path).map_err(|error| from_aya("bpf(BPF_OBJ_PIN)", &path, &error))?;
    Ok(())
}

fn load_count(maps: &Path, knows_process: u32) -> Result<Ebpf, AttachError> {
    let mut object = EbpfLoader::new()
        .btf(None)
        .default_map_pin_directory(maps)
        .override_global("knows_process", &knows_process, true)
        .load(COUNT)
        .map_err(|error| AttachError::loading(&error))?;
    sock_ops(&mut object)?.load().map_err(|error| AttachError::loading(&error))?;
    cgroup_sock(&mut object)?.load().map_err(|error| AttachError::loading(&error))?;
    Ok(object)
}

fn sock_ops(object: &mut Ebpf) -> Result<&mut SockOps, AttachError> {
    let program = object
        .program_mut("connections")
        .ok_or_else(|| AttachError::Kernel("no program".into()))?;
    program.try_into().map_err(|error| AttachError::system("load", &error))
}

fn cgroup_sock(object: &mut Ebpf) -> Result<&mut CgroupSock, AttachError> {
    let program =
        object.program_mut("released").ok_or_else(|| AttachError::Kernel("no program".into()))?;
    program.try_into().map_err(|error| AttachError::system("load", &error))
}
