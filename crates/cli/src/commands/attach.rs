//! `sameport attach`.

use std::net::SocketAddr;
use std::path::PathBuf;

use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::source;

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport attach --unit nginx.service                every bind of a running service can be shared
  sameport attach --cgroup /my/app --port 8080        only port 8080, of all that runs in a cgroup
  sameport attach --cgroup /my/app --map 80=127.0.0.1:8080
  sameport attach --list                              what is attached, and how often it acted";

const AFTER: &str = "\
Programs in the kernel change each bind of the cgroup's processes and of those below it; no process \
of sameport stays. What is bound already stays as it is. It lasts until `sameport detach`, until the \
cgroup is removed (systemd does so whenever it stops the unit) or the machine stops. Needs root, or \
CAP_BPF and CAP_NET_ADMIN.

Exit code: 0 when attached, 1 when it could not be (attached already, for one), 2 when the command \
line is wrong, 3 when this machine cannot.";

/// Share the ports of a running service or cgroup, from its next bind on
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
#[command(group(clap::ArgGroup::new("where").args(["unit", "cgroup", "list"]).required(true)))]
pub(crate) struct Args {
    /// The cgroup of this systemd unit
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// This cgroup: its path as in /proc/PID/cgroup, or its directory
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Show what is attached
    #[arg(long)]
    list: bool,
    /// With --list: one line of JSON
    #[arg(long, conflicts_with_all = ["unit", "cgroup"])]
    json: bool,
    /// Share only this port; may be given several times [default: every fixed port]
    #[arg(long = "port", value_name = "PORT", conflicts_with = "list",
          value_parser = sameport_policy::addr::parse_fixed_port)]
    ports: Vec<u16>,
    /// Give a program that asks for FROM the address TO; may be given several times
    #[arg(long = "map", value_name = "FROM=TO", conflicts_with = "list")]
    maps: Vec<MapRule>,
    /// Send from this address what programs send from sockets that they have not bound
    #[arg(long, value_name = "ADDR[:PORT]", conflicts_with = "list", value_parser = source::read)]
    source: Option<SocketAddr>,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::bind::verdict::PortSet;

    use crate::operations::attach::{self, AttachRequest, CgroupChoice};
    use crate::output::{attach as output, stderr, stdout};

    let place = match (args.unit, args.cgroup) {
        (Some(unit), _) => CgroupChoice::Unit(unit),
        (_, Some(path)) => CgroupChoice::Path(path),
        (None, None) => {
            let list = attach::list()?;
            if args.json {
                stdout::write(&output::json(&list))?;
            } else if list.attached.is_empty() {
                stderr::say("nothing is attached");
            } else {
                stdout::write(&output::text(&list))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    let is_unit = matches!(place, CgroupChoice::Unit(_));
    let ports = match args.ports {
        none if none.is_empty() => PortSet::All,
        some => PortSet::Only(some.into_iter().collect()),
    };
    let request = AttachRequest { place, ports, rules: args.maps, source: args.source };
    let done = attach::attach(&request)?;
    for line in output::done(&done) {
        stderr::say(&line);
    }
    if is_unit {
        stderr::hint("systemd makes a new cgroup at each start: docs/cgroup.md has the drop-in");
    }
    Ok(ExitCode::SUCCESS)
}
