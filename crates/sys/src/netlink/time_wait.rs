//! TCP connections in TIME_WAIT.

use std::time::Duration;

use sameport_policy::model::{Address, Protocol};

use super::error::InspectError;
use super::sock_diag::DiagRequest;
use super::sockets::{DeviceNames, socket};

const FIN_WAIT2: u32 = 1 << 5;
const TIME_WAIT: u32 = 1 << 6;

/// A closed connection that still occupies its port. No process owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeWait {
    /// The local address.
    pub address: Address,
    /// Unique among all sockets since boot.
    pub cookie: u64,
    /// Time until the kernel removes it, with a resolution of 1 ms: at most 60 s (`TCP_TIMEWAIT_LEN`, a
    /// constant of the kernel), unless the peer sends again.
    pub ends_in: Duration,
}

/// The connections of this local port in TIME_WAIT, and those in FIN_WAIT2 without a process. Needs no
/// privilege.
///
/// # Errors
///
/// See [`InspectError`].
pub fn time_wait_sockets(port: u16) -> Result<Vec<TimeWait>, InspectError> {
    let mut devices = DeviceNames::default();
    let mut left = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let states = FIN_WAIT2 | TIME_WAIT;
        let request = DiagRequest { protocol: libc::IPPROTO_TCP, family, states, port };
        let entries =
            request.dump().map_err(|failure| InspectError::new(Protocol::Tcp, failure))?;
        // An inode means that a process still has the socket.
        left.extend(entries.iter().filter(|entry| entry.inode == 0).map(|entry| TimeWait {
            address: socket(Protocol::Tcp, entry, &mut devices).address,
            cookie: entry.cookie,
            ends_in: Duration::from_millis(entry.expires.into()),
        }));
    }
    Ok(left)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_closed_connection_is_left_on_the_side_that_closed_first() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(ip).unwrap();
            let at = listener.local_addr().unwrap();
            let client = TcpStream::connect(at).unwrap();
            let (server, _) = listener.accept().unwrap();
            assert_eq!(time_wait_sockets(at.port()).unwrap(), []);
            drop(server);
            drop(client);
            crate::socket::until("it is closed", || {
                !time_wait_sockets(at.port()).unwrap().is_empty()
            });
            let [only] = &time_wait_sockets(at.port()).unwrap()[..] else { panic!("one") };
            assert_eq!(only.address.socket, at);
            assert!(only.ends_in <= Duration::from_secs(60) && only.cookie != 0, "{only:?}");
        }
    }
}
