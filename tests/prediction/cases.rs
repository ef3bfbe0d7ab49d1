//! Which cases there are. Values only; nothing here touches the system.

use std::net::{IpAddr, SocketAddr};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{BindRequest, ExistingSocket, PortLimits};

use crate::kernel::OTHER_DEVICE;

pub(crate) const FIRST_PORT: u16 = 2_000;
/// As many cases have a port each in one network.
pub(crate) const PORTS: usize = 30_000;
const LOW_PORT: u16 = 81;

const ROOT: u32 = 0;
const ANN: u32 = 1000;
const BOB: u32 = 1001;

/// A socket as a case wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) protocol: Protocol,
    pub(crate) ip: &'static str,
    pub(crate) v6only: bool,
    pub(crate) device: Option<&'static str>,
    pub(crate) uid: u32,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) freebind: bool,
    pub(crate) transparent: bool,
}

/// How one that is there came to be what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Bound,
    /// It bound, and connected to somebody.
    Client,
    /// It accepted a connection of a listener that is gone.
    Accepted,
    /// So it did, and closed it.
    TimeWait,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) there: Vec<(Spec, State)>,
    pub(crate) wish: Spec,
    /// None: one of its own.
    pub(crate) port: Option<u16>,
}

impl Spec {
    pub(crate) fn address(&self, port: u16) -> Address {
        let ip: IpAddr = self.ip.parse().expect("an address");
        Address {
            protocol: self.protocol,
            socket: SocketAddr::new(ip, port),
            device: self.device.map(str::to_owned),
            v6only: self.v6only,
        }
    }

    pub(crate) fn wish(&self, port: u16) -> BindRequest {
        BindRequest {
            address: self.address(port),
            uid: self.uid,
            reuse_port: self.reuse_port,
            reuse_address: self.reuse_address,
            transparent: self.transparent,
            freebind: self.freebind,
        }
    }

    pub(crate) fn machine(&self) -> PortLimits {
        let root = self.uid == ROOT;
        // Linux has 127.0.0.1 on every device, and ::1 on the loopback device only.
        let elsewhere = self.ip.contains("192.0.2.1")
            || (self.ip == "::1" && self.device == Some(OTHER_DEVICE));
        PortLimits {
            may_bind_low: root,
            may_be_transparent: root,
            first_free_port: 1024,
            is_local: !elsewhere,
            nonlocal_bind: false,
            has_device: self.device != Some("none"),
        }
    }
}

/// IP and `IPV6_V6ONLY`.
const PLACES: &[(&str, bool)] = &[
    ("0.0.0.0", false),
    ("127.0.0.1", false),
    ("127.0.0.2", false),
    ("::", false),
    ("::", true),
    ("::1", false),
    ("::ffff:127.0.0.1", false),
];
const DEVICES: &[Option<&str>] = &[None, Some("lo"), Some(OTHER_DEVICE)];
/// `SO_REUSEADDR` and `SO_REUSEPORT`.
const OPTIONS: &[(bool, bool)] = &[(false, false), (true, false), (false, true), (true, true)];
const TCP: &[State] =
    &[State::Waiting, State::Bound, State::Client, State::Accepted, State::TimeWait];
const UDP: &[State] = &[State::Waiting, State::Client];
const USERS: &[(u32, u32)] = &[(ANN, ANN), (ANN, BOB), (ANN, ROOT), (ROOT, ANN)];

const PLAIN: Spec = Spec {
    protocol: Protocol::Tcp,
    ip: "127.0.0.1",
    v6only: false,
    device: None,
    uid: ANN,
    reuse_address: false,
    reuse_port: false,
    freebind: false,
    transparent: false,
};

/// Every case; with one user, or without a second device, where there are no others.
pub(crate) fn all(users: bool, devices: bool) -> Vec<Case> {
    let mut cases = before_others();
    cases.extend(pairs_without_devices());
    let mut draw = Draw(0x5a3e_9047);
    cases.extend((0..9_000).map(|_| draw.case(1)));
    cases.extend((0..14_000).map(|_| draw.case(2)));
    cases.extend((0..2_000).map(|_| draw.case(3)));
    if !devices {
        let by_other = |spec: &Spec| spec.device == Some(OTHER_DEVICE);
        cases.retain(|case| !by_other(&case.wish) && !case.there.iter().any(|(s, _)| by_other(s)));
    }
    if !users {
        let own = rustix::process::geteuid().as_raw();
        let of_one = |case: &Case| case.there.iter().all(|(spec, _)| spec.uid == case.wish.uid);
        cases.retain(|case| of_one(case) && case.wish.uid == ANN);
        for case in &mut cases {
            case.wish.uid = own;
            case.there.iter_mut().for_each(|(spec, _)| spec.uid = own);
        }
        // In a user namespace of its own it may do everything.
        cases.retain(|case| case.port.is_none() && !case.wish.transparent);
    }
    cases
}

/// What is decided whoever is there.
fn before_others() -> Vec<Case> {
    let mut wishes = Vec::new();
    for uid in [ANN, ROOT] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let plain = Spec { uid, protocol, ..PLAIN };
            wishes.extend([
                (Spec { ip: "192.0.2.1", ..plain }, None),
                (Spec { ip: "192.0.2.1", freebind: true, ..plain }, None),
                (Spec { transparent: true, ..plain }, None),
                (Spec { ip: "192.0.2.1", transparent: true, ..plain }, None),
                (Spec { device: Some("none"), ..plain }, None),
                (Spec { ip: "::ffff:127.0.0.1", v6only: true, ..plain }, None),
                (Spec { ip: "::ffff:192.0.2.1", ..plain }, None),
                (Spec { ip: "fe80::1", ..plain }, None),
                (Spec { ip: "fe80::1", ..plain }, Some(LOW_PORT)),
                (Spec { ip: "2001:db8::1", freebind: true, ..plain }, None),
                (Spec { ip: "::", v6only: true, ..plain }, Some(LOW_PORT)),
                (Spec { ip: "192.0.2.1", ..plain }, Some(LOW_PORT)),
                (plain, Some(LOW_PORT)),
            ]);
        }
    }
    wishes.into_iter().map(|(wish, port)| Case { there: vec![], wish, port }).collect()
}

/// All of two sockets on no device: options, users, addresses, states.
fn pairs_without_devices() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, states) in [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)] {
        for first in sockets(protocol) {
            for second in sockets(protocol) {
                for (uid, other) in USERS {
                    for state in states {
                        let there = vec![(Spec { uid: *uid, ..first }, *state)];
                        cases.push(Case {
                            there,
                            wish: Spec { uid: *other, ..second },
                            port: None,
                        });
                    }
                }
            }
        }
    }
    cases
}

fn sockets(protocol: Protocol) -> impl Iterator<Item = Spec> {
    PLACES.iter().flat_map(move |(ip, v6only)| {
        OPTIONS.iter().map(move |(reuse_address, reuse_port)| Spec {
            protocol,
            ip,
            v6only: *v6only,
            reuse_address: *reuse_address,
            reuse_port: *reuse_port,
            ..PLAIN
        })
    })
}

/// A generator of numbers (Knuth's MMIX), always the same ones.
struct Draw(u64);

impl Draw {
    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &of[usize::try_from(self.0 >> 33).expect("31 bits") % of.len()]
    }

    fn case(&mut self, there: usize) -> Case {
        let protocol = *self.one(&[Protocol::Tcp, Protocol::Udp]);
        let states = if protocol == Protocol::Tcp { TCP } else { UDP };
        // Sockets that share are rare among all: half of the cases have only such.
        let options = if *self.one(&[false, true]) { OPTIONS } else { &OPTIONS[1..] };
        let mut drawn = Vec::new();
        for _ in 0..there {
            let spec = self.spec(protocol, options);
            // By the other device nobody can be connected to.
            let states = if spec.device == Some(OTHER_DEVICE) { &states[..1] } else { states };
            drawn.push((spec, *self.one(states)));
        }
        Case { there: drawn, wish: self.spec(protocol, options), port: None }
    }

    fn spec(&mut self, protocol: Protocol, options: &[(bool, bool)]) -> Spec {
        let (ip, v6only) = *self.one(PLACES);
        let (reuse_address, reuse_port) = *self.one(options);
        let device = *self.one(DEVICES);
        let uid = *self.one(&[ANN, ANN, ANN, BOB]);
        Spec { protocol, ip, v6only, device, uid, reuse_address, reuse_port, ..PLAIN }
    }
}

/// The same sockets, seen by somebody who may not read every option.
pub(crate) fn hidden(others: &[ExistingSocket]) -> Vec<Vec<ExistingSocket>> {
    let hide = |which: fn(&mut ExistingSocket)| {
        let mut others = others.to_vec();
        others.iter_mut().for_each(which);
        others
    };
    vec![
        hide(|other| other.reuse_address = None),
        hide(|other| other.reuse_port = None),
        hide(|other| (other.reuse_address, other.reuse_port) = (None, None)),
    ]
}
