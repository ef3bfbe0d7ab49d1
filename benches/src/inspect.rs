//! `bench look`: `sameport ls` beside `ss -ltnp` and `lsof`, on a busy machine and on a small one.
//!
//! The benchmark runs in new network and process namespaces, so that no other socket is listed and
//! no process outlives it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{Pairs, Ratio, in_turns};
use crate::harness::{BenchProcess, PATIENCE, find_program, set, start_as, subject};
use crate::report::{FigureReport, progress, row};

/// How long `sameport ls`, `ss -ltnp` and `lsof` take, each a whole process, on many listeners, as root
/// and as another user
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs of each program
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Listening sockets
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    listeners: u32,
    /// Established connections among them, each with both ends
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    connections: u32,
    /// Processes that hold them
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=250))]
    processes: u32,
    /// Listening sockets of a second measurement, with the same connections (0: skip it)
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    more: u32,
    /// Listening sockets of a measurement without connections (0: skip it)
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    small: u32,
    /// This process is in namespaces of its own already
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

/// The user who runs each program and holds the sockets.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct BenchUser {
    pub(crate) name: &'static str,
    /// `None`: the user who runs the benchmark.
    pub(crate) uid: Option<u32>,
}

/// The sockets of one measurement.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct SocketLoad {
    pub(crate) listeners: u32,
    pub(crate) connections: u32,
}

#[derive(Serialize)]
struct LookFigures {
    user: &'static str,
    load: SocketLoad,
    program: &'static str,
    /// Of `sameport ls` (second) and this one (first).
    milliseconds: Pairs,
    /// `sameport ls` to this one.
    ratio: Ratio,
}

/// `sameport ls` by itself.
#[derive(Serialize)]
struct Size {
    user: &'static str,
    load: SocketLoad,
    milliseconds: f64,
    /// Peak resident memory (VmHWM).
    peak_kib: u64,
    /// Whether a BPF iterator found the processes. No other source gives positions in a group.
    iterated: bool,
}

#[derive(Serialize)]
struct LookTimes {
    beside: Vec<LookFigures>,
    sizes: Vec<Size>,
}

/// Programs that show listeners with their processes, without name resolution.
const OTHERS: [(&str, &[&str]); 2] =
    [("ss", &["-ltnp"]), ("lsof", &["-nP", "-iTCP", "-sTCP:LISTEN"])];

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    // Connections need ports beside those of listeners.
    set("net/ipv4/ip_local_port_range", "1024 60999")?;
    let ours = vec![sameport.as_os_str().to_owned(), "ls".into(), "--tcp".into()];
    let json = [ours.as_slice(), &["--json".into()]].concat();
    let mut compared = vec![("sameport ls", ours), ("sameport ls --json", json)];
    for (name, arguments) in OTHERS {
        match find_program(name) {
            Some(program) => {
                let words = arguments.iter().map(OsString::from);
                compared
                    .push((name, [program.into_os_string()].into_iter().chain(words).collect()));
            }
            None => progress(&format!("{name} is not here: measured without it")),
        }
    }
    let mut measured = LookTimes { beside: Vec::new(), sizes: Vec::new() };
    for user in users() {
        let busy = SocketLoad { listeners: args.listeners, connections: args.connections };
        let (beside, size) = compare(args, busy, user, &compared)?;
        measured.beside.extend(beside);
        measured.sizes.push(size);
        if args.more > 0 {
            let load = SocketLoad { listeners: args.more, ..busy };
            measured.sizes.push(compare(args, load, user, &compared[..1])?.1);
        }
        if args.small > 0 {
            let load = SocketLoad { listeners: args.small, connections: 0 };
            let (beside, size) = compare(args, load, user, &compared)?;
            measured.beside.extend(beside);
            measured.sizes.push(size);
        }
    }
    print(&measured, report)?;
    report.end("look", &measured)
}

/// A user namespace has no user with the rights of root.
pub(crate) fn users() -> Vec<BenchUser> {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let words: Vec<&str> = map.split_ascii_whitespace().collect();
    if words == ["0", "0", "4294967295"] {
        vec![
            BenchUser { name: "root", uid: None },
            BenchUser { name: "another user", uid: Some(65534) },
        ]
    } else {
        progress("not root: measured without it");
        vec![BenchUser { name: "this user", uid: None }]
    }
}

/// Measures the first program beside each of the others, in turns, and alone.
fn compare(
    args: &Args,
    load: SocketLoad,
    user: BenchUser,
    programs: &[(&'static str, Vec<OsString>)],
) -> Result<(Vec<LookFigures>, Size), BenchError> {
    let SocketLoad { listeners, connections } = load;
    let (started, owners) = listen(args.processes, load, user)?;
    let (_, ours) = &programs[0];
    let iterated = check_listing(ours, user, &owners)?;
    let mut times = vec![Vec::new(); programs.len()];
    let mut peak_kib = 0;
    for round in 1..=args.rounds {
        for number in in_turns(programs.len(), round) {
            let (name, command) = &programs[number];
            let run = time_run(command, user, listeners)?;
            progress(&format!(
                "{}, {listeners} listeners, {connections} connections, round {round} of {}: {name} {:.1} ms",
                user.name, args.rounds, run.milliseconds
            ));
            times[number].push(run.milliseconds);
            peak_kib = peak_kib.max(if number == 0 { run.peak_kib } else { 0 });
        }
    }
    drop(started);
    let pairs = |theirs: &[f64]| {
        let mut pairs = Pairs::default();
        theirs.iter().zip(&times[0]).for_each(|(theirs, ours)| pairs.push(*theirs, *ours));
        pairs
    };
    let outcome = |number: usize| {
        let milliseconds = pairs(&times[number]);
        let ratio = milliseconds.ratio();
        LookFigures { user: user.name, load, program: programs[number].0, milliseconds, ratio }
    };
    let milliseconds = pairs(&times[0]).with();
    let size = Size { user: user.name, load, milliseconds, peak_kib, iterated };
    Ok(((1..programs.len()).map(outcome).collect(), size))
}

/// The process that holds each port.
pub(crate) type Owners = BTreeMap<u16, u32>;

/// Opens the sockets, spread evenly over the processes.
pub(crate) fn listen(
    processes: u32,
    SocketLoad { listeners, connections }: SocketLoad,
    user: BenchUser,
) -> Result<(Vec<BenchProcess>, Owners), BenchError> {
    let processes = processes.min(listeners);
    let share =
        |of: u32, number: u32| (of / processes + u32::from(number < of % processes)).to_string();
    let mut started = (0..processes)
        .map(|number| {
            let (listeners, connections) = (share(listeners, number), share(connections, number));
            start_as(user.uid, &subject(&["listen", &listeners, &connections])?)
        })
        .collect::<Result<Vec<_>, BenchError>>()?;
    let mut owners = Owners::new();
    for one in &mut started {
        let pid = one.pid();
        let ports = one.wait_for("listeners", PATIENCE, |lines| {
            let ready = lines.iter().any(|line| line.ends_with(" connections"));
            lines
                .iter()
                .find_map(|line| line.strip_prefix("ports ").filter(|_| ready).map(str::to_owned))
        })?;
        owners.extend(ports.split(' ').filter_map(|port| Some((port.parse().ok()?, pid))));
    }
    if owners.len() == usize::try_from(listeners).unwrap_or(usize::MAX) {
        Ok((started, owners))
    } else {
        Err(format!("{} of {listeners} ports", owners.len()))
    }
}

struct CommandRun {
    milliseconds: f64,
    peak_kib: u64,
}

/// Times one run, from start to end. Fewer lines than listeners are an error.
fn time_run(
    command: &[OsString],
    user: BenchUser,
    listeners: u32,
) -> Result<CommandRun, BenchError> {
    let name = command[0].display();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let since = Instant::now();
    let mut child = as_user(command, user).spawn().map_err(failed)?;
    let pid = child.id();
    let mut output = vec![0];
    let stdout = child.stdout.as_mut().ok_or("no stdout")?;
    // `sameport ls` writes once it knows everything, and waits until the pipe has been read.
    stdout.read_exact(&mut output).map_err(failed)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    stdout.read_to_end(&mut output).map_err(failed)?;
    let status_code = child.wait().map_err(failed)?;
    let milliseconds = since.elapsed().as_secs_f64() * 1000.0;
    // JSON is one line, in which each member has a state.
    let state: &[u8] = b"\"state\":";
    let members = output.windows(state.len()).filter(|bytes| *bytes == state).count();
    let lines = output.iter().filter(|byte| **byte == b'\n').count().max(members);
    if !status_code.success() || lines < usize::try_from(listeners).unwrap_or(usize::MAX) {
        return Err(format!("{name}: {status_code}, {lines} lines"));
    }
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    Ok(CommandRun { milliseconds, peak_kib: peak.unwrap_or(0) })
}

fn as_user(command: &[OsString], user: BenchUser) -> Command {
    let mut started = Command::new(&command[0]);
    started.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if let Some(uid) = user.uid {
        started.uid(uid).gid(uid);
    }
    started
}

/// Checks that every port is listed once, with its process and no other. Returns whether a BPF
/// iterator found the processes.
fn check_listing(ours: &[OsString], user: BenchUser, owners: &Owners) -> Result<bool, BenchError> {
    let command = [ours, &["--json".into()]].concat();
    let output = as_user(&command, user).output().map_err(|error| format!("ls: {error}"))?;
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("ls --json: {error}"))?;
    let mut shown = Vec::new();
    for group in document["groups"].as_array().into_iter().flatten() {
        let address = group["address"].as_str().unwrap_or_default();
        let port: u16 = address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0);
        for member in group["members"].as_array().into_iter().flatten() {
            let pids: Vec<_> = member["pids"].as_array().into_iter().flatten().collect();
            let [pid] = pids[..] else { return Err(format!("ls: {address} has pids {pids:?}")) };
            shown.push((port, pid.as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0)));
        }
    }
    shown.sort_unstable();
    if !shown.iter().copied().eq(owners.iter().map(|(port, pid)| (*port, *pid))) {
        return Err(format!(
            "ls: {} listed members do not match {} listeners",
            shown.len(),
            owners.len()
        ));
    }
    Ok(document["iterated"].as_bool().unwrap_or(false))
}

fn print(measured: &LookTimes, report: &FigureReport) -> Result<(), BenchError> {
    let milli = |figure: f64| format!("{figure:.1}");
    let mut rows =
        vec![row!["as", "listeners", "beside", "its ms", "sameport ls ms", "ratio (rounds)"]];
    rows.extend(measured.beside.iter().map(|it| {
        let (theirs, ours) = (it.milliseconds.without(), it.milliseconds.with());
        row![it.user, it.load.listeners, it.program, milli(theirs), milli(ours), it.ratio]
    }));
    report.table(&rows)?;
    let mut rows =
        vec![row!["as", "listeners", "sameport ls ms", "times the first", "peak MiB", "by"]];
    let mut first = f64::NAN;
    let mut of = "";
    for it in &measured.sizes {
        if it.user != of {
            (of, first) = (it.user, it.milliseconds);
        }
        let times = format!("{:.2}", it.milliseconds / first);
        let peak = format!("{:.1}", f64::from(u32::try_from(it.peak_kib).unwrap_or(0)) / 1024.0);
        let by = if it.iterated { "BPF iterator" } else { "/proc" };
        rows.push(row![it.user, it.load.listeners, milli(it.milliseconds), times, peak, by]);
    }
    report.table(&rows)
}
