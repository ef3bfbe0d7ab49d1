//! Who sent data last on each TCP connection, read by a BPF iterator. Source: `bpf/connections.bpf.c`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

use sameport_policy::drain::DataDirection;

use super::object::{self, ProgramTemplate};
use super::{BUFFER, load_iterator, require_capabilities};
use crate::bpf::syscall;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../bpf/connections.bpf.o");
/// The section of the program.
const PROGRAM: &str = "iter/tcp";
/// The kernel function whose BTF number selects the type of iterator.
const FUNCTION: &str = "bpf_iter_tcp";
/// Size of a record in bytes: cookie and order, 8 bytes each.
const RECORD: usize = 16;
/// Orders in a record.
const SENT_LAST: u64 = 1;
const UNSENT: u64 = 2;

/// The iterator, loaded. Reading the type information of the kernel takes some milliseconds, and reading
/// the connections much less.
///
/// Needs CAP_BPF and CAP_PERFMON (or CAP_SYS_ADMIN) in the initial user namespace, Linux 5.9 with type
/// information (`CONFIG_DEBUG_INFO_BTF`), and a little-endian machine.
#[derive(Debug)]
pub struct LastDataReader {
    link: OwnedFd,
}

impl LastDataReader {
    /// Loads the iterator.
    ///
    /// # Errors
    ///
    /// EPERM without the capabilities; ENOENT and EOPNOTSUPP on a kernel without support; else the error
    /// of the call that failed.
    pub fn new() -> io::Result<Self> {
        static TEMPLATE: LazyLock<Option<ProgramTemplate<'_>>> =
            LazyLock::new(|| object::template(OBJECT, PROGRAM));
        require_capabilities()?;
        let program = load_iterator(TEMPLATE.as_ref(), FUNCTION, |_| None)?;
        Ok(Self { link: syscall::link_iterator(program)? })
    }

    /// The established connections of the calling thread's network namespace, by cookie. A connection has
    /// no entry if data of it is not transmitted yet, or if its cookie was never requested
    /// (`SO_COOKIE`, sock_diag(7)). The order is that of a request and its answer: a peer that sends
    /// before it has received all earlier data counts as the sender before that data.
    ///
    /// # Errors
    ///
    /// The error of the call that failed.
    pub fn read(&self) -> io::Result<HashMap<u64, DataDirection>> {
        let file = syscall::create_iterator(&self.link)?;
        let mut found = HashMap::new();
        read_records(file, |record| {
            let [a, b, c, d, e, f, g, h, order @ ..] = *record;
            let order = match u64::from_ne_bytes(order) {
                UNSENT => return,
                SENT_LAST => DataDirection::Sent,
                _ => DataDirection::Received,
            };
            found.insert(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), order);
        })?;
        Ok(found)
    }
}

fn read_records(mut from: File, mut add: impl FnMut(&[u8; RECORD])) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => return Ok(()),
            Ok(length) => filled += length,
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {}
            Err(error) => return Err(error),
        }
        let (whole, _) = buffer[..filled].as_chunks::<RECORD>();
        whole.iter().for_each(&mut add);
        let done = whole.len() * RECORD;
        buffer.copy_within(done..filled, 0);
        filled -= done;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;
    use crate::serial::run_shared;

    fn reader(test: &str) -> Option<LastDataReader> {
        let why = match LastDataReader::new() {
            Ok(reader) => return Some(reader),
            Err(why) => why,
        };
        crate::bpf::skip_test(test, &why);
        None
    }

    fn cookie(socket: &TcpStream) -> u64 {
        rustix::net::sockopt::socket_cookie(socket.as_fd()).unwrap()
    }

    fn read_all(mut from: &TcpStream, length: usize) {
        from.read_exact(&mut vec![0; length]).unwrap();
    }

    /// Requests whose answer follows within the same jiffy, and requests that follow an answer within the
    /// same jiffy. A short pause lets the client acknowledge the answer in a segment of its own in some
    /// rounds, and in that of the next request in others.
    #[test]
    fn the_order_of_a_request_and_a_quick_answer() {
        let Some(reader) = reader("the-order-of-data") else { return };
        let _turn = run_shared();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let cookie = cookie(&server);
        let last = || reader.read().unwrap().get(&cookie).copied();
        for round in 0..60_u64 {
            client.write_all(b"request").unwrap();
            read_all(&server, 7);
            assert_eq!(last(), Some(DataDirection::Received), "round {round}");
            server.write_all(b"the answer").unwrap();
            read_all(&client, 10);
            assert_eq!(last(), Some(DataDirection::Sent), "round {round}");
            // 0 to 76 ms: a delayed acknowledgement takes up to 40 ms.
            sleep(Duration::from_millis(round % 20 * 4));
            assert_eq!(last(), Some(DataDirection::Sent), "round {round}, later");
            // The next request at once.
            client.write_all(b"next").unwrap();
            read_all(&server, 4);
            assert_eq!(last(), Some(DataDirection::Received), "round {round}, next");
            server.write_all(b"next answer").unwrap();
            read_all(&client, 11);
            client.write_all(b"third").unwrap();
            read_all(&server, 5);
            assert_eq!(last(), Some(DataDirection::Received), "round {round}, third");
            sleep(Duration::from_millis(round % 3 * 25));
            assert_eq!(last(), Some(DataDirection::Received), "round {round}, third, later");
            server.write_all(b"answer").unwrap();
            read_all(&client, 6);
        }
    }

    #[test]
    fn data_that_is_not_transmitted_has_no_order() {
        let Some(reader) = reader("unsent-data") else { return };
        let _turn = run_shared();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"request").unwrap();
        read_all(&server, 7);
        server.set_nonblocking(true).unwrap();
        // The client reads nothing, so its window closes.
        while server.write(&[0; 65_536]).is_ok() {}
        assert_eq!(reader.read().unwrap().get(&cookie(&server)), None);
    }
}
