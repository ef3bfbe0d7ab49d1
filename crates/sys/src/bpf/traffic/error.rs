//! Why the traffic of a port could not be steered.

use std::io;
use std::path::PathBuf;

use crate::bpf::attach_error::AttachError;
use crate::bpf::pin_dir::PinError;
use crate::cgroup::CgroupError;

/// Why the kernel does not follow a plan by eBPF. After an error the state of the port is as before.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    /// There is no root cgroup to count at.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// A program could not be loaded or attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The pins could not be created, read or removed.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The state of the port was made by another version of sameport.
    #[error("{path} has another layout", path = .0.display())]
    OtherLayout(PathBuf),
    /// Something that sameport has not made is at the path of the state.
    #[error("{path} is not of sameport", path = .0.display())]
    NotOurs(PathBuf),
    /// Another program selects the members of a group.
    #[error("another program selects the members")]
    Steered,
    /// Another process of sameport has held the lock of this directory for 10 s: it is stopped, or hangs. The
    /// process, where the kernel names one.
    #[error("{path} is locked by {by}", path = .0.display(), by = process(*.1))]
    Busy(PathBuf, Option<i32>),
    /// A call on the socket with this inode failed.
    #[error("{0} of socket {1}: {2}")]
    Socket(&'static str, u64, io::Error),
    /// The port has more than four groups, one for each address.
    #[error("more than 4 addresses")]
    TooManyAddresses,
    /// The port has more than 1,024 members.
    #[error("more than 1,024 members")]
    TooManyMembers,
    /// Another process has changed the rules of the port since they were read.
    #[error("another process has changed it")]
    Changed,
    /// No socket was given, or each was closed meanwhile.
    #[error("no member listens")]
    NoMember,
    /// What the user asked for is longer than 65,528 bytes.
    #[error("the rules are too long")]
    TooLong,
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "a process of another pid namespace".to_owned(), |pid| format!("pid {pid}"))
}

pub(super) type TrafficResult<T> = Result<T, TrafficError>;
