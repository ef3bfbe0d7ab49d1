//! Free ports for tests.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as Name, UnixListener};
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

/// A port that is free for TCP and UDP. No other test takes it while this process lives.
pub(crate) fn free_port() -> u16 {
    static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let seed =
        Instant::now().elapsed().subsec_nanos() ^ std::process::id().wrapping_mul(2_654_435_761);
    let mut next = seed ^ u32::try_from(CLAIMS.lock().unwrap().len()).unwrap() << 8;
    for _ in 0..10_000 {
        next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = 10_000 + u16::try_from((next >> 8) % 50_000).unwrap();
        if EPHEMERAL.contains(&port) {
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
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
    panic!("no free port");
}

/// The ephemeral ports, which the kernel can give to another socket before the test binds. Ignored
/// if nearly all ports are ephemeral, because then a collision is unlikely.
static EPHEMERAL: LazyLock<RangeInclusive<u16>> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut ends = text.split_whitespace().map(|end| end.parse::<u16>().unwrap());
    let (first, last) = (ends.next().unwrap(), ends.next().unwrap());
    let remaining = (10_000..60_000).filter(|port| !(first..=last).contains(port)).count();
    if remaining > 5_000 { first..=last } else { 0..=0 }
});

/// Whether bind(2) without SO_REUSEADDR succeeds. The standard library's listeners set that option
/// and so overlook TIME_WAIT, which a program under test does not.
fn is_free(address: SocketAddr, kind: Type) -> bool {
    let socket = Socket::new(Domain::for_address(address), kind, None).unwrap();
    socket.bind(&address.into()).is_ok()
}
