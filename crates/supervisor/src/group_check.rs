//! Whether a worker may join the sockets on its address: checked before the worker binds.
//!
//! Most often the address is free, or has only the run's own sockets, which one or two requests to the
//! kernel tell. Only for other sockets the check inspects which processes hold them, and which runs
//! started those.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sameport_policy::bind::facts::{Outsiders, PortMembers};
use sameport_policy::bind::private;
use sameport_policy::holder::classify;
use sameport_policy::membership;
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::membership::{NotAMember, RunIdentity, SocketHolder};
use sameport_policy::model::name::RunName;
use sameport_policy::model::{Address, Member, Process, Socket};
use sameport_sys::inspect;
use sameport_sys::inspect::SocketQuery;
use sameport_sys::netlink::AddressProbe;
use sameport_sys::proc;
use sameport_sys::process;

use crate::control::holder_facts;
use crate::plan::{PROGRAM, RunPlan};
use crate::processes;

/// The limit of remembered sockets of the run. A forgotten one is inspected again.
const MOST_OWN: usize = 4096;

/// The limit of remembered strangers, and how long each is remembered: a program that tries again and
/// again is answered without an inspection of every process.
const MOST_STRANGERS: usize = 256;
const REMEMBERED: Duration = Duration::from_secs(1);

/// How long the result "only sockets of this run" stays valid for an address, so that a program that
/// binds one address repeatedly does not cause a list of every UDP socket for each bind. The check is
/// not exact in any case: another socket can join between the check and the bind.
const STAYS_OWN: Duration = Duration::from_millis(5);

/// Attempts to find the holders of a socket, which may just be closing.
const INSPECTIONS: u8 = 2;

/// Facts about the other sockets that only some binds need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberQuestions {
    /// Whether a socket on a wider address counts: the new one would take a part of its traffic.
    pub narrower: bool,
    /// Whether the sockets of other users and groups count that overlap the address.
    pub outsiders: bool,
}

/// The check; `None` where workers may share with every socket (`--join`).
#[derive(Debug, Clone)]
pub(crate) struct GroupCheck(Option<Arc<KnownGroup>>);

#[derive(Debug)]
struct KnownGroup {
    run: RunIdentity,
    /// The name of a named run: its workers have the name in their environment, which outlives their
    /// supervisor.
    name: Option<RunName>,
    /// See `run_files::runtime_dir`.
    runtime: Option<OsString>,
    sockets: Mutex<CheckedSockets>,
}

/// Sockets that have been checked, by inode.
#[derive(Debug, Default)]
struct CheckedSockets {
    own: BTreeSet<u64>,
    /// The same inodes, the oldest first.
    oldest: VecDeque<u64>,
    strangers: BTreeMap<u64, (Instant, NotAMember)>,
    /// The last address whose sockets all belonged to this run, for this owner.
    last_all_own: Option<(Instant, u32, Address)>,
    probe: AddressProbe,
    /// The run's own sockets that were left unshared beside others.
    left_alone: BTreeSet<u64>,
}

impl GroupCheck {
    pub(crate) fn new(plan: &RunPlan) -> Self {
        if plan.scope.join {
            return Self(None);
        }
        let run = plan.belonging();
        let name = plan.named.as_ref().map(|named| named.name.clone());
        let runtime = plan.environment.runtime_dir.clone();
        Self(Some(Arc::new(KnownGroup { run, name, runtime, sockets: Mutex::default() })))
    }

    /// The other sockets on an address that a worker's socket is about to take, once it has this
    /// owner. Without a stranger among them, the socket is from now on one of the run's own. The
    /// kernel itself refuses to share with another user's sockets.
    ///
    /// `questions`: facts beside the members of the address.
    pub(crate) fn members(
        &self,
        inode: u64,
        owner: u32,
        address: &Address,
        questions: MemberQuestions,
    ) -> PortMembers {
        let query = SocketQuery::only(address.protocol).on(address.port());
        let overlaps = |other: &&Socket| other.inode != inode && address.overlaps(&other.address);
        let Some(group) = &self.0 else {
            let listed = questions.outsiders.then(|| inspect::list_without_owners(&query));
            let listed = listed.and_then(Result::ok).unwrap_or_default();
            let outsiders = beside(owner, listed.iter().filter(overlaps));
            return PortMembers { outsiders, ..PortMembers::default() };
        };
        {
            let mut sockets = group.sockets();
            // A probe does not find a socket on a part of the address.
            let is_free = |sockets: &mut CheckedSockets| !sockets.probe.may_be_taken(address);
            if sockets.all_own(address, owner) || !questions.outsiders && is_free(&mut sockets) {
                sockets.add_own([inode]);
                return PortMembers::default();
            }
        }
        // Without a list, the kernel alone decides.
        let listed = inspect::list_without_owners(&query).unwrap_or_default();
        let group_listens =
            listed.iter().any(|listener| private::stands_beside(owner, address, listener));
        let outsiders = match questions.outsiders {
            true => group.outsiders(owner, &query, listed.iter().filter(overlaps), inode),
            false => Outsiders::None,
        };
        let mut sockets = group.sockets();
        let unknown: BTreeSet<u64> = listed
            .iter()
            .filter(|other| other.uid == owner && other.inode != inode)
            .filter(|other| match questions.narrower {
                true => membership::takes_traffic(address, &other.address),
                false => membership::joins(address, &other.address),
            })
            .map(|other| other.inode)
            .filter(|inode| !sockets.own.contains(inode))
            .collect();
        let stranger = if unknown.is_empty() {
            sockets.add_own([inode]);
            if !group_listens && outsiders == Outsiders::None {
                sockets.last_all_own = Some((Instant::now(), owner, address.clone()));
            }
            None
        } else if let Some(stranger) = unknown.iter().find_map(|inode| sockets.stranger(*inode)) {
            Some(stranger)
        } else {
            drop(sockets);
            let found = group.inspect(&query, &unknown);
            group.sockets().learn(found, inode)
        };
        PortMembers { stranger: stranger.map(Box::new), group_listens, outsiders }
    }
}

/// The outsiders where every socket may be joined: the members of the run are not told apart.
fn beside<'a>(owner: u32, mut others: impl Iterator<Item = &'a Socket>) -> Outsiders {
    let mut found = Outsiders::None;
    for other in &mut others {
        if other.uid != owner {
            return Outsiders::Apart;
        }
        found = Outsiders::Joined;
    }
    found
}

impl KnownGroup {
    fn sockets(&self) -> MutexGuard<'_, CheckedSockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outsiders among the sockets on overlapping addresses. `inode`: the new socket, which is
    /// remembered if it is to be left alone.
    fn outsiders<'a>(
        &self,
        owner: u32,
        query: &SocketQuery,
        others: impl Iterator<Item = &'a Socket>,
        inode: u64,
    ) -> Outsiders {
        let (same_user, foreign): (Vec<&Socket>, Vec<_>) =
            others.partition(|other| other.uid == owner);
        let (unknown, is_beside_left_alone) = {
            let sockets = self.sockets();
            let inodes = || same_user.iter().map(|other| other.inode);
            let unknown = inodes().filter(|inode| !sockets.own.contains(inode)).collect();
            (unknown, inodes().any(|inode| sockets.left_alone.contains(&inode)))
        };
        if !foreign.is_empty() || self.has_outsider(query, &unknown) {
            let mut sockets = self.sockets();
            if sockets.left_alone.len() >= MOST_OWN {
                sockets.left_alone.clear();
            }
            sockets.left_alone.insert(inode);
            return Outsiders::Apart;
        }
        if is_beside_left_alone { Outsiders::Joined } else { Outsiders::None }
    }

    /// Whether one of these sockets is not of this group, and can have `SO_REUSEADDR`. Without it, the
    /// kernel refuses a socket that is left alone as well.
    fn has_outsider(&self, query: &SocketQuery, inodes: &BTreeSet<u64>) -> bool {
        if inodes.is_empty() {
            return false;
        }
        let members = inspect::list_sockets(query).map(|it| it.members).unwrap_or_default();
        let can_reuse =
            |member: &&Member| member.options.is_none_or(|options| options.reuse_address);
        members
            .iter()
            .filter(|it| inodes.contains(&it.socket.inode))
            .filter(can_reuse)
            .any(|it| self.stranger(it, None).is_some())
    }

    /// Those of these sockets that still exist, each with the stranger that holds it, if any.
    fn inspect(
        &self,
        query: &SocketQuery,
        inodes: &BTreeSet<u64>,
    ) -> Vec<(u64, Option<NotAMember>)> {
        let mut found = Vec::new();
        for _ in 0..INSPECTIONS {
            // The messages about a stranger have its command and its unit.
            let query = SocketQuery { details: true, ..*query };
            let Ok(snapshot) = inspect::list_sockets(&query) else { return Vec::new() };
            let wanted = |member: &&Member| inodes.contains(&member.socket.inode);
            let members: Vec<&Member> = snapshot.members.iter().filter(wanted).collect();
            found = members.iter().map(|member| self.judge(member)).collect();
            if !found.iter().any(|(_, stranger)| *stranger == Some(NotAMember::Unseen)) {
                break;
            }
        }
        found
    }

    fn judge(&self, member: &Member) -> (u64, Option<NotAMember>) {
        (member.socket.inode, self.stranger(member, member.shared))
    }

    fn stranger(&self, member: &Member, shared: Option<bool>) -> Option<NotAMember> {
        let holders: Vec<_> = member.processes.iter().map(|process| self.holder(process)).collect();
        membership::stranger(&self.run, &holders, shared, || {
            let members = std::slice::from_ref(member);
            let facts = holder_facts(members, self.runtime.as_deref(), false);
            classify(member, &[member], &facts)
        })
    }

    fn holder(&self, process: &Process) -> SocketHolder {
        let lines = proc::ancestor_commands(process.pid, PROGRAM);
        let runs = lines.filter_map(|line| {
            Some(RunLine::read(&line.words)?.identity(line.directory.as_deref()))
        });
        let value = || process::env_value(process.pid, processes::NAME);
        let left_behind = |name: &RunName| value().is_some_and(|it| it == name.as_str().as_bytes());
        let ours = self.name.as_ref().filter(|name| left_behind(name)).map(|_| self.run.clone());
        SocketHolder { process: process.clone(), runs: ours.into_iter().chain(runs).collect() }
    }
}

impl CheckedSockets {
    /// Whether all sockets on this address belonged to this run a moment ago.
    fn all_own(&self, address: &Address, owner: u32) -> bool {
        self.last_all_own
            .as_ref()
            .is_some_and(|(at, of, on)| at.elapsed() < STAYS_OWN && *of == owner && on == address)
    }

    fn add_own(&mut self, inodes: impl IntoIterator<Item = u64>) {
        for inode in inodes {
            self.strangers.remove(&inode);
            if self.own.insert(inode) {
                self.oldest.push_back(inode);
            }
        }
        while self.oldest.len() > MOST_OWN {
            if let Some(oldest) = self.oldest.pop_front() {
                self.own.remove(&oldest);
            }
        }
    }

    /// The stranger that held this socket a moment ago.
    fn stranger(&self, inode: u64) -> Option<NotAMember> {
        let (found, stranger) = self.strangers.get(&inode)?;
        (found.elapsed() < REMEMBERED).then(|| stranger.clone())
    }

    /// Remembers the result of an inspection, and returns the first stranger. Without one, `socket` is
    /// the run's own.
    fn learn(&mut self, found: Vec<(u64, Option<NotAMember>)>, socket: u64) -> Option<NotAMember> {
        let mut first = None;
        for (inode, stranger) in found {
            match stranger {
                None => self.add_own([inode]),
                Some(stranger) => {
                    if self.strangers.len() >= MOST_STRANGERS {
                        self.strangers.clear();
                    }
                    self.strangers.insert(inode, (Instant::now(), stranger.clone()));
                    first = first.or(Some(stranger));
                }
            }
        }
        if first.is_none() {
            self.add_own([socket]);
        }
        first
    }
}
