//! Owners of sockets, found by a BPF iterator: the kernel visits every file descriptor and reports the
//! sockets in question, with facts that sock_diag does not report (options, position in the group).
//!
//! Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) in the initial user namespace, Linux 5.11 with type
//! information (`CONFIG_DEBUG_INFO_BTF`), and a little-endian machine. It finds the processes of the
//! caller's pid namespace, with their pids in it, and every descriptor table of each. Source:
//! `bpf/sockets.bpf.c`; kernel/bpf/task_iter.c; `Documentation/bpf/bpf_iterators.rst`.
//!
//! `last_data` does the same for the connections and their last data. `object` reads the compiled program, `btf` the offsets that the program needs, `record` what the
//! program writes.

pub(super) mod btf;
mod last_data;
mod object;
mod record;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::linux::fs::MetadataExt as _;
use std::sync::LazyLock;

use rustix::thread::CapabilitySet;
use sameport_policy::model::GroupPosition;

use crate::bpf::mapped_file::MappedFile;
use crate::bpf::syscall::{self, ProgramSpec};
use crate::int_hash::IntMap;
use crate::proc::fd_scan::{FdHolder, FdHolders};
use btf::Btf;
pub use last_data::LastDataReader;
use object::ProgramTemplate;
use record::{DescriptorRecord, LONG_SEARCH, RECORD, SEARCH};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/sockets.bpf.o");
/// The section of the program.
const PROGRAM: &str = "iter/task_file";
/// The kernel function whose BTF number selects the type of iterator.
const FUNCTION: &str = "bpf_iter_task_file";
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// Size of the read buffer in bytes. The kernel returns at most 32 KiB at a time.
const BUFFER: usize = 64 * 1024;

/// Which sockets to report, in the calling thread's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IterFilter {
    /// A bit for each state: `1 << TCP_LISTEN`, …
    pub(crate) states: u32,
    /// `None` for every port.
    pub(crate) port: Option<u16>,
    /// Skips sockets that have been connected, which halves the time where there are many. This also
    /// skips a socket that lost its connection and kept its port.
    pub(crate) quickly: bool,
}

/// The records of the iterator, joined.
#[derive(Debug, Default)]
pub(crate) struct IterResult {
    pub(crate) holders: FdHolders,
    /// Names by pid.
    pub(crate) names: IntMap<i32, String>,
    /// By inode.
    pub(crate) facts: IntMap<u64, SocketFacts>,
    /// Whether a socket was not among the searched members of its group.
    unnumbered: bool,
}

/// Facts about a socket that sock_diag does not report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketFacts {
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    pub(crate) filter: bool,
    pub(crate) position: Option<GroupPosition>,
    /// The number of the program that selects in its group, 0 of a classic one.
    pub(crate) group_program: Option<u32>,
}

/// Visits every descriptor of every process.
///
/// # Errors
///
/// EPERM without the capabilities; ENOENT and EOPNOTSUPP on a kernel without support; else the error of
/// the call that failed.
pub(crate) fn walk(wanted: IterFilter) -> io::Result<IterResult> {
    let found = open_with(wanted, SEARCH).and_then(read)?;
    if found.unnumbered { open_with(wanted, LONG_SEARCH).and_then(read) } else { Ok(found) }
}

/// Loads the program and creates the iterator, without running it.
///
/// # Errors
///
/// As for [`walk`].
pub(crate) fn open(wanted: IterFilter) -> io::Result<File> {
    open_with(wanted, SEARCH)
}

fn open_with(wanted: IterFilter, search: u32) -> io::Result<File> {
    require_capabilities()?;
    require_matching_proc()?;
    let network = std::fs::metadata("/proc/thread-self/ns/net")?.st_ino();
    let link = syscall::link_iterator(load(wanted, search, network)?)?;
    syscall::create_iterator(&link)
}

/// Fails before the megabytes of BTF are read.
fn require_capabilities() -> io::Result<()> {
    let able = rustix::thread::capabilities(None)?.effective;
    let enough = able.contains(CapabilitySet::SYS_ADMIN)
        || able.contains(CapabilitySet::BPF | CapabilitySet::PERFMON);
    if enough { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// The iterator reports pids of the caller's pid namespace. Everything else about a process is read from
/// `/proc`, which must be that of the same namespace.
fn require_matching_proc() -> io::Result<()> {
    let own = std::process::id().to_string();
    let same = std::fs::read_link("/proc/self")?.as_os_str() == own.as_str();
    if same { Ok(()) } else { Err(unsupported()) }
}

fn unsupported() -> io::Error {
    io::Error::from_raw_os_error(libc::EOPNOTSUPP)
}

fn load(wanted: IterFilter, search: u32, network: u64) -> io::Result<OwnedFd> {
    static TEMPLATE: LazyLock<Option<ProgramTemplate<'_>>> =
        LazyLock::new(|| object::template(OBJECT, PROGRAM));
    load_iterator(TEMPLATE.as_ref(), FUNCTION, |name| match name {
        "=network" => Some(network),
        "=states" => Some(wanted.states.into()),
        "=port" => Some(wanted.port.unwrap_or(0).into()),
        "=quickly" => Some(wanted.quickly.into()),
        "=search" => Some(search.into()),
        _ => None,
    })
}

/// Loads a program that is attached to the iterator of `function`. `number` gives the numbers of the
/// caller, whose names begin with `=`; the others are those of the kernel's types.
fn load_iterator(
    template: Option<&ProgramTemplate<'_>>,
    function: &str,
    number: impl Fn(&str) -> Option<u64>,
) -> io::Result<OwnedFd> {
    if cfg!(target_endian = "big") {
        return Err(unsupported());
    }
    let template = template.ok_or_else(unsupported)?;
    let names = template.blanks.iter().map(|(_, name)| *name).filter(|name| !name.starts_with('='));
    let structs: Vec<_> = names.map(struct_of).collect();
    let bytes = KernelTypes::open()?;
    let types = Btf::read(&bytes, &structs, &[function]).ok_or_else(unsupported)?;
    let attach_to = types.function(function).ok_or_else(unsupported)?;
    let instructions = template
        .filled(|name| if name.starts_with('=') { number(name) } else { types.bits(name) })
        .ok_or_else(unsupported)?;
    syscall::load_program(&ProgramSpec {
        kind: syscall::BPF_PROG_TYPE_TRACING,
        instructions: &instructions,
        attach_type: syscall::BPF_TRACE_ITER,
        attach_to,
        ..ProgramSpec::default()
    })
}

/// The kernel's description of its types.
enum KernelTypes {
    Mapped(MappedFile),
    /// Before Linux 6.16 the file cannot be mapped, and one read returns at most a page.
    Copied(Vec<u8>),
}

impl KernelTypes {
    fn open() -> io::Result<Self> {
        match MappedFile::new(&File::open(BTF)?) {
            Ok(mapped) => Ok(Self::Mapped(mapped)),
            Err(_) => std::fs::read(BTF).map(Self::Copied),
        }
    }
}

impl std::ops::Deref for KernelTypes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Where these members are in the kernel's structs, in bytes: `struct:member`.
///
/// # Errors
///
/// EOPNOTSUPP if the kernel does not describe them; ENOENT without a description.
pub(crate) fn kernel_offsets<const N: usize>(names: [&str; N]) -> io::Result<[u32; N]> {
    let bytes = KernelTypes::open()?;
    let types = Btf::read(&bytes, &names.map(struct_of), &[]).ok_or_else(unsupported)?;
    let mut offsets = [0; N];
    for (offset, name) in offsets.iter_mut().zip(names) {
        let bits = types.bits(name).ok_or_else(unsupported)?;
        *offset = u32::try_from(bits / 8).map_err(io::Error::other)?;
    }
    Ok(offsets)
}

fn struct_of(name: &str) -> &str {
    name.split_once(':').map_or(name, |(of, _)| of)
}

/// Reads to the end, which runs the iterator.
fn read(mut from: File) -> io::Result<IterResult> {
    let mut found = IterResult {
        holders: FdHolders { all_read: true, ..FdHolders::default() },
        ..IterResult::default()
    };
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(length) => filled += length,
            // EAGAIN: a million descriptors without a record.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        let (whole, _) = buffer[..filled].as_chunks::<RECORD>();
        found.holders.of.reserve(whole.len());
        found.facts.reserve(whole.len());
        whole.iter().for_each(|bytes| found.add(DescriptorRecord::read(bytes)));
        let done = whole.len() * RECORD;
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
    found.holders.sort();
    Ok(found)
}

impl IterResult {
    fn add(&mut self, record: DescriptorRecord) {
        self.unnumbered |= record.unnumbered;
        let holder = FdHolder { pid: record.pid, descriptor: record.descriptor };
        self.holders.of.entry(record.inode).or_default().push(holder);
        self.names.entry(record.pid).or_insert_with(|| record.program());
        self.facts.entry(record.inode).or_insert(SocketFacts {
            reuse_port: record.reuse_port,
            reuse_address: record.reuse_address,
            filter: record.filter,
            position: record.position,
            group_program: record.program,
        });
    }
}
