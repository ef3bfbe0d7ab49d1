//! What happens in `bind`, `connect` and `sendto` of the program.
//!
//! The program's own memory is never written, its `errno` only where a call of its own fails, and
//! what cannot be done as asked is an error of its call, never left out.

#![expect(unsafe_code, reason = "stands in for functions that take pointers")]

use core::ffi::{c_char, c_int};
use core::fmt;
use core::net::SocketAddr;

use crate::machine::Errno;
use crate::map::{self, Asked, Moved, Rule};
use crate::protocol::Protocol;
use crate::report;
use crate::settings::{Flag, Settings};
use crate::share::{self, Attempt, Verdict};
use crate::sockets::{
    ADDRESS_WITHOUT_PORT, Family, REUSE_ADDRESS, REUSE_PORT, Socket, Wire, handed_over,
};
use crate::source::{self, Outgoing};
use crate::{environment, next};

static SETTINGS: Settings = Settings::new();

/// Before `main`, with the environment that the program is started with, if the caller knows it.
pub(crate) fn at_load(environment: *mut *mut c_char) {
    let array = environment::array(environment);
    environment::read(&SETTINGS, array);
    next::find();
    if SETTINGS.has(Flag::Read) {
        report::loaded(&SETTINGS);
    }
    if SETTINGS.has(Flag::Strip) {
        environment::strip(array);
    }
}

fn settings() -> &'static Settings {
    if !SETTINGS.has(Flag::Read) {
        environment::read(&SETTINGS, environment::array(core::ptr::null_mut()));
        if SETTINGS.has(Flag::Read) {
            report::loaded(&SETTINGS);
        }
    }
    &SETTINGS
}

/// What is to be bound instead, and what to say about it.
struct Plan {
    socket: Socket,
    asked: SocketAddr,
    address: SocketAddr,
    /// The place of the rule that moved it.
    rule: Option<usize>,
    sharing: Sharing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sharing {
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
    let wire = Wire::new(plan.address);
    let (to, to_length) = if plan.address == plan.asked { (address, length) } else { wire.parts() };
    // SAFETY: the program's address, or ours, which lives until the end of this function.
    let done = unsafe { next::bind(fd, to, to_length) };
    if plan.rule.is_some() || plan.address.port() != 0 || settings.has(Flag::Transparent) {
        let errno = (done != 0).then(next::errno);
        report::send(settings, format_args!("{}", Told { plan: &plan, errno }));
    }
    done
}

/// # Safety
/// As `bind(2)`: `address` may be bad.
unsafe fn plan(
    settings: &Settings,
    fd: c_int,
    address: *const u8,
    length: u32,
) -> Result<Option<Plan>, Errno> {
    if !settings.ask_for_binds() && !settings.has(Flag::Broken) {
        return Ok(None);
    }
    let Some(socket) = Socket::of(fd) else { return Ok(None) };
    // SAFETY: the program's promise.
    let Some(handed) = (unsafe { handed_over(address, length) }) else { return Ok(None) };
    let asked = handed.address;
    if asked.is_ipv6() != (socket.family == Family::V6) {
        // The kernel says EAFNOSUPPORT.
        return Ok(None);
    }
    if settings.has(Flag::Broken) {
        return Err(Errno::INVALID);
    }
    let mut plan = Plan { socket, asked, address: asked, rule: None, sharing: Sharing::Alone };
    let prepared = prepare(settings, &mut plan);
    if let Err(errno) = prepared {
        report::send(settings, format_args!("{}", Told { plan: &plan, errno: Some(errno) }));
    }
    prepared.map(|()| Some(plan))
}

/// Finds out where the bind goes, and sets what is to be set on the socket.
fn prepare(settings: &Settings, plan: &mut Plan) -> Result<(), Errno> {
    move_address(settings, plan)?;
    let socket = &plan.socket;
    if settings.has(Flag::Transparent) {
        socket.be_transparent()?;
    }
    if settings.has(Flag::ReuseAddress)
        && (socket.protocol == Protocol::Tcp || !settings.has(Flag::Share))
    {
        socket.set(REUSE_ADDRESS, true)?;
    }
    if settings.has(Flag::Share) {
        plan.sharing = share(settings, socket, plan.address)?;
    }
    Ok(())
}

/// Where a bind goes, and by which rule.
fn move_address(settings: &Settings, plan: &mut Plan) -> Result<(), Errno> {
    let v6only = plan.socket.is_v6only();
    let asked = Asked { protocol: plan.socket.protocol, address: plan.asked, v6only };
    if let Some((place, moved)) = by_rules(settings.rules(), &asked) {
        plan.rule = Some(place);
        return match moved {
            Moved::To(address) => {
                plan.address = address;
                Ok(())
            }
            Moved::OtherFamily => Err(Errno::OTHER_FAMILY),
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
        Some(Err(())) => Err(Errno::OTHER_FAMILY),
        None => Ok(()),
    }
}

/// `map::decide`, over rules that are not in one piece: the best so far against the next one.
fn by_rules(rules: impl Iterator<Item = Rule>, asked: &Asked) -> Option<(usize, Moved)> {
    let mut best: Option<(usize, Rule)> = None;
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
fn share(settings: &Settings, socket: &Socket, address: SocketAddr) -> Result<Sharing, Errno> {
    let attempt = Attempt {
        protocol: Some(socket.protocol),
        address: Some(address),
        reuse_port: socket.has(REUSE_PORT),
        reuse_address: socket.has(REUSE_ADDRESS),
        // The program's sockets are of its own namespace, but for one that it brought along; and
        // then nobody has asked to leave that one out.
        same_network: true,
    };
    match share::decide(&attempt, settings.shares_port(address.port())) {
        Verdict::Share { clear_reuse_address } => {
            if clear_reuse_address {
                socket.set(REUSE_ADDRESS, false)?;
            }
            socket.set(REUSE_PORT, true)?;
            Ok(Sharing::Shared)
        }
        Verdict::SharedByItself => Ok(Sharing::ByItself),
        Verdict::LeaveAlone(_) => Ok(Sharing::Alone),
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
unsafe fn bind_to_source(fd: c_int, target: *const u8, length: u32) -> Result<(), Errno> {
    let settings = settings();
    let broken = settings.has(Flag::Broken);
    if !settings.ask_for_sources() && !broken {
        return Ok(());
    }
    let Some(socket) = Socket::of(fd) else { return Ok(()) };
    // SAFETY: the program's promise.
    let Some(handed) = (unsafe { handed_over(target, length) }) else { return Ok(()) };
    if broken && handed.names_its_family {
        return Err(Errno::INVALID);
    }
    let outgoing = Outgoing {
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
        Err(Errno(errno)) => {
            report::send(settings, format_args!("source {protocol} {source} errno {errno}"));
        }
    }
    bound
}

fn bind_source(
    settings: &Settings,
    socket: &Socket,
    fd: c_int,
    source: SocketAddr,
) -> Result<(), Errno> {
    if settings.has(Flag::Transparent) {
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
    let wire = Wire::new(source);
    let (address, length) = wire.parts();
    let before = next::errno();
    // SAFETY: the address is a live local of this length.
    let done = unsafe { next::bind(fd, address, length) };
    let errno = next::errno();
    next::set_errno(before);
    if done == 0 { Ok(()) } else { Err(errno) }
}

fn fail(errno: Errno) -> c_int {
    next::set_errno(errno);
    -1
}

/// A bind, as it is reported.
struct Told<'a> {
    plan: &'a Plan,
    errno: Option<Errno>,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { socket, asked, address, rule, sharing } = self.plan;
        write!(f, "bound {} {address}", socket.protocol)?;
        if asked != address {
            write!(f, " asked {asked}")?;
        }
        if let Some(place) = rule {
            write!(f, " rule {place}")?;
        }
        f.write_str(match sharing {
            Sharing::Shared => " shared",
            Sharing::ByItself => " itself",
            Sharing::Alone => "",
        })?;
        if let Some(Errno(errno)) = self.errno {
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
        let rules: Vec<Rule> = [
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
            let asked = Asked { protocol, address: address.parse().unwrap(), v6only };
            assert_eq!(
                by_rules(rules.iter().copied(), &asked),
                map::decide(&rules, &asked),
                "{asked:?}"
            );
            let backwards: Vec<Rule> = rules.iter().rev().copied().collect();
            assert_eq!(
                by_rules(backwards.iter().copied(), &asked),
                map::decide(&backwards, &asked)
            );
        }
    }
}
