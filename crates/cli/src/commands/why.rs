//! `sameport why`.

use sameport_policy::addr::AddrSpec;

use crate::args::parse_fixed_address;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport why 8080                     whether a server could bind port 8080, and if not, why not
  sameport why 127.0.0.1:8080           on this address
  sameport why --udp 5353 --reuse-port  a UDP socket with SO_REUSEPORT
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
    /// The address: 8080, 127.0.0.1:8080, [::1]:8080, localhost:8080
    #[arg(value_name = "ADDR", value_parser = parse_fixed_address)]
    address: AddrSpec,
    /// For a UDP socket
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
fn device(text: &str) -> Result<String, String> {
    /// IFNAMSIZ - 1.
    const LIMIT: usize = 15;
    let is_forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if text.is_empty() || text.len() > LIMIT || text.contains(is_forbidden) {
        return Err(format!(
            "an interface's name has 1 to {LIMIT} bytes, without `/`, `:` and space"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use sameport_policy::model::Protocol;

    use crate::operations::why::{WhyRequest, ask};
    use crate::output::{stdout, why};

    let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
    let request = WhyRequest {
        address: args.address,
        protocol,
        reuse_port: args.reuse_port,
        reuse_address: args.reuse_address || (!args.udp && !args.no_reuse_address),
        v6only: args.v6only,
        device: args.device,
        user: args.user,
    };
    let answers = ask(&request)?;
    stdout::write(&if args.json { why::json(&answers) } else { why::text(&answers) })?;
    let any = |granted| answers.iter().any(|answer| answer.granted() == granted);
    Ok(ExitCode::from(match (any(Some(false)), any(None)) {
        (true, _) => 1,
        (false, true) => 3,
        (false, false) => 0,
    }))
}
