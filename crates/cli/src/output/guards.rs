//! Guards: what was done, what there is, and why not.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use sameport_policy::guard::{GuardPort, is_interpreter};
use sameport_sys::bpf::guard;
use sameport_sys::bpf::guard::PLACE;
use sameport_sys::cgroup::CgroupError;
use serde::Serialize;

use super::ago::ago;
use super::attachments::{PRIVILEGE, name, not_attached, not_opened, not_pinned};
use super::json_line::line;
use super::table::{printable, table};
use crate::error::{ExitKind, Failure, shortened};
use crate::operations::guard::record::{AllowEntry, GuardEntry};
use crate::operations::guard::{
    AllowedNow, Error, GuardEffect, GuardList, GuardResult, GuardState, LiftedGuards, PortHolder,
};

/// What `guard` did, a line each.
pub(crate) fn done(done: &GuardResult) -> Vec<String> {
    let mut lines = Vec::new();
    if done.mounted {
        lines.push("mounted the BPF file system on /sys/fs/bpf".to_owned());
    }
    let Some(first) = done.set.first() else { return lines };
    for entry in &done.replaced {
        lines.push(format!("replaced the guard of {}, which allowed {}", port(entry), who(entry)));
    }
    let ports: Vec<_> = done.set.iter().map(port).collect();
    let ports = ports.join(" and ");
    lines.push(if first.report_only {
        format!("{ports}: nobody is refused; `sameport guard --log` shows who would be")
    } else {
        format!("{ports}: from the next bind on, only {}", who(first))
    });
    lines.extend(done.effect.holders.iter().map(|it| holder(it, first.report_only)));
    for cgroup in &done.without_a_cgroup {
        let cgroup = name(Path::new(cgroup));
        lines.push(format!("there is no cgroup {cgroup} now; one that is made there is allowed"));
    }
    for allow in &first.allow {
        let AllowEntry::Executable { path, .. } = allow else { continue };
        let file = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
        if is_interpreter(&file) {
            lines.push(format!(
                "{} runs whatever it is given to read: anybody who may start it may bind; name a \
                 unit or a user instead",
                name(Path::new(path))
            ));
        }
    }
    if !done.caller && !first.report_only {
        lines.push("you yourself, as this user and from here, may not bind it either".to_owned());
    }
    lines
}

fn holder(holder: &PortHolder, report_only: bool) -> String {
    let PortHolder { pid, program, address, allowed } = holder;
    let then = match (allowed, report_only) {
        (true, _) => "may bind it again",
        (false, true) => "would not be allowed to bind it again",
        (false, false) => "may not bind it again",
    };
    format!("pid {pid} ({}) keeps {address}/{}, and {then}", printable(program), address.protocol)
}

/// What somebody is asked who would lock others out.
pub(crate) fn question(effect: &GuardEffect, port: GuardPort) -> Vec<String> {
    let mut lines = Vec::new();
    if effect.nobody {
        lines.push(format!("nobody at all may bind {port}, without --allow"));
    }
    let out = effect.holders.iter().filter(|holder| !holder.allowed);
    lines.extend(out.map(|it| holder(it, false)));
    lines.push("go on? [y/N]".to_owned());
    lines
}

/// What `guard --off` did.
pub(crate) fn ended(ended: &[GuardEntry]) -> Vec<String> {
    ended.iter().map(|entry| format!("{}: not guarded any more", port(entry))).collect()
}

/// What `guard --off-all` did.
pub(crate) fn lifted(lifted: &LiftedGuards) -> Vec<String> {
    let mut lines = vec![match lifted.guards {
        1 => "1 guard ended".to_owned(),
        some => format!("{some} guards ended"),
    }];
    if !lifted.still_reserved.is_empty() {
        let ports: Vec<_> = lifted.still_reserved.iter().map(u16::to_string).collect();
        lines.push(format!(
            "in other network namespaces these stay in net.ipv4.ip_local_reserved_ports: {}",
            ports.join(",")
        ));
    }
    if lifted.unreadable {
        lines.push(format!(
            "{PLACE} could not be understood: what it had put into \
             net.ipv4.ip_local_reserved_ports is still there"
        ));
    }
    lines
}

/// What `guard --restore` did.
pub(crate) fn restored(entries: &[GuardEntry]) -> Vec<String> {
    if entries.is_empty() {
        return vec!["no port is guarded".to_owned()];
    }
    let line = |entry: &GuardEntry| {
        let what = if entry.report_only { "noted: all but" } else { "guarded: only" };
        format!("{}: {what} {}", port(entry), who(entry))
    };
    entries.iter().map(line).collect()
}

/// One row a guard.
pub(crate) fn text(list: &GuardList) -> String {
    let header = ["PORT", "ALLOWED", "OTHERS", "SINCE", "NETWORK"];
    let rows: Vec<_> = list
        .guards
        .iter()
        .map(|listed| {
            let allowed = listed.entry.allow.iter().zip(&listed.now);
            let allowed: Vec<_> = allowed.map(|(allow, now)| one(allow, *now)).collect();
            let allowed = if allowed.is_empty() { "nobody".into() } else { allowed.join(" ") };
            let since = UNIX_EPOCH + Duration::from_secs(listed.entry.since);
            [
                port(&listed.entry),
                allowed,
                if listed.entry.report_only { "noted" } else { "refused" }.to_owned(),
                ago(list.now.duration_since(since).unwrap_or_default()),
                if listed.entry.network == list.network { "this" } else { "another" }.to_owned(),
            ]
        })
        .collect();
    table(header, &rows)
}

fn port(entry: &GuardEntry) -> String {
    format!("{}/{}", entry.port, entry.protocol())
}

/// `unit=api.service`, `uid=www`: as `--allow` has them.
pub(super) fn allowed(entry: &GuardEntry) -> Vec<String> {
    entry.allow.iter().map(|allow| one(allow, AllowedNow::AsItWas)).collect()
}

pub(super) fn who(entry: &GuardEntry) -> String {
    let all = allowed(entry);
    if all.is_empty() { "nobody".to_owned() } else { all.join(" ") }
}

fn one(allow: &AllowEntry, now: AllowedNow) -> String {
    let what = match allow {
        AllowEntry::User { name, .. } => format!("uid={}", printable(name)),
        AllowEntry::Unit { unit, .. } => format!("unit={}", name(Path::new(unit))),
        AllowEntry::Cgroup { cgroup } => format!("cgroup={}", name(Path::new(cgroup))),
        AllowEntry::Executable { path, .. } => format!("exe={}", name(Path::new(path))),
    };
    match (now, allow) {
        (AllowedNow::AsItWas, _) => what,
        (AllowedNow::Gone, AllowEntry::Unit { .. }) => format!("{what} (not running)"),
        (AllowedNow::Gone, _) => format!("{what} (gone)"),
        (AllowedNow::Replaced, _) => format!("{what} (replaced)"),
    }
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(list: &GuardList) -> String {
    let guards = list.guards.iter().map(|listed| ToldGuard {
        port: listed.entry.port,
        protocol: listed.entry.protocol().name(),
        report_only: listed.entry.report_only,
        since: listed.entry.since,
        network: listed.entry.network,
        here: listed.entry.network == list.network,
        allow: listed.entry.allow.iter().zip(&listed.now).map(told).collect(),
    });
    let in_force = list.state == GuardState::InForce;
    line(&Told { version: 1, in_force, means: MEANS, guards: guards.collect() })
}

/// By what a guard acts.
const MEANS: &[&str] = &["cgroup", "ip_local_reserved_ports"];

/// The same in words.
pub(crate) const BY: &str =
    "by eBPF at the binds of the first cgroup, and reserved ports; BPF LSM is not used";

fn told<'a>((allow, now): (&'a AllowEntry, &AllowedNow)) -> ToldAllow<'a> {
    let now = match now {
        AllowedNow::AsItWas => "same",
        AllowedNow::Gone => "gone",
        AllowedNow::Replaced => "replaced",
    };
    let (kind, name, uid, cgroup) = match allow {
        AllowEntry::User { name, uid } => ("uid", name, Some(*uid), None),
        AllowEntry::Unit { unit, cgroup } => ("unit", unit, None, Some(cgroup)),
        AllowEntry::Cgroup { cgroup } => ("cgroup", cgroup, None, Some(cgroup)),
        AllowEntry::Executable { path, .. } => ("exe", path, None, None),
    };
    ToldAllow { kind, name, uid, cgroup, now }
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    /// False: the kernel does something else than this list says.
    in_force: bool,
    means: &'a [&'a str],
    guards: Vec<ToldGuard<'a>>,
}

#[derive(Serialize)]
struct ToldGuard<'a> {
    port: u16,
    protocol: &'a str,
    report_only: bool,
    /// Seconds since 1970.
    since: u64,
    /// The cookie of the network namespace.
    network: u64,
    /// Whether that is the caller's.
    here: bool,
    allow: Vec<ToldAllow<'a>>,
}

#[derive(Serialize)]
struct ToldAllow<'a> {
    kind: &'a str,
    name: &'a str,
    uid: Option<u32>,
    cgroup: Option<&'a String>,
    now: &'a str,
}

/// The list is no truth.
pub(crate) fn not_in_force(state: GuardState) -> Failure {
    let what = match state {
        GuardState::Interrupted => {
            "a change of guards was interrupted: the kernel may refuse more than this"
        }
        GuardState::Unreserved => {
            "the kernel may pick a guarded port by itself: net.ipv4.ip_local_reserved_ports has lost it"
        }
        GuardState::InForce | GuardState::NotInForce => {
            "the kernel does not do what this list says"
        }
    };
    Failure::new(ExitKind::CouldNotBeDone, what).hint("sameport guard --restore")
}

/// Why `guard` could not be done.
pub(crate) fn failure(error: &Error) -> Failure {
    let not_done = |message: String| Failure::new(ExitKind::CouldNotBeDone, message);
    match error {
        Error::NotRoot => Failure::new(
            ExitKind::MachineCannot,
            "`guard` needs root: it loads programs into the kernel and sets a sysctl",
        )
        .hint("sudo sameport guard …"),
        Error::NoUser(name) => {
            not_done(format!("--allow uid={}: there is no such user", shown(name)))
                .hint("a number is taken as it is: --allow uid=1000")
        }
        Error::Unit(error) => no_unit(error),
        Error::NotAPath(path, why) => not_done(format!("{}: {why}", name(path)))
            .hint("name a user, or a cgroup above it: --allow cgroup=/PATH"),
        Error::NoExecutable(path, why) => {
            not_done(format!("--allow exe={}: {why}", shown(path))).hint("`command -v` tells paths")
        }
        Error::LockedOut(effect) => locked_out(effect),
        Error::NotGuarded(port) => {
            not_done(format!("port {port} is not guarded in this network namespace"))
                .hint("`sameport guard --list` shows what is")
        }
        Error::Record(why) => not_done(format!("{PLACE}: {}", shortened(why))).hint(
            "repair it by hand, or end all guards by `sameport guard --off-all`; until then the \
             kernel goes on as before",
        ),
        Error::Elsewhere => not_done(format!(
            "{PLACE} is from before the machine was started, and this is not the network namespace \
             of its first process"
        ))
        .hint("run `sameport guard --restore` there first"),
        Error::File(what, why) => not_done(format!("{what} {PLACE}: {why}"))
            .hint("it keeps the guards over a start of the machine; nothing was changed"),
        Error::Reserve(why) => Failure::new(
            ExitKind::MachineCannot,
            format!("/proc/sys/net/ipv4/ip_local_reserved_ports: {why}"),
        )
        .hint("without it the kernel may pick the port itself; nothing was changed"),
        Error::Look(why) => not_done(why.clone()),
        Error::Guard(guard::GuardError::Open(error)) => not_opened(error),
        Error::Guard(guard::GuardError::Attach(error)) => {
            let mut failure = not_attached(Path::new("/"), error);
            if failure.hint.as_deref() == Some(PRIVILEGE) {
                failure =
                    failure.hint("this needs root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
            }
            failure
        }
        Error::Guard(guard::GuardError::Pin(error)) => not_pinned(Path::new("/"), error),
    }
}

fn no_unit(error: &CgroupError) -> Failure {
    let failure = not_opened(error);
    let failure = match failure.kind {
        ExitKind::BadCommandLine => Failure { kind: ExitKind::CouldNotBeDone, ..failure },
        _ => failure,
    };
    match error {
        CgroupError::UnitNotRunning(_) => failure.hint(
            "start it first, or name where its processes will be: --allow \
             cgroup=/system.slice/NAME.service",
        ),
        CgroupError::SeveralUnits(..) => failure.hint("choose one of them by --allow cgroup=/PATH"),
        CgroupError::NotAUnit(_) => {
            failure.hint("such as nginx.service; a path goes after --allow cgroup=")
        }
        _ => failure,
    }
}

fn locked_out(effect: &GuardEffect) -> Failure {
    let failure = |message: String| Failure::new(ExitKind::CouldNotBeDone, message);
    let mut out = effect.holders.iter().filter(|holder| !holder.allowed);
    match out.next() {
        Some(PortHolder { pid, program, address, .. }) => {
            let more = match out.count() {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            let (program, protocol) = (printable(program), address.protocol);
            failure(format!(
                "this would lock out pid {pid} ({program}), which has {address}/{protocol} now{more}"
            ))
            .hint("allow it too, or --force: its socket stays, and it may not bind again")
        }
        None => failure("nobody at all could bind it, without --allow".to_owned())
            .hint("--allow unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH; or --force"),
    }
}

fn shown(text: &str) -> String {
    name(Path::new(text))
}
