//! Attaching the programs of an object to a cgroup, and finding its maps.

use std::error::Error;
use std::io;

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::links::FdLink;
use aya::programs::{CgroupAttachMode, CgroupSockAddr, Program};

use super::attach_error::AttachError;
use crate::cgroup::Cgroup;

/// A program of this name needs CAP_PERFMON and takes the place of [`PLAIN`], where the kernel loads it.
const READS_KERNEL: &str = "bind6_v6only";
const PLAIN: &str = "bind6";

/// Loads every program of the object and attaches it to the cgroup, in addition to the programs that
/// are attached there. Returns each link with the name of its program.
pub(crate) fn attach(
    object: &mut Ebpf,
    cgroup: &Cgroup,
) -> Result<Vec<(String, FdLink)>, AttachError> {
    let mut links = Vec::new();
    // A link always coexists with others. BPF_F_ALLOW_MULTI belongs to BPF_PROG_ATTACH;
    // BPF_LINK_CREATE rejects it with EINVAL.
    let (at, mode) = (cgroup.descriptor(), CgroupAttachMode::Single);
    let reads_kernel = object.program_mut(READS_KERNEL).is_some_and(|program| {
        let program: Result<&mut CgroupSockAddr, _> = program.try_into();
        program.is_ok_and(|program| program.load().is_ok())
    });
    let left_out = if reads_kernel { PLAIN } else { READS_KERNEL };
    for (name, program) in object.programs_mut().filter(|(name, _)| *name != left_out) {
        let link = match program {
            Program::CgroupSock(program) => {
                program.load().map_err(|error| AttachError::loading(&error))?;
                let link = program.attach(at, mode).and_then(|id| program.take_link(id));
                link.map(FdLink::try_from)
            }
            program => {
                let program: &mut CgroupSockAddr =
                    program.try_into().map_err(|error| AttachError::system("load", &error))?;
                if name != READS_KERNEL {
                    program.load().map_err(|error| AttachError::loading(&error))?;
                }
                let link = program.attach(at, mode).and_then(|id| program.take_link(id));
                link.map(FdLink::try_from)
            }
        };
        let link = link.map_err(|error| AttachError::attaching(&error))?;
        let link = link.map_err(|error| AttachError::attaching(&error))?;
        let name = if name == READS_KERNEL { PLAIN } else { name };
        links.push((name.to_owned(), link));
    }
    Ok(links)
}

/// The map of this name.
pub(crate) fn map_mut<'a, M>(object: &'a mut Ebpf, name: &'static str) -> Result<M, AttachError>
where
    M: TryFrom<&'a mut Map>,
    M::Error: Error + 'static,
{
    let map = object
        .map_mut(name)
        .ok_or_else(|| AttachError::System("map", io::Error::other(format!("no map {name}"))))?;
    map.try_into().map_err(|error: M::Error| AttachError::system("map", &error))
}
