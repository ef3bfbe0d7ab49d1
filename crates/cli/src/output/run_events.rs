//! What `run` says while its workers run.
//!
//! Lines go to stderr, each with `sameport: ` in front, because the workers write there too.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sameport_policy::bind::map::RuleSide;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::Member;

use super::refusal::{program, user, words};
use super::start_error;
use sameport_supervisor::control::protocol::{WorkerPhase, WorkerUpdate};
use sameport_supervisor::{OutOfReach, PrivateSocketError, Remark, RunEvent, UnusedOption};

/// How many members a line names; the rest are counted.
const NAMED: usize = 8;

/// Writes lines to stderr from a thread of its own: a reader who has stopped reading must not keep
/// workers waiting for their binds. Lines that find the queue full are dropped, and counted.
///
/// The thread starts with the first line. By then the supervisor has blocked the signals it waits
/// for, and a thread that did not inherit that would swallow them.
pub(crate) struct StderrLines {
    quiet: bool,
    dropped: Arc<AtomicUsize>,
    writer: Option<(SyncSender<String>, JoinHandle<()>)>,
}

impl StderrLines {
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet, dropped: Arc::default(), writer: None }
    }

    pub(crate) fn tell(&mut self, event: &RunEvent) {
        const QUEUE: usize = 1024;
        if self.quiet {
            return;
        }
        let (sender, _) = self.writer.get_or_insert_with(|| {
            let (sender, lines) = sync_channel(QUEUE);
            let dropped = self.dropped.clone();
            (sender, std::thread::spawn(move || write_all(&lines, &dropped)))
        });
        for line in lines(event) {
            if sender.try_send(line).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until what was said is written, or nobody seems to read it.
    pub(crate) fn finish(self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let Some((sender, writer)) = self.writer else { return };
        drop(sender);
        let until = Instant::now() + PATIENCE;
        while !writer.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn write_all(lines: &Receiver<String>, dropped: &AtomicUsize) {
    use std::io::Write as _;
    // In one piece, because the workers write there too. Whoever closed our stderr does not want to be
    // told.
    let write = |line: &str| {
        drop(anstream::stderr().write_all(format!("sameport: {line}\n").as_bytes()));
    };
    while let Ok(line) = lines.recv() {
        write(&line);
        lines.try_iter().for_each(|line| write(&line));
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            count => write(&format!("note: {count} more lines came faster than they were read")),
        }
    }
}

/// An event in words.
fn lines(event: &RunEvent) -> Vec<String> {
    match event {
        RunEvent::Shared { address, members, shadowed } => {
            let count = members.len();
            let mut lines = Vec::new();
            if count > 1 {
                lines.push(format!("{address} is now shared by {count}: {}", named(members)));
            }
            lines.extend(shadowed.iter().map(|(wider, narrower)| shadow(wider, narrower)));
            lines
        }
        RunEvent::Refused { address, refusal } => {
            let (error, hint) = words(address, refusal);
            vec![format!("error: {error}"), format!("hint: {hint}")]
        }
        RunEvent::OutOfReach { tid, why } => vec![match why {
            OutOfReach::PtraceDenied => format!(
                "warning: the sockets of thread {tid} cannot be reached (it is not dumpable, or \
                 ptrace_scope forbids it); its ports are not shared, and with --map, --source, \
                 --transparent or --private its calls are refused"
            ),
            OutOfReach::DescriptorLimit => format!(
                "warning: sameport has no descriptor left to reach the sockets of thread {tid}: \
                 raise the limit (`ulimit -Hn`); some ports are not shared"
            ),
            OutOfReach::LibraryNotLoaded => format!(
                "warning: process {tid} did not load the preload library, and has not ended as it \
                 was told to; its ports are not shared"
            ),
            OutOfReach::OwnDescriptorTable => format!(
                "warning: thread {tid} has a descriptor table of its own, which needs Linux 6.9 \
                 to reach; its ports are not shared"
            ),
        }],
        RunEvent::InspectFailed { address, why } => {
            vec![format!("warning: could not look who is on {address}: {why}")]
        }
        RunEvent::Untracked { count } => vec![format!(
            "note: {count} binds and listens came faster than they could be followed: what the \
             kernel said to those is not told here"
        )],
        RunEvent::WorkerEnded { ordinal, pid, exit, running } => {
            let how = match exit {
                Exit::Code(code) => format!("with code {code}"),
                Exit::Signal(signal) => format!("by signal {signal}"),
            };
            vec![format!("worker {ordinal} (pid {pid}) ended {how}; {running} still running")]
        }
        RunEvent::DaemonsServe { pids } => vec![format!(
            "the command has ended and left {} running; sameport stays with them until they end",
            processes(pids)
        )],
        RunEvent::EndingLeftovers { pids } => {
            vec![format!("ending what the command left behind: {}", processes(pids))]
        }
        RunEvent::Remark(Remark::OneFamily { asked, target }) => vec![format!(
            "note: the program asked for IPv4 and IPv6 on port {}, and --map gives it {}:{}, which \
             is IPv4 only",
            asked.port(),
            target.ip().to_canonical(),
            target.port()
        )],
        RunEvent::Remark(Remark::OtherFamily { asked, rule }) => vec![
            format!(
                "error: --map {rule}: the program's socket for {asked} cannot have that address"
            ),
            "hint: a socket is of one family; give a rule for each".into(),
        ],
        RunEvent::Remark(Remark::NotPrivate { asked, why: PrivateSocketError::Refused(errno) }) => {
            vec![format!(
                "error: {asked} was refused: its socket could not be made the private group's: fchown: {errno}"
            )]
        }
        RunEvent::Remark(Remark::NotPrivate { asked, why: PrivateSocketError::OnDevice }) => vec![
            format!(
                "error: {asked} was refused: its socket is bound to a device, and cannot be private: \
                 others can get past it"
            ),
            "hint: bind an address instead, or leave the port out of the group by --port".into(),
        ],
        RunEvent::InterposerSelected { interposer: via, skipped: passed } => {
            let reasons = passed.iter().map(|(via, error)| {
                format!("{} cannot: {}", start_error::name(*via), start_error::reason(error))
            });
            vec![format!(
                "using {}, because {}",
                start_error::name(*via),
                reasons.collect::<Vec<_>>().join("; ")
            )]
        }
        RunEvent::Unused(UnusedOption::Rule(rule)) => vec![
            format!("warning: --map {rule} was never used: no bind that sameport saw matches it"),
            "hint: `sameport ls` shows what a program binds".into(),
        ],
        RunEvent::Unused(UnusedOption::Source(source)) => vec![format!(
            "warning: --source {} was never used: the program made no connection that could come \
             from there",
            RuleSide { ip: Some(source.ip()), port: Some(source.port()).filter(|port| *port != 0) }
        )],
        RunEvent::WorkerChanged(change) => changed(change),
        RunEvent::NotStarted { ordinal, error } => {
            vec![format!("worker {ordinal} cannot be started: {error}")]
        }
        RunEvent::Detached { ordinal, pid, remaining: left } => vec![format!(
            "worker {ordinal}: pid {pid} has ended well and left {} running, which serve in its place",
            processes(left)
        )],
        RunEvent::NotAccepting { ordinal, pid, waiting } => vec![format!(
            "warning: worker {ordinal} (pid {pid}) does not accept connections; {waiting} wait"
        )],
        RunEvent::Closed { ordinal, pid, address } => vec![
            format!(
                "warning: worker {ordinal} (pid {pid}) has closed {address} and runs on; who waits \
                 there is served by nobody until it ends"
            ),
            "hint: `sameport restart` replaces it".into(),
        ],
        RunEvent::Unused(UnusedOption::Transparent) => vec![
            "warning: --transparent was never used: the program bound no socket that sameport saw"
                .into(),
        ],
        RunEvent::Unkillable { pids } => {
            vec![format!("error: {} did not end by SIGKILL", processes(pids))]
        }
    }
}

/// What a change of a worker's state is worth saying, beside what follows from it.
fn changed(change: &WorkerUpdate) -> Vec<String> {
    let WorkerUpdate { worker, pid, state, why, connections, .. } = change;
    let who = match pid {
        Some(pid) => format!("worker {worker} (pid {pid})"),
        None => format!("worker {worker}"),
    };
    let why = why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    vec![match state {
        WorkerPhase::Starting if why.is_empty() => return Vec::new(),
        WorkerPhase::Starting => format!("{who} is starting{why}"),
        WorkerPhase::Ready => format!("{who} is ready"),
        WorkerPhase::Draining => match connections {
            Some(open) if *open > 0 => format!("{who} drains{why}, {open} connections open"),
            _ => format!("{who} drains{why}"),
        },
        WorkerPhase::Gone => format!("{who} has ended{why}"),
        WorkerPhase::Waiting => format!("{who} is started again in a moment{why}"),
        WorkerPhase::GivenUp => {
            format!("error: {who} crashed again and again and is not started any more{why}")
        }
    }]
}

fn shadow(wider: &Member, narrower: &Member) -> String {
    let (wide, narrow) = (&wider.socket.address, &narrower.socket.address);
    let any_ipv4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let what = if wide.is_dual_stack() && narrow.socket.ip() == any_ipv4 {
        "IPv4 connections"
    } else {
        "connections to it"
    };
    format!(
        "note: {narrow} ({}) takes all {what}, {wide} ({}) gets none of those",
        who(narrower),
        who(wider)
    )
}

/// `pid 4121 (python3), pid 4130 (python3)`.
fn named(members: &[Member]) -> String {
    let mut text = members.iter().take(NAMED).map(who).collect::<Vec<_>>().join(", ");
    if members.len() > NAMED {
        let _ = write!(text, " and {} more", members.len() - NAMED);
    }
    text
}

fn who(member: &Member) -> String {
    match member.processes.first() {
        Some(process) => format!("pid {} ({})", process.pid, program(process)),
        None => format!("a program of user {}", user(member)),
    }
}

fn processes(pids: &[i32]) -> String {
    let mut text =
        pids.iter().take(NAMED).map(|pid| format!("pid {pid}")).collect::<Vec<_>>().join(", ");
    if pids.len() > NAMED {
        let _ = write!(text, " and {} more", pids.len() - NAMED);
    }
    text
}
