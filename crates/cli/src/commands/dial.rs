//! `sameport dial`.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use sameport_policy::addr::AddrSpec;
use sameport_policy::model::Protocol;

use crate::args::parse_fixed_address;
use crate::error::{Failure, VerbResult};
use crate::operations::dial::{self, DialRequest};
use crate::output::stdout;

const EXAMPLES: &str = "\
Examples:
  sameport dial localhost:8080                        stdin to the server, its answer to stdout
  sameport dial --from :8080 192.0.2.7:8080           from a port that is also listened on
  echo hello | sameport dial --udp 127.0.0.1:5353";

const AFTER: &str = "\
A TCP connection ends when stdin has ended and the other side has closed or reset it. UDP ends a second \
after the end of stdin and the last datagram.";

/// Connect to an address, also from a shared port
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The remote address
    #[arg(value_name = "REMOTE", value_parser = parse_fixed_address)]
    to: AddrSpec,
    /// The local address, which shared listeners can have too
    #[arg(long, value_name = "ADDR")]
    from: Option<AddrSpec>,
    /// Send a datagram for each block read from stdin
    #[arg(long)]
    udp: bool,
    /// Time limit for the connection in seconds, 1 to 3600
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

pub(crate) fn run(args: Args) -> VerbResult {
    let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
    let timeout = args.timeout.map(Duration::from_secs);
    let request = DialRequest { from: args.from, to: args.to, protocol, timeout };
    let line = dial::connect(&request).map_err(|error| Failure::from(&error))?;
    match line.copy(io::stdin(), &mut stdout::raw()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // The reader of stdout, or the other side, has closed.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::failed(format!("{}: {error}", request.to))),
    }
}
