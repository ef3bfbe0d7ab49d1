//! `sameport dial`.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use sameport_policy::addr::{PortSpec, Protocol};

use crate::args::{number, parse_fixed_port, protocol_of, without_device};
use crate::error::{Failure, VerbResult};
use crate::operations::dial::{self, DialRequest};
use crate::output::stdout;

const EXAMPLES: &str = "\
Examples:
  sameport dial localhost:8080                        stdin to the server, its answer to stdout
  sameport dial --from :8080 192.0.2.7:8080           from a port that is also listened on
  echo hello | sameport dial 127.0.0.1:5353/udp";

const AFTER: &str = "\
A TCP connection ends when stdin has ended and the other side has closed or reset it. UDP ends a second \
after the end of stdin and the last datagram.";

/// Connect to an address, also from a shared port
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The remote address: localhost:8080, 192.0.2.7:53/udp
    #[arg(value_name = "REMOTE", value_parser = parse_fixed_port)]
    to: PortSpec,
    /// The local address, which shared listeners can have too
    #[arg(long, value_name = "ADDR")]
    from: Option<PortSpec>,
    /// Send a datagram for each block read from stdin, as REMOTE/udp
    #[arg(long)]
    udp: bool,
    /// Time limit for the connection in seconds, 1 to 3600
    #[arg(long, value_name = "SECONDS", value_parser = number::<u64>(1..=3600))]
    timeout: Option<u64>,
}

pub(crate) fn run(args: Args) -> VerbResult {
    let protocol = protocol_of(&args.to, args.udp.then_some(Protocol::Udp))?;
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    if let Some(from) = &args.from
        && from.protocol.is_some_and(|own| own != protocol)
    {
        return Err(Failure::usage(format!("--from {from} contradicts {protocol}"))
            .hint("a socket has one protocol"));
    }
    let timeout = args.timeout.map(Duration::from_secs);
    let from = args.from.map(without_device).transpose()?;
    let request = DialRequest { from, to: without_device(args.to)?, protocol, timeout };
    let line = dial::connect(&request).map_err(|error| Failure::from(&error))?;
    match line.copy(io::stdin(), &mut stdout::raw()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The reader of stdout, or the other side, has closed.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::failed(format!("{}: {error}", request.to))),
    }
}
