//! The replacements of `bind`, `listen`, `connect` and `sendto`.
//!
//! They never write the program's memory, and set `errno` only if the program's call fails. If a
//! setting cannot be applied, the program's call fails.

#![expect(unsafe_code, reason = "replaces functions that take pointers")]

use core::ffi::{c_char, c_int};
use core::fmt;
use core::net::SocketAddr;

use crate::machine::RawErrno;
use crate::map::{self, MapRequest, MapRule, Mapping};
use crate::protocol::Protocol;
use crate::report;
use crate::settings::{Flag, Settings};
use crate::sharing::{self, SharedSocket, SharingState};
use crate::sockets::{
    ADDRESS_WITHOUT_PORT, Family, ProgramSocket, REUSE_ADDRESS, REUSE_PORT, RawSockAddr,
    copy_address,
};
use crate::source::{self, OutgoingSocket};
use crate::{environment, next};

static SETTINGS: Settings = Settings::new();

/// The constructor: reads the settings from the environment of the program's start, if known.
pub(crate) fn at_load(environment: *mut *mut c_char) {
    let array = environment::array(environment);
    environment::read(&SETTINGS, array);
    next::look_up_all();
    if SETTINGS.has(Flag::Read) {
        sharing::prepare(&SETTINGS);
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
            sharing::prepare(&SETTINGS);
            report::loaded(&SETTINGS);
        }
    }
    &SETTINGS
}

/// The address to bind, and the facts for the report.
struct BindPlan {
    socket: ProgramSocket,
    requested: SocketAddr,
    address: SocketAddr,
    /// The index of the rule that changed the address.
    rule: Option<usize>,
    sharing: SharedSocket,
}

/// # Safety
///
/// The requirements of bind(2). `address` can be invalid.
pub(crate) unsafe fn bind(fd: c_int, address: *const u8, length: u32) -> c_int {
    let settings = settings();
    // SAFETY: the caller meets the same requirements.
    let mut plan = match unsafe { plan(settings, fd, address, length) } {
        Ok(Some(plan)) => plan,
        // SAFETY: the program's call, unchanged.
        Ok(None) => return unsafe { next::bind(fd, address, length) },
        Err(errno) => return fail(errno),
    };
    let raw = RawSockAddr::new(plan.address);
    let (to, to_length) =
        if plan.address == plan.requested { (address, length) } else { raw.parts() };
    let before = next::errno();
    // SAFETY: the program's address, or a local that lives until the end of this function.
    let mut result = unsafe { next::bind(fd, to, to_length) };
    if result != 0 && plan.sharing.undo(&plan.socket, next::errno()) {
        next::set_errno(before);
        // SAFETY: as above.
        result = unsafe { next::bind(fd, to, to_length) };
    }
    if result != 0 {
        plan.sharing.bind_failed();
        if plan.sharing.state == SharingState::KeptOut {
            // The program expects it.
            return result;
        }
    }
    let is_changed = settings.has(Flag::Transparent) || settings.has(Flag::Freebind);
    if plan.rule.is_some() || plan.address.port() != 0 || is_changed {
        let errno = (result != 0).then(next::errno);
        report::send(settings, format_args!("{}", BindReport { plan: &plan, errno }));
    }
    result
}

pub(crate) fn listen(fd: c_int, backlog: c_int) -> c_int {
    let kept_out = sharing::keep_from_listening(settings(), fd);
    let result = next::listen(fd, backlog);
    if result != 0
        && let Some(socket) = kept_out
    {
        sharing::share_again(&socket);
    }
    result
}

/// # Safety
///
/// The requirements of bind(2). `address` can be invalid.
unsafe fn plan(
    settings: &Settings,
    fd: c_int,
    address: *const u8,
    length: u32,
) -> Result<Option<BindPlan>, RawErrno> {
    if !settings.affects_bind() && !settings.has(Flag::Invalid) {
        return Ok(None);
    }
    let Some(socket) = ProgramSocket::of(fd) else { return Ok(None) };
    // SAFETY: the caller meets the same requirements.
    let Some(copied) = (unsafe { copy_address(address, length) }) else { return Ok(None) };
    let requested = copied.address;
    if requested.is_ipv6() != (socket.family == Family::V6) {
        // The kernel fails the call with EAFNOSUPPORT.
        return Ok(None);
    }
    if settings.has(Flag::Invalid) {
        return Err(RawErrno::INVALID);
    }
    let mut plan = BindPlan {
        socket,
        requested,
        address: requested,
        rule: None,
        sharing: SharedSocket::UNCHANGED,
    };
    let prepared = prepare(settings, &mut plan);
    if let Err(errno) = prepared {
        report::send(settings, format_args!("{}", BindReport { plan: &plan, errno: Some(errno) }));
    }
    prepared.map(|()| Some(plan))
}

/// Determines the address of the bind, and sets the options of the socket.
fn prepare(settings: &Settings, plan: &mut BindPlan) -> Result<(), RawErrno> {
    change_address(settings, plan)?;
    let socket = &plan.socket;
    if settings.has(Flag::Transparent) {
        socket.set_transparent()?;
    }
    if settings.has(Flag::Freebind) {
        socket.set_freebind()?;
    }
    if settings.has(Flag::ReuseAddress)
        && (socket.protocol == Protocol::Tcp || !settings.has(Flag::Share))
    {
        socket.set(REUSE_ADDRESS, true)?;
    }
    if settings.has(Flag::Share) {
        plan.sharing = sharing::share(settings, socket, plan.address)?;
    }
    Ok(())
}

/// Determines the address of a bind, and the rule that changes it.
fn change_address(settings: &Settings, plan: &mut BindPlan) -> Result<(), RawErrno> {
    let v6only = plan.socket.is_v6only();
    let request = MapRequest { protocol: plan.socket.protocol, address: plan.requested, v6only };
    if let Some((index, mapping)) = decide_by_rules(settings.rules(), &request) {
        plan.rule = Some(index);
        return match mapping {
            Mapping::To(address) => {
                plan.address = address;
                Ok(())
            }
            Mapping::OtherFamily => Err(RawErrno::AF_NOT_SUPPORTED),
        };
    }
    if plan.requested.ip().to_canonical().is_multicast() {
        return Ok(());
    }
    match settings.bindp_address(plan.requested, v6only) {
        Some(Ok(address)) => {
            plan.address = address;
            Ok(())
        }
        Some(Err(())) => Err(RawErrno::AF_NOT_SUPPORTED),
        None => Ok(()),
    }
}

/// [`map::decide`] for rules that are not in one slice: compares the best rule with each next one.
fn decide_by_rules(
    rules: impl Iterator<Item = MapRule>,
    request: &MapRequest,
) -> Option<(usize, Mapping)> {
    let mut best: Option<(usize, MapRule)> = None;
    for (index, rule) in rules.enumerate() {
        let is_better = match best {
            None => map::decide(&[rule], request).is_some(),
            Some((_, current)) => {
                map::decide(&[current, rule], request).is_some_and(|(winner, _)| winner == 1)
            }
        };
        if is_better {
            best = Some((index, rule));
        }
    }
    let (index, rule) = best?;
    map::decide(&[rule], request).map(|(_, mapping)| (index, mapping))
}

/// # Safety
///
/// The requirements of connect(2). `address` can be invalid.
pub(crate) unsafe fn connect(fd: c_int, address: *const u8, length: u32) -> c_int {
    // SAFETY: the caller meets the same requirements.
    if let Err(errno) = unsafe { bind_to_source(fd, address, length) } {
        return fail(errno);
    }
    // SAFETY: the program's call, unchanged.
    unsafe { next::connect(fd, address, length) }
}

/// # Safety
///
/// The requirements of sendto(2). Both pointers can be invalid.
pub(crate) unsafe fn sendto(
    fd: c_int,
    bytes: *const u8,
    size: usize,
    flags: c_int,
    address: *const u8,
    length: u32,
) -> isize {
    if !address.is_null() {
        // SAFETY: the caller meets the same requirements.
        if let Err(errno) = unsafe { bind_to_source(fd, address, length) } {
            return fail(errno) as isize;
        }
    }
    // SAFETY: the program's call, unchanged.
    unsafe { next::sendto(fd, bytes, size, flags, address, length) }
}

/// Binds an unbound socket to the source address of the settings.
///
/// # Safety
///
/// The requirements of connect(2). `target` can be invalid.
unsafe fn bind_to_source(fd: c_int, target: *const u8, length: u32) -> Result<(), RawErrno> {
    let settings = settings();
    let is_invalid = settings.has(Flag::Invalid);
    if !settings.affects_connect() && !is_invalid {
        return Ok(());
    }
    let Some(socket) = ProgramSocket::of(fd) else { return Ok(()) };
    // SAFETY: the caller meets the same requirements.
    let Some(copied) = (unsafe { copy_address(target, length) }) else { return Ok(()) };
    if is_invalid && copied.has_family {
        return Err(RawErrno::INVALID);
    }
    let outgoing = OutgoingSocket {
        is_v6: socket.family == Family::V6,
        is_bound: !socket.is_unbound(),
        to: Some(copied.address).filter(|_| copied.has_family),
    };
    let mut sources = settings.sources();
    let Some(source) = sources.find_map(|source| source::decide(source, &outgoing)) else {
        return Ok(());
    };
    let bound = bind_to(settings, &socket, fd, source);
    let protocol = socket.protocol;
    match bound {
        Ok(()) => report::send(settings, format_args!("source {protocol} {source}")),
        Err(RawErrno(errno)) => {
            report::send(settings, format_args!("source {protocol} {source} errno {errno}"));
        }
    }
    bound
}

fn bind_to(
    settings: &Settings,
    socket: &ProgramSocket,
    fd: c_int,
    source: SocketAddr,
) -> Result<(), RawErrno> {
    if settings.has(Flag::Transparent) {
        socket.set_transparent()?;
    }
    if source.port() != 0 {
        // Several connections, and several programs, can have this source port.
        if !socket.has(REUSE_PORT) {
            if socket.protocol == Protocol::Udp && socket.has(REUSE_ADDRESS) {
                socket.set(REUSE_ADDRESS, false)?;
            }
            socket.set(REUSE_PORT, true)?;
        }
    } else if socket.protocol == Protocol::Tcp {
        // `connect` then chooses the port, which must be unique for its peer only. Linux 4.2;
        // without the option, fewer connections are possible.
        let _ = socket.set(ADDRESS_WITHOUT_PORT, true);
    }
    let raw = RawSockAddr::new(source);
    let (address, length) = raw.parts();
    let before = next::errno();
    // SAFETY: the address is a live local of this length.
    let result = unsafe { next::bind(fd, address, length) };
    let errno = next::errno();
    next::set_errno(before);
    if result == 0 { Ok(()) } else { Err(errno) }
}

fn fail(errno: RawErrno) -> c_int {
    next::set_errno(errno);
    -1
}

/// The report of a bind.
struct BindReport<'a> {
    plan: &'a BindPlan,
    errno: Option<RawErrno>,
}

impl fmt::Display for BindReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BindPlan { socket, requested, address, rule, sharing } = self.plan;
        write!(f, "bound {} {address}", socket.protocol)?;
        if requested != address {
            write!(f, " asked {requested}")?;
        }
        if let Some(index) = rule {
            write!(f, " rule {index}")?;
        }
        f.write_str(match sharing.state {
            SharingState::Shared => " shared",
            SharingState::ByProgram => " itself",
            SharingState::KeptOut | SharingState::NotShared => "",
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

    /// Comparing pairs of rules has the same result as the whole list.
    #[test]
    fn pairwise_decisions_equal_the_decision_of_the_list() {
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
        let addresses =
            ["127.0.0.1:80", "127.0.0.1:81", "127.0.0.1:0", "0.0.0.0:80", "[::]:80", "[::]:82"];
        for (address, protocol, v6only) in addresses.iter().flat_map(|address| {
            [Protocol::Tcp, Protocol::Udp]
                .into_iter()
                .flat_map(move |protocol| [(address, protocol, false), (address, protocol, true)])
        }) {
            let request = MapRequest { protocol, address: address.parse().unwrap(), v6only };
            assert_eq!(
                decide_by_rules(rules.iter().copied(), &request),
                map::decide(&rules, &request),
                "{request:?}"
            );
            let backwards: Vec<MapRule> = rules.iter().rev().copied().collect();
            assert_eq!(
                decide_by_rules(backwards.iter().copied(), &request),
                map::decide(&backwards, &request)
            );
        }
    }
}
