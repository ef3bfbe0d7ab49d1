//! The output of `guard`: its effect and the list of guards.

pub(crate) mod log;

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use sameport_policy::addr::{PortSpec, Protocol};
use sameport_policy::guard::{AllowSpec, GuardPort};
use sameport_policy::interpreter::runs_arguments;
use sameport_supervisor::guards::record::{AllowEntry, GuardEntry};
use sameport_sys::bpf::guard::PLACE;
use sameport_sys::effective_user;
use sameport_sys::users::user_name;
use serde::Serialize;

use crate::operations::guard::{
    AllowedNow, GuardEffect, GuardList, GuardResult, GuardState, LiftedGuards, ListedGuard,
    PortHolder,
};
use crate::output::holder::root_prefix;
use crate::output::json::{line, object};
use crate::output::shell;
use crate::output::socket_owner::holder_label;
use crate::output::table::table;
use crate::output::text::{age, printable, quotable};

/// The effect of `guard`, in lines.
pub(crate) fn done(done: &GuardResult) -> Vec<String> {
    let mut lines = Vec::new();
    if done.mounted {
        lines.push("mounted the BPF file system on /sys/fs/bpf".to_owned());
    }
    let Some(first) = done.set.first() else { return lines };
    for entry in &done.replaced {
        lines.push(format!(
            "replaced the guard of {}, which allowed {}",
            port(entry),
            allowed_list(entry)
        ));
    }
    let ports: Vec<_> = done.set.iter().map(port).collect();
    let ports = ports.join(" and ");
    lines.push(if first.report_only {
        format!("{ports}: no bind is refused; `sameport guard --log` lists those that would be")
    } else {
        format!("{ports}: from the next bind on, only {}", allowed_list(first))
    });
    lines.extend(done.effect.holders.iter().map(|it| holder(it, first.report_only)));
    for cgroup in &done.without_a_cgroup {
        let cgroup = quotable(cgroup);
        lines.push(format!("there is no cgroup {cgroup} now; one that is made there is allowed"));
    }
    for allow in &first.allow {
        let AllowEntry::Executable { path, .. } = allow else { continue };
        if runs_arguments(Path::new(path)) {
            lines.push(format!(
                "{} executes scripts: any user who may start it may bind; name a unit or a user \
                 instead",
                quotable(path)
            ));
        }
    }
    if !done.caller && !first.report_only {
        lines.push("this shell, as this user and from here, may not bind it either".to_owned());
    }
    lines
}

/// The note for an address in place of a port.
pub(crate) fn every_address(spec: &PortSpec) -> Option<String> {
    let port = GuardPort::from(spec);
    (!spec.is_port()).then(|| format!("{spec}: a guard is for every address of port {port}"))
}

fn holder(holder: &PortHolder, report_only: bool) -> String {
    let PortHolder { holder, address, allowed } = holder;
    let then = match (allowed, report_only) {
        (true, _) => "may bind it again",
        (false, true) => "would not be allowed to bind it again",
        (false, false) => "may not bind it again",
    };
    format!("{} keeps {}, and {then}", holder_label(holder), address.labelled())
}

/// The question before a guard that locks out processes which have the port.
pub(crate) fn question(effect: &GuardEffect, port: GuardPort) -> Vec<String> {
    let mut lines = Vec::new();
    if effect.nobody {
        lines.push(format!("no process may bind {port}, without --allow"));
    }
    let out = effect.holders.iter().filter(|holder| !holder.allowed);
    lines.extend(out.map(|it| holder(it, false)));
    lines.extend(would_allow(effect).map(|allow| format!("{allow} would let them bind again")));
    lines.push("go on? [y/N]".to_owned());
    lines
}

/// The arguments that let the programs bind again which the guard would lock out.
pub(crate) fn would_allow(effect: &GuardEffect) -> Option<String> {
    let specs: Vec<String> = effect
        .would_allow
        .iter()
        .map(|allow| format!("--allow {}", shell::word(&allow.to_string())))
        .collect();
    (!specs.is_empty()).then(|| specs.join(" "))
}

/// The effect of `guard --off`.
pub(crate) fn ended(ended: &[GuardEntry]) -> Vec<String> {
    ended.iter().map(|entry| format!("{}: not guarded any more", port(entry))).collect()
}

/// The effect of `guard --off-all`.
pub(crate) fn lifted(lifted: &LiftedGuards) -> Vec<String> {
    let mut lines = vec![match lifted.guards {
        1 => "1 guard ended".to_owned(),
        count => format!("{count} guards ended"),
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
            "{PLACE} is not valid: ports that it added to \
             net.ipv4.ip_local_reserved_ports are still there"
        ));
    }
    lines
}

/// The effect of `guard --restore`.
pub(crate) fn restored(entries: &[GuardEntry]) -> Vec<String> {
    if entries.is_empty() {
        return vec!["no port is guarded".to_owned()];
    }
    let line = |entry: &GuardEntry| {
        let what = if entry.report_only { "noted: all but" } else { "guarded: only" };
        format!("{}: {what} {}", port(entry), allowed_list(entry))
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
            let allowed: Vec<_> = allowed.map(|(allow, now)| allow_label(allow, *now)).collect();
            let allowed = if allowed.is_empty() { "nobody".into() } else { allowed.join(" ") };
            let since = UNIX_EPOCH + Duration::from_secs(listed.entry.since);
            [
                port(&listed.entry),
                allowed,
                if listed.entry.report_only { "noted" } else { "refused" }.to_owned(),
                age(list.now.duration_since(since).unwrap_or_default()),
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
pub(crate) fn allowed(entry: &GuardEntry) -> Vec<String> {
    entry.allow.iter().map(|allow| allow_label(allow, AllowedNow::AsItWas)).collect()
}

pub(crate) fn allowed_list(entry: &GuardEntry) -> String {
    let all = allowed(entry);
    if all.is_empty() { "nobody".to_owned() } else { all.join(" ") }
}

/// The command that admits a user beside those whom the guard of a port allows. Root changes a guard.
pub(crate) fn admit(port: u16, protocol: Protocol, allow: &[AllowSpec], uid: u32) -> String {
    let user = user_name(uid).map_or_else(|| uid.to_string(), |name| printable(&name));
    let user = AllowSpec::User(user);
    let allow = allow.iter().chain([&user]).map(|spec| shell::word(&spec.to_string()));
    let allow: String = allow.map(|spec| format!(" --allow {spec}")).collect();
    let root = root_prefix(effective_user());
    format!("{root}sameport guard {port}/{protocol}{allow}")
}

fn allow_label(allow: &AllowEntry, now: AllowedNow) -> String {
    let what = match allow {
        AllowEntry::User { name, .. } => format!("uid={}", printable(name)),
        AllowEntry::Unit { unit, .. } => format!("unit={}", quotable(unit)),
        AllowEntry::Cgroup { cgroup } => format!("cgroup={}", quotable(cgroup)),
        AllowEntry::Executable { path, .. } => format!("exe={}", quotable(path)),
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
    let guards: Vec<_> = list.guards.iter().map(|it| guard_view(it, list.network)).collect();
    let in_force = list.state == GuardState::InForce;
    line(&object! { version: 1, in_force: in_force, means: MEANS, guards: guards })
}

/// The mechanisms of a guard.
const MEANS: &[&str] = &["cgroup", "ip_local_reserved_ports"];

/// The mechanisms in words.
pub(crate) const MECHANISM: &str =
    "by eBPF at the binds of the root cgroup, and reserved ports; BPF LSM is not used";

/// `since` is in seconds since 1970; `here`: the guard is for the caller's network namespace.
fn guard_view(guard: &ListedGuard, network: u64) -> impl Serialize + '_ {
    let entry = &guard.entry;
    let allow: Vec<_> =
        entry.allow.iter().zip(&guard.now).map(|(allow, now)| allow_view(allow, *now)).collect();
    object! {
        port: entry.port,
        protocol: entry.protocol(),
        report_only: entry.report_only,
        since: entry.since,
        network: entry.network,
        here: entry.network == network,
        allow: allow,
    }
}

fn allow_view(allow: &AllowEntry, now: AllowedNow) -> impl Serialize + '_ {
    let (kind, name, uid, cgroup) = match allow {
        AllowEntry::User { name, uid } => ("uid", name, Some(*uid), None),
        AllowEntry::Unit { unit, cgroup } => ("unit", unit, None, Some(cgroup)),
        AllowEntry::Cgroup { cgroup } => ("cgroup", cgroup, None, Some(cgroup)),
        AllowEntry::Executable { path, .. } => ("exe", path, None, None),
    };
    let now = match now {
        AllowedNow::AsItWas => "same",
        AllowedNow::Gone => "gone",
        AllowedNow::Replaced => "replaced",
    };
    object! { kind: kind, name: name, uid: uid, cgroup: cgroup, now: now }
}
