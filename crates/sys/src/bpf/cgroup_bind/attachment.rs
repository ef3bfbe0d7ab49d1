//! The programs at a cgroup, for as long as this process wants, or pinned for longer.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use aya::Ebpf;
use aya::maps::{MapData, RingBuf};
use aya::programs::links::FdLink;
use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::verdict::PortSet;

use super::events::BindEvents;
use super::layout::RawSettings;
use super::object;
use crate::cgroup::dir::Cgroup;

/// What the programs do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachSettings {
    /// The ports that are shared, after rules have been followed.
    pub ports: PortSet,
    /// Rules that move binds. Of two for the same address, the first is followed.
    pub rules: Vec<MapRule>,
    /// The source address of connections, and of datagrams, of sockets that their program has not
    /// bound itself. Port 0: any port. A datagram sent without `connect` gets the IP address only.
    pub source: Option<SocketAddr>,
    /// Only sockets of this network namespace ([`super::own_network`]); `None`: of every one.
    pub network: Option<u64>,
}

/// The programs at a cgroup. Dropped, or its process killed, they are gone, and the next bind is as
/// if they had never been; sockets that were shared stay so.
#[derive(Debug)]
pub struct Attachment {
    pub(super) links: Vec<(String, FdLink)>,
    pub(super) bind: Ebpf,
    pub(super) source: Option<Ebpf>,
    pub(super) cgroup: u64,
}

/// Why the programs are not at the cgroup. Nothing of them is.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// This user may not load such programs.
    #[error("{0}: {1}")]
    NotPermitted(&'static str, io::Error),
    /// This kernel has no such programs, or refuses these. Its own words.
    #[error("{0}")]
    Kernel(String),
    /// Another one's program is attached there, or above, so that it is the only one (without
    /// BPF_F_ALLOW_MULTI).
    #[error("another program is attached there exclusively")]
    Exclusive,
    /// The system said no.
    #[error("{0}: {1}")]
    System(&'static str, io::Error),
}

/// Attaches the programs to a cgroup, for every process whose sockets are created in it or below.
/// Programs of others stay, and run as well: those of a cgroup before those of the one above it.
///
/// Needs CAP_BPF and CAP_NET_ADMIN in the first user namespace, or root. Takes some milliseconds.
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
    let mut links = object::attach(&mut bind, cgroup)?;
    if let Some(source) = &mut source {
        links.append(&mut object::attach(source, cgroup)?);
    }
    Ok(Attachment { links, bind, source, cgroup: cgroup.id() })
}

impl Attachment {
    /// The events from now on. `None` the second time.
    pub fn events(&mut self) -> Result<Option<BindEvents>, AttachError> {
        let Some(map) = self.bind.take_map("events") else { return Ok(None) };
        let ring = RingBuf::<MapData>::try_from(map)
            .map_err(|error| AttachError::system("mmap", &error))?;
        Ok(Some(BindEvents::new(ring)))
    }

    /// How many binds were shared.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.counts().first().copied().unwrap_or(0)
    }

    /// How often each rule was the one to follow, in their order.
    #[must_use]
    pub fn hits(&self) -> Vec<u64> {
        self.counts().get(1..).unwrap_or_default().to_vec()
    }

    /// What came of the source address.
    #[must_use]
    pub fn sourced(&self) -> SourceOutcome {
        let given = self.source.as_ref().and_then(|object| object.map("given"));
        given.map(|map| SourceOutcome::read(&object::counts(map))).unwrap_or_default()
    }

    fn counts(&self) -> Vec<u64> {
        self.bind.map("counts").map(object::counts).unwrap_or_default()
    }
}

/// What came of a source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceOutcome {
    /// How many connections and datagrams were given it.
    pub given: u64,
    /// How many connections failed because they could not have it.
    pub refused: u64,
}

impl SourceOutcome {
    /// From what is counted in `given`.
    pub(super) fn read(counts: &[u64]) -> Self {
        let at = |place: usize| counts.get(place).copied().unwrap_or(0);
        Self { given: at(0), refused: at(1) }
    }
}

impl AttachError {
    /// Of an error of aya: what the kernel said, found among its causes.
    pub(crate) fn loading(error: &(dyn Error + 'static)) -> Self {
        match cause(error) {
            Some(why) if is_permission(&why) => Self::NotPermitted("bpf(BPF_PROG_LOAD)", why),
            Some(why) if why.raw_os_error() == Some(libc::ENOSYS) => {
                Self::Kernel(format!("bpf: {why}"))
            }
            Some(why) => Self::Kernel(format!("bpf(BPF_PROG_LOAD): {why}")),
            None => Self::Kernel(error.to_string()),
        }
    }

    /// Whoever was allowed to load is told by EPERM that the place is taken.
    pub(crate) fn attaching(error: &(dyn Error + 'static)) -> Self {
        match cause(error) {
            Some(why) if why.raw_os_error() == Some(libc::EPERM) => Self::Exclusive,
            _ => Self::system("bpf(BPF_LINK_CREATE)", error),
        }
    }

    pub(crate) fn system(call: &'static str, error: &(dyn Error + 'static)) -> Self {
        match cause(error) {
            Some(why) if is_permission(&why) => Self::NotPermitted(call, why),
            Some(why) => Self::System(call, why),
            None => Self::System(call, io::Error::other(error.to_string())),
        }
    }
}

fn is_permission(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}

/// The system's own error below an error of aya.
pub(super) fn cause(error: &(dyn Error + 'static)) -> Option<io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(why) = error.downcast_ref::<io::Error>() {
            return why.raw_os_error().map(io::Error::from_raw_os_error);
        }
        next = error.source();
    }
    None
}
