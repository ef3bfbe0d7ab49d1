//! Compares predicted effects on traffic with the kernel.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{TrafficEffect, TrafficOutcome};
use socket2::{Domain, Socket, Type};

use crate::kernel::SPARE;
use crate::sockets::Open;

/// A fair hash sends all of it to one of two sockets once in 8 million times.
const MANY: usize = 24;
const FEW: usize = 2;
/// Loopback delivers at once, but a busy machine delays the receiver.
const LIMIT: Duration = Duration::from_secs(2);

pub(crate) enum Observed {
    NotTested,
    Shared,
    Taken,
    Kept,
    Race,
    /// The prediction is wrong: what happened instead.
    Differs(String),
}

/// Sends some of the traffic of the effect.
pub(crate) fn check(effect: &TrafficEffect, request: &Socket, existing: &[Open]) -> Observed {
    // Nothing arrives on the other device. A third socket can receive what two share.
    let on_loopback = effect.address.device.as_deref().is_none_or(|device| device == "lo");
    let not_tested = match effect.outcome {
        TrafficOutcome::Unclear => true,
        TrafficOutcome::Shared => existing.len() > 1,
        TrafficOutcome::Taken | TrafficOutcome::Kept => false,
        TrafficOutcome::Race => return listen_late(&existing[effect.index]),
    };
    let Some(other) = existing[effect.index].socket.as_ref().filter(|_| on_loopback && !not_tested)
    else {
        return Observed::NotTested;
    };
    let (mut requested, mut existing_count) = (0, 0);
    for ip in destinations(&effect.address) {
        let count = if effect.outcome == TrafficOutcome::Shared { MANY } else { FEW };
        let sockets: Vec<_> = std::iter::once(request)
            .chain(existing.iter().filter_map(|open| open.socket.as_ref()))
            .collect();
        match send(&effect.address, ip, count, &sockets) {
            Ok(received) => {
                requested += received[0];
                let at = sockets.iter().position(|socket| std::ptr::eq(*socket, other));
                existing_count += at.map_or(0, |at| received[at]);
                let all: usize = received.iter().sum();
                if all != count {
                    return Observed::Differs(format!("{all} of {count} arrived"));
                }
            }
            Err(error) => return Observed::Differs(format!("could not send to {ip}: {error}")),
        }
    }
    match (effect.outcome, requested, existing_count) {
        (TrafficOutcome::Shared, 1.., 1..) => Observed::Shared,
        (TrafficOutcome::Taken, _, 0) => Observed::Taken,
        (TrafficOutcome::Kept, 0, _) => Observed::Kept,
        _ => Observed::Differs(format!(
            "{requested} to the new socket, {existing_count} to the existing one"
        )),
    }
}

/// Whether the existing socket can no longer listen.
fn listen_late(open: &Open) -> Observed {
    let socket = open.socket.as_ref().expect("a bound socket is open");
    match socket.listen(1).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::EADDRINUSE)) => Observed::Race,
        answer => Observed::Differs(format!("listen of the existing socket: {answer:?}")),
    }
}

/// Addresses of the loopback device that the socket address covers.
fn destinations(on: &Address) -> Vec<IpAddr> {
    let ipv4: IpAddr = Ipv4Addr::new(127, 0, 0, 77).into();
    let both = on.is_dual_stack();
    match on.socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![ipv4],
        IpAddr::V6(ip) if ip.is_unspecified() && both => vec![ipv4, SPARE.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![SPARE.into()],
        ip => vec![ip],
    }
}

/// Sends `count` connections or datagrams, and counts those that each socket receives.
fn send(on: &Address, ip: IpAddr, count: usize, sockets: &[&Socket]) -> io::Result<Vec<usize>> {
    let to = SocketAddr::new(ip, on.port());
    let tcp = on.protocol == Protocol::Tcp;
    let kind = if tcp { Type::STREAM } else { Type::DGRAM };
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = Socket::new(Domain::for_address(to), kind, None)?;
        if tcp {
            client.set_linger(Some(Duration::ZERO))?;
            client.connect_timeout(&to.into(), LIMIT)?;
        } else {
            client.send_to(b"x", &to.into())?;
        }
        clients.push(client);
    }
    let mut counts = vec![0; sockets.len()];
    let mut accepted = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while counts.iter().sum::<usize>() < count && Instant::now() < deadline {
        for (socket, count) in sockets.iter().zip(&mut counts) {
            let received = if tcp {
                socket.accept().map(|(connection, _)| accepted.push(connection))
            } else {
                socket.recv_from(&mut [std::mem::MaybeUninit::uninit(); 8]).map(|_| ())
            };
            *count += usize::from(received.is_ok());
        }
    }
    // The clients first: their reset leaves no TIME_WAIT.
    drop(clients);
    drop(accepted);
    Ok(counts)
}
