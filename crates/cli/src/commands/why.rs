//! `sameport why`.

use sameport_policy::addr::{PortSpec, Protocol, is_device};

use crate::args::{parse_fixed_port, protocol_of};
use crate::error::{Failure, VerbResult};

const EXAMPLES: &str = "\
Examples:
  sameport why 8080                     whether a server could bind port 8080, and if not, why not
  sameport why 127.0.0.1:8080           on this address
  sameport why 5353/udp --reuse-port    a UDP socket with SO_REUSEPORT
  sudo sameport why 80 --user www-data  for another user";

const AFTER: &str = "\
Without options the answer is for the usual server: SO_REUSEADDR on TCP, no option on UDP; a port alone is \
every address of both families. The answer follows from the sockets on the port and the rules of the \
kernel; nothing is bound or changed. Guards of other tools and security modules are not inspected. Only \
root can read the options of another user's sockets: where they matter, the answer says so.

Exits with 0 when the address can be bound, 1 when it cannot, 3 when that is uncertain.";

/// Explain why an address cannot be bound, who holds it, and what would work
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The address: 8080, 8080/udp, 127.0.0.1:8080, [::1]:8080, localhost:8080, *%eth0:8080
    #[arg(value_name = "ADDR", value_parser = parse_fixed_port)]
    address: PortSpec,
    /// For a UDP socket, as ADDR/udp
    #[arg(long)]
    udp: bool,
    /// For a socket with SO_REUSEPORT
    #[arg(long)]
    reuse_port: bool,
    /// For a UDP socket with SO_REUSEADDR; TCP sockets have it by default
    #[arg(long)]
    reuse_address: bool,
    /// For a TCP socket without SO_REUSEADDR
    #[arg(long, conflicts_with_all = ["reuse_address", "udp"])]
    no_reuse_address: bool,
    /// For an IPv6 socket without IPv4 (IPV6_V6ONLY)
    #[arg(long)]
    v6only: bool,
    /// For a socket on this interface (SO_BINDTODEVICE)
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    device: Option<String>,
    /// For a socket of this user, by name or number (root only)
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Parses the name of an interface.
fn device(text: &str) -> Result<String, &'static str> {
    match is_device(text) {
        true => Ok(text.to_owned()),
        false => Err("an interface's name has 1 to 15 bytes, without `/`, `:` and space"),
    }
}

/// The interface that the address or `--device` names.
fn device_of(spec: &PortSpec, option: Option<String>) -> Result<Option<String>, Failure> {
    match (&spec.device, option) {
        (Some(named), Some(option)) if *named != option => {
            Err(Failure::usage(format!("--device {option} contradicts {spec}"))
                .hint("leave out one of the two"))
        }
        (named, option) => Ok(named.clone().or(option)),
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::operations::traffic::status::selection;
    use crate::operations::why::{WhyRequest, ask};
    use crate::output::text::printable;
    use crate::output::{screen, stdout, why};

    let protocol = protocol_of(&args.address, args.udp.then_some(Protocol::Udp))?;
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    let is_tcp = protocol == Protocol::Tcp;
    if args.no_reuse_address && !is_tcp {
        return Err(Failure::usage(format!("--no-reuse-address contradicts {}", args.address))
            .hint("UDP sockets lack SO_REUSEADDR by default"));
    }
    let request = WhyRequest {
        device: device_of(&args.address, args.device)?,
        address: args.address.addr,
        protocol,
        reuse_port: args.reuse_port,
        reuse_address: args.reuse_address || (is_tcp && !args.no_reuse_address),
        v6only: args.v6only,
        user: args.user,
    };
    let answers = ask(&request)?;
    stdout::write(&match args.json {
        true => why::json(&answers),
        false => {
            let policy = selection(protocol, request.address.port);
            let policy = policy.map(|line| format!("{}\n", printable(&line)));
            why::text(&answers, screen::width()) + &policy.unwrap_or_default()
        }
    })?;
    let any = |granted| answers.iter().any(|answer| answer.granted() == granted);
    Ok(ExitCode::from(match (any(Some(false)), any(None)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    }))
}
