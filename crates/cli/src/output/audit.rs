//! Findings, as text and as JSON, and what changes on ports.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sameport_policy::audit::{Finding, FindingKind, Fix, GuardAllow, Party};
use sameport_policy::model::is_private_uid;
use sameport_policy::model::{Process, ProcessDetails};
use serde::Serialize;

use super::json::line;
use super::shell;
use super::text::{age, printable, shorten};
use crate::operations::audit::watch::PortChange;
use crate::operations::audit::{AuditReport, Unseen};

/// Two lines a finding: what it is, and what to do.
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

/// `8443/tcp`; `machine` for what is about all of it.
fn place(finding: &Finding) -> String {
    match finding.port {
        Some((protocol, port)) => format!("{port}/{}", protocol.name()),
        None => "machine".to_owned(),
    }
}

fn sentence(finding: &Finding, now: Option<SystemTime>) -> String {
    let party =
        |party: &Option<Party>| party.as_ref().map(|party| who(party, now)).unwrap_or_default();
    let address = |party: &Option<Party>| {
        party.as_ref().map(|party| party.address.to_string()).unwrap_or_default()
    };
    let (culprit, victim) = (party(&finding.intruder), party(&finding.owner));
    let (theirs, own) = (address(&finding.intruder), address(&finding.owner));
    let users = match (&finding.intruder, &finding.owner) {
        (Some(one), Some(other)) if one.uid != other.uid => "different users",
        _ => "same user, different program",
    };
    match finding.kind {
        FindingKind::SharedWithStranger => {
            format!("{culprit} shares {theirs} with {victim}: {users}")
        }
        FindingKind::SharedWithUnseen => {
            format!("{culprit} shares {theirs} with {victim}: same user")
        }
        FindingKind::SteeredByStranger => format!(
            "{culprit} shares {theirs} with {victim}, and a program attached to the group chooses \
             who gets what: {users}"
        ),
        FindingKind::DuplicateListener => format!(
            "{culprit} listens at {theirs} beside {victim}: by itself the kernel lets no two users do that"
        ),
        FindingKind::NewestTakesAll => format!(
            "{culprit} takes 100 % of the datagrams for {theirs} from {victim}, or loses them to it: \
             the newest socket gets all"
        ),
        FindingKind::NarrowerAddress if same_but_for_devices(finding) => format!(
            "{culprit} at {theirs} takes traffic from {victim} at {own}, or loses it: {users}"
        ),
        FindingKind::NarrowerAddress => {
            format!("{culprit} at {theirs} takes its part of {own} from {victim}: {users}")
        }
        FindingKind::SiblingAddress => {
            format!("{culprit} is at {theirs}, beside {victim} at {own}, under one name: {users}")
        }
        FindingKind::OvertakenBeforeListen => format!(
            "{culprit} listens at {theirs}, where {victim} is bound and cannot listen: different users"
        ),
        FindingKind::BoundNotListening => {
            format!("{culprit} is bound to {theirs} and does not listen: nobody else can")
        }
        FindingKind::TakenByConnection => {
            format!("{culprit} has a connection from {theirs}, and nobody listens there")
        }
        FindingKind::QueueClosed => {
            format!(
                "connections to {victim} at {own} are not accepted: its queue is closed (backlog 0)"
            )
        }
        FindingKind::TakenInTheGap => {
            format!("{culprit} has {theirs}, which {victim} has left: {users}")
        }
        FindingKind::HeldByStranger => {
            format!("{culprit} has the socket at {own} of {victim} open as well")
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
fn who(party: &Party, now: Option<SystemTime>) -> String {
    let user = match &party.user {
        _ if is_private_uid(party.uid) => "private group".to_owned(),
        Some(name) => format!("user {name}"),
        None => format!("user {}", party.uid),
    };
    let Some(process) = &party.process else {
        return format!("a program of {} that cannot be seen", printable(&user));
    };
    let details = process.details.as_ref();
    let told: Vec<String> = [
        Some(process.program.clone()).filter(|name| !name.is_empty()),
        party.service.unit.as_ref().map(|unit| format!("unit {unit}")),
        party.service.container.as_ref().map(|container| format!("container {container}")),
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
    format!("pid {} ({})", process.pid, printable(&told.join(", ")))
}

/// What it was told to run, or the file that it is.
fn script(details: &ProcessDetails, process: &Process) -> Option<String> {
    let argument = details.command.iter().skip(1).find(|word| !word.starts_with('-'));
    let file = details.executable.as_ref().map(|path| path.to_string_lossy().into_owned());
    let plain = |word: &String| !word.is_empty() && *word != process.program;
    argument.cloned().or(file).filter(plain).map(|word| shorten(&word))
}

fn fix(fix: &Fix) -> String {
    match fix {
        Fix::Guard { port, allow } => format!("sameport guard {port} --allow {}", allowed(allow)),
        Fix::Private { command, uid: Some(uid) } if !command.is_empty() => {
            format!("{}sameport run --private -- {}", as_user(*uid), shell::command(command))
        }
        Fix::Private { .. } => "sameport run --private -- COMMAND".to_owned(),
        Fix::Kill { pid, restrict_ptrace: false } => format!("kill {pid}"),
        Fix::Kill { pid, restrict_ptrace: true } => {
            format!("sysctl -w kernel.yama.ptrace_scope=1; kill {pid}")
        }
        Fix::Reserve { port, already_reserved: also } => {
            let ports = if also.is_empty() { port.to_string() } else { format!("{also},{port}") };
            format!("sysctl -w net.ipv4.ip_local_reserved_ports={ports}")
        }
        Fix::Restart { unit } => format!("systemctl restart {}", shell::word(unit)),
        Fix::ShowBpfProgram(program) => format!("bpftool prog show id {program}"),
        Fix::AuditAsRoot => "sudo sameport audit".to_owned(),
    }
}

/// For root to paste: with that user's rights, and the one capability that a private group needs.
fn as_user(uid: u32) -> String {
    match uid {
        0 => String::new(),
        uid => format!(
            "setpriv --reuid={uid} --regid=$(id -g {uid}) --init-groups --inh-caps=+chown \
             --ambient-caps=+chown "
        ),
    }
}

fn allowed(allow: &GuardAllow) -> String {
    match allow {
        GuardAllow::Unit(unit) => format!("unit={}", shell::word(unit)),
        GuardAllow::Executable(path) => format!("exe={}", shell::word(&path.to_string_lossy())),
        GuardAllow::Cgroup(path) => format!("cgroup={}", shell::word(path)),
        GuardAllow::User(uid) => format!("uid={uid}"),
    }
}

/// Where nothing was found.
pub(crate) fn nothing(port: Option<u16>) -> String {
    match port {
        None => "nothing was found".to_owned(),
        Some(port) => format!("nothing was found on port {port}"),
    }
}

/// What was not seen, as a sentence.
pub(crate) fn unseen(unseen: &Unseen) -> String {
    let sockets = |count: &usize| match count {
        1 => "1 socket".to_owned(),
        count => format!("{count} sockets"),
    };
    match unseen {
        Unseen::Processes(count) => {
            format!("not seen: who has {} of other users open; root sees it", sockets(count))
        }
        Unseen::EvenForRoot(count) => format!(
            "not seen: who has {} open: programs of another pid namespace or the kernel, or hidden from here",
            sockets(count)
        ),
        Unseen::Holders => {
            "not seen: what other users' programs have open; root sees it".to_owned()
        }
        Unseen::Bound => "not seen: who is bound and does not listen; Linux 6.8 tells".to_owned(),
        Unseen::Steering => {
            "not seen: whether a program chooses who of a group gets what; root sees it".to_owned()
        }
        Unseen::Redirections(why) => {
            format!(
                "not seen: whether an eBPF program chooses sockets (sk_lookup): {why}; root sees it"
            )
        }
    }
}

/// One line of JSON. Version 1: fields may be added, none changes its meaning.
pub(crate) fn json(report: &AuditReport) -> String {
    line(&Told {
        version: 1,
        findings: report.findings.iter().map(ToldFinding::new).collect(),
        unseen: report.unseen.iter().map(unseen).collect(),
    })
}

/// One line of JSON, with the time in seconds since 1970.
pub(crate) fn change(change: &PortChange, now: SystemTime) -> String {
    let (event, finding, party, why) = match change {
        PortChange::Began => ("watching", None, None, None),
        PortChange::Found(finding) => ("finding", Some(finding), None, None),
        PortChange::Gone(finding) => ("gone", Some(finding), None, None),
        PortChange::Joined(party) => ("joined", None, Some(party), None),
        PortChange::Left(party) => ("left", None, Some(party), None),
        PortChange::Blind(why) => ("could-not-look", None, None, Some(why.as_str())),
    };
    line(&ToldChange {
        version: 1,
        time: seconds(now.duration_since(UNIX_EPOCH).unwrap_or_default()),
        event,
        finding: finding.map(ToldFinding::new),
        member: party.map(ToldParty::new),
        why,
    })
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

#[derive(Serialize)]
struct Told<'a> {
    version: u32,
    findings: Vec<ToldFinding<'a>>,
    /// What was not looked at, a sentence each; empty when everything was.
    unseen: Vec<String>,
}

#[derive(Serialize)]
struct ToldChange<'a> {
    version: u32,
    time: f64,
    /// `watching`, `finding`, `gone`, `joined`, `left`, `could-not-look`.
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    finding: Option<ToldFinding<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<ToldParty<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'a str>,
}

#[derive(Serialize)]
struct ToldFinding<'a> {
    id: &'static str,
    severity: &'static str,
    /// Null for what is about the whole machine.
    proto: Option<&'static str>,
    port: Option<u16>,
    /// For people.
    text: String,
    /// Who takes, where that can be told.
    culprit: Option<ToldParty<'a>>,
    /// From whom.
    victim: Option<ToldParty<'a>>,
    /// The number of the eBPF program, where it is about one.
    program: Option<u32>,
    /// A command.
    fix: String,
}

impl<'a> ToldFinding<'a> {
    fn new(finding: &'a Finding) -> Self {
        Self {
            id: finding.kind.id(),
            severity: finding.severity.name(),
            proto: finding.port.map(|(protocol, _)| protocol.name()),
            port: finding.port.map(|(_, port)| port),
            text: sentence(finding, None),
            culprit: finding.intruder.as_ref().map(ToldParty::new),
            victim: finding.owner.as_ref().map(ToldParty::new),
            program: finding.bpf_program,
            fix: fix(&finding.fix),
        }
    }
}

#[derive(Serialize)]
struct ToldParty<'a> {
    proto: &'static str,
    address: String,
    v6only: bool,
    device: Option<&'a str>,
    /// As `sameport ls --json` has it.
    state: &'static str,
    inode: u64,
    /// The socket's user.
    uid: u32,
    user: Option<&'a str>,
    /// Null, with what follows, for a process that cannot be seen.
    pid: Option<i32>,
    program: Option<&'a str>,
    /// The process's user.
    process_uid: Option<u32>,
    command: Option<&'a [String]>,
    executable: Option<Cow<'a, str>>,
    unit: Option<&'a str>,
    container: Option<&'a str>,
    /// Seconds since 1970.
    started: Option<f64>,
}

impl<'a> ToldParty<'a> {
    fn new(party: &'a Party) -> Self {
        let process = party.process.as_ref();
        let details = process.and_then(|process| process.details.as_ref());
        let executable = details.and_then(|details| details.executable.as_deref());
        Self {
            proto: party.address.protocol.name(),
            address: party.address.socket.to_string(),
            v6only: party.address.v6only,
            device: party.address.device.as_deref(),
            state: party.state.name(),
            inode: party.inode,
            uid: party.uid,
            user: party.user.as_deref(),
            pid: process.map(|process| process.pid),
            program: process.map(|process| process.program.as_str()),
            process_uid: details.and_then(|details| details.uid),
            command: details.map(|details| details.command.as_slice()),
            executable: executable.map(|path| path.to_string_lossy()),
            unit: party.service.unit.as_deref(),
            container: party.service.container.as_deref(),
            started: details.and_then(|details| details.started).map(seconds),
        }
    }
}
