//! `sameport why`.

use sameport_policy::addr::{AddrSpec, AddrSpecError, parse_fixed_port};

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport why 8080                     could a server bind port 8080, and if not, why not
  sameport why 127.0.0.1:8080           on this address
  sameport why --udp 5353 --reuse-port  a UDP socket with SO_REUSEPORT
  sudo sameport why 80 --user www-data  for somebody else";

const AFTER: &str = "\
Without options it answers for what nearly every server does: SO_REUSEADDR on TCP, nothing on UDP; a \
bare port is every address of both families. It looks and reckons by the kernel's rules; it binds \
nothing and changes nothing. What a guard or a security module forbids on top of these rules is not \
seen. Options of another user's sockets can be read by root only: where they decide, the answer says \
so.

Exit code: 0 when the address can be bound, 1 when it cannot, 2 when the command line is wrong, 3 when \
it cannot be told.";

/// Say why an address cannot be bound, who holds it, and what would work
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Where: 8080, 127.0.0.1:8080, [::1]:8080, localhost:8080
    #[arg(value_name = "ADDR", value_parser = fixed)]
    address: AddrSpec,
    /// A UDP socket
    #[arg(long)]
    udp: bool,
    /// A socket with SO_REUSEPORT
    #[arg(long)]
    reuse_port: bool,
    /// A UDP socket with SO_REUSEADDR, which a TCP one has without this
    #[arg(long)]
    reuse_address: bool,
    /// A TCP socket without SO_REUSEADDR
    #[arg(long, conflicts_with_all = ["reuse_address", "udp"])]
    no_reuse_address: bool,
    /// An IPv6 socket that leaves IPv4 alone (IPV6_V6ONLY)
    #[arg(long)]
    v6only: bool,
    /// A socket that is bound to this interface (SO_BINDTODEVICE)
    #[arg(long, value_name = "DEVICE", value_parser = device)]
    device: Option<String>,
    /// A socket of this user's, by name or number (root only)
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

fn fixed(text: &str) -> Result<AddrSpec, AddrSpecError> {
    let wanted: AddrSpec = text.parse()?;
    parse_fixed_port(&wanted.port.to_string())?;
    Ok(wanted)
}

/// A name that an interface can have.
fn device(text: &str) -> Result<String, String> {
    const LONGEST: usize = 15;
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if text.is_empty() || text.len() > LONGEST || text.contains(odd) {
        return Err(format!(
            "an interface's name has 1 to {LONGEST} bytes, without `/`, `:` and space"
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
