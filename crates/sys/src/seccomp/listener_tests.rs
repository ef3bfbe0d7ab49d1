//! Replacing a worker's socket. The worker is a thread of this process that alone has the filter.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;

use rustix::io::FdFlags;
use sameport_policy::seccomp::calls::Architecture;
use sameport_policy::seccomp::filter;
use sameport_policy::seccomp::filter::{FilterOptions, IoUring};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::seccomp::{FilterInstall, install};

/// Runs `work` on a thread with the filter. Joining the thread returns the result.
fn under_filter<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> (NotifyListener, std::thread::JoinHandle<T>) {
    let (give, take) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let machine = Architecture::named(std::env::consts::ARCH).unwrap();
        let stops = FilterOptions {
            io_uring: IoUring::Allow,
            connections: false,
            shutdowns: false,
            restrictions: false,
        };
        let installation = FilterInstall::new(&filter::program(machine, stops), true);
        give.send(install(&installation).unwrap()).unwrap();
        work()
    });
    (NotifyListener::new(take.recv().unwrap()), thread)
}

fn inode(socket: impl AsFd) -> u64 {
    rustix::fs::fstat(socket).unwrap().st_ino
}

fn call(listener: &NotifyListener) -> (u64, RawFd) {
    let notification = listener.receive().unwrap().unwrap();
    (notification.id, notification.args[0].try_into().unwrap())
}

#[test]
fn a_held_socket_replaces_a_new_one_with_its_queue() {
    for close_on_exec in [true, false] {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let mut waiting = TcpStream::connect(address).unwrap();
        waiting.write_all(b"hey").unwrap();

        let (listener, worker) = under_filter(move || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let before = inode(&socket);
            socket.bind(&address.into()).unwrap();
            socket.listen(5).unwrap();
            let listener = TcpListener::from(socket);
            let (mut client, _) = listener.accept().unwrap();
            let mut received = [0; 3];
            client.read_exact(&mut received).unwrap();
            client.write_all(&received).unwrap();
            (before, listener)
        });
        let (id, at) = call(&listener);
        assert_eq!(listener.replace_fd(id, held.as_fd(), at, close_on_exec), Ok(true));
        assert_eq!(listener.answer(id, Ok(())), Ok(true));
        // The call has returned, so its descriptor cannot be replaced any more.
        assert_eq!(listener.replace_fd(id, held.as_fd(), at, close_on_exec), Ok(false));
        let (id, same) = call(&listener);
        assert_eq!(same, at);
        assert_eq!(listener.let_continue(id), Ok(true));

        waiting.read_exact(&mut [0; 3]).unwrap();
        let (before, served) = worker.join().unwrap();
        assert_ne!(before, inode(&held));
        assert_eq!(inode(&served), inode(&held));
        let flags = rustix::io::fcntl_getfd(&served).unwrap();
        assert_eq!(flags.contains(FdFlags::CLOEXEC), close_on_exec);
        assert_eq!(served.local_addr().unwrap(), address);
    }
}

#[test]
fn a_descriptor_above_the_limit_is_refused_and_the_bind_continues() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listener, worker) = under_filter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        socket.bind(&any.into()).map(|()| OwnedFd::from(socket))
    });
    let (id, _) = call(&listener);
    assert_eq!(listener.replace_fd(id, held.as_fd(), RawFd::MAX, true), Err(Errno::BADF));
    assert_eq!(listener.let_continue(id), Ok(true));
    let own = worker.join().unwrap().unwrap();
    assert_ne!(inode(own), inode(held));
}
