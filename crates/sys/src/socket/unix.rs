//! Names of `unix(7)` sockets, and what they receive.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::SocketAddrUnix;

use super::raw_option;
use super::raw_option::SockOpt;

/// Binds a socket to an abstract name that the kernel picks (autobind); returns the name.
pub(crate) fn autobind(socket: impl AsFd) -> Result<Vec<u8>, Errno> {
    rustix::net::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    let address = SocketAddrUnix::try_from(rustix::net::getsockname(&socket)?)?;
    address.abstract_name().map(<[u8]>::to_vec).ok_or(Errno::ADDRNOTAVAIL)
}

/// Lets no peer send descriptors (`SO_PASSRIGHTS`, Linux 6.16): `sendmsg` with SCM_RIGHTS fails with EPERM.
/// A socket that `accept` returns inherits the option. Older kernels ignore the call: then the kernel
/// closes what arrives in the thread that receives, which can block.
pub(crate) fn refuse_descriptors(socket: impl AsFd) {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let option = SockOpt { level: libc::SOL_SOCKET, number: SO_PASSRIGHTS };
    let off: libc::c_int = 0;
    let _ = raw_option::set(socket.as_fd(), option, &off.to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    #[test]
    fn descriptors_are_refused_where_the_kernel_can() {
        let name = format!("sameport-refuse-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        refuse_descriptors(&listener);
        let client = UnixStream::connect_addr(&address).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let fds = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let sent = sendmsg(&client, &[IoSlice::new(b"x")], &mut control, SendFlags::empty());
        let release = crate::kernel_release();
        let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
        let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        assert_eq!(sent, if version >= (6, 16) { Err(Errno::PERM) } else { Ok(1) }, "{release}");
    }
}
