//! The compiled programs of `bpf/`: loaded, and their maps filled.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use sameport_policy::bind::keys;
use sameport_policy::bind::verdict::PortSet;

use super::attachment::{AttachError, AttachSettings};
use super::layout;
use super::layout::RawSettings;
use crate::cgroup::dir::Cgroup;

static BIND: &[u8] = include_bytes_aligned!("../../../../../bpf/bind.bpf.o");
static SOURCE: &[u8] = include_bytes_aligned!("../../../../../bpf/source.bpf.o");

/// The longest path of a cgroup that is written down whole.
const PATH: usize = 4096;

/// `bind.bpf.c`, for these settings. Nothing is attached yet.
pub(super) fn bind(
    path: &Path,
    settings: &AttachSettings,
    fixed: RawSettings,
) -> Result<Ebpf, AttachError> {
    let ports = match &settings.ports {
        PortSet::All => None,
        PortSet::Only(ports) => Some(ports),
    };
    // A map has room for one at least.
    let room = |wanted: usize| u32::try_from(wanted.max(1)).unwrap_or(u32::MAX);
    let mut object = EbpfLoader::new()
        .btf(None)
        .map_max_entries("ports", room(ports.map_or(0, std::collections::BTreeSet::len)))
        .map_max_entries("rules", room(settings.rules.len()))
        .map_max_entries("counts", room(1 + settings.rules.len()))
        .load(BIND)
        .map_err(|error| AttachError::loading(&error))?;

    let fill = |error: aya::maps::MapError| AttachError::system("bpf(BPF_MAP_UPDATE_ELEM)", &error);
    let mut table: HashMap<_, keys::RuleKey, keys::RuleTarget> = map(&mut object, "rules")?;
    for (place, rule) in (0..).zip(&settings.rules) {
        let key = keys::key(rule);
        // As in the list: of two rules for the same address the first is followed.
        if table.get(&key, 0).is_err() {
            table.insert(key, keys::target(rule, place), 0).map_err(fill)?;
        }
    }
    let mut table: HashMap<_, u16, u8> = map(&mut object, "ports")?;
    for port in ports.into_iter().flatten() {
        table.insert(port, 1, 0).map_err(fill)?;
    }
    let mut written = [0; PATH];
    let path = path.as_os_str().as_bytes();
    let length = path.len().min(PATH - 1);
    written[..length].copy_from_slice(&path[..length]);
    let mut place: Array<_, [u8; PATH]> = map(&mut object, "place")?;
    place.set(0, written, 0).map_err(fill)?;
    let mut first: Array<_, [u8; 24]> = map(&mut object, "settings")?;
    first.set(0, fixed.bytes(), 0).map_err(fill)?;
    Ok(object)
}

/// `source.bpf.c`, for these settings.
pub(super) fn source(
    from: std::net::SocketAddr,
    network: Option<u64>,
) -> Result<Ebpf, AttachError> {
    let mut object =
        EbpfLoader::new().btf(None).load(SOURCE).map_err(|error| AttachError::loading(&error))?;
    let mut source: Array<_, [u8; 32]> = map(&mut object, "source")?;
    source
        .set(0, layout::source(from, network), 0)
        .map_err(|error| AttachError::system("bpf(BPF_MAP_UPDATE_ELEM)", &error))?;
    Ok(object)
}

/// Attaches every program of the object, beside whatever is attached there, and gives the links by
/// the programs' names.
pub(crate) fn attach(
    object: &mut Ebpf,
    cgroup: &Cgroup,
) -> Result<Vec<(String, FdLink)>, AttachError> {
    let mut links = Vec::new();
    // To the kernel a link always is one of several; `AllowMultiple` is a word of the older call, which
    // refuses it here.
    let (at, mode) = (cgroup.descriptor(), CgroupAttachMode::Single);
    for (name, program) in object.programs_mut() {
        let link = match program {
            Program::CgroupSock(program) => {
                program.load().map_err(|error| AttachError::loading(&error))?;
                let link = program.attach(at, mode).and_then(|id| program.take_link(id));
                link.map(FdLink::try_from)
            }
            program => {
                let program: &mut CgroupSockAddr =
                    program.try_into().map_err(|error| AttachError::system("load", &error))?;
                program.load().map_err(|error| AttachError::loading(&error))?;
                let link = program.attach(at, mode).and_then(|id| program.take_link(id));
                link.map(FdLink::try_from)
            }
        };
        let link = link.map_err(|error| AttachError::attaching(&error))?;
        let link = link.map_err(|error| AttachError::attaching(&error))?;
        links.push((name.to_owned(), link));
    }
    Ok(links)
}

/// A map of ours, by its name.
pub(crate) fn map<'a, M>(object: &'a mut Ebpf, name: &'static str) -> Result<M, AttachError>
where
    M: TryFrom<&'a mut Map>,
    M::Error: std::error::Error + 'static,
{
    let map = object
        .map_mut(name)
        .ok_or_else(|| AttachError::System("map", io::Error::other(format!("no map {name}"))))?;
    map.try_into().map_err(|error: M::Error| AttachError::system("map", &error))
}

/// The numbers that a program counts in this map.
pub(super) fn counts(map: &Map) -> Vec<u64> {
    let counts: Result<Array<&MapData, u64>, _> = map.try_into();
    counts.map(|counts| counts.iter().map(|count| count.unwrap_or(0)).collect()).unwrap_or_default()
}
