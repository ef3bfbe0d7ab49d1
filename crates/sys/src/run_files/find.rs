//! The other side: which names there are, whether their supervisors live, and a way to them.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use sameport_policy::model::name::RunName;

use super::{record_file, socket_file};
use crate::private_dir;
use crate::private_dir::DirRefusal;

/// The longest record that is read, in bytes.
const LONGEST_RECORD: u64 = 4 << 20;

/// How many entries of a folder are looked at.
const MOST: usize = 10_000;

/// How a supervisor is found by who knocks.
#[derive(Debug)]
pub enum SupervisorState {
    /// It listens.
    Alive {
        /// Connected; reads and writes wait for the time that was given.
        stream: UnixStream,
        /// Who listens.
        pid: i32,
    },
    /// It is not there any more: what it wrote about itself, if it could.
    Gone(Option<Vec<u8>>),
    /// It could not be reached.
    Failed(ConnectError),
}

/// Why a supervisor that lives could not be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectError {
    /// It listens, and takes no connection: too many wait already.
    Busy,
    /// Whoever listens belongs to this user.
    OtherUser(u32),
    /// The system said no.
    System(Errno),
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

/// Connects to the supervisor of this name, in the first of these folders in which there is a living
/// one. Connecting, and every later read and write, take at most this long. `None`: there is no such
/// name.
#[must_use]
pub fn connect_supervisor(
    name: &RunName,
    folders: &[PathBuf],
    patience: Duration,
) -> Option<SupervisorState> {
    let mut dead = None;
    for folder in folders.iter().filter_map(|folder| open(folder)) {
        match connect(&folder, name, patience) {
            Ok((stream, pid)) => return Some(SupervisorState::Alive { stream, pid }),
            Err(ConnectError::System(Errno::NOENT)) => match record(&folder, name) {
                None => {}
                some => dead = dead.or(Some(SupervisorState::Gone(some))),
            },
            // The file is there, and nobody listens.
            Err(ConnectError::System(Errno::CONNREFUSED)) => {
                dead = dead.or_else(|| Some(SupervisorState::Gone(record(&folder, name))));
            }
            Err(error) => return Some(SupervisorState::Failed(error)),
        }
    }
    dead
}

/// Every name in these folders, in order, each once. Folders that are not safe have none.
#[must_use]
pub fn list_names(folders: &[PathBuf]) -> Vec<RunName> {
    let mut names: Vec<RunName> = folders
        .iter()
        .filter_map(|folder| Dir::read_from(open(folder)?).ok())
        .flat_map(|entries| entries.flatten().take(MOST))
        .filter_map(|entry| {
            let file = entry.file_name().to_str().ok()?;
            file.strip_suffix(".sock").or_else(|| file.strip_suffix(".json"))?.parse().ok()
        })
        .collect();
    names.sort();
    names.dedup();
    names
}

fn open(path: &Path) -> Option<OwnedFd> {
    private_dir::open(path, false, |_| Ok::<(), DirRefusal>(())).ok()
}

fn connect(
    folder: &OwnedFd,
    name: &RunName,
    patience: Duration,
) -> Result<(UnixStream, i32), ConnectError> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    for way in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&socket, way, Some(patience))?;
    }
    let path = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), socket_file(name));
    match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
        Err(Errno::AGAIN) => return Err(ConnectError::Busy),
        other => other?,
    }
    // Of who called `listen`, and so of the supervisor: `exec` does not change a pid.
    let peer = socket_peercred(&socket)?;
    if peer.uid != rustix::process::geteuid() {
        return Err(ConnectError::OtherUser(peer.uid.as_raw()));
    }
    Ok((UnixStream::from(socket), peer.pid.as_raw_nonzero().get()))
}

/// What a supervisor wrote about itself, if it could.
fn record(folder: &OwnedFd, name: &RunName) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(folder, record_file(name), flags, Mode::empty()).ok()?;
    let is_file = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode).is_file();
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).take(LONGEST_RECORD).read_to_end(&mut bytes);
    (is_file && read.is_ok()).then_some(bytes)
}
