//! Attaching the programs to a cgroup.

use std::time::SystemTime;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::links::FdLink;
use sameport_policy::bind::verdict::PortSet;

use super::events::BindEvents;
use super::layout::RawSettings;
use super::object;
use super::settings::{AttachSettings, SourceOutcome};
use crate::bpf::attach_error::AttachError;
use crate::bpf::pinned::read_counts;
use crate::bpf::programs;
use crate::cgroup::Cgroup;

/// The programs at a cgroup. Dropping this, or killing the process, detaches them: the next bind is
/// unchanged. Sockets that are shared stay shared.
#[derive(Debug)]
pub struct Attachment {
    pub(super) links: Vec<(String, FdLink)>,
    pub(super) bind: Ebpf,
    pub(super) source: Option<Ebpf>,
    pub(super) cgroup: u64,
}

/// Attaches the programs to a cgroup, for every process whose sockets are created in it or below it.
/// Programs of others stay attached and run too, those of a cgroup before those of its parent.
///
/// Needs CAP_BPF and CAP_NET_ADMIN in the initial user namespace, or root. Takes some milliseconds.
///
/// # Errors
///
/// See [`AttachError`].
pub fn attach(cgroup: &Cgroup, settings: &AttachSettings) -> Result<Attachment, AttachError> {
    let fixed = RawSettings {
        network: settings.network,
        since: SystemTime::now(),
        every_port: settings.ports == PortSet::All,
        rules: u32::try_from(settings.rules.len()).unwrap_or(u32::MAX),
    };
    let mut bind = object::bind(cgroup.path(), settings, fixed)?;
    let mut source = match settings.source {
        Some(from) => Some(object::source(from, settings.network)?),
        None => None,
    };
    let mut links = programs::attach(&mut bind, cgroup)?;
    if let Some(source) = &mut source {
        links.append(&mut programs::attach(source, cgroup)?);
    }
    Ok(Attachment { links, bind, source, cgroup: cgroup.id() })
}

impl Attachment {
    /// The events from now on. `None` on the second call.
    pub fn events(&mut self) -> Result<Option<BindEvents>, AttachError> {
        let Some(map) = self.bind.take_map("events") else { return Ok(None) };
        let ring = RingBuf::<MapData>::try_from(map)
            .map_err(|error| AttachError::system("mmap", &error))?;
        Ok(Some(BindEvents::new(ring)))
    }

    /// The number of shared binds.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.counts().first().copied().unwrap_or(0)
    }

    /// How often each rule applied, in the order of the rules.
    #[must_use]
    pub fn hits(&self) -> Vec<u64> {
        self.counts().get(1..).unwrap_or_default().to_vec()
    }

    /// Counters of the source address.
    #[must_use]
    pub fn sourced(&self) -> SourceOutcome {
        let given = self.source.as_ref().and_then(|object| object.map("given"));
        given.map(|map| SourceOutcome::read(&read_counts(map))).unwrap_or_default()
    }

    fn counts(&self) -> Vec<u64> {
        self.bind.map("counts").map(read_counts).unwrap_or_default()
    }
}
