//! `sameport attach`.

use std::net::SocketAddr;
use std::path::PathBuf;

use sameport_policy::bind::map::MapRule;
use sameport_policy::bind::source;
use sameport_policy::bind::verdict::SharedPort;

use crate::args::parse_port;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport attach --unit nginx.service                share every fixed port of a running service
  sameport attach --unit nginx.service --permanent    also after a reboot
  sameport attach --cgroup /my/app --port 8080        share only port 8080 of the programs in a cgroup
  sameport attach --cgroup /my/app --map 80=127.0.0.1:8080
  sameport attach --list                              attachments, and how many binds each changed";

const AFTER: &str = "\
eBPF programs in the kernel change each later bind of the processes in the cgroup and below it; no \
sameport process keeps running. Bound sockets stay as they are. The attachment lasts until `sameport \
detach`, the removal of the cgroup or a reboot. systemd removes the cgroup of a unit when it stops: with \
--unit a drop-in of the service (50-sameport-attach.conf) attaches again at each start, until `sameport \
detach` or a reboot. Needs root, or CAP_BPF and CAP_NET_ADMIN.

Exits with 1 when the cgroup has an attachment already.";

/// Share the ports of a running service or cgroup, from its next bind on
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
#[command(group(clap::ArgGroup::new("where").args(["unit", "cgroup", "list"]).required(true)))]
pub(crate) struct Args {
    /// The cgroup of this systemd unit
    #[arg(long, value_name = "NAME")]
    unit: Option<String>,
    /// With --unit: also after a reboot (the drop-in is in /etc/systemd/system)
    #[arg(long, conflicts_with_all = ["cgroup", "list"])]
    permanent: bool,
    /// With --unit: until the unit stops; no drop-in
    #[arg(long, conflicts_with_all = ["cgroup", "list", "permanent"])]
    once: bool,
    /// This cgroup: its path as in /proc/PID/cgroup, or its directory
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// List the attachments
    #[arg(long)]
    list: bool,
    /// With --list: print one line of JSON
    #[arg(long, conflicts_with_all = ["unit", "cgroup"])]
    json: bool,
    /// Share only this port, of TCP and UDP or, as 53/udp, of one; can be repeated [default: every fixed
    /// port]
    #[arg(long = "port", value_name = "PORT", conflicts_with = "list",
          value_parser = parse_port)]
    ports: Vec<SharedPort>,
    /// Bind TO where a program asks for FROM; can be repeated
    #[arg(long = "map", value_name = "FROM=TO", conflicts_with = "list")]
    maps: Vec<MapRule>,
    /// Make connections and datagrams from unbound sockets come from this address
    #[arg(long, value_name = "ADDR[:PORT]", conflicts_with = "list", value_parser = source::read)]
    source: Option<SocketAddr>,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::bind::verdict::PortSet;

    use crate::operations::attach::{self, AttachAgain, AttachRequest, CgroupChoice};
    use crate::output::{attach as output, screen, stderr, stdout};

    let place = match (args.unit, args.cgroup) {
        (Some(unit), _) => CgroupChoice::Unit(unit),
        (_, Some(path)) => CgroupChoice::Path(path),
        (None, None) => {
            let list = attach::list()?;
            if args.json {
                stdout::write(&output::json(&list))?;
            } else if list.attached.is_empty() {
                stderr::print("nothing is attached");
            } else {
                stdout::write(&output::text(&list, screen::width()))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
    };
    let again = match place {
        CgroupChoice::Unit(_) if args.permanent => Some(AttachAgain::Permanently),
        CgroupChoice::Unit(_) if !args.once => Some(AttachAgain::UntilReboot),
        CgroupChoice::Unit(_) | CgroupChoice::Path(_) => None,
    };
    let ports = match args.ports {
        all if all.is_empty() => PortSet::All,
        ports => PortSet::Only(ports.into_iter().collect()),
    };
    let request = AttachRequest { place, ports, rules: args.maps, source: args.source, again };
    let done = attach::attach(&request)?;
    for line in output::done(&done) {
        stderr::print(&line);
    }
    if let attach::AtNextStart::Ends(why) = &done.at_next_start {
        stderr::hint(&format!("the attachment ends when the unit stops: {why}"));
    }
    Ok(ExitCode::SUCCESS)
}
