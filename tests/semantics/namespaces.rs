//! A second process for the rows about user namespaces: a user namespace needs a process with one
//! thread, so the test starts itself again and reads one line.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use socket2::{Domain, Socket, Type};

use crate::kernel;
use crate::room::uid;
use crate::runner::Stop;
use crate::words::User;

/// The first argument of the second process.
pub(crate) const FLAG: &str = "--from-user-namespace";

/// Has `user`, root in a user namespace of its own, open a shared TCP listener on 127.0.0.1.
/// The inner result is the kernel's answer to that.
pub(crate) fn ask(user: User, own_network: bool, port: u16) -> Result<io::Result<()>, Stop> {
    let answer = Command::new("/proc/self/exe")
        .args([FLAG, &uid(user).to_string(), &own_network.to_string(), &port.to_string()])
        .output()?;
    let line = String::from_utf8_lossy(&answer.stdout);
    match line.trim().split_once(' ') {
        Some(("answer", "0")) => Ok(Ok(())),
        Some(("answer", errno)) => match errno.parse() {
            Ok(errno) => Ok(Err(io::Error::from_raw_os_error(errno))),
            Err(_) => Err(Stop::Broken(line.into_owned())),
        },
        Some(("cannot", why)) => Err(Stop::Skip(format!("needs user namespaces: {why}"))),
        _ => Err(Stop::Broken(format!(
            "the second process said {line:?}, {}",
            String::from_utf8_lossy(&answer.stderr)
        ))),
    }
}

/// The second process: prints `answer ERRNO` (0: ok) or `cannot REASON`.
pub(crate) fn answer(args: &[String]) {
    let [uid, own_network, port] = args else {
        eprintln!("{FLAG} UID OWN-NETWORK PORT");
        return;
    };
    let (Ok(uid), Ok(own_network), Ok(port)) = (uid.parse(), own_network.parse(), port.parse())
    else {
        eprintln!("{FLAG}: {args:?}");
        return;
    };
    if let Err(error) = enter(uid, own_network) {
        println!("cannot {}", kernel::error_name(&error));
        return;
    }
    let errno = serve(port).err().and_then(|error| error.raw_os_error()).unwrap_or(0);
    println!("answer {errno}");
}

fn enter(uid: u32, own_network: bool) -> io::Result<()> {
    let user = rustix::process::Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // Changing the user made /proc/self root's; the map is written through it.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    kernel::new_user_namespace(0, uid)?;
    if own_network { kernel::new_network() } else { Ok(()) }
}

fn serve(port: u16) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(1)
}
