//! `sameport drain`.

use std::time::Duration;

use sameport_policy::addr::PortSpec;
use sameport_policy::traffic::model::MemberSelector;

use crate::args::{parse_duration, parse_fixed_port};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport drain 8080 4130                       no new connections for pid 4130
  sameport drain 8080 web.2 --wait               wait until its last connection has ended
  sameport drain 8080 web-v2 --wait --timeout 5m
  sameport drain 8080 4130 --undo                new connections again";

const AFTER: &str = "\
Returns when the accept queue of the member is empty, and prints the number of its open connections. The \
member is not ended, and Ctrl-C ends the wait, not the drain. A member that ends is forgotten. The last \
member that gets connections cannot be drained: the others could not take over.

A worker of a named run is drained by its supervisor, without a privilege. Any other member needs root, or \
CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. A port without a policy gets two-choices for its other members, until `--undo` \
of the last drain.

Exits with 1 when --timeout is over, with the connections that are left.";

/// Give a member of a port no new connections
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The port: 8080, 8080/tcp or 8080/udp
    #[arg(value_name = "PORT", value_parser = parse_fixed_port)]
    on: PortSpec,
    /// The member: a run (web), a group, a worker (web.2) or a pid
    member: MemberSelector,
    /// Wait until the last open connection has ended
    #[arg(long, conflicts_with = "undo")]
    wait: bool,
    /// The longest wait, such as 30s or 5m [default: none]
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "undo")]
    timeout: Option<Duration>,
    /// Give it new connections again
    #[arg(long)]
    undo: bool,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;
    use std::time::Instant;

    use crate::error::drain_timeout;
    use crate::operations::traffic::drain::{DrainWait, counters, wait};
    use crate::operations::traffic::steer::drain;
    use crate::output::traffic::{drain_json, drain_lines, undone};
    use crate::output::{stderr, stdout};

    crate::operations::traffic::remove_stale();
    let begun = drain(&args.on, &args.member, args.undo)?;
    if args.undo {
        match args.json {
            true => stdout::write(&drain_json(&begun.port, &begun.members, true))?,
            false => undone(&begun).iter().for_each(|line| stderr::print(line)),
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(policy), false) = (begun.policy, args.json) {
        let (port, member) = (begun.port.name(), &args.member);
        stderr::print(&format!(
            "note: {port} had no policy: {policy} chooses among the others until `sameport drain \
             {port} {member} --undo`"
        ));
    }
    let limits = DrainWait { connections: args.wait, timeout: args.timeout };
    let mut next = Instant::now() + Duration::from_secs(1);
    let mut report = |members: &[_]| {
        if !args.json && Instant::now() >= next {
            next = Instant::now() + Duration::from_secs(1);
            drain_lines(members, false).iter().for_each(|line| stderr::print(line));
        }
    };
    let end = wait(&begun.port, begun.members, limits, &counters(&begun.port), &mut report)
        .map_err(crate::error::Failure::from)?;
    match (args.json, end.complete) {
        (true, complete) => stdout::write(&drain_json(&begun.port, &end.members, complete))?,
        (false, true) => drain_lines(&end.members, true).iter().for_each(|it| stderr::print(it)),
        // The failure says what is left.
        (false, false) => {}
    }
    match end.complete {
        true => Ok(ExitCode::SUCCESS),
        false => Err(drain_timeout(&end, &begun.port)),
    }
}
