//! `sameport top`.

use std::time::Duration;

use sameport_policy::bind::verdict::SharedPort;

use crate::args::{parse_duration, parse_port};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport top                   ports with several members, and named runs, live
  sameport top 8080              one port
  sameport top 8080/udp          one port and protocol
  sameport top --interval 5s     look every 5 seconds
  sameport top --once            one frame as text
  sameport top --once --json     one frame for programs";

const AFTER: &str = "\
Keys: arrows or j and k select a row. d drains the selected member or undoes that, r restarts its run, both after a \
question; + and - change its weight, or with the policy `standby` its rank. They do what `drain`, `restart` and `steer` \
do, with the same rights. s changes the order of members, a shows also ports with one member, Enter shows all members of a large group, ? explains keys and \
columns, q quits.

NEW/S: new connections a second. Where no eBPF program counts its choices, connections that came and went between \
two looks are missing; `all ports` is the kernel's count of every accepted connection of the network namespace. OPEN: \
accepted connections. QUEUE: connections that wait for accept, and their limit; for UDP, waiting bytes. STATE: \
serving, held-back (not ready), draining, hung (connections wait, and none is accepted for a second), kept (only a \
supervisor has the socket open), foreign (not in the plan of the policy).

Needs no privilege; the programs of other users are visible to root. A look takes at most a fifth of the time: the \
interval grows on a machine with very many connections. `--once` looks twice, an interval apart.

Exits with 1 when `--once` finds no socket on the port.";

/// Show the members of ports live: new and open connections, queues, states
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port: 8080, 8080/tcp, 8080/udp
    #[arg(value_name = "PORT", value_parser = parse_port)]
    on: Option<SharedPort>,
    /// Also ports with one member that belongs to no named run
    #[arg(short, long)]
    all: bool,
    /// The time between two looks, 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
    /// Print one frame, with all members, and end
    #[arg(long)]
    once: bool,
    /// Print one line of JSON
    #[arg(long, requires = "once")]
    json: bool,
}

/// Parses a duration from 100 ms to 1 h.
fn parse_interval(text: &str) -> Result<Duration, &'static str> {
    let interval = parse_duration(text)?;
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    if range.contains(&interval) { Ok(interval) } else { Err("write a time from 100ms to 1h") }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::top::TopView;

    use crate::operations::top::{TopRequest, feed};
    use crate::output::top::{json, lines, live};
    use crate::output::{screen, stderr, stdout};

    /// Members of a group on the screen, before the others are folded.
    const FOLD: usize = 16;
    let request = TopRequest { on: args.on, interval: args.interval };
    let singles = args.all || args.on.is_some();
    let mut view = TopView { singles, ..TopView::default() };
    if !args.once {
        view.fold = args.on.is_none().then_some(FOLD);
        return live::run(request, view);
    }
    let sample = feed::once(request)?;
    let is_empty = sample.frame.groups.is_empty();
    match (args.json, is_empty, args.on) {
        (true, ..) => stdout::write(&json::frame(&sample, &view))?,
        (false, true, Some(on)) => stderr::print(&format!("no socket is on port {on}")),
        (false, true, None) => stderr::print("no socket is on any port"),
        (false, false, _) => stdout::write(&lines::text(&sample, &view, screen::width()))?,
    }
    if !args.json {
        sample.notes.iter().for_each(|note| stderr::hint(note));
    }
    let is_missing = is_empty && args.on.is_some();
    Ok(if is_missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_limited() {
        for (text, expected) in [("100ms", true), ("1h", true), ("99ms", false), ("2h", false)] {
            assert_eq!(parse_interval(text).is_ok(), expected, "{text}");
        }
        assert!(parse_interval("1 s").is_err());
    }
}
