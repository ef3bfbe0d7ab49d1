//! Who has which socket open, by a BPF iterator: the kernel itself walks over all descriptors and
//! writes down those that are asked for, with what no list tells: options, and the place in the group.
//!
//! Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) in the first user namespace, Linux ≥ 5.11 with a
//! description of its types (`CONFIG_DEBUG_INFO_BTF`), and little-endian order. It sees the processes
//! of the caller's pid namespace, numbered as there, and every table of descriptors of each. Source:
//! `bpf/sockets.bpf.c`; kernel/bpf/task_iter.c; `Documentation/bpf/bpf_iterators.rst`.
//!
//! `object` reads the compiled program, `btf` the kernel's types, `calls` loads the one with the
//! numbers from the other, `record` reads what it writes.

mod btf;
mod object;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::linux::fs::MetadataExt as _;
use std::sync::LazyLock;

use rustix::thread::CapabilitySet;
use sameport_policy::model::GroupPosition;

use crate::bpf::mapped_file::MappedFile;
use crate::bpf::syscall::{self, ProgramSpec};
use crate::int_hash::IntMap;
use crate::proc::fd_scan::{FdHolder, FdHolders};
use btf::Btf;
use object::ProgramTemplate;
use record::{DescriptorRecord, RECORD};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../../bpf/sockets.bpf.o");
/// The section that the program is in.
const PROGRAM: &str = "iter/task_file";
/// The function in the kernel's types that stands for this kind of walk.
const FUNCTION: &str = "bpf_iter_task_file";
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The kernel writes at most 32 KiB at a time.
const ROOM: usize = 64 * 1024;

/// What to look for, in this thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IterFilter {
    /// A bit a state, `1 << TCP_LISTEN`.
    pub(crate) states: u32,
    /// `None` for every port.
    pub(crate) port: Option<u16>,
    /// Leaves out what has once been connected, which takes half the time where there is much of it.
    /// A socket that has lost its connection and kept its port is left out, too.
    pub(crate) quickly: bool,
}

/// What the walk found.
#[derive(Debug, Default)]
pub(crate) struct IterResult {
    pub(crate) holders: FdHolders,
    /// Names of processes.
    pub(crate) names: IntMap<i32, String>,
    /// By inode.
    pub(crate) facts: IntMap<u64, SocketFacts>,
}

/// What only the kernel's own memory tells of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketFacts {
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    pub(crate) filter: bool,
    pub(crate) position: Option<GroupPosition>,
}

/// One walk over every descriptor of every process.
///
/// # Errors
///
/// EPERM for who may not; ENOENT and EOPNOTSUPP where this kernel cannot; what the kernel answered
/// otherwise.
pub(crate) fn walk(wanted: IterFilter) -> io::Result<IterResult> {
    open(wanted).and_then(read)
}

/// The file whose reading is the walk.
///
/// # Errors
///
/// As for [`walk`].
pub(crate) fn open(wanted: IterFilter) -> io::Result<File> {
    may_load()?;
    numbers_are_those_of_proc()?;
    let network = std::fs::metadata("/proc/thread-self/ns/net")?.st_ino();
    let link = syscall::link_iterator(load(wanted, network)?)?;
    syscall::create_iterator(&link)
}

/// Before megabytes are read for nothing.
fn may_load() -> io::Result<()> {
    let able = rustix::thread::capabilities(None)?.effective;
    let enough = able.contains(CapabilitySet::SYS_ADMIN)
        || able.contains(CapabilitySet::BPF | CapabilitySet::PERFMON);
    if enough { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// The walk numbers processes as in the caller's pid namespace. A `/proc` of another one, by which
/// the rest is found out, does not.
fn numbers_are_those_of_proc() -> io::Result<()> {
    let own = std::process::id().to_string();
    let same = std::fs::read_link("/proc/self")?.as_os_str() == own.as_str();
    if same { Ok(()) } else { Err(cannot()) }
}

fn cannot() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

fn load(wanted: IterFilter, network: u64) -> io::Result<std::os::fd::OwnedFd> {
    static TEMPLATE: LazyLock<Option<ProgramTemplate<'_>>> =
        LazyLock::new(|| object::template(OBJECT, PROGRAM));
    if cfg!(target_endian = "big") {
        return Err(cannot());
    }
    let template = TEMPLATE.as_ref().ok_or_else(cannot)?;
    // A name that begins with `=` is a number of the caller's, not of the kernel's types.
    let names = template.blanks.iter().map(|(_, name)| *name).filter(|name| !name.starts_with('='));
    let structs: Vec<_> = names.map(struct_of).collect();
    let file = File::open(BTF)?;
    // Before Linux 6.16 it has to be copied, a page a call.
    let (mapped, copied);
    let bytes = match MappedFile::new(&file) {
        Ok(mapping) => {
            mapped = mapping;
            &*mapped
        }
        Err(_) => {
            copied = std::fs::read(BTF)?;
            &*copied
        }
    };
    let types = Btf::read(bytes, &structs, &[FUNCTION]).ok_or_else(cannot)?;
    let function = types.function(FUNCTION).ok_or_else(cannot)?;
    let instructions = template
        .filled(|name| match name {
            "=network" => Some(network),
            "=states" => Some(wanted.states.into()),
            "=port" => Some(wanted.port.unwrap_or(0).into()),
            "=quickly" => Some(wanted.quickly.into()),
            name => types.bits(name),
        })
        .ok_or_else(cannot)?;
    syscall::load_program(&ProgramSpec {
        kind: syscall::BPF_PROG_TYPE_TRACING,
        instructions: &instructions,
        attach_type: syscall::BPF_TRACE_ITER,
        attach_to: function,
    })
}

fn struct_of(name: &str) -> &str {
    name.split_once(':').map_or(name, |(of, _)| of)
}

/// Reads to the end, which makes the kernel walk.
fn read(mut from: File) -> io::Result<IterResult> {
    let mut found = IterResult {
        holders: FdHolders { all_read: true, ..FdHolders::default() },
        ..IterResult::default()
    };
    let mut room = vec![0; ROOM];
    let mut filled = 0;
    loop {
        match from.read(&mut room[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            // EAGAIN: a million descriptors without a find.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        let (whole, _) = room[..filled].as_chunks::<RECORD>();
        whole.iter().for_each(|bytes| found.add(DescriptorRecord::read(bytes)));
        let done = whole.len() * RECORD;
        room.copy_within(done..filled, 0);
        filled -= done;
    }
    found.holders.sort();
    Ok(found)
}

impl IterResult {
    fn add(&mut self, record: DescriptorRecord) {
        let holder = FdHolder { pid: record.pid, descriptor: record.descriptor };
        self.holders.of.entry(record.inode).or_default().push(holder);
        self.names.entry(record.pid).or_insert_with(|| record.program());
        self.facts.entry(record.inode).or_insert(SocketFacts {
            reuse_port: record.reuse_port,
            reuse_address: record.reuse_address,
            filter: record.filter,
            position: record.position,
        });
    }
}
