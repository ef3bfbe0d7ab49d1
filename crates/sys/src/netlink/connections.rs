//! Counts TCP connections: incomplete handshakes, and connections that processes have open.

use std::collections::{HashMap, HashSet};

use sameport_policy::model::Protocol;

use super::error::InspectError;
use super::inet_diag::DiagSocket;
use super::sock_diag::DiagRequest;
use crate::proc::fd_scan::scan_processes;

const ESTABLISHED: u32 = 1 << 1;
const SYN_RECV: u32 = 1 << 3;
/// The client has closed its sending side and may wait for an answer.
const CLOSE_WAIT: u32 = 1 << 8;

/// Counts the incomplete handshakes with TCP listeners on this local port (SYN_RECV). They are not in an
/// accept queue yet. Needs no privilege.
///
/// # Errors
///
/// See [`InspectError`].
pub fn count_handshakes(port: u16) -> Result<usize, InspectError> {
    Ok(list(SYN_RECV, port)?.len())
}

/// Whether a process has accepted the connection to this local port from the peer port `from`; `None` if
/// there is no such connection.
///
/// # Errors
///
/// See [`InspectError`].
pub fn is_accepted(port: u16, from: u16) -> Result<Option<bool>, InspectError> {
    let entries = list(ESTABLISHED | CLOSE_WAIT, port)?;
    Ok(entries.iter().find(|entry| entry.peer_port == from).map(|entry| entry.inode != 0))
}

/// Counts the connections to these local ports that each group of processes has open, from one snapshot.
/// A connection open in several processes of a group counts once, in several groups once in each.
/// Processes that cannot be read count as having none, and so do MPTCP connections.
///
/// Counts connections whose client may still expect data: not those that wait for `accept`, and not
/// those that the process has shut down.
///
/// # Errors
///
/// See [`InspectError`].
pub fn count_connections(ports: &[u16], groups: &[Vec<i32>]) -> Result<Vec<usize>, InspectError> {
    let asked = if let [port] = ports { *port } else { 0 };
    let open: HashSet<u64> = list(ESTABLISHED | CLOSE_WAIT, asked)?
        .iter()
        .filter(|entry| entry.inode != 0 && ports.contains(&entry.port))
        .map(|entry| entry.inode.into())
        .collect();
    if open.is_empty() {
        return Ok(vec![0; groups.len()]);
    }
    let pids: Vec<i32> = groups.concat();
    let mut of_process: HashMap<i32, HashSet<u64>> = HashMap::new();
    for (inode, holders) in scan_processes(&open, &pids).of {
        for holder in holders {
            of_process.entry(holder.pid).or_default().insert(inode);
        }
    }
    let count = |group: &Vec<i32>| {
        let inodes = group.iter().filter_map(|pid| of_process.get(pid)).flatten();
        inodes.collect::<HashSet<_>>().len()
    };
    Ok(groups.iter().map(count).collect())
}

fn list(states: u32, port: u16) -> Result<Vec<DiagSocket>, InspectError> {
    let mut entries = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let request = DiagRequest { protocol: libc::IPPROTO_TCP, family, states, port };
        entries
            .extend(request.dump().map_err(|failure| InspectError::new(Protocol::Tcp, failure))?);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    fn ourselves() -> i32 {
        std::process::id().cast_signed()
    }

    #[test]
    fn connections_are_counted_where_they_are_open() {
        let _turn = crate::serial::run_shared();
        let listener = TcpListener::bind("[::]:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let (one, two) = (port(&listener), port(&other));
        let to = |ip: &str, port| SocketAddr::new(ip.parse().unwrap(), port);
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let child_pid = child.id().cast_signed();
        let groups = [vec![ourselves(), ourselves()], vec![child_pid], vec![]];
        let count = |ports: &[u16]| count_connections(ports, &groups).unwrap();
        assert_eq!(count(&[one, two]), [0, 0, 0]);

        let mut clients = [to("127.0.0.1", one), to("::1", one), to("127.0.0.1", two)]
            .map(|to| Some(TcpStream::connect(to).unwrap()));
        // No process has connections in the accept queue.
        assert_eq!(count(&[one, two]), [0, 0, 0]);
        let accepted = [&listener, &listener, &other].map(|from| from.accept().unwrap().0);
        let _twin = accepted[0].try_clone().unwrap();
        let all = [count(&[one]), count(&[two]), count(&[one, two]), count(&[])];
        assert_eq!(all, [[2, 0, 0], [1, 0, 0], [3, 0, 0], [0, 0, 0]]);

        // Closed by the client; then shut down by the server.
        clients[2] = None;
        assert_eq!(count(&[two]), [1, 0, 0]);
        accepted[1].shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(count(&[one]), [1, 0, 0]);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn handshakes_are_those_not_complete() {
        use crate::socket::{set_defer_accept, until};
        for (at, from) in
            [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::1]:0", "::1")]
        {
            let listener = TcpListener::bind(at).unwrap();
            let port = listener.local_addr().unwrap().port();
            assert_eq!(count_handshakes(port).unwrap(), 0);
            // The kernel completes the handshake when the client has sent data.
            set_defer_accept(listener.as_fd());
            let to = SocketAddr::new(from.parse().unwrap(), port);
            let mut clients = [(); 2].map(|()| TcpStream::connect(to).unwrap());
            assert_eq!(count_handshakes(port).unwrap(), 2, "{at}");
            std::io::Write::write_all(&mut clients[0], b"!").unwrap();
            until("one is complete", || count_handshakes(port).unwrap() == 1);
            let _accepted = listener.accept().unwrap();
        }
    }

    #[test]
    fn a_connection_is_accepted_when_somebody_has_it() {
        use crate::socket::until;
        let _turn = crate::serial::run_shared();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = listener.local_addr().unwrap();
        let client = TcpStream::connect(to).unwrap();
        let from = client.local_addr().unwrap().port();
        let accepted = || is_accepted(to.port(), from).unwrap();
        // The kernel handles the segments of the loopback device a moment later on a busy machine.
        until("it waits", || accepted() == Some(false));
        let (server, _) = listener.accept().unwrap();
        until("it is accepted", || accepted() == Some(true));
        drop((server, client));
        until("it is closed", || accepted().is_none());
    }
}
