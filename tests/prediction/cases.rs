//! The cases. Values only; nothing here touches the system.

use std::net::{IpAddr, SocketAddr};

use sameport_policy::model::{Address, Protocol};
use sameport_policy::predict::{BindRequest, ExistingSocket, PortLimits};

use crate::kernel::OTHER_DEVICE;

pub(crate) const FIRST_PORT: u16 = 2_000;
/// The number of cases in one network namespace, where each case has its own port.
pub(crate) const PORTS: usize = 30_000;
const LOW_PORT: u16 = 81;

const ROOT: u32 = 0;
const UID_1000: u32 = 1000;
const UID_1001: u32 = 1001;

/// A socket of a case.
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

/// The state of an existing socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Receives connections or datagrams.
    Waiting,
    /// Bound, not listening.
    Bound,
    /// Bound and connected.
    Client,
    /// A connection accepted by a listener that is closed.
    Accepted,
    /// The same connection after its close.
    TimeWait,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Case {
    pub(crate) existing: Vec<(Spec, State)>,
    /// The socket whose bind is predicted.
    pub(crate) request: Spec,
    /// None: the port of the case in its batch.
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

    pub(crate) fn bind_request(&self, port: u16) -> BindRequest {
        BindRequest {
            address: self.address(port),
            uid: self.uid,
            reuse_port: self.reuse_port,
            reuse_address: self.reuse_address,
            transparent: self.transparent,
            freebind: self.freebind,
        }
    }

    pub(crate) fn port_limits(&self) -> PortLimits {
        let root = self.uid == ROOT;
        // Linux has 127.0.0.1 on every device, and ::1 on the loopback device only.
        let nonlocal = self.ip.contains("192.0.2.1")
            || (self.ip == "::1" && self.device == Some(OTHER_DEVICE));
        PortLimits {
            may_bind_low: root,
            may_be_transparent: root,
            unprivileged_port_start: 1024,
            is_local: !nonlocal,
            nonlocal_bind: false,
            device_exists: self.device != Some("none"),
        }
    }
}

/// IP address and `IPV6_V6ONLY`.
const ADDRESSES: &[(&str, bool)] = &[
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
const USERS: &[(u32, u32)] =
    &[(UID_1000, UID_1000), (UID_1000, UID_1001), (UID_1000, ROOT), (ROOT, UID_1000)];

const PLAIN: Spec = Spec {
    protocol: Protocol::Tcp,
    ip: "127.0.0.1",
    v6only: false,
    device: None,
    uid: UID_1000,
    reuse_address: false,
    reuse_port: false,
    freebind: false,
    transparent: false,
};

/// Every case that needs no more users and devices than there are.
pub(crate) fn all(users: bool, devices: bool) -> Vec<Case> {
    let mut cases = without_existing_sockets();
    cases.extend(pairs_without_devices());
    let mut random = Random(0x5a3e_9047);
    cases.extend((0..9_000).map(|_| random.case(1)));
    cases.extend((0..14_000).map(|_| random.case(2)));
    cases.extend((0..2_000).map(|_| random.case(3)));
    if !devices {
        let on_other = |spec: &Spec| spec.device == Some(OTHER_DEVICE);
        cases.retain(|case| {
            !on_other(&case.request) && !case.existing.iter().any(|(s, _)| on_other(s))
        });
    }
    if !users {
        let own = rustix::process::geteuid().as_raw();
        let same_uid =
            |case: &Case| case.existing.iter().all(|(spec, _)| spec.uid == case.request.uid);
        cases.retain(|case| same_uid(case) && case.request.uid == UID_1000);
        for case in &mut cases {
            case.request.uid = own;
            case.existing.iter_mut().for_each(|(spec, _)| spec.uid = own);
        }
        // Root of a user namespace has every capability in it.
        cases.retain(|case| case.port.is_none() && !case.request.transparent);
    }
    cases
}

/// Cases that the request alone decides.
fn without_existing_sockets() -> Vec<Case> {
    let mut requests = Vec::new();
    for uid in [UID_1000, ROOT] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let plain = Spec { uid, protocol, ..PLAIN };
            requests.extend([
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
    requests.into_iter().map(|(request, port)| Case { existing: vec![], request, port }).collect()
}

/// All pairs of two sockets without a device: options, users, addresses, states.
fn pairs_without_devices() -> Vec<Case> {
    let mut cases = Vec::new();
    for (protocol, states) in [(Protocol::Tcp, TCP), (Protocol::Udp, UDP)] {
        for first in sockets(protocol) {
            for second in sockets(protocol) {
                for (uid, other) in USERS {
                    for state in states {
                        let existing = vec![(Spec { uid: *uid, ..first }, *state)];
                        cases.push(Case {
                            existing,
                            request: Spec { uid: *other, ..second },
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
    ADDRESSES.iter().flat_map(move |(ip, v6only)| {
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

/// A linear congruential generator with a fixed seed (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        &from[usize::try_from(self.0 >> 33).expect("31 bits") % from.len()]
    }

    fn case(&mut self, count: usize) -> Case {
        let protocol = *self.choose(&[Protocol::Tcp, Protocol::Udp]);
        let states = if protocol == Protocol::Tcp { TCP } else { UDP };
        // Few combinations of options share, so half of the cases choose among these only.
        let options = if *self.choose(&[false, true]) { OPTIONS } else { &OPTIONS[1..] };
        let mut existing = Vec::new();
        for _ in 0..count {
            let spec = self.spec(protocol, options);
            // No connection can arrive on the other device.
            let states = if spec.device == Some(OTHER_DEVICE) { &states[..1] } else { states };
            existing.push((spec, *self.choose(states)));
        }
        Case { existing, request: self.spec(protocol, options), port: None }
    }

    fn spec(&mut self, protocol: Protocol, options: &[(bool, bool)]) -> Spec {
        let (ip, v6only) = *self.choose(ADDRESSES);
        let (reuse_address, reuse_port) = *self.choose(options);
        let device = *self.choose(DEVICES);
        let uid = *self.choose(&[UID_1000, UID_1000, UID_1000, UID_1001]);
        Spec { protocol, ip, v6only, device, uid, reuse_address, reuse_port, ..PLAIN }
    }
}

/// The same sockets as a user sees them that cannot read every option.
pub(crate) fn with_unknown_options(others: &[ExistingSocket]) -> Vec<Vec<ExistingSocket>> {
    let hide = |option: fn(&mut ExistingSocket)| {
        let mut others = others.to_vec();
        others.iter_mut().for_each(option);
        others
    };
    vec![
        hide(|other| other.reuse_address = None),
        hide(|other| other.reuse_port = None),
        hide(|other| (other.reuse_address, other.reuse_port) = (None, None)),
    ]
}
