//! `sameport guard`.

use sameport_policy::guard::{AllowSpec, GuardPort};

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport guard 8443 --allow unit=api.service            nobody but the service may bind port 8443
  sameport guard 53/udp --allow uid=bind --allow exe=/usr/sbin/named
  sameport guard 8443 --report-only --allow uid=www       refuse nobody; note who would be refused
  sameport guard --log                                    who was refused, or would have been
  sameport guard --list                                   what is guarded, and whether it really is
  sameport guard 8443 --off                               end it";

const AFTER: &str = "\
The kernel refuses the bind (EPERM) of everybody else, root included, on every address of the port, \
TCP and UDP unless one is named, in this network namespace. Whoever is named by one --allow may; a \
second `guard` for the port replaces the first. Sockets that are bound already stay as they are, and are \
shown. It needs no process of sameport, is kept in /etc/sameport/guards.json, and comes back after a \
start of the machine by `guard --restore`, which sameport-guard.service does. Needs root. docs/guard.md \
says what is not covered.

Exit code: 0 when done, 1 when it could not be or --list finds that the kernel does not do what the list \
says, 2 when the command line is wrong, 3 when this machine cannot.";

/// Let only these bind a port: users, services, cgroups or executables
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
#[command(group(clap::ArgGroup::new("what")
    .args(["port", "list", "log", "restore", "off_all"]).required(true)))]
pub(crate) struct Args {
    /// The port: 8443, 8443/tcp or 8443/udp
    #[arg(value_name = "PORT")]
    port: Option<GuardPort>,
    /// Who may bind it: unit=NAME, uid=USER, exe=/PATH or cgroup=/PATH; may be given several times
    #[arg(long, value_name = "WHO", conflicts_with_all = ["list", "log", "restore", "off_all"])]
    allow: Vec<AllowSpec>,
    /// Refuse nobody; note who would be refused, for --log
    #[arg(long, conflicts_with_all = ["list", "log", "restore", "off_all"])]
    report_only: bool,
    /// Even if it locks out those who have the port now, or everybody
    #[arg(long, conflicts_with_all = ["list", "log", "restore", "off_all"])]
    force: bool,
    /// End the guard of this port
    #[arg(long, requires = "port", conflicts_with_all = ["allow", "report_only", "force"])]
    off: bool,
    /// End every guard, of every network namespace
    #[arg(long)]
    off_all: bool,
    /// Show what is guarded
    #[arg(long)]
    list: bool,
    /// Show the last 1,024 binds that were refused, or would have been
    #[arg(long)]
    log: bool,
    /// Have the kernel do what /etc/sameport/guards.json says
    #[arg(long)]
    restore: bool,
    /// With --list: one line of JSON; with --log: a line for each
    #[arg(long, conflicts_with_all = ["port", "restore", "off_all"])]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::guard_state_failure;
    use crate::operations::guard::{self, GuardRequest, GuardState};
    use crate::output::guard as output;
    use crate::output::{stderr, stdout};

    let say = |lines: Vec<String>| lines.iter().for_each(|line| stderr::say(line));
    match args.port {
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
                (false, true) => stderr::say("nobody was refused"),
                (false, false) => stdout::write(&output::log::text(&refusals))?,
            }
        }
        None => {
            let list = guard::list()?;
            if args.json {
                stdout::write(&output::json(&list))?;
            } else if list.guards.is_empty() {
                stderr::say("no port is guarded");
            } else {
                stdout::write(&output::text(&list))?;
                stderr::say(output::MECHANISM);
            }
            if list.state != GuardState::InForce {
                return Err(guard_state_failure(list.state));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
