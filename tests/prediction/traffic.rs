//! Whether traffic goes where it was said to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{TrafficEffect, TrafficOutcome};
use socket2::{Domain, Socket, Type};

use crate::kernel::SPARE;
use crate::sockets::Open;

/// That a fair hash gives all to one of two: once in 8 million.
const MANY: usize = 24;
const FEW: usize = 2;
/// Loopback delivers at once; a busy machine may need a moment.
const LIMIT: Duration = Duration::from_secs(2);

pub(crate) enum Seen {
    Untried,
    Shared,
    Taken,
    Kept,
    Race,
    Differs(String),
}

/// Sends a little of the traffic that the effect is about.
pub(crate) fn check(effect: &TrafficEffect, wish: &Socket, there: &[Open]) -> Seen {
    // Nothing comes in by the other device. A third socket may take what two share.
    let by_loopback = effect.on.device.as_deref().is_none_or(|device| device == "lo");
    let untried = match effect.outcome {
        TrafficOutcome::Unclear => true,
        TrafficOutcome::Shared => there.len() > 1,
        TrafficOutcome::Taken | TrafficOutcome::Kept => false,
        TrafficOutcome::Race => return late(&there[effect.with]),
    };
    let Some(other) = there[effect.with].socket.as_ref().filter(|_| by_loopback && !untried) else {
        return Seen::Untried;
    };
    let (mut ours, mut theirs) = (0, 0);
    for ip in destinations(&effect.on) {
        let count = if effect.outcome == TrafficOutcome::Shared { MANY } else { FEW };
        let sockets: Vec<_> = std::iter::once(wish)
            .chain(there.iter().filter_map(|open| open.socket.as_ref()))
            .collect();
        match send(&effect.on, ip, count, &sockets) {
            Ok(got) => {
                ours += got[0];
                let at = sockets.iter().position(|socket| std::ptr::eq(*socket, other));
                theirs += at.map_or(0, |at| got[at]);
                let all: usize = got.iter().sum();
                if all != count {
                    return Seen::Differs(format!("{all} of {count} arrived anywhere"));
                }
            }
            Err(error) => return Seen::Differs(format!("could not send to {ip}: {error}")),
        }
    }
    match (effect.outcome, ours, theirs) {
        (TrafficOutcome::Shared, 1.., 1..) => Seen::Shared,
        (TrafficOutcome::Taken, _, 0) => Seen::Taken,
        (TrafficOutcome::Kept, 0, _) => Seen::Kept,
        _ => Seen::Differs(format!("{ours} to the wish, {theirs} to the other")),
    }
}

/// Whether it is too late for the other to listen.
fn late(open: &Open) -> Seen {
    let socket = open.socket.as_ref().expect("one that is bound");
    match socket.listen(1).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::EADDRINUSE)) => Seen::Race,
        answer => Seen::Differs(format!("its listen: {answer:?}")),
    }
}

/// Addresses of the loopback device that stand for this one.
fn destinations(on: &Address) -> Vec<IpAddr> {
    let some4: IpAddr = Ipv4Addr::new(127, 0, 0, 77).into();
    let both = on.is_dual_stack();
    match on.socket.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![some4],
        IpAddr::V6(ip) if ip.is_unspecified() && both => vec![some4, SPARE.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![SPARE.into()],
        ip => vec![ip],
    }
}

/// So many to there, and how many each of these has received.
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
    let mut got = vec![0; sockets.len()];
    let mut accepted = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while got.iter().sum::<usize>() < count && Instant::now() < deadline {
        for (socket, got) in sockets.iter().zip(&mut got) {
            let received = if tcp {
                socket.accept().map(|(connection, _)| accepted.push(connection))
            } else {
                socket.recv_from(&mut [std::mem::MaybeUninit::uninit(); 8]).map(|_| ())
            };
            *got += usize::from(received.is_ok());
        }
    }
    // The clients first: their reset leaves nothing behind.
    drop(clients);
    drop(accepted);
    Ok(got)
}
