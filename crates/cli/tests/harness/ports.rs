//! Ports for tests.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

/// A port that nobody has, TCP or UDP, and that no other test takes while this process lives.
pub(crate) fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let seed =
        Instant::now().elapsed().subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761);
    let mut next = seed ^ u32::try_from(TAKEN.lock().unwrap().len()).unwrap() << 8;
    for _ in 0..10_000 {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 10_000 + u16::try_from((next >> 8) % 50_000).unwrap();
        if KERNELS.contains(&port) {
            continue;
        }
        let name = Name::from_abstract_name(format!("sameport-test-port-{port}")).unwrap();
        let Ok(claim) = UnixListener::bind_addr(&name) else { continue };
        let addresses =
            [SocketAddr::from(([0, 0, 0, 0], port)), SocketAddr::from(([0u16; 8], port))];
        let free = addresses
            .iter()
            .all(|address| is_free(*address, Type::STREAM) && is_free(*address, Type::DGRAM));
        if free {
            TAKEN.lock().unwrap().push(claim);
            return port;
        }
    }
    panic!("no free port");
}

/// The ports that the kernel gives to connections, and to sockets that want any: between our look
/// and a test's bind, one of these may become somebody's. Where that is nearly all of them, the
/// chance is small.
static KERNELS: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut ends = text.split_whitespace().map(|end| end.parse::<u16>().unwrap());
    let (first, last) = (ends.next().unwrap(), ends.next().unwrap());
    let others = (10_000..60_000).filter(|port| !(first..=last).contains(port)).count();
    if others > 5_000 { first..=last } else { 0..=0 }
});

/// Whether nothing has this address, not even a connection that lingers in TIME_WAIT, which std's
/// listeners overlook (SO_REUSEADDR) and a program under test may not.
fn is_free(address: SocketAddr, kind: Type) -> bool {
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    socket.bind(&address.into()).is_ok()
}
