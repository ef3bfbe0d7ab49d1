//! Groups: which runs may share an address.
//!
//! Two runs of one command in one directory share on purpose. Anything else would share by accident,
//! unless both name the same group. The check prevents accidents between the programs of one user; it
//! is no protection: any program can set SO_REUSEPORT itself.

pub mod run_line;

use std::ffi::OsString;
use std::path::PathBuf;

use crate::holder::Holder;
use crate::model::name::RunName;
use crate::model::{Address, Process};

/// The identity of a `sameport run`, which decides its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIdentity {
    /// `--group`.
    pub group: Option<RunName>,
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Where it was started; `None` if that may not be seen.
    pub directory: Option<PathBuf>,
}

impl RunIdentity {
    /// Whether both are of one group: they name the same one, or none and are the same command in the
    /// same directory.
    #[must_use]
    pub fn belongs_with(&self, other: &Self) -> bool {
        match (&self.group, &other.group) {
            (Some(one), Some(another)) => one == another,
            (None, None) => {
                self.command == other.command
                    && self.directory.is_some()
                    && self.directory == other.directory
            }
            _ => false,
        }
    }
}

/// A process that has a socket open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketHolder {
    /// The process.
    pub process: Process,
    /// The runs that it is in, the nearest first: one can be started in another.
    pub runs: Vec<RunIdentity>,
}

/// The holder of a socket that the run must not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAMember {
    /// A process of a run of another group.
    OtherGroup(Box<Holder>, RunIdentity),
    /// A holder that is in no run, and whether its socket is known to have `SO_REUSEPORT`.
    NoRun(Box<Holder>, Option<bool>),
    /// A process that cannot be seen.
    Unseen,
}

/// Whether a new socket on `address` takes traffic of one on `other`: it joins it, or its address is more
/// specific, so that the kernel gives it the traffic of its part whole.
#[must_use]
pub fn takes_traffic(address: &Address, other: &Address) -> bool {
    joins(address, other) || address.is_within(other)
}

/// Whether a socket on `address` joins one on `other`: both take the same traffic, however the addresses
/// are written. Where one address covers the other, the narrower one takes its part whole, and the sockets
/// share nothing.
#[must_use]
pub fn joins(address: &Address, other: &Address) -> bool {
    address.overlaps(other) && !address.is_within(other) && !other.is_within(address)
}

/// The holder of a socket that a worker of `run` must not join. One holder of the run's own group is
/// enough to join. `shared`: whether the socket has `SO_REUSEPORT`; without it the kernel itself refuses.
/// `classify` gives the holder of the socket, for messages.
#[must_use]
pub fn stranger(
    run: &RunIdentity,
    holders: &[SocketHolder],
    shared: Option<bool>,
    classify: impl FnOnce() -> Holder,
) -> Option<NotAMember> {
    let ours = |holder: &SocketHolder| holder.runs.iter().any(|other| run.belongs_with(other));
    if shared == Some(false) || holders.iter().any(ours) {
        return None;
    }
    Some(match holders.iter().find_map(|holder| holder.runs.first()) {
        Some(run) => NotAMember::OtherGroup(Box::new(classify()), run.clone()),
        None if holders.is_empty() => NotAMember::Unseen,
        None => NotAMember::NoRun(Box::new(classify()), shared),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::holder::{HolderFacts, classify};
    use crate::model::{Member, Protocol, Socket};

    fn program() -> Holder {
        let address = Address::new(Protocol::Tcp, "0.0.0.0:80".parse().unwrap());
        let processes = vec![Process::new(2, "server")];
        let member = Member { processes, ..Member::new(Socket::new(address, 1, 7)) };
        classify(&member, &[], &HolderFacts::default())
    }

    fn run(group: Option<&str>, command: &str, directory: Option<&str>) -> RunIdentity {
        RunIdentity {
            group: group.map(|name| name.parse().unwrap()),
            command: command.split(' ').map(OsString::from).collect(),
            directory: directory.map(PathBuf::from),
        }
    }

    fn holder<const N: usize>(pid: i32, runs: [&RunIdentity; N]) -> SocketHolder {
        let runs = runs.map(RunIdentity::clone).to_vec();
        SocketHolder { process: Process::new(pid, "server"), runs }
    }

    #[test]
    fn who_belongs_with_whom() {
        let home = Some("/home/ann");
        let plain = run(None, "server 80", home);
        let web = run(Some("web"), "server 80", home);
        let cases = [
            (&plain, run(None, "server 80", home), true),
            (&plain, run(None, "server 81", home), false),
            (&plain, run(None, "server", home), false),
            (&plain, run(None, "server 80", Some("/tmp")), false),
            (&plain, web.clone(), false),
            (&web, run(Some("web"), "other", Some("/tmp")), true),
            (&web, run(Some("web"), "other", None), true),
            (&web, run(Some("Web"), "server 80", home), false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(one.belongs_with(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.belongs_with(one), expected, "{other:?} {one:?}");
        }
        // Two that cannot be seen are not known to be the same.
        let unseen = run(None, "server 80", None);
        assert!(!unseen.belongs_with(&unseen));
    }

    #[test]
    fn who_is_a_stranger() {
        let ours = run(None, "server 80", Some("/home/ann"));
        let other = run(None, "other 80", Some("/home/ann"));
        let another = run(Some("web"), "server 80", Some("/home/ann"));
        let of_other = Some(NotAMember::OtherGroup(Box::new(program()), other.clone()));
        let plain = |shared| Some(NotAMember::NoRun(Box::new(program()), shared));
        let cases = [
            (vec![holder(1, [&ours])], None, None),
            (vec![holder(2, []), holder(1, [&ours])], Some(true), None),
            (vec![holder(3, [&other]), holder(1, [&ours])], None, None),
            (vec![holder(2, [])], None, plain(None)),
            (vec![holder(2, [])], Some(true), plain(Some(true))),
            (vec![holder(2, [])], Some(false), None),
            (vec![holder(3, [&other, &ours])], None, None),
            (vec![holder(3, [&ours, &other])], None, None),
            (vec![holder(3, [&other, &another])], None, of_other.clone()),
            (vec![holder(2, []), holder(3, [&other])], Some(true), of_other),
            (vec![], None, Some(NotAMember::Unseen)),
            (vec![], Some(false), None),
        ];
        for (holders, shared, expected) in cases {
            let found = stranger(&ours, &holders, shared, program);
            assert_eq!(found, expected, "{holders:?} {shared:?}");
        }
    }

    #[test]
    fn to_join_is_to_take_the_same_traffic() {
        let tcp = |text: &str| Address::new(Protocol::Tcp, text.parse().unwrap());
        let v6only = Address { v6only: true, ..tcp("[::]:80") };
        let on_lo = Address { device: Some("lo".into()), ..tcp("0.0.0.0:80") };
        let cases = [
            (tcp("0.0.0.0:80"), tcp("0.0.0.0:80"), true),
            (tcp("127.0.0.1:80"), tcp("[::ffff:127.0.0.1]:80"), true),
            (tcp("[::]:80"), tcp("[::]:80"), true),
            (on_lo.clone(), on_lo.clone(), true),
            (tcp("0.0.0.0:80"), tcp("127.0.0.1:80"), false),
            (tcp("[::]:80"), tcp("0.0.0.0:80"), false),
            // Both take IPv6, and the kernel prefers neither.
            (tcp("[::]:80"), v6only.clone(), true),
            (tcp("0.0.0.0:80"), v6only, false),
            (tcp("0.0.0.0:80"), on_lo, false),
            (tcp("0.0.0.0:80"), tcp("0.0.0.0:81"), false),
            (tcp("0.0.0.0:80"), Address::new(Protocol::Udp, "0.0.0.0:80".parse().unwrap()), false),
        ];
        for (one, other, expected) in cases {
            assert_eq!(joins(&one, &other), expected, "{one} {other}");
            assert_eq!(joins(&other, &one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_more_specific_address_takes_traffic() {
        let tcp = |text: &str| Address::new(Protocol::Tcp, text.parse().unwrap());
        let on_lo = Address { device: Some("lo".into()), ..tcp("0.0.0.0:80") };
        let cases = [
            (tcp("0.0.0.0:80"), tcp("0.0.0.0:80"), true),
            (tcp("127.0.0.1:80"), tcp("0.0.0.0:80"), true),
            (tcp("127.0.0.1:80"), tcp("[::]:80"), true),
            (tcp("0.0.0.0:80"), tcp("[::]:80"), true),
            (on_lo.clone(), tcp("0.0.0.0:80"), true),
            (tcp("0.0.0.0:80"), tcp("127.0.0.1:80"), false),
            (tcp("[::]:80"), tcp("0.0.0.0:80"), false),
            (tcp("0.0.0.0:80"), on_lo, false),
            (tcp("127.0.0.1:80"), tcp("127.0.0.2:80"), false),
            (tcp("127.0.0.1:80"), tcp("0.0.0.0:81"), false),
        ];
        for (new, other, expected) in cases {
            assert_eq!(takes_traffic(&new, &other), expected, "{new} {other}");
        }
    }
}
