//! `sameport steer`.

use sameport_policy::addr::PortSpec;

use crate::args::parse_fixed_port;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport steer 8080            what holds: members, shares, open connections
  sameport steer 8080 --json     for programs";

const AFTER: &str = "\
WANTED: the part of new connections that a member should get. OPEN: its open connections. QUEUE: connections \
that it has not accepted, and their limit. Root sees whether a program of another selects the members.

Exits with 1 when no socket takes connections on the port.";

/// Show which member of a port gets the next connection
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The port: 8080, 8080/tcp or 8080/udp
    #[arg(value_name = "PORT", value_parser = parse_fixed_port)]
    on: PortSpec,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::operations::traffic::status::show;
    use crate::output::{screen, stdout, traffic};

    let ports = show(&args.on)?;
    stdout::write(&match args.json {
        true => traffic::json(&ports),
        false => traffic::text(&ports, screen::width()),
    })?;
    Ok(ExitCode::SUCCESS)
}
