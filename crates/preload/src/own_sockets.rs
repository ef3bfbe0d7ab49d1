//! The bound sockets of one execution: a process and everything that it forked without `exec`.
//!
//! The table is in anonymous shared memory: a forked process has the same one, a program that is executed
//! starts without one. Its words are atomic and no call waits, so that a signal handler, a thread or a
//! `vfork`ed child can use it during another bind. What it says is verified before it is used: a socket can be
//! closed without notice.
//!
//! A socket is added before its bind, and the others are searched after that. Of two sockets that are bound at
//! the same time, at least one therefore finds the other and is left unshared. A process that is killed
//! while it adds a socket leaves one slot unusable.

#![expect(unsafe_code, reason = "maps shared memory, and reads the table there")]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

use crate::machine::{call, number};
use crate::overlap::contains_ip;
use crate::protocol::Protocol;
use crate::reuse::{OwnStep, ReuseOptions, refuses};
use crate::sockets::{listens, socket_inode, socket_inode_of};

/// The number of sockets that the table can hold. One more is shared without being compared.
const SLOTS: usize = 256;

/// The number of descriptors among which a socket is searched that has moved to another number.
const MOST_DESCRIPTORS: i32 = 64;

/// A socket in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwnSocket {
    pub(crate) pid: i32,
    pub(crate) fd: i32,
    pub(crate) inode: u64,
    pub(crate) protocol: Protocol,
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) v6only: bool,
    /// The index of the interface of SO_BINDTODEVICE; 0 for none.
    pub(crate) device: i32,
    /// What the program itself has set.
    pub(crate) options: ReuseOptions,
}

impl OwnSocket {
    fn overlaps(&self, other: &Self) -> bool {
        let devices_match = self.device == other.device || self.device == 0 || other.device == 0;
        self.protocol == other.protocol
            && self.port == other.port
            && devices_match
            && (contains_ip(self.ip, self.v6only, other.ip)
                || contains_ip(other.ip, other.v6only, self.ip))
    }

    /// Whether the socket is still open, and if so whether it can listen. `own_pid`: the calling process.
    /// `everywhere`: also search numbers to which the socket can have moved.
    ///
    /// If the descriptors of another process are not readable, the socket counts as open: a new one is
    /// then left to the kernel.
    fn state(&self, own_pid: i32, everywhere: bool) -> Option<MayListen> {
        let is_here = |fd: i32| socket_inode(fd) == Some(self.inode);
        // A forked process has the sockets of its parent under the same numbers.
        if is_here(self.fd) {
            return Some(MayListen(listens(self.fd)));
        }
        if everywhere && let Some(fd) = (0..MOST_DESCRIPTORS).find(|fd| is_here(*fd)) {
            return Some(MayListen(listens(fd)));
        }
        if self.pid == own_pid {
            return None;
        }
        match socket_inode_of(self.pid, self.fd) {
            Ok(inode) => (inode == Some(self.inode)).then_some(MayListen(true)),
            Err(_) => Some(MayListen(true)),
        }
    }
}

struct MayListen(bool);

/// The states of a slot, in the two lowest bits of its head.
const EMPTY: u64 = 0;
/// Its words are being written.
const CLAIMED: u64 = 1;
const BOUND: u64 = 2;
/// The bind has failed. The options of the program are kept for the next attempt.
const NOT_BOUND: u64 = 3;
const STATE: u64 = 3;

const UDP: u64 = 1 << 2;
const REUSE_PORT: u64 = 1 << 3;
const REUSE_ADDRESS: u64 = 1 << 4;
const V6ONLY: u64 = 1 << 5;
const IPV6: u64 = 1 << 6;
const PORT_SHIFT: u32 = 16;
/// The upper half counts the changes of the slot, so that no two uses have the same head.
const CHANGE: u64 = 1 << 32;

/// All bits zero: empty.
struct Slot {
    head: AtomicU64,
    ip: [AtomicU64; 2],
    /// The process << 32, and the descriptor.
    owner: AtomicU64,
    inode: AtomicU64,
    device: AtomicU64,
}

impl Slot {
    /// The socket, unless the slot changes meanwhile.
    fn read(&self) -> Option<(u64, OwnSocket)> {
        let head = self.head.load(Ordering::SeqCst);
        if head & STATE < BOUND {
            return None;
        }
        let [high, low] = [0, 1].map(|half: usize| self.ip[half].load(Ordering::Relaxed));
        let owner = self.owner.load(Ordering::Relaxed);
        let inode = self.inode.load(Ordering::Relaxed);
        let device = self.device.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        if self.head.load(Ordering::Relaxed) != head {
            return None;
        }
        let bits = u128::from(high) << 64 | u128::from(low);
        let has = |bit: u64| head & bit != 0;
        let socket = OwnSocket {
            pid: lower_half(owner >> 32),
            fd: lower_half(owner),
            inode,
            protocol: if has(UDP) { Protocol::Udp } else { Protocol::Tcp },
            ip: if has(IPV6) {
                Ipv6Addr::from_bits(bits).into()
            } else {
                Ipv4Addr::from_bits(u32::try_from(bits).ok()?).into()
            },
            port: u16::try_from(head >> PORT_SHIFT & 0xffff).ok()?,
            v6only: has(V6ONLY),
            device: lower_half(device),
            options: ReuseOptions {
                reuse_port: has(REUSE_PORT),
                reuse_address: has(REUSE_ADDRESS),
            },
        };
        Some((head, socket))
    }

    /// Changes the state of a slot that still has this head. Returns the new head.
    fn change(&self, head: u64, state: u64) -> Option<u64> {
        let new = (head & !STATE | state).wrapping_add(CHANGE);
        let changed = self.head.compare_exchange(head, new, Ordering::SeqCst, Ordering::Relaxed);
        changed.is_ok().then_some(new)
    }

    /// Writes a socket to a slot that the caller has claimed by this head. Returns the new head.
    fn write(&self, head: u64, socket: &OwnSocket) -> u64 {
        // A reader that sees one of the words below sees the claim too.
        fence(Ordering::Release);
        let bits = match socket.ip {
            IpAddr::V4(ip) => u128::from(ip.to_bits()),
            IpAddr::V6(ip) => ip.to_bits(),
        };
        self.ip[0].store(u64::try_from(bits >> 64).unwrap_or(0), Ordering::Relaxed);
        self.ip[1]
            .store(u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0), Ordering::Relaxed);
        let owner = word(socket.pid) << 32 | word(socket.fd);
        self.owner.store(owner, Ordering::Relaxed);
        self.inode.store(socket.inode, Ordering::Relaxed);
        self.device.store(word(socket.device), Ordering::Relaxed);
        let bit = |bit: u64, is_set: bool| if is_set { bit } else { 0 };
        let new = (head & !(CHANGE - 1)).wrapping_add(CHANGE)
            | u64::from(socket.port) << PORT_SHIFT
            | bit(UDP, socket.protocol == Protocol::Udp)
            | bit(REUSE_PORT, socket.options.reuse_port)
            | bit(REUSE_ADDRESS, socket.options.reuse_address)
            | bit(V6ONLY, socket.v6only)
            | bit(IPV6, socket.ip.is_ipv6())
            | BOUND;
        self.head.store(new, Ordering::SeqCst);
        new
    }
}

/// A socket that was added to the table: its slot, and the slot's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AddedSocket {
    index: usize,
    head: u64,
}

/// The table of the execution, or no table: then nothing is compared.
pub(crate) struct OwnSockets(AtomicPtr<[Slot; SLOTS]>);

impl OwnSockets {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Makes the table, unless it exists. A process that is forked earlier has its own.
    pub(crate) fn open(&self) {
        const READ_WRITE: usize = 3;
        const SHARED_ANONYMOUS: usize = 0x21;
        if !self.0.load(Ordering::Acquire).is_null() {
            return;
        }
        let size = size_of::<[Slot; SLOTS]>();
        let arguments = [0, size, READ_WRITE, SHARED_ANONYMOUS, usize::MAX, 0];
        // SAFETY: the kernel chooses an address that is not in use.
        let Ok(address) = (unsafe { call(number::MMAP, arguments) }) else { return };
        let table = core::ptr::with_exposed_provenance_mut(address);
        let (order, failed) = (Ordering::AcqRel, Ordering::Relaxed);
        if self.0.compare_exchange(null_mut(), table, order, failed).is_err() {
            // SAFETY: no other code has the address of this mapping.
            let _ = unsafe { call(number::MUNMAP, [address, size, 0, 0, 0, 0]) };
        }
    }

    fn slots(&self) -> &[Slot] {
        let table = self.0.load(Ordering::Acquire);
        // SAFETY: the pointer is null or a mapping of this size, which is never unmapped; zero bytes, as the
        // kernel provides, are valid atomics, and all accesses are atomic.
        unsafe { table.as_ref() }.map_or(&[], |slots| slots)
    }

    /// The entry of a socket that was added before, and whether its bind is not known to have failed.
    pub(crate) fn find(&self, inode: u64) -> Option<(AddedSocket, ReuseOptions, bool)> {
        self.slots().iter().enumerate().find_map(|(index, slot)| {
            let (head, socket) = slot.read()?;
            let added = AddedSocket { index, head };
            (socket.inode == inode).then_some((added, socket.options, head & STATE == BOUND))
        })
    }

    /// A socket whose bind is not known to have failed.
    pub(crate) fn bound(&self, inode: u64) -> Option<OwnSocket> {
        let mut sockets = self.slots().iter().filter_map(Slot::read);
        sockets.find_map(|(head, it)| (head & STATE == BOUND && it.inode == inode).then_some(it))
    }

    /// Adds a socket that is about to be bound, in place of its entry from an earlier attempt. `None` if
    /// the table is full.
    pub(crate) fn add(
        &self,
        socket: &OwnSocket,
        before: Option<AddedSocket>,
    ) -> Option<AddedSocket> {
        let slots = self.slots();
        let again = before.and_then(|before| {
            let head = slots.get(before.index)?.change(before.head, CLAIMED)?;
            Some(AddedSocket { index: before.index, head })
        });
        let claimed = again.or_else(|| self.claim(EMPTY)).or_else(|| {
            self.remove_closed(socket.pid);
            self.claim(EMPTY).or_else(|| self.claim(NOT_BOUND))
        })?;
        let head = slots.get(claimed.index)?.write(claimed.head, socket);
        Some(AddedSocket { index: claimed.index, head })
    }

    fn claim(&self, state: u64) -> Option<AddedSocket> {
        self.slots().iter().enumerate().find_map(|(index, slot)| {
            let head = slot.head.load(Ordering::Relaxed);
            let head = (head & STATE == state).then(|| slot.change(head, CLAIMED))??;
            Some(AddedSocket { index, head })
        })
    }

    fn remove_closed(&self, own_pid: i32) {
        for slot in self.slots() {
            if let Some((head, socket)) = slot.read()
                && socket.state(own_pid, false).is_none()
            {
                slot.change(head, EMPTY);
            }
        }
    }

    /// Remembers that the bind of a socket failed.
    pub(crate) fn failed(&self, added: AddedSocket) {
        if let Some(slot) = self.slots().get(added.index) {
            slot.change(added.head, NOT_BOUND);
        }
    }

    /// Whether an earlier socket of the execution keeps the new one out, as it would without the library.
    pub(crate) fn keep_out(&self, new: &OwnSocket, step: OwnStep) -> bool {
        self.slots().iter().any(|slot| {
            let Some((head, earlier)) = slot.read() else { return false };
            let is_other = head & STATE == BOUND && earlier.inode != new.inode;
            let refuses =
                |listens: bool| refuses(new.protocol, new.options, step, earlier.options, listens);
            // If it does not conflict while it listens, it never does.
            if !is_other || !earlier.overlaps(new) || !refuses(true) {
                return false;
            }
            match earlier.state(new.pid, true) {
                Some(MayListen(listens)) => refuses(listens),
                None => {
                    slot.change(head, EMPTY);
                    false
                }
            }
        })
    }
}

fn word(number: i32) -> u64 {
    u64::from(number.cast_unsigned())
}

fn lower_half(word: u64) -> i32 {
    u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0).cast_signed()
}

#[cfg(test)]
#[path = "own_sockets_tests.rs"]
mod tests;
