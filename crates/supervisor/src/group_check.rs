//! Whether a worker may join who is on its address already: looked up before it does.
//!
//! Most often nobody is, or only this run's own sockets, which a question or two to the kernel tell.
//! Only for others is looked which processes have them, and by whom those were started.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sameport_policy::membership;
use sameport_policy::membership::run_line::RunLine;
use sameport_policy::membership::{NotAMember, RunIdentity, SocketHolder};
use sameport_policy::model::name::RunName;
use sameport_policy::model::{Address, Member, Process};
use sameport_sys::inspect;
use sameport_sys::inspect::SocketQuery;
use sameport_sys::netlink;
use sameport_sys::proc;
use sameport_sys::process;
use sameport_sys::socket::WorkerSocket;

use crate::plan::{PROGRAM, RunPlan};
use crate::processes;

/// How many sockets are remembered as ours. One that is forgotten is looked for again.
const MOST_OURS: usize = 4096;

/// How many sockets are remembered as strangers', and for how long: a program that tries again and
/// again is to be answered without a look at every process.
const MOST_STRANGERS: usize = 256;
const REMEMBERED: Duration = Duration::from_secs(1);

/// How often is looked for the processes of a socket: it may just be on its way out.
const LOOKS: u8 = 2;

/// Knows with whom workers may share; with everybody, if there is nothing to know.
#[derive(Debug, Clone)]
pub(crate) struct GroupCheck(Option<Arc<KnownGroup>>);

#[derive(Debug)]
struct KnownGroup {
    run: RunIdentity,
    /// A named run's: workers have it in their environment, which outlives their supervisor.
    name: Option<RunName>,
    sockets: Mutex<CheckedSockets>,
}

/// Sockets that have been looked up, by inode.
#[derive(Debug, Default)]
struct CheckedSockets {
    ours: BTreeSet<u64>,
    /// The same, the oldest first.
    oldest: VecDeque<u64>,
    strangers: BTreeMap<u64, (Instant, NotAMember)>,
}

impl GroupCheck {
    pub(crate) fn new(plan: &RunPlan) -> Self {
        if plan.scope.join {
            return Self(None);
        }
        let run = plan.belonging();
        let name = plan.named.as_ref().map(|named| named.name.clone());
        Self(Some(Arc::new(KnownGroup { run, name, sockets: Mutex::default() })))
    }

    /// Who is on this address, if this socket of a worker is not to join them; from now on it is one
    /// of ours otherwise. Sockets of another user are the kernel's business.
    pub(crate) fn stranger(&self, socket: &WorkerSocket, address: &Address) -> Option<NotAMember> {
        let known = self.0.as_ref()?;
        if !netlink::may_be_taken(address) {
            known.sockets().are_ours([socket.inode()]);
            return None;
        }
        let query = SocketQuery::only(address.protocol).on(address.port());
        // What cannot be looked at is left to the kernel.
        let there = inspect::list_without_owners(&query).unwrap_or_default();
        let mut sockets = known.sockets();
        let others: BTreeSet<u64> = there
            .iter()
            .filter(|other| other.uid == socket.owner() && other.inode != socket.inode())
            .filter(|other| membership::joins(address, &other.address))
            .map(|other| other.inode)
            .filter(|inode| !sockets.ours.contains(inode))
            .collect();
        if others.is_empty() {
            sockets.are_ours([socket.inode()]);
            return None;
        }
        if let Some(stranger) = others.iter().find_map(|inode| sockets.stranger(*inode)) {
            return Some(stranger);
        }
        drop(sockets);
        let found = known.look(&query, &others);
        known.sockets().learn(found, socket.inode())
    }
}

impl KnownGroup {
    fn sockets(&self) -> MutexGuard<'_, CheckedSockets> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of these sockets that are still there, and who has each, if it is no one of ours.
    fn look(&self, query: &SocketQuery, inodes: &BTreeSet<u64>) -> Vec<(u64, Option<NotAMember>)> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let Ok(seen) = inspect::list_sockets(query) else { return Vec::new() };
            let wanted = |member: &&Member| inodes.contains(&member.socket.inode);
            found = seen.members.iter().filter(wanted).map(|member| self.judge(member)).collect();
            if !found.iter().any(|(_, stranger)| *stranger == Some(NotAMember::Unseen)) {
                break;
            }
        }
        found
    }

    fn judge(&self, member: &Member) -> (u64, Option<NotAMember>) {
        let holders: Vec<_> = member.processes.iter().map(|process| self.holder(process)).collect();
        (member.socket.inode, membership::stranger(&self.run, &holders, member.shared))
    }

    fn holder(&self, process: &Process) -> SocketHolder {
        let lines = proc::ancestor_commands(process.pid, PROGRAM);
        let runs = lines.filter_map(|line| {
            let RunLine { group, command, name: _ } = RunLine::read(&line.words)?;
            Some(RunIdentity { group, command, directory: line.directory })
        });
        let value = || process::env_value(process.pid, processes::NAME);
        let left_behind = |name: &RunName| value().is_some_and(|it| it == name.as_str().as_bytes());
        let ours = self.name.as_ref().filter(|name| left_behind(name)).map(|_| self.run.clone());
        SocketHolder { process: process.clone(), runs: ours.into_iter().chain(runs).collect() }
    }
}

impl CheckedSockets {
    fn are_ours(&mut self, inodes: impl IntoIterator<Item = u64>) {
        for inode in inodes {
            self.strangers.remove(&inode);
            if self.ours.insert(inode) {
                self.oldest.push_back(inode);
            }
        }
        while self.oldest.len() > MOST_OURS {
            if let Some(oldest) = self.oldest.pop_front() {
                self.ours.remove(&oldest);
            }
        }
    }

    /// One that was found to be a stranger's a moment ago.
    fn stranger(&self, inode: u64) -> Option<NotAMember> {
        let (found, stranger) = self.strangers.get(&inode)?;
        (found.elapsed() < REMEMBERED).then(|| stranger.clone())
    }

    /// Remembers what was found. The first stranger, or this socket is ours.
    fn learn(&mut self, found: Vec<(u64, Option<NotAMember>)>, socket: u64) -> Option<NotAMember> {
        let mut first = None;
        for (inode, stranger) in found {
            match stranger {
                None => self.are_ours([inode]),
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
            self.are_ours([socket]);
        }
        first
    }
}
