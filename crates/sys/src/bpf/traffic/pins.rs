//! The directories of the states, below `/sys/fs/bpf/sameport/traffic`, and their lock.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use sameport_policy::model::Protocol;

use super::error::{TrafficError, TrafficResult};
use super::layout::LAYOUT;
use super::lock_wait::{self, LockFailure, PATIENCE};
use crate::bpf::pin_dir::{self, PIN_ROOT, PinResult, failed};
use crate::process::identity::ProcessIdentity;

const TRAFFIC: &str = "/sys/fs/bpf/sameport/traffic";
/// Prefix of a directory that is being filled.
const UNFINISHED: &str = "new-";

/// The port of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrafficKey {
    /// The cookie of the network namespace ([`own_cookie`](crate::netns::own_cookie)).
    pub netns: u64,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl TrafficKey {
    fn name(self) -> String {
        let Self { netns, protocol, port } = self;
        let protocol = if protocol == Protocol::Tcp { "tcp" } else { "udp" };
        format!("{netns}-{protocol}-{port}")
    }

    /// The directory of the state.
    #[must_use]
    pub fn path(self) -> PathBuf {
        Path::new(TRAFFIC).join(format!("{LAYOUT}-{}", self.name()))
    }

    /// The layout and the key of a directory of this name.
    fn parse(name: &str) -> Option<(&str, Self)> {
        let (layout, rest) = name.split_once('-')?;
        let mut parts = rest.split('-');
        let netns = parts.next()?.parse().ok()?;
        let protocol = match parts.next()? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        };
        let port = parts.next()?.parse().ok()?;
        (layout.starts_with('v') && parts.next().is_none())
            .then_some((layout, Self { netns, protocol, port }))
    }
}

/// The exclusive right to change the states. Freed when dropped, however the process ends.
#[derive(Debug)]
pub(super) struct TrafficLock {
    _directory: File,
}

impl TrafficLock {
    /// Waits until no other process has it, and not for a process that keeps it: [`TrafficError::Busy`].
    pub(super) fn take() -> TrafficResult<Self> {
        let path = Path::new(TRAFFIC);
        loop {
            match pin_dir::create_private(path) {
                Err(pin_dir::PinError::System(_, _, error))
                    if error.kind() == ErrorKind::AlreadyExists => {}
                result => result?,
            }
            pin_dir::require_trusted(path)?;
            let directory = match File::open(path) {
                // The last state, and the directory with it, was removed.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(failed("open", path))?,
            };
            lock_wait::lock(&directory, PATIENCE).map_err(|failure| match failure {
                LockFailure::Call(errno) => failed("flock", path)(errno.into()).into(),
                LockFailure::Held(holder) => TrafficError::Busy(path.to_owned(), holder),
            })?;
            let same = |found: fs::Metadata| Ok(found.ino() == directory.metadata()?.ino());
            match fs::metadata(path).and_then(same) {
                Ok(true) => return Ok(Self { _directory: directory }),
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(failed("stat", path)(error).into());
                }
                _ => {}
            }
        }
    }

    /// Removes what killed processes have left unfinished, and the directory if it is empty then.
    pub(super) fn sweep(&self) -> PinResult<()> {
        for path in pin_dir::list(Path::new(TRAFFIC))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(UNFINISHED) && !is_filled(&path) {
                pin_dir::remove(&path)?;
            }
        }
        Ok(())
    }
}

impl Drop for TrafficLock {
    fn drop(&mut self) {
        // They fail while there is a state.
        let _ = fs::remove_dir(TRAFFIC);
        let _ = fs::remove_dir(PIN_ROOT);
    }
}

fn own_name() -> PinResult<String> {
    let owner = ProcessIdentity::current().map_err(failed("read", Path::new("/proc/self")))?;
    Ok(owner.to_string())
}

/// Creates a directory that this process fills while it has the lock of the file that it gets. `lock`: nobody sweeps
/// between both.
pub(super) fn create_unfinished(_lock: &TrafficLock) -> PinResult<(PathBuf, File)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(TRAFFIC).join(format!("{UNFINISHED}{}-{number}", own_name()?));
    pin_dir::create(&path)?;
    let directory = File::open(&path).map_err(failed("open", &path))?;
    let locked = flock(&directory, FlockOperation::NonBlockingLockExclusive);
    locked.map_err(|errno| failed("flock", &path)(errno.into()))?;
    Ok((path, directory))
}

/// Whether a process fills this directory: it has its lock, which ends with the process, in whatever pid namespace.
fn is_filled(path: &Path) -> bool {
    let lock = |file| flock(file, FlockOperation::NonBlockingLockExclusive);
    File::open(path).is_ok_and(|directory| lock(directory) == Err(Errno::WOULDBLOCK))
}

/// Gives a finished directory its name. Fails where something is there.
pub(super) fn finish(unfinished: &Path, key: TrafficKey) -> PinResult<()> {
    let path = key.path();
    fs::rename(unfinished, &path).map_err(failed("rename", &path))
}

/// The directory of this port that another version has made.
pub(super) fn other_layout(key: TrafficKey) -> PinResult<Option<PathBuf>> {
    Ok(directories()?
        .into_iter()
        .find_map(|(path, layout, found)| (found == key && layout != LAYOUT).then_some(path)))
}

/// Every state of this layout.
pub(super) fn keys() -> PinResult<Vec<TrafficKey>> {
    let mut keys: Vec<_> = directories()?
        .into_iter()
        .filter_map(|(_, layout, key)| (layout == LAYOUT).then_some(key))
        .collect();
    keys.sort();
    Ok(keys)
}

fn directories() -> PinResult<Vec<(PathBuf, String, TrafficKey)>> {
    let found = pin_dir::list(Path::new(TRAFFIC))?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let (layout, key) = TrafficKey::parse(&name)?;
        Some((path, layout.to_owned(), key))
    });
    Ok(found.collect())
}

/// Whether an error says that nothing is there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_directory_has_its_layout_and_its_key() {
        let key = TrafficKey { netns: 7, protocol: Protocol::Udp, port: 443 };
        assert!(key.path().ends_with("traffic/v2-7-udp-443"));
        assert_eq!(TrafficKey::parse("v1-7-udp-443"), Some(("v1", key)));
        assert_eq!(TrafficKey::parse("v23-7-udp-443"), Some(("v23", key)));
        for name in
            ["v1-7-udp-443-5", "v1-7-sctp-443", "new-7-udp-443", "v1-7-udp", "v1-x-udp-1", ""]
        {
            assert_eq!(TrafficKey::parse(name), None, "{name}");
        }
    }
}
