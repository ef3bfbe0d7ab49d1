//! Somebody who wants onto the port, with every option that could get them there.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A user and the options of their socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intruder {
    pub(crate) uid: u32,
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    /// Whether it is confined to the loopback device.
    pub(crate) on_device: bool,
}

impl Intruder {
    /// This user, without any option.
    pub(crate) fn user(uid: u32) -> Self {
        Self { uid, reuse_port: false, reuse_address: false, on_device: false }
    }

    pub(crate) fn reuse_port(self) -> Self {
        Self { reuse_port: true, ..self }
    }

    pub(crate) fn reuse_address(self) -> Self {
        Self { reuse_address: true, ..self }
    }

    /// Root, the workers' other user and a third one, with every set of options.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for uid in [0, 65534, 1000] {
            for bits in 0..8 {
                let [reuse_port, reuse_address, on_device] = [1, 2, 4].map(|bit| bits & bit != 0);
                all.push(Self { uid, reuse_port, reuse_address, on_device });
            }
        }
        all
    }

    /// Tries to get the address, and keeps it if it does. TCP listens.
    pub(crate) fn takes(self, kind: Type, address: SocketAddr) -> io::Result<Socket> {
        // In a thread of its own: the user is the thread's.
        std::thread::spawn(move || {
            let domain = Domain::for_address(address);
            // Whoever makes a socket is its user; to confine it is root's, on older kernels.
            become_user(self.uid)?;
            let socket = Socket::new(domain, kind, None)?;
            become_user(0)?;
            if self.on_device {
                socket.bind_device(Some(b"lo"))?;
            }
            socket.set_reuse_port(self.reuse_port)?;
            socket.set_reuse_address(self.reuse_address)?;
            if domain == Domain::IPV6 {
                socket.set_only_v6(false)?;
            }
            socket.bind(&address.into())?;
            if kind == Type::STREAM {
                socket.listen(8)?;
            }
            Ok(socket)
        })
        .join()
        .unwrap()
    }
}

/// Changes the calling thread's effective user, as the system call does it: glibc's would change all.
fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: setresuid(2) takes three numbers.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let done = unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, uid, u32::MAX) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
