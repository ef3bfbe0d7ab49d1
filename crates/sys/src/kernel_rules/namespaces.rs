//! A second process for the rows about user namespaces: a user namespace needs a process with one
//! thread.
#![expect(unsafe_code, reason = "fork, and the end of the child")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use sameport_policy::kernel_rules::model::User;
use socket2::{Domain, Socket, Type};

use super::netns::uid;
use super::{Stop, kernel};

/// What the second process says: how far it came, and the error, 0 for none.
const ENTERED: u8 = 1;
const NOT_ENTERED: u8 = 0;

/// Has `user`, root in a user namespace of its own, open a shared TCP listener on 127.0.0.1.
/// The inner result is the kernel's answer to that.
pub(super) fn ask(user: User, own_network: bool, port: u16) -> Result<io::Result<()>, Stop> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let uid = uid(user);
    let map = kernel::user_map(0, uid);
    // SAFETY: the child has one thread, while another of ours may have held any lock at the fork, the
    // allocator's among them. It makes system calls on what is here, allocates nothing, and ends by
    // `_exit`, so that no code of the parent's runs twice.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error().into()),
        0 => {
            let (stage, error) = match enter(uid, &map, own_network) {
                Ok(()) => (ENTERED, serve(port).err()),
                Err(error) => (NOT_ENTERED, Some(error)),
            };
            let errno = error.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            let [a, b, c, d] = errno.to_ne_bytes();
            let _ = rustix::io::write(&writer, &[stage, a, b, c, d]);
            // SAFETY: ends the process; runs no handlers.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    };
    drop(writer);
    let mut said = [0; 5];
    let read = io::Read::read_exact(&mut std::fs::File::from(reader), &mut said);
    if let Some(pid) = Pid::from_raw(pid) {
        // Where SIGCHLD is ignored there is nobody to wait for.
        while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    }
    read.map_err(|_| Stop::Broken("the second process said nothing".into()))?;
    let [stage, errno @ ..] = said;
    let answer = match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    };
    match (stage, answer) {
        (ENTERED, answer) => Ok(answer),
        (_, answer) => {
            let why = answer.err().map_or("unknown".into(), |error| kernel::error_name(&error));
            Err(Stop::Skip(format!("needs user namespaces: {why}")))
        }
    }
}

fn enter(uid: u32, map: &str, own_network: bool) -> io::Result<()> {
    let user = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // Changing the user made /proc/self root's; the map is written through it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    kernel::new_user_namespace(map)?;
    if own_network { kernel::new_network() } else { Ok(()) }
}

fn serve(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1)
}
