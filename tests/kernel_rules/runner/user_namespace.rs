//! A child process for the rows about user namespaces: only a process with one thread can enter one.
#![expect(unsafe_code, reason = "fork, and the exit of the child")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};
use socket2::{Domain, Socket, Type};

use super::Stop;
use crate::model::Uid;
use crate::netns::{self, error_name};

/// The first byte of the child's answer; an errno follows, 0 for success.
const ENTERED: u8 = 1;
const NOT_ENTERED: u8 = 0;

/// Opens a TCP listener with RP on 127.0.0.1 as root of a new user namespace of `uid`.
/// The inner result is the kernel's answer.
pub(super) fn listen(uid: Uid, new_netns: bool, port: u16) -> Result<io::Result<()>, Stop> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(io::Error::from)?;
    let uid_map = netns::uid_map(0, uid);
    // SAFETY: the child has one thread, and another thread of the parent may hold any lock at the fork,
    // the allocator's included. The child makes system calls on existing values, allocates nothing and
    // ends by `_exit`, which runs no code of the parent twice.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error().into()),
        0 => {
            let (entered, error) = match enter(uid, &uid_map, new_netns) {
                Ok(()) => (ENTERED, serve(port).err()),
                Err(error) => (NOT_ENTERED, Some(error)),
            };
            let errno = error.map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            let [a, b, c, d] = errno.to_ne_bytes();
            let _ = rustix::io::write(&writer, &[entered, a, b, c, d]);
            // SAFETY: _exit(2) ends the process and runs no handlers.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    };
    drop(writer);
    let mut answer = [0; 5];
    let read = io::Read::read_exact(&mut std::fs::File::from(reader), &mut answer);
    if let Some(pid) = Pid::from_raw(pid) {
        // Fails with ECHILD where SIGCHLD is ignored.
        while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(rustix::io::Errno::INTR)) {}
    }
    read.map_err(|_| Stop::Error("the child process gave no answer".into()))?;
    let [entered, errno @ ..] = answer;
    let answer = match i32::from_ne_bytes(errno) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    };
    match (entered, answer) {
        (ENTERED, answer) => Ok(answer),
        (_, answer) => {
            let reason = answer.err().map_or("unknown".into(), |error| error_name(&error));
            Err(Stop::Skip(format!("needs user namespaces: {reason}")))
        }
    }
}

fn enter(uid: Uid, uid_map: &str, new_netns: bool) -> io::Result<()> {
    let user = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // The change of user made root the owner of /proc/self, where the uid map is written.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    netns::new_user_namespace(uid_map)?;
    if new_netns { netns::new_netns() } else { Ok(()) }
}

fn serve(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1)
}
