//! The output of `audit`: findings as text and as JSON, and changes as JSON.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use sameport_policy::addr::PortSpec;
use sameport_policy::audit::{Finding, FindingKind, Fix, Party};
use sameport_policy::guard::AllowSpec;
use sameport_policy::holder::{EndingStep, Rights, RunWorker};
use sameport_policy::model::is_private_uid;
use sameport_policy::model::{Process, ProcessDetails};
use serde::Serialize;

use sameport_sys::effective_user;

use super::holder::{around, endings, restart, rights_prefix, root_prefix};
use super::json::{line, object};
use super::shell;
use super::text::{age, printable, shorten};
use crate::operations::audit::watch::PortChange;
use crate::operations::audit::{AuditReport, Unseen};

/// Two lines a finding: its sentence and the command that fixes it.
pub(crate) fn text(findings: &[Finding], now: SystemTime) -> String {
    let width = findings.iter().map(|finding| place(finding).len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        format!(
            "{:width$}  {:7}  {}\n{:width$}  {:7}  {}\n",
            place(finding),
            finding.severity.name(),
            sentence(finding, Some(now)),
            "",
            "fix",
            fix(&finding.fix),
        )
    };
    findings.iter().map(line).collect()
}

/// `8443/tcp`, or `machine` for a finding about the whole machine.
fn place(finding: &Finding) -> String {
    match finding.port {
        Some((protocol, port)) => format!("{port}/{}", protocol.name()),
        None => "machine".to_owned(),
    }
}

fn sentence(finding: &Finding, now: Option<SystemTime>) -> String {
    let party = |party: &Option<Party>| {
        party.as_ref().map(|party| party_label(party, now)).unwrap_or_default()
    };
    let address = |party: &Option<Party>| {
        party.as_ref().map(|party| party.address.to_string()).unwrap_or_default()
    };
    let (intruder, owner) = (party(&finding.intruder), party(&finding.owner));
    let (taken, own) = (address(&finding.intruder), address(&finding.owner));
    let users = match (&finding.intruder, &finding.owner) {
        (Some(one), Some(other)) if one.uid != other.uid => "different users",
        _ => "same user, different program",
    };
    match finding.kind {
        FindingKind::SharedWithStranger => {
            format!("{intruder} shares {taken} with {owner}: {users}")
        }
        FindingKind::SharedWithUnseen => {
            format!("{intruder} shares {taken} with {owner}: same user")
        }
        FindingKind::SteeredByStranger => format!(
            "{intruder} shares {taken} with {owner}, and a program attached to the group chooses \
             a member for each connection: {users}"
        ),
        FindingKind::DuplicateListener => format!(
            "{intruder} listens at {taken} beside {owner}: the kernel alone never lets two users do that"
        ),
        FindingKind::NewestTakesAll => format!(
            "{intruder} takes 100 % of the datagrams for {taken} from {owner}, or loses them to it: \
             the newest socket gets all"
        ),
        FindingKind::NarrowerAddress if same_but_for_devices(finding) => format!(
            "{intruder} at {taken} takes traffic from {owner} at {own}, or loses it: {users}"
        ),
        FindingKind::NarrowerAddress => {
            format!("{intruder} at {taken} takes its part of {own} from {owner}: {users}")
        }
        FindingKind::SiblingAddress => {
            format!("{intruder} is at {taken}, beside {owner} at {own}, under one name: {users}")
        }
        FindingKind::OvertakenBeforeListen => format!(
            "{intruder} listens at {taken}, where {owner} is bound and cannot listen: different users"
        ),
        FindingKind::BoundNotListening => {
            format!("{intruder} is bound to {taken} and does not listen: no other socket can")
        }
        FindingKind::TakenByConnection => {
            format!("{intruder} has a connection from {taken}, and no socket listens there")
        }
        FindingKind::QueueClosed => {
            format!(
                "connections to {owner} at {own} are not accepted: its queue is closed (backlog 0)"
            )
        }
        FindingKind::TakenInTheGap => {
            format!("{intruder} has {taken}, which {owner} closed: {users}")
        }
        FindingKind::HeldByStranger => {
            format!("{intruder} has the socket at {own} of {owner} open as well")
        }
        FindingKind::Redirected => format!(
            "the eBPF program {} (sk_lookup) can give any connection to any socket",
            finding.bpf_program.unwrap_or_default()
        ),
    }
}

fn same_but_for_devices(finding: &Finding) -> bool {
    let place = |party: &Option<Party>| party.as_ref().map(|party| party.address.socket);
    place(&finding.intruder) == place(&finding.owner)
}

/// `pid 5120 (python3, user ann, /home/ann/x.py, started 3 min ago)`.
fn party_label(party: &Party, now: Option<SystemTime>) -> String {
    let user = match &party.user {
        _ if is_private_uid(party.uid) => "private group".to_owned(),
        Some(name) => format!("user {name}"),
        None => format!("user {}", party.uid),
    };
    let Some(process) = &party.process else {
        return format!("a program of {} that cannot be seen", printable(&user));
    };
    let details = process.details.as_ref();
    let parts: Vec<String> = [
        Some(process.program.clone()).filter(|name| !name.is_empty()),
        party.service.unit.as_ref().map(|unit| format!("unit {unit}")),
        party.service.container.as_ref().map(|container| format!("container {container}")),
        party.run.as_ref().map(RunWorker::description),
        Some(user),
        details.and_then(|details| script(details, process)),
        details.and_then(|details| details.started).zip(now).map(|(started, now)| {
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
            format!("started {} ago", age(now.saturating_sub(started)))
        }),
    ]
    .into_iter()
    .flatten()
    .collect();
    format!("pid {} ({})", process.pid, printable(&parts.join(", ")))
}

/// The script that an interpreter executes, else the executable.
fn script(details: &ProcessDetails, process: &Process) -> Option<String> {
    let argument = details.command.iter().skip(1).find(|word| !word.starts_with('-'));
    let file = details.executable.as_ref().map(|path| path.to_string_lossy().into_owned());
    let plain = |word: &String| !word.is_empty() && *word != process.program;
    argument.cloned().or(file).filter(plain).map(|word| shorten(&word))
}

/// A command, with `as root: ` before one that the caller may not give.
fn fix(fix: &Fix) -> String {
    let root = root_prefix(effective_user());
    match fix {
        Fix::Guard { port, protocol, allow } => {
            let allow: String =
                allow.iter().map(|it| format!(" --allow {}", allowed(it))).collect();
            format!("{root}sameport guard {port}/{protocol}{allow}")
        }
        Fix::Private { command, directory, uid, after } => {
            private(command.as_deref(), directory.as_deref(), *uid, after)
        }
        Fix::End { steps, restrict_ptrace } => {
            let steps = endings(steps);
            // Both are for root, or the second has another user.
            let also = steps.strip_prefix(&root).unwrap_or(&steps);
            match restrict_ptrace {
                true => format!("{root}sysctl -w kernel.yama.ptrace_scope=1; {also}"),
                false => steps,
            }
        }
        Fix::Reserve { port, already_reserved: also } => {
            let ports = if also.is_empty() { port.to_string() } else { format!("{also},{port}") };
            format!("{root}sysctl -w net.ipv4.ip_local_reserved_ports={ports}")
        }
        Fix::Restart(unit) => restart(unit),
        // Another user can have a run of the same name.
        Fix::RestartRun(name, uid) => {
            let (prefix, option) = uid.map(of_user).unwrap_or_default();
            format!("{prefix}sameport restart {name}{option}")
        }
        Fix::ShowBpfProgram(program) => format!("{root}bpftool prog show id {program}"),
        Fix::AuditAsRoot => format!("{root}sameport audit"),
    }
}

/// The command of a private run, for any directory, and the steps that end both programs before it.
fn private(
    command: Option<&[String]>,
    directory: Option<&Path>,
    uid: Option<u32>,
    after: &[EndingStep],
) -> String {
    let root = root_prefix(effective_user());
    let as_user = uid.map(as_user).unwrap_or_default();
    let here = std::env::current_dir().ok();
    let elsewhere = directory.filter(|directory| here.as_deref() != Some(directory));
    let directory = elsewhere.map_or(String::new(), |directory| {
        format!(" --directory {}", shell::os_command([directory]))
    });
    let command = match command {
        Some([run, private, rest @ ..]) => {
            let (first, rest) = ([run.clone(), private.clone()], shell::command(rest));
            format!("{}{directory} {rest}", shell::command(&first))
        }
        _ => format!("run --private{directory} -- COMMAND"),
    };
    match around(after) {
        Some((first, comment)) => format!("{root}{first}{as_user}sameport {command}{comment}"),
        // The steps are last, because they can end with a comment.
        None => format!("{root}{as_user}sameport {command}, after {}", endings(after)),
    }
}

/// What a verb of named runs needs before and after it, for a run of this user.
fn of_user(uid: u32) -> (String, String) {
    match effective_user() {
        caller if caller == uid => Default::default(),
        0 => (String::new(), format!(" --user {uid}")),
        caller if uid == 0 => (root_prefix(caller), String::new()),
        _ => (rights_prefix(Rights::User(uid)), String::new()),
    }
}

/// The prefix with which root runs a command as this user, with the capability that a private group
/// needs.
fn as_user(uid: u32) -> String {
    match uid {
        0 => String::new(),
        uid => format!(
            "setpriv --reuid={uid} --regid=$(id -g {uid}) --init-groups --inh-caps=+chown \
             --ambient-caps=+chown "
        ),
    }
}

fn allowed(allow: &AllowSpec) -> String {
    shell::word(&allow.to_string())
}

/// The line for a report without findings.
pub(crate) fn nothing(on: Option<&PortSpec>) -> String {
    match on {
        None => "nothing was found".to_owned(),
        Some(on) if on.is_port() => format!("nothing was found on port {on}"),
        Some(on) => format!("nothing was found on {on}"),
    }
}

/// A gap of the report as a sentence.
pub(crate) fn unseen(unseen: &Unseen) -> String {
    let sockets = |count: &usize| match count {
        1 => "1 socket".to_owned(),
        count => format!("{count} sockets"),
    };
    match unseen {
        Unseen::Processes(count) => {
            format!("not seen: the processes of {} of other users; root sees them", sockets(count))
        }
        Unseen::EvenForRoot(count) => format!(
            "not seen: the processes of {}: they are in another pid namespace, in the kernel or hidden",
            sockets(count)
        ),
        Unseen::Holders => {
            "not seen: the sockets that other users' programs have open; root sees them".to_owned()
        }
        Unseen::Bound => {
            "not seen: sockets that are bound and do not listen; Linux 6.8 lists them".to_owned()
        }
        Unseen::Steering => {
            "not seen: whether a program steers the traffic of a group; root sees it".to_owned()
        }
        Unseen::Redirections(why) => {
            format!(
                "not seen: whether an eBPF program redirects connections (sk_lookup): {why}; root sees it"
            )
        }
    }
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(report: &AuditReport) -> String {
    let findings: Vec<_> = report.findings.iter().map(finding_view).collect();
    let unseen: Vec<_> = report.unseen.iter().map(unseen).collect();
    line(&object! { version: 1, findings: findings, unseen: unseen })
}

/// One line of JSON, with the time in seconds since 1970.
pub(crate) fn change(change: &PortChange, now: SystemTime) -> String {
    let since_1970 = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = (since_1970.as_secs_f64() * 1000.0).round() / 1000.0;
    let finding = |event, finding| {
        line(&object! { version: 1, time: time, event: event, finding: finding_view(finding) })
    };
    let member = |event, party: &Party| {
        line(&object! { version: 1, time: time, event: event, member: party })
    };
    match change {
        PortChange::Began => line(&object! { version: 1, time: time, event: "watching" }),
        PortChange::Found(it) => finding("finding", it),
        PortChange::Gone(it) => finding("gone", it),
        PortChange::Joined(it) => member("joined", it),
        PortChange::Left(it) => member("left", it),
        PortChange::Blind(why) => {
            line(&object! { version: 1, time: time, event: "could-not-look", why: why })
        }
    }
}

/// `proto` and `port` are null for a finding about the whole machine; `fix` is a command.
fn finding_view(finding: &Finding) -> impl Serialize + '_ {
    object! {
        id: finding.kind,
        severity: finding.severity,
        proto: finding.port.map(|(protocol, _)| protocol),
        port: finding.port.map(|(_, port)| port),
        text: sentence(finding, None),
        culprit: &finding.intruder,
        victim: &finding.owner,
        program: finding.bpf_program,
        fix: fix(&finding.fix),
    }
}
