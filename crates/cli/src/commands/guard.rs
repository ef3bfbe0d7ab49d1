//! `sameport guard`.

use sameport_policy::addr::PortSpec;
use sameport_policy::guard::{AllowSpec, parse_guarded};

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport guard 8443 --allow unit=api.service            only the service may bind port 8443
  sameport guard 53/udp --allow uid=bind --allow exe=/usr/sbin/named
  sameport guard 8443 --report-only --allow uid=www       refuse no bind; log those that would be refused
  sameport guard --log                                    the binds that were refused or noted
  sameport guard --list                                   the guarded ports, and whether the guards act
  sameport guard 8443 --off                               end a guard";

const AFTER: &str = "\
The kernel refuses every other bind (EPERM), also root's, on every address of the port, TCP and UDP \
unless one is named, in this network namespace. A second `guard` for the port replaces the first. Bound \
sockets stay as they are and are listed. No sameport process keeps running; the guards are kept in \
/etc/sameport/guards.json, and sameport-guard.service restores them after a reboot (`guard --restore`). \
Needs root. docs/guard.md lists what is not covered.

Exits with 1 also when --list finds that the kernel does not match the list.";

/// Restrict who may bind a port: users, services, cgroups or executables
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
#[command(group(clap::ArgGroup::new("what")
    .args(["port", "list", "log", "restore", "off_all"]).required(true)))]
pub(crate) struct Args {
    /// The port: 8443, 8443/tcp or 8443/udp. An address stands for its port
    #[arg(value_name = "PORT", value_parser = parse_guarded)]
    port: Option<PortSpec>,
    /// Allow unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH to bind it; can be repeated
    #[arg(long, value_name = "RULE", conflicts_with_all = ["list", "log", "restore", "off_all"])]
    allow: Vec<AllowSpec>,
    /// Refuse no bind; log those that would be refused, for --log
    #[arg(long, conflicts_with_all = ["list", "log", "restore", "off_all"])]
    report_only: bool,
    /// Set the guard even if it locks out the programs on the port, or all
    #[arg(long, conflicts_with_all = ["list", "log", "restore", "off_all"])]
    force: bool,
    /// End the guard of the port
    #[arg(long, requires = "port", conflicts_with_all = ["allow", "report_only", "force"])]
    off: bool,
    /// End every guard, of every network namespace
    #[arg(long)]
    off_all: bool,
    /// List the guards
    #[arg(long)]
    list: bool,
    /// List the last 1,024 binds that were refused or noted
    #[arg(long)]
    log: bool,
    /// Set the guards of /etc/sameport/guards.json in the kernel
    #[arg(long)]
    restore: bool,
    /// With --list: print one line of JSON; with --log: a line a bind
    #[arg(long, conflicts_with_all = ["port", "restore", "off_all"])]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::guard::GuardPort;

    use crate::error::guard_state_failure;
    use crate::operations::guard::{self, GuardRequest, GuardState};
    use crate::output::guard as output;
    use crate::output::{stderr, stdout};

    let say = |lines: Vec<String>| lines.iter().for_each(|line| stderr::print(line));
    if let Some(note) = args.port.as_ref().and_then(output::every_address) {
        stderr::print(&note);
    }
    match args.port.as_ref().map(GuardPort::from) {
        Some(port) if args.off => {
            let ended = guard::off(port)?;
            say(output::ended(&ended));
        }
        Some(port) => {
            let request = GuardRequest { port, allow: args.allow, report_only: args.report_only };
            let sure = |effect: &guard::GuardEffect| {
                args.force || stderr::ask(&output::question(effect, port))
            };
            let done = guard::set(&request, sure)?;
            say(output::done(&done));
        }
        None if args.off_all => say(output::lifted(&guard::off_all()?)),
        None if args.restore => say(output::restored(&guard::restore()?)),
        None if args.log => {
            let refusals = guard::log()?;
            match (args.json, refusals.is_empty()) {
                (true, _) => stdout::write(&output::log::json(&refusals))?,
                (false, true) => stderr::print("no bind was refused"),
                (false, false) => stdout::write(&output::log::text(&refusals))?,
            }
        }
        None => {
            let list = guard::list()?;
            if args.json {
                stdout::write(&output::json(&list))?;
            } else if list.guards.is_empty() {
                stderr::print("no port is guarded");
            } else {
                stdout::write(&output::text(&list))?;
                stderr::print(output::MECHANISM);
            }
            if list.state != GuardState::InForce {
                return Err(guard_state_failure(list.state, list.locked_down));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
