//! What is done to held sockets and their groups, one caller at a time.

use std::collections::HashSet;
use std::os::fd::AsFd as _;

use sameport_policy::lifecycle::{Fallback, InstanceId};
use sameport_policy::model::{Address, Protocol};
use sameport_policy::traffic::steering;
use sameport_policy::traffic::steering::OrderedGroup;
use sameport_sys::inspect;
use sameport_sys::socket::WorkerSocket;
use sameport_sys::socket::{FdAlias, NonBlocking, closes_on_exec};

use super::PoolState;
use super::worker_view::PendingBind;
use crate::processes;

impl PoolState {
    pub(crate) fn own(&self, start: InstanceId) -> HashSet<u64> {
        let own = |inode: &u64| !self.slots.is_used_by_another(*inode, start);
        self.slots.used_by(start).map(|(inode, _)| inode).filter(own).collect()
    }

    /// What a bind is answered with where nothing is free.
    pub(crate) fn instead(&mut self, address: &Address, start: InstanceId) -> Fallback {
        let Some(before) = self.begun.get(&start).copied().flatten() else {
            return Fallback::OwnSocket;
        };
        let apart = address.protocol == Protocol::Tcp && self.others(address).is_none();
        if apart { Fallback::OwnSocket } else { Fallback::SocketOf(before) }
    }

    /// Why members of this group cannot be told apart, if they cannot: the kernel counts members that
    /// are not ours among them.
    pub(crate) fn others(&self, address: &Address) -> Option<String> {
        if let Some(why) = self.is_unordered(address) {
            return Some(why);
        }
        let query = inspect::SocketQuery::only(Protocol::Tcp).on(address.port());
        let ours = self.groups.get(address).map_or(&[][..], OrderedGroup::members);
        let gate = self.gates.get(address).map(WorkerSocket::inode);
        match inspect::list_without_owners(&query) {
            Ok(sockets) => sockets
                .iter()
                .filter(|socket| socket.address == *address)
                .any(|socket| !ours.contains(&socket.inode) && Some(socket.inode) != gate)
                .then(|| "members that are not of this run are on the address too".into()),
            // A look that fails is no reason to let go of those who are steered.
            Err(_) => None,
        }
    }

    /// Puts a held socket in the place of the worker's own.
    pub(crate) fn put(
        &mut self,
        inode: u64,
        start: InstanceId,
        caller: PendingBind<'_>,
        socket: &WorkerSocket,
    ) -> Result<(), String> {
        let PendingBind { listener, id, tid, fd } = caller;
        let shared = self.slots.is_used_by_another(inode, start);
        let held = self.sockets.get(&inode).ok_or("it is gone")?;
        if held.owner() != socket.owner() && !self.is_common(inode) {
            return Err("the worker's socket is another user's".into());
        }
        match socket.find_alias(tid, fd) {
            Ok(None) => {}
            Ok(Some(FdAlias::Epoll)) => {
                return Err("the program watches its socket (epoll) before it binds it".into());
            }
            Ok(Some(FdAlias::Duplicate)) => {
                return Err("the program has its socket twice before it binds it".into());
            }
            Err(errno) => return Err(format!("its descriptors cannot be read: {errno}")),
        }
        let flag = if shared { NonBlocking::OnlySet } else { NonBlocking::Same };
        socket.copy_options_to(held, flag).map_err(|error| error.to_string())?;
        let close_on_exec = closes_on_exec(tid, fd).map_err(|errno| errno.to_string())?;
        listener
            .replace_fd(id, held.as_fd(), fd, close_on_exec)
            .map(drop)
            .map_err(|errno| format!("it could not be put into the worker: {errno}"))
    }

    pub(crate) fn hold(&mut self, socket: WorkerSocket, address: &Address, start: InstanceId) {
        let inode = socket.inode();
        self.slots.add_user(inode, address, start);
        self.sockets.entry(inode).or_insert(socket);
    }

    /// Frees what this process has closed: a look among these processes, of which its first must be
    /// one. A process that comes or goes meanwhile can be missed, so one look is not believed.
    pub(crate) fn look_for_closed(&mut self, start: InstanceId, pids: &[i32]) {
        let used: Vec<u64> = self.slots.used_by(start).map(|(inode, _)| inode).collect();
        for inode in used {
            let is_open = |socket: &WorkerSocket| socket.is_open_in(pids);
            if self.sockets.get(&inode).is_none_or(is_open) {
                self.seems_closed.remove(&(inode, start));
            } else if !self.seems_closed.insert((inode, start)) {
                self.seems_closed.remove(&(inode, start));
                self.slots.remove_user(inode, start);
            }
        }
    }

    /// A worker that has closed its socket and binds again gets the same. This thread is asking.
    pub(crate) fn look_for_rebound(&mut self, start: InstanceId, tid: i32, address: &Address) {
        let here = |(_, at): &(u64, &Address)| *at == address;
        let used: Vec<u64> =
            self.slots.used_by(start).filter(here).map(|(inode, _)| inode).collect();
        if used.is_empty() {
            return;
        }
        let mut pids = processes::of(start, 0, &self.own(start));
        pids.push(tid);
        for inode in used {
            let is_open = |socket: &WorkerSocket| socket.is_open_in(&pids);
            if !self.sockets.get(&inode).is_none_or(is_open) {
                self.slots.remove_user(inode, start);
            }
        }
    }

    /// Tells the kernel who of this group gets new connections.
    pub(crate) fn steer(&mut self, address: &Address) {
        if self.gates.contains_key(address) {
            return;
        }
        let on = self.slots.on_address(address, &self.live);
        let takers = self.takers(address, &on);
        let Some(any) = self.any(address) else { return };
        let aimed = self.aims.values().any(|(at, _)| at == address);
        let outcome = if takers.len() == on.len() && !aimed {
            any.stop_steering().map_err(|errno| errno.to_string())
        } else if let Some(others) = self.others(address) {
            // The kernel's own choice is fairer to them than one that leaves them out.
            let _ = any.stop_steering();
            Err(others)
        } else {
            self.steer_to(address, |inode| takers.contains(inode))
        };
        match outcome {
            Ok(()) => self.not_steered.remove(address),
            Err(why) => self.not_steered.insert(address.clone(), why),
        };
    }

    pub(crate) fn any(&self, address: &Address) -> Option<&WorkerSocket> {
        let members = self.groups.get(address)?.members();
        members.iter().find_map(|inode| self.sockets.get(inode))
    }

    pub(crate) fn steer_to(
        &self,
        address: &Address,
        takes: impl Fn(&u64) -> bool,
    ) -> Result<(), String> {
        let aims = self.aims.iter().filter(|(_, (at, _))| at == address);
        let aims: Vec<(u16, u64)> = aims.map(|(from, (_, inode))| (*from, *inode)).collect();
        let program = self.groups.get(address).and_then(|group| {
            let places = aims.iter().filter_map(|(from, inode)| Some((*from, group.index(inode)?)));
            Some(steering::with_fixed_ports(&places.collect::<Vec<_>>(), group.program(takes)?))
        });
        match (program, self.any(address)) {
            (Some(program), Some(any)) => {
                any.steer(&program).map_err(|errno| format!("the kernel refused it: {errno}"))
            }
            _ => Err("there are too many members".into()),
        }
    }

    /// Whoever joins the group next gets nothing.
    pub(crate) fn keep_newcomers_out(&mut self, address: &Address) {
        let on = self.slots.on_address(address, &self.live);
        if self.others(address).is_none() {
            let live = |inode: &u64| on.get(inode).copied().unwrap_or(false);
            if let Err(why) = self.steer_to(address, live) {
                self.not_steered.insert(address.clone(), why);
            }
        }
    }

    /// Does not hold a socket any longer.
    pub(crate) fn release(&mut self, inode: u64) {
        let address = self.groups.iter().find(|(_, group)| group.index(&inode).is_some());
        let address = address.map(|(address, _)| address.clone());
        if let Some(address) = &address
            && !self.unordered.contains(address)
        {
            let on = self.slots.on_address(address, &self.live);
            let live = |inode: &u64| on.get(inode).copied().unwrap_or(false);
            let program =
                self.groups.get(address).and_then(|g| g.program_while_leaving(&inode, live));
            if let (Some(program), Some(any)) = (program, self.any(address)) {
                // If it fails, the kernel chooses by its own hash for a moment.
                let _ = any.steer(&program);
            }
        }
        self.store.forget(inode);
        self.sockets.remove(&inode);
        self.slots.release(inode);
        let Some(address) = address else { return };
        if let Some(group) = self.groups.get_mut(&address) {
            group.leave(&inode);
            match group.members() {
                [] => drop(self.groups.remove(&address)),
                [_] => drop(self.unordered.remove(&address)),
                _ => {}
            }
        }
        self.tell_store(&address);
        self.steer(&address);
    }

    /// Steers everybody to a member that answers nobody.
    pub(crate) fn close(&mut self, address: &Address) -> Result<(), String> {
        if let Some(others) = self.others(address) {
            return Err(others);
        }
        let gate = self.any(address).ok_or("there is no member")?.open_gate();
        let gate = gate.map_err(|errno| errno.to_string())?;
        self.keep_newcomers_out(address);
        gate.listen(1).map_err(|errno| errno.to_string())?;
        let inode = gate.inode();
        if let Some(group) = self.groups.get_mut(address) {
            group.join(inode);
        }
        self.gates.insert(address.clone(), gate);
        self.steer_to(address, |member| *member == inode)
    }
}
