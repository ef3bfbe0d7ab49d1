//! The preload library of macOS and FreeBSD: type-checked, and never run.
//!
//! A cdylib of this very crate, with `std` and `libc`, for use by hand (`docs/preload.md`). It obeys
//! the settings and the rules that the object of Linux obeys. `macos.rs` and `freebsd.rs` know how
//! it gets in front of a program's calls, and which options the system has.
//!
//! The program's own memory is never written, its `errno` only where a call of its own fails, and
//! what cannot be done as asked is an error of its call, never left out.

#![expect(unsafe_code, reason = "stands in for functions that take pointers")]

mod sockets;
#[cfg_attr(target_os = "freebsd", path = "elsewhere/freebsd.rs")]
#[cfg_attr(target_os = "macos", path = "elsewhere/macos.rs")]
mod system;

use std::ffi::c_int;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::OnceLock;

use libc::{sockaddr, socklen_t};
use sameport_policy::addr::Protocol;
use sameport_policy::bind::map;
use sameport_policy::bind::map::{Asked, Moved, Rule};
use sameport_policy::bind::share;
use sameport_policy::bind::share::{Attempt, Verdict};
use sameport_policy::bind::source;
use sameport_policy::bind::source::Outgoing;

use self::sockets::{
    REUSE_ADDRESS, REUSE_PORT, Socket, V6ONLY, address_at, bind_to, done, errno, fail,
    keeping_errno,
};
use crate::settings::{Flag, OF_BINDP, OWN, Settings};

static SETTINGS: Settings = Settings::new();
static RULES: OnceLock<Vec<Rule>> = OnceLock::new();

/// Before `main`, so that no call of the program has to allocate, wait or look into an environment
/// that the program may have changed.
extern "C" fn at_load() {
    system::find();
    settings();
}

/// What the variables ask for, and the rules among it, in one piece.
fn settings() -> (&'static Settings, &'static [Rule]) {
    let rules = RULES.get_or_init(|| {
        read_variables();
        SETTINGS.rules().collect()
    });
    (&SETTINGS, rules)
}

fn read_variables() {
    let ours = OWN.iter().any(|name| std::env::var_os(name).is_some());
    for name in if ours { OWN } else { OF_BINDP } {
        let Some(value) = std::env::var_os(name) else { continue };
        let taken = match value.to_str() {
            None => Err("not a text".to_owned()),
            Some(text) => SETTINGS.take(name, text).map_err(|mistake| mistake.to_string()),
        };
        // What is left out on these systems is wrong here, rather than ignored.
        let is_here = match *name {
            "SAMEPORT_REPORT" => false,
            "SAMEPORT_CHILDREN" => !SETTINGS.has(Flag::Strip),
            "SAMEPORT_TRANSPARENT" | "IP_TRANSPARENT" => {
                !SETTINGS.has(Flag::Transparent) || system::ANY_ADDRESS.is_some()
            }
            _ => true,
        };
        let complaint = match taken {
            Ok(()) if is_here => continue,
            Ok(()) => "not for this system".to_owned(),
            Err(mistake) => mistake,
        };
        if !SETTINGS.set(Flag::Broken) {
            let shown = value.display();
            // A program without stderr learns it by EINVAL.
            let _ = writeln!(
                io::stderr(),
                "sameport preload: {name}={shown:.80}: {complaint}; until then no bind succeeds"
            );
        }
    }
}

/// # Safety
/// As `bind(2)`.
unsafe extern "C" fn bind(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's promise.
    match keeping_errno(|| unsafe { plan(fd, address, length) }) {
        // SAFETY: the program's call, as it is.
        Ok(None) => unsafe { system::bind(fd, address, length) },
        Ok(Some(instead)) => bind_to(fd, instead),
        Err(error) => fail(&error),
    }
}

/// # Safety
/// As `connect(2)`.
unsafe extern "C" fn connect(fd: c_int, address: *const sockaddr, length: socklen_t) -> c_int {
    // SAFETY: the program's promise.
    match keeping_errno(|| unsafe { bind_to_source(fd, address, length) }) {
        // SAFETY: the program's call, as it is.
        Ok(()) => unsafe { system::connect(fd, address, length) },
        Err(error) => fail(&error),
    }
}

/// Where a bind goes, if elsewhere; what is to be set on the socket is set.
///
/// # Safety
/// `address` points to `length` bytes, or is null.
unsafe fn plan(
    fd: c_int,
    address: *const sockaddr,
    length: socklen_t,
) -> io::Result<Option<SocketAddr>> {
    let (settings, rules) = settings();
    let broken = settings.has(Flag::Broken);
    if !settings.ask_for_binds() && !broken {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let Some(asked) = (unsafe { address_at(address, length) }) else { return Ok(None) };
    let Some(socket) = Socket::of(fd) else { return Ok(None) };
    if asked.is_ipv6() != socket.is_v6() {
        // The kernel says EAFNOSUPPORT.
        return Ok(None);
    }
    if broken {
        return Err(errno(libc::EINVAL));
    }
    let address = moved(settings, rules, &socket, asked)?;
    if settings.has(Flag::Transparent) {
        socket.take_any_address()?;
    }
    let shares = settings.has(Flag::Share);
    if settings.has(Flag::ReuseAddress) && (socket.protocol == Protocol::Tcp || !shares) {
        socket.set(REUSE_ADDRESS, true)?;
    }
    if shares {
        share(settings, &socket, address)?;
    }
    Ok((address != asked).then_some(address))
}

fn moved(
    settings: &Settings,
    rules: &[Rule],
    socket: &Socket,
    asked: SocketAddr,
) -> io::Result<SocketAddr> {
    let v6only = socket.is_v6() && socket.has(V6ONLY);
    match map::decide(rules, &Asked { protocol: socket.protocol, address: asked, v6only }) {
        Some((_, Moved::To(address))) => return Ok(address),
        Some((_, Moved::OtherFamily)) => return Err(errno(libc::EAFNOSUPPORT)),
        None if asked.ip().to_canonical().is_multicast() => return Ok(asked),
        None => {}
    }
    match settings.moved_by_bindp(asked, v6only) {
        Some(moved) => moved.map_err(|()| errno(libc::EAFNOSUPPORT)),
        None => Ok(asked),
    }
}

fn share(settings: &Settings, socket: &Socket, address: SocketAddr) -> io::Result<()> {
    let attempt = Attempt {
        protocol: Some(socket.protocol),
        address: Some(address),
        reuse_port: socket.has(REUSE_PORT) || system::BALANCED.is_some_and(|it| socket.has(it)),
        reuse_address: socket.has(REUSE_ADDRESS),
        same_network: true,
    };
    match share::decide(&attempt, settings.shares_port(address.port())) {
        Verdict::Share { clear_reuse_address } => {
            if clear_reuse_address {
                socket.set(REUSE_ADDRESS, false)?;
            }
            socket.set(REUSE_PORT, true)?;
            match system::BALANCED.map_or(Ok(()), |name| socket.set(name, true)) {
                // FreeBSD 11 and older share without balance.
                Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
                set => set,
            }
        }
        Verdict::SharedByItself | Verdict::LeaveAlone(_) => Ok(()),
    }
}

/// Binds a socket that the program has not bound to the address that connections are to come from.
///
/// # Safety
/// `target` points to `length` bytes, or is null.
unsafe fn bind_to_source(fd: c_int, target: *const sockaddr, length: socklen_t) -> io::Result<()> {
    let (settings, _) = settings();
    let broken = settings.has(Flag::Broken);
    if !settings.ask_for_sources() && !broken {
        return Ok(());
    }
    // SAFETY: the caller's promise.
    let Some(to) = (unsafe { address_at(target, length) }) else { return Ok(()) };
    let Some(socket) = Socket::of(fd) else { return Ok(()) };
    if broken {
        return Err(errno(libc::EINVAL));
    }
    let is_bound = socket.local.port() != 0 || !socket.local.ip().is_unspecified();
    let outgoing = Outgoing { is_v6: socket.is_v6(), is_bound, to: Some(to) };
    let chosen = settings.sources().find_map(|source| source::decide(source, &outgoing));
    let Some(source) = chosen else { return Ok(()) };
    if settings.has(Flag::Transparent) {
        socket.take_any_address()?;
    }
    if source.port() != 0 && !socket.has(REUSE_PORT) {
        // Not balanced: that would draw other people's connections to a socket that takes none.
        if socket.protocol == Protocol::Udp {
            socket.set(REUSE_ADDRESS, false)?;
        }
        socket.set(REUSE_PORT, true)?;
    }
    done(bind_to(fd, source))
}
