//! `bench look`: `sameport ls` beside the programs that people use today, on a busy machine.
//!
//! All of it happens in namespaces of its own (network, processes), which this program enters by
//! `unshare`: nothing else is listed, and nothing outlives it.

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
    /// How often each is run
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Listening sockets
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    listeners: u32,
    /// Established connections among them, each with both ends
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    connections: u32,
    /// Processes that have them
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=250))]
    processes: u32,
    /// Then so many listening sockets, beside the same connections (0: none)
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=20_000))]
    more: u32,
    /// In namespaces of its own.
    #[arg(long, hide = true)]
    pub(crate) alone: bool,
}

/// Who looks, at programs of its own.
#[derive(Debug, Clone, Copy, Serialize)]
struct BenchUser {
    name: &'static str,
    /// `None`: who runs the benchmark.
    uid: Option<u32>,
}

#[derive(Serialize)]
struct LookFigures {
    user: &'static str,
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
    listeners: u32,
    milliseconds: f64,
    /// The most memory that it had (VmHWM).
    peak_kib: u64,
    /// Whether a BPF iterator has found the processes: positions are known by nothing else.
    iterated: bool,
}

#[derive(Serialize)]
struct LookTimes {
    beside: Vec<LookFigures>,
    sizes: Vec<Size>,
}

/// Programs that show listeners with their processes, numbers unresolved.
const OTHERS: [(&str, &[&str]); 2] =
    [("ss", &["-ltnp"]), ("lsof", &["-nP", "-iTCP", "-sTCP:LISTEN"])];

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    // Connections need ports beside those of listeners.
    set("net/ipv4/ip_local_port_range", "1024 60999")?;
    let ours = [sameport.as_os_str().to_owned(), "ls".into(), "--tcp".into()];
    let mut compared = vec![("sameport ls", ours.to_vec())];
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
        let (beside, size) = compare(args, args.listeners, user, &compared)?;
        measured.beside.extend(beside);
        measured.sizes.push(size);
        if args.more > 0 {
            let (_, size) = compare(args, args.more, user, &compared[..1])?;
            measured.sizes.push(size);
        }
    }
    tell(&measured, report)?;
    report.end("look", &measured)
}

/// Within a user namespace nobody is root.
fn users() -> Vec<BenchUser> {
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

/// The first of these programs beside each of the others, in turns; and by itself.
fn compare(
    args: &Args,
    listeners: u32,
    user: BenchUser,
    programs: &[(&'static str, Vec<OsString>)],
) -> Result<(Vec<LookFigures>, Size), BenchError> {
    let (started, owners) = listen(args, listeners, user)?;
    let (_, ours) = &programs[0];
    let iterated = all_are_shown_rightly(ours, user, &owners)?;
    let mut times = vec![Vec::new(); programs.len()];
    let mut peak_kib = 0;
    for round in 1..=args.rounds {
        for number in in_turns(programs.len(), round) {
            let (name, command) = &programs[number];
            let run = one(command, user, listeners)?;
            progress(&format!(
                "{}, {listeners} listeners, round {round} of {}: {name} {:.1} ms",
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
        LookFigures { user: user.name, program: programs[number].0, milliseconds, ratio }
    };
    let milliseconds = pairs(&times[0]).with();
    let size = Size { user: user.name, listeners, milliseconds, peak_kib, iterated };
    Ok(((1..programs.len()).map(outcome).collect(), size))
}

/// Which process has which port.
type Owners = BTreeMap<u16, u32>;

/// The listeners and connections, spread over the processes as evenly as it goes.
fn listen(
    args: &Args,
    listeners: u32,
    user: BenchUser,
) -> Result<(Vec<BenchProcess>, Owners), BenchError> {
    let processes = args.processes.min(listeners);
    let share =
        |of: u32, number: u32| (of / processes + u32::from(number < of % processes)).to_string();
    let mut started = (0..processes)
        .map(|number| {
            let (listeners, connections) =
                (share(listeners, number), share(args.connections, number));
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

/// One run, from start to end. A program that does not show all of them has not done the work.
fn one(command: &[OsString], user: BenchUser, listeners: u32) -> Result<CommandRun, BenchError> {
    let name = command[0].display();
    let failed = |error: std::io::Error| format!("{name}: {error}");
    let since = Instant::now();
    let mut child = as_user(command, user).spawn().map_err(failed)?;
    let pid = child.id();
    let mut output = vec![0];
    let stdout = child.stdout.as_mut().ok_or("no stdout")?;
    // Ours writes when it has found out everything, and cannot end before all of it is read.
    stdout.read_exact(&mut output).map_err(failed)?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    stdout.read_to_end(&mut output).map_err(failed)?;
    let status_code = child.wait().map_err(failed)?;
    let milliseconds = since.elapsed().as_secs_f64() * 1000.0;
    let lines = output.iter().filter(|byte| **byte == b'\n').count();
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

/// Whether every port is listed once, with its process and no other; and whether positions are, too.
fn all_are_shown_rightly(
    ours: &[OsString],
    user: BenchUser,
    owners: &Owners,
) -> Result<bool, BenchError> {
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
        return Err(format!("ls: {} of {} are not who they are", shown.len(), owners.len()));
    }
    Ok(document["iterated"].as_bool().unwrap_or(false))
}

fn tell(measured: &LookTimes, report: &FigureReport) -> Result<(), BenchError> {
    let milli = |figure: f64| format!("{figure:.1}");
    let mut rows = vec![row!["as", "beside", "its ms", "sameport ls ms", "ratio (rounds)"]];
    rows.extend(measured.beside.iter().map(|it| {
        let (theirs, ours) = (it.milliseconds.without(), it.milliseconds.with());
        row![it.user, it.program, milli(theirs), milli(ours), it.ratio]
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
        rows.push(row![it.user, it.listeners, milli(it.milliseconds), times, peak, by]);
    }
    report.table(&rows)
}
