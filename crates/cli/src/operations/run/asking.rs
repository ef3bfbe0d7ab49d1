//! Answering a worker's `bind` or `listen`: look at the socket, decide, set its option, let the
//! worker's own call go on.

use sameport_linux::Errno;
use sameport_linux::seccomp::{Listener, Notification};
use sameport_linux::worker::{Reach, WorkerSocket, read_memory};
use sameport_rules::bind::{self, Attempt, Ports, Verdict};
use sameport_rules::calls::{Call, Machine};
use sameport_rules::sockaddr;
use sameport_rules::sockets::{Address, Protocol};

use super::OutOfReach;

/// A call that was let go on, and whose outcome is worth knowing.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) tid: i32,
    /// The system call's number, to tell when it is over.
    pub(super) number: u32,
    pub(super) step: Step,
    pub(super) socket: WorkerSocket,
    pub(super) protocol: Protocol,
    /// The address asked for.
    pub(super) address: Address,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Bind,
    Listen,
}

/// What a call turned out to be.
#[derive(Debug)]
pub(super) enum Answer {
    /// Its outcome is worth knowing.
    Follow(Asked),
    /// Nothing more to do.
    Done,
    /// Nothing could be done.
    OutOfReach(i32, OutOfReach),
}

/// Answers one notification. Whatever fails on the way, the worker's call goes on: the kernel then
/// tells the worker the truth about it.
pub(super) fn answer(
    listener: &Listener,
    notification: &Notification,
    machine: Machine,
    ports: &Ports,
) -> Result<Answer, Errno> {
    let answer = match prepare(listener, notification, machine, ports) {
        Ok(answer) => answer,
        Err(Errno::MFILE | Errno::NFILE) => {
            Answer::OutOfReach(notification.tid, OutOfReach::NoDescriptors)
        }
        // The worker's memory or descriptor is not what the call claims.
        Err(_) => Answer::Done,
    };
    listener.let_continue(notification.id)?;
    Ok(answer)
}

fn prepare(
    listener: &Listener,
    notification: &Notification,
    machine: Machine,
    ports: &Ports,
) -> Result<Answer, Errno> {
    let Notification { id, tid, arch, number, args } = *notification;
    let Some(call) = read_call(machine, tid, arch, number, args)? else { return Ok(Answer::Done) };
    let (step, fd) = match call {
        Call::Bind { fd, .. } => (Step::Bind, fd),
        Call::Listen { fd } => (Step::Listen, fd),
        Call::Socketcall { .. } => return Ok(Answer::Done),
    };
    let socket = match WorkerSocket::of_thread(tid, fd)? {
        Reach::Socket(socket) => socket,
        Reach::NotASocket | Reach::Gone => return Ok(Answer::Done),
        Reach::Forbidden => return Ok(Answer::OutOfReach(tid, OutOfReach::Forbidden)),
        Reach::OwnTable => return Ok(Answer::OutOfReach(tid, OutOfReach::OwnTable)),
    };
    let Some(protocol) = socket.protocol()? else { return Ok(Answer::Done) };
    let address = match call {
        Call::Bind { address, length, .. } => read_address(tid, address, length),
        _ => socket.bound(protocol)?.map(|address| address.socket),
    };
    let attempt = Attempt {
        protocol: Some(protocol),
        address,
        reuse_port: socket.reuse_port()?,
        reuse_address: socket.reuse_address()?,
        same_network: socket.is_in_our_network(tid)?,
    };
    // All of the above was read through a thread id. If the caller still waits, it was this
    // caller's all the time, and not that of a thread which got the same id since.
    if !listener.is_waiting(id) {
        return Ok(Answer::Done);
    }
    match bind::decide(&attempt, ports) {
        // Not followed either: as long as we hold it, an unshared socket that its worker has closed
        // keeps the address, and the worker's next bind would be refused.
        Verdict::LeaveAlone(_) => return Ok(Answer::Done),
        Verdict::SharedByItself => {}
        // A socket that reaches `listen` unshared was left alone at its bind, or got its port
        // from there: it stays as it is.
        Verdict::Share { .. } if step == Step::Listen => return Ok(Answer::Done),
        Verdict::Share { clear_reuse_address } => socket.share(clear_reuse_address)?,
    }
    let Some(address) = attempt.address else { return Ok(Answer::Done) };
    let address = socket.address(protocol, address)?;
    Ok(Answer::Follow(Asked { tid, number, step, socket, protocol, address }))
}

/// The call, with the arguments of an i386 `socketcall` fetched from the worker's memory.
fn read_call(
    machine: Machine,
    tid: i32,
    arch: u32,
    number: u32,
    args: [u64; 6],
) -> Result<Option<Call>, Errno> {
    let Some(Call::Socketcall { bind, arguments }) = Call::read(machine, arch, number, args) else {
        return Ok(Call::read(machine, arch, number, args));
    };
    let mut words = [0u32; 3];
    let count = if bind { 3 } else { 2 };
    for (word, at) in words.iter_mut().take(count).zip((arguments..).step_by(size_of::<u32>())) {
        let mut bytes = [0; size_of::<u32>()];
        read_memory(tid, at, &mut bytes)?;
        *word = u32::from_ne_bytes(bytes);
    }
    Ok(Some(Call::from_socketcall(bind, words)))
}

/// The address in the worker's memory, as far as the kernel would read it.
fn read_address(tid: i32, at: u64, length: u64) -> Option<std::net::SocketAddr> {
    // The kernel takes the length as a C int.
    let length = usize::try_from(length & u64::from(u32::MAX)).ok()?;
    let mut bytes = [0; sockaddr::LONGEST];
    let bytes = bytes.get_mut(..length)?;
    read_memory(tid, at, bytes).ok()?;
    sockaddr::read(bytes)
}
