//! `sameport dial`.

use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use sameport_policy::addr;
use sameport_policy::addr::{AddrSpec, AddrSpecError};
use sameport_policy::model::Protocol;

use crate::error::{Failure, VerbResult};
use crate::operations::dial::{self, DialRequest};
use crate::output::stdout;

const EXAMPLES: &str = "\
Examples:
  sameport dial localhost:8080                        stdin to it, it to stdout
  sameport dial --from :8080 192.0.2.7:8080           from a port that is also listened on
  echo hello | sameport dial --udp 127.0.0.1:5353";

const AFTER: &str = "\
TCP ends when stdin has ended and the other side has closed, or reset the connection. UDP ends when stdin has ended and nothing has come for a \
second.";

/// Connect to an address, from a shared port if you like
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Where to
    #[arg(value_name = "REMOTE", value_parser = remote)]
    to: AddrSpec,
    /// Where from: an address of this machine, which shared listeners may have too
    #[arg(long, value_name = "ADDR")]
    from: Option<AddrSpec>,
    /// Send datagrams, one for each piece read from stdin
    #[arg(long)]
    udp: bool,
    /// Give up connecting after this many seconds, 1 to 3600
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

/// An address with a port that can be connected to.
fn remote(text: &str) -> Result<AddrSpec, AddrSpecError> {
    let to: AddrSpec = text.parse()?;
    addr::parse_fixed_port(&to.port.to_string())?;
    Ok(to)
}

pub(crate) fn run(args: Args) -> VerbResult {
    let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
    let timeout = args.timeout.map(Duration::from_secs);
    let request = DialRequest { from: args.from, to: args.to, protocol, timeout };
    let line = dial::connect(&request).map_err(|error| Failure::from(&error))?;
    match line.copy(io::stdin(), &mut stdout::raw()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // Whoever read our stdout, or listened at the other side, has gone with what they wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(Failure::failed(format!("{}: {error}", request.to))),
    }
}
