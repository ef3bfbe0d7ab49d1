//! A process outside of the group that tries every option to bind its port.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A user and the options of its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Intruder {
    pub(crate) uid: u32,
    pub(crate) reuse_port: bool,
    pub(crate) reuse_address: bool,
    /// Whether the socket is bound to the loopback device.
    pub(crate) on_device: bool,
}

impl Intruder {
    /// This user, without options.
    pub(crate) fn user(uid: u32) -> Self {
        Self { uid, reuse_port: false, reuse_address: false, on_device: false }
    }

    pub(crate) fn reuse_port(self) -> Self {
        Self { reuse_port: true, ..self }
    }

    pub(crate) fn reuse_address(self) -> Self {
        Self { reuse_address: true, ..self }
    }

    /// Root, uid 65534 and a third user, with every combination of options.
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

    /// Binds the address, and listens for TCP.
    pub(crate) fn bind(self, kind: Type, address: SocketAddr) -> io::Result<Socket> {
        // A thread of its own, because the effective user is a property of the thread.
        std::thread::spawn(move || {
            let domain = Domain::for_address(address);
            // The creator owns the socket. Older kernels need root for the device.
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

/// Changes the effective user of the calling thread. The function of glibc would change that of all
/// threads.
fn become_user(uid: u32) -> io::Result<()> {
    // SAFETY: setresuid(2) takes three numbers.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let done = unsafe { libc::syscall(libc::SYS_setresuid, u32::MAX, uid, u32::MAX) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
