//! The state of a set's group: the members in the kernel's order, and the withdrawn ones.
//!
//! The kernel appends a member when it joins (TCP at `listen`, UDP at `bind`), and moves the last one
//! into the place of a member that leaves (`net/core/sock_reuseport.c`). [`Group`] repeats that, so the
//! positions in its programs are right as long as every change happens under its lock and no other
//! socket is in the group, which is checked before a program is attached.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use socket2::SockRef;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::listen::AsHandle;
use crate::socket_job::SocketJob;
use crate::steering::Steering;
use crate::steering_program::{Instruction, program};
use crate::system::{Here, System};

/// A socket of any type that a group can set options on.
pub(crate) trait Handle: Send + Sync {
    fn socket(&self) -> SockRef<'_>;
}

impl<S: AsHandle + Send + Sync> Handle for S {
    fn socket(&self) -> SockRef<'_> {
        SockRef::from(self)
    }
}

/// The state that the members of one set share.
pub(crate) struct Group(Mutex<State>);

/// The members of a set, by their number in it.
pub(crate) struct State {
    pub(crate) job: SocketJob,
    pub(crate) steering: Steering,
    /// In the kernel's order.
    order: Vec<usize>,
    /// Whether `order` is the kernel's: every change so far was made under the lock.
    is_order_known: bool,
    withdrawn: BTreeSet<usize>,
    is_program_attached: bool,
    /// The number of each member's socket, where the system reports one.
    inodes: Vec<Option<u64>>,
    /// The processors, each with the member that it belongs to.
    processors: Vec<(usize, usize)>,
    /// The open sockets. A reference is upgraded under the lock only, so that a socket closes when its
    /// member drops it.
    sockets: Vec<Option<Weak<dyn Handle>>>,
}

impl Group {
    pub(crate) fn new(state: State) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The state of a set whose sockets, with these inodes, joined the group in this order.
    pub(crate) fn new(
        job: SocketJob,
        steering: Steering,
        inodes: Vec<Option<u64>>,
        processors: Vec<(usize, usize)>,
    ) -> Self {
        Self {
            job,
            steering,
            order: (0..inodes.len()).collect(),
            is_order_known: steering != Steering::OneQueue,
            withdrawn: BTreeSet::new(),
            is_program_attached: false,
            sockets: vec![None; inodes.len()],
            inodes,
            processors,
        }
    }

    /// Records the socket of a member.
    pub(crate) fn register(&mut self, member: usize, socket: Option<Weak<dyn Handle>>) {
        self.sockets[member] = socket;
    }

    /// The number of other sockets on the address; `None` if the system does not report it.
    pub(crate) fn others(&self) -> Option<usize> {
        let own: Option<BTreeSet<u64>> = self.order.iter().map(|m| self.inodes[*m]).collect();
        Here::others(&self.job, &own?)
    }

    /// Attaches the program of [`Steering::Program`] by the socket of a member.
    pub(crate) fn attach_first(&mut self, socket: &SockRef<'_>) -> io::Result<()> {
        let program = self.program(&[]).ok_or(io::ErrorKind::InvalidInput)?;
        Here::attach_program(socket, &program)?;
        self.is_program_attached = true;
        Ok(())
    }

    /// Steers new connections away from a member. It stays in the group until it is closed.
    pub(crate) fn withdraw(&mut self, member: usize) -> Result<()> {
        let error = |kind, note| Error::new(kind, "withdraw", self.job.address).with_note(note);
        if self.steering == Steering::OneQueue {
            return Err(error(
                ErrorKind::Unsupported,
                "the members are clones of one socket: close this one, the others take what waits",
            ));
        }
        if self.withdrawn.contains(&member) {
            return Ok(());
        }
        match self.others() {
            Some(0) if self.is_order_known => {}
            others => return Err(not_alone("withdraw", others, self.job.address)),
        }
        let Some(program) = self.program(&[member]) else {
            return Err(error(
                ErrorKind::Unsupported,
                "no other member is left to receive its connections",
            ));
        };
        let attached = match self.socket(member) {
            Some(socket) => Here::attach_program(&socket.socket(), &program),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        attached.map_err(|os| Error::os("setsockopt(program)", self.job.address, os))?;
        self.is_program_attached = true;
        self.withdrawn.insert(member);
        Ok(())
    }

    /// Whether a program steers new connections away from a member.
    pub(crate) fn is_withdrawn(&self, member: usize) -> bool {
        self.withdrawn.contains(&member)
    }

    /// Gives the connections of a member's processor to other sockets with `SO_INCOMING_CPU`, those of
    /// another process too. Without such sockets, the hash selects among all members.
    pub(crate) fn renounce_cpu(&mut self, member: usize) {
        if self.steering == Steering::IncomingCpu {
            if let Some(socket) = self.socket(member) {
                // Without effect, the member receives connections until it closes.
                let _ = Here::set_incoming_cpu(&socket.socket(), None);
            }
        }
    }

    /// Closes the socket of a member with `close`, and steers by the new positions.
    pub(crate) fn leave(&mut self, member: usize, close: impl FnOnce()) {
        if self.is_program_attached {
            self.prepare_leave(member);
        }
        self.sockets[member] = None;
        close();
        self.forget(member);
        if self.is_program_attached {
            self.update();
        }
    }

    /// Attaches a program that is right before and after a member leaves: the last member takes its
    /// place, and the last place is empty. The program selects neither, unless it must.
    fn prepare_leave(&mut self, member: usize) {
        let Some(socket) = self.socket(member) else { return };
        let is_alone = self.is_order_known && self.others() == Some(0);
        if !is_alone {
            // The next positions are unknown, and a program would outlive this set.
            self.stop(&socket.socket());
            return;
        }
        let last = self.order.last().copied().unwrap_or(member);
        let program = self.program(&[member, last]).or_else(|| self.program(&[member]));
        if let Some(program) = program {
            let result = Here::attach_program(&socket.socket(), &program);
            self.is_order_known &= result.is_ok();
        }
    }

    /// Records that a member left the group.
    fn forget(&mut self, member: usize) {
        if let Some(at) = self.order.iter().position(|m| *m == member) {
            self.order.swap_remove(at);
        }
        self.withdrawn.remove(&member);
        self.sockets[member] = None;
    }

    /// Records that a member's socket is in other hands: when it leaves is unknown.
    pub(crate) fn release(&mut self, member: usize, socket: &SockRef<'_>) {
        if self.is_program_attached {
            self.stop(socket);
        }
        self.is_order_known = false;
        self.forget(member);
    }

    /// Attaches the program of the present members by one of their sockets, or none if the hash and
    /// `SO_INCOMING_CPU` suffice.
    fn update(&mut self) {
        let Some(socket) = self.order.iter().find_map(|m| self.socket(*m)) else { return };
        let socket = socket.socket();
        let is_needed = self.steering == Steering::Program || !self.withdrawn.is_empty();
        match self.program(&[]) {
            Some(program) if is_needed && self.is_order_known => {
                if Here::attach_program(&socket, &program).is_err() {
                    self.stop(&socket);
                }
            }
            _ => self.stop(&socket),
        }
    }

    /// Returns every selection to the kernel's hash.
    fn stop(&mut self, socket: &SockRef<'_>) {
        self.is_program_attached = Here::detach_program(socket).is_err();
        self.withdrawn.clear();
        if self.steering == Steering::Program {
            self.steering = Steering::Hash;
        }
    }

    /// The program that selects no withdrawn member, and none of these.
    fn program(&self, without: &[usize]) -> Option<Vec<Instruction>> {
        let is_live = |m: &usize| !self.withdrawn.contains(m) && !without.contains(m);
        let position = |member: usize| self.order.iter().position(|m| *m == member);
        let live: Vec<usize> =
            (0..self.order.len()).filter(|at| is_live(&self.order[*at])).collect();
        let by_processor: Vec<(usize, usize)> = if self.steering.is_by_processor() {
            let owner = |(processor, member): &(usize, usize)| {
                Some((*processor, position(*member).filter(|_| is_live(member))?))
            };
            self.processors.iter().filter_map(owner).collect()
        } else {
            Vec::new()
        };
        program(&live, self.order.len(), &by_processor)
    }

    /// The open socket of a member. Dropped before the lock is released.
    fn socket(&self, member: usize) -> Option<Arc<dyn Handle>> {
        self.sockets[member].as_ref()?.upgrade()
    }
}

/// The error of a program that other sockets on the address prevent, or an unknown number of them.
pub(crate) fn not_alone(call: &'static str, others: Option<usize>, address: SocketAddr) -> Error {
    let error = |kind| Error::new(kind, call, address);
    match others {
        Some(_) => error(ErrorKind::SharedByOthers)
            .with_note("other sockets have the address, and a program would select for them too"),
        None => error(ErrorKind::Unsupported)
            .with_note("the system does not report whether other sockets have the address"),
    }
}
