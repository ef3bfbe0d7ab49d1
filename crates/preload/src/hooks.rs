//! What happens in `bind`, `connect` and `sendto` of the program.
//!
//! The program's own memory is never written, its `errno` only where a call of its own fails, and
//! what cannot be done as asked is an error of its call, never left out.

#![expect(unsafe_code, reason = "stands in for functions that take pointers")]

use core::ffi::{c_char, c_int};
use core::fmt;
use core::net::SocketAddr;

use crate::machine::RawErrno;
use crate::map::{self, MapRequest, MapRule, Mapping};
use crate::protocol::Protocol;
use crate::report;
use crate::settings::{AtomicFlag, HookSettings};
use crate::share::{self, BindAttempt, ShareDecision};
use crate::sockets::{
    ADDRESS_WITHOUT_PORT, Family, HookedSocket, REUSE_ADDRESS, REUSE_PORT, RawSockAddr, handed_over,
};
use crate::source::{self, OutgoingSocket};
use crate::{environment, next};

static SETTINGS: HookSettings = HookSettings::new();

/// Before `main`, with the environment that the program is started with, if the caller knows it.
pub(crate) fn at_load(environment: *mut *mut c_char) {
    let array = environment::array(environment);
    environment::read(&SETTINGS, array);
    next::find();
    if SETTINGS.has(AtomicFlag::Read) {
        report::loaded(&SETTINGS);
    }
    if SETTINGS.has(AtomicFlag::Strip) {
        environment::strip(array);
    }
}

fn settings() -> &'static HookSettings {
    if !SETTINGS.has(AtomicFlag::Read) {
        environment::read(&SETTINGS, environment::array(core::ptr::null_mut()));
        if SETTINGS.has(AtomicFlag::Read) {
            report::loaded(&SETTINGS);
        }
    }
    &SETTINGS
}

/// What is to be bound instead, and what to say about it.
struct HookPlan {
    socket: HookedSocket,
    asked: SocketAddr,
    address: SocketAddr,
    /// The place of the rule that moved it.
    rule: Option<usize>,
    sharing: HookSharing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HookSharing {
    /// We have made it shareable.
    Shared,
    /// The program has.
    ByItself,
    Alone,
}

/// # Safety
/// As `bind(2)`: `address` may be bad.
pub(crate) unsafe fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    let settings = settings();
    // SAFETY: the program's promise.
    let plan = match unsafe { plan(settings, fd, address, length) } {
        Ok(Some(plan)) => plan,
        // SAFETY: the program's call, as it is.
        Ok(None) => return unsafe { next::bind(fd, address, length) },
        Err(errno) => return fail(errno),
    };
    let wire = RawSockAddr::new(plan.address);
    let (to, to_length) = if plan.address == plan.asked { (address, length) } else { wire.parts() };
    // SAFETY: the program's address, or ours, which lives until the end of this function.
    let done = unsafe { next::bind(fd, to, to_length) };
    if plan.rule.is_some() || plan.address.port() != 0 || settings.has(AtomicFlag::Transparent) {
        let errno = (done != 0).then(next::errno);
        report::send(settings, format_args!("{}", BindReport { plan: &plan, errno }));
    }
    done
}

/// # Safety
/// As `bind(2)`: `address` may be bad.
unsafe fn plan(
    settings: &HookSettings,
    fd: c_int,
    address: *const u8,
    length: u32,
) -> Result<Option<HookPlan>, RawErrno> {
    if !settings.ask_for_binds() && !settings.has(AtomicFlag::Broken) {
        return Ok(None);
    }
    let Some(socket) = HookedSocket::of(fd) else { return Ok(None) };
    // SAFETY: the program's promise.
    let Some(handed) = (unsafe { handed_over(address, length) }) else { return Ok(None) };
    let asked = handed.address;
    if asked.is_ipv6() != (socket.family == Family::V6) {
        // The kernel says EAFNOSUPPORT.
        return Ok(None);
    }
    if settings.has(AtomicFlag::Broken) {
        return Err(RawErrno::INVALID);
    }
    let mut plan =
        HookPlan { socket, asked, address: asked, rule: None, sharing: HookSharing::Alone };
    let prepared = prepare(settings, &mut plan);
    if let Err(errno) = prepared {
        report::send(settings, format_args!("{}", BindReport { plan: &plan, errno: Some(errno) }));
    }
    prepared.map(|()| Some(plan))
}

/// Finds out where the bind goes, and sets what is to be set on the socket.
fn prepare(settings: &HookSettings, plan: &mut HookPlan) -> Result<(), RawErrno> {
    move_address(settings, plan)?;
    let socket = &plan.socket;
    if settings.has(AtomicFlag::Transparent) {
        socket.be_transparent()?;
    }
    if settings.has(AtomicFlag::ReuseAddress)
        && (socket.protocol == Protocol::Tcp || !settings.has(AtomicFlag::Share))
    {
        socket.set(REUSE_ADDRESS, true)?;
    }
    if settings.has(AtomicFlag::Share) {
        plan.sharing = share(settings, socket, plan.address)?;
    }
    Ok(())
}

/// Where a bind goes, and by which rule.
fn move_address(settings: &HookSettings, plan: &mut HookPlan) -> Result<(), RawErrno> {
    let v6only = plan.socket.is_v6only();
    let asked = MapRequest { protocol: plan.socket.protocol, address: plan.asked, v6only };
    if let Some((place, moved)) = by_rules(settings.rules(), &asked) {
        plan.rule = Some(place);
        return match moved {
            Mapping::To(address) => {
                plan.address = address;
                Ok(())
            }
            Mapping::OtherFamily => Err(RawErrno::OTHER_FAMILY),
        };
    }
    if plan.asked.ip().to_canonical().is_multicast() {
        return Ok(());
    }
    match settings.moved_by_bindp(plan.asked, v6only) {
        Some(Ok(address)) => {
            plan.address = address;
            Ok(())
        }
        Some(Err(())) => Err(RawErrno::OTHER_FAMILY),
        None => Ok(()),
    }
}

/// `map::decide`, over rules that are not in one piece: the best so far against the next one.
fn by_rules(rules: impl Iterator<Item = MapRule>, asked: &MapRequest) -> Option<(usize, Mapping)> {
    let mut best: Option<(usize, MapRule)> = None;
    for (place, rule) in rules.enumerate() {
        let is_better = match best {
            None => map::decide(&[rule], asked).is_some(),
            Some((_, so_far)) => {
                map::decide(&[so_far, rule], asked).is_some_and(|(winner, _)| winner == 1)
            }
        };
        if is_better {
            best = Some((place, rule));
        }
    }
    let (place, rule) = best?;
    map::decide(&[rule], asked).map(|(_, moved)| (place, moved))
}

/// Makes a socket shareable, if it is to be.
fn share(
    settings: &HookSettings,
    socket: &HookedSocket,
    address: SocketAddr,
) -> Result<HookSharing, RawErrno> {
    let attempt = BindAttempt {
        protocol: Some(socket.protocol),
        address: Some(address),
        reuse_port: socket.has(REUSE_PORT),
        reuse_address: socket.has(REUSE_ADDRESS),
        // The program's sockets are of its own namespace, but for one that it brought along; and
        // then nobody has asked to leave that one out.
        same_network: true,
    };
    match share::decide(&attempt, settings.shares_port(address.port())) {
        ShareDecision::Share { clear_reuse_address } => {
            if clear_reuse_address {
                socket.set(REUSE_ADDRESS, false)?;
            }
            socket.set(REUSE_PORT, true)?;
            Ok(HookSharing::Shared)
        }
        ShareDecision::SharedByItself => Ok(HookSharing::ByItself),
        ShareDecision::LeaveAlone(_) => Ok(HookSharing::Alone),
    }
}

/// # Safety
/// As `connect(2)`: `address` may be bad.
pub(crate) unsafe fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the program's promise.
    if let Err(errno) = unsafe { bind_to_source(fd, address, length) } {
        return fail(errno);
    }
    // SAFETY: the program's call, as it is.
    unsafe { next::connect(fd, address, length) }
}

/// # Safety
/// As `sendto(2)`: both pointers may be bad.
pub(crate) unsafe fn sendto(
    fd: c_int,
    bytes: *const u8,
    size: usize,
    flags: c_int,
    address: *const u8,
    length: u32,
) -> isize {
    if !address.is_null() {
        // SAFETY: the program's promise.
        if let Err(errno) = unsafe { bind_to_source(fd, address, length) } {
            return fail(errno) as isize;
        }
    }
    // SAFETY: the program's call, as it is.
    unsafe { next::sendto(fd, bytes, size, flags, address, length) }
}

/// Binds a socket that the program has not bound to the address that connections are to come from.
///
/// # Safety
/// `target` is what the program hands over as an address of `length` bytes. It may be bad.
unsafe fn bind_to_source(fd: c_int, target: *const u8, length: u32) -> Result<(), RawErrno> {
    let settings = settings();
    let broken = settings.has(AtomicFlag::Broken);
    if !settings.ask_for_sources() && !broken {
        return Ok(());
    }
    let Some(socket) = HookedSocket::of(fd) else { return Ok(()) };
    // SAFETY: the program's promise.
    let Some(handed) = (unsafe { handed_over(target, length) }) else { return Ok(()) };
    if broken && handed.names_its_family {
        return Err(RawErrno::INVALID);
    }
    let outgoing = OutgoingSocket {
        is_v6: socket.family == Family::V6,
        is_bound: !socket.is_unbound(),
        to: Some(handed.address).filter(|_| handed.names_its_family),
    };
    let mut sources = settings.sources();
    let Some(source) = sources.find_map(|source| source::decide(source, &outgoing)) else {
        return Ok(());
    };
    let bound = bind_source(settings, &socket, fd, source);
    let protocol = socket.protocol;
    match bound {
        Ok(()) => report::send(settings, format_args!("source {protocol} {source}")),
        Err(RawErrno(errno)) => {
            report::send(settings, format_args!("source {protocol} {source} errno {errno}"));
        }
    }
    bound
}

fn bind_source(
    settings: &HookSettings,
    socket: &HookedSocket,
    fd: c_int,
    source: SocketAddr,
) -> Result<(), RawErrno> {
    if settings.has(AtomicFlag::Transparent) {
        socket.be_transparent()?;
    }
    if source.port() != 0 {
        // So that several connections, and several programs, can come from this port.
        if !socket.has(REUSE_PORT) {
            if socket.protocol == Protocol::Udp && socket.has(REUSE_ADDRESS) {
                socket.set(REUSE_ADDRESS, false)?;
            }
            socket.set(REUSE_PORT, true)?;
        }
    } else if socket.protocol == Protocol::Tcp {
        // The port is then picked when the other end is known, and need only differ for that one.
        // Linux 4.2; without it there are fewer connections to be had, and nothing else changes.
        let _ = socket.set(ADDRESS_WITHOUT_PORT, true);
    }
    let wire = RawSockAddr::new(source);
    let (address, length) = wire.parts();
    let before = next::errno();
    // SAFETY: the address is a live local of this length.
    let done = unsafe { next::bind(fd, address, length) };
    let errno = next::errno();
    next::set_errno(before);
    if done == 0 { Ok(()) } else { Err(errno) }
}

fn fail(errno: RawErrno) -> c_int {
    next::set_errno(errno);
    -1
}

/// A bind, as it is reported.
struct BindReport<'a> {
    plan: &'a HookPlan,
    errno: Option<RawErrno>,
}

impl fmt::Display for BindReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HookPlan { socket, asked, address, rule, sharing } = self.plan;
        write!(f, "bound {} {address}", socket.protocol)?;
        if asked != address {
            write!(f, " asked {asked}")?;
        }
        if let Some(place) = rule {
            write!(f, " rule {place}")?;
        }
        f.write_str(match sharing {
            HookSharing::Shared => " shared",
            HookSharing::ByItself => " itself",
            HookSharing::Alone => "",
        })?;
        if let Some(RawErrno(errno)) = self.errno {
            write!(f, " errno {errno}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tournament gives what the whole list gives.
    #[test]
    fn rules_in_pieces_decide_as_a_list_does() {
        let rules: Vec<MapRule> = [
            "80=8080",
            "127.0.0.1=127.0.0.2",
            "tcp:80=8081",
            "127.0.0.1:80=127.0.0.3:83",
            "udp:127.0.0.1:80=84",
            "[::]:80=127.0.0.1:85",
            "81=[::1]",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let asked =
            ["127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:0", "0.0.0.0:80", "[::]:80", "[::]:82"];
        for (address, protocol, v6only) in asked.iter().flat_map(|address| {
            [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .flat_map(move |protocol| [(address, protocol, false), (address, protocol, true)])
        }) {
            let asked = MapRequest { protocol, address: address.parse().unwrap(), v6only };
            assert_eq!(
                by_rules(rules.iter().copied(), &asked),
                map::decide(&rules, &asked),
                "{asked:?}"
            );
            let backwards: Vec<MapRule> = rules.iter().rev().copied().collect();
            assert_eq!(
                by_rules(backwards.iter().copied(), &asked),
                map::decide(&backwards, &asked)
            );
        }
    }
}
