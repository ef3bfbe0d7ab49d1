//! `sameport listen`.

use std::io::{self, ErrorKind};
use std::process::ExitCode;

use sameport_policy::addr::{PortSpec, Protocol};

use crate::args::{number, protocol_of, without_device};
use crate::error::{Failure, VerbResult};
use crate::operations::listen::{self, ListenRequest};
use crate::output::{listen as output, stdout};

const EXAMPLES: &str = "\
Examples:
  sameport listen 8080                    every address, IPv4 and IPv6; start it twice
  sameport listen 127.0.0.1:8080 --exclusive
  sameport listen 5353/udp --count 10     end after ten datagrams
  sameport listen localhost:0 --json      on a free port, for programs";

/// Listen on an address and print each connection
#[derive(clap::Args)]
#[command(before_help = EXAMPLES)]
pub(crate) struct Args {
    /// The address: 8080, 8080/udp, 127.0.0.1:8080, [::1]:8080, localhost:8080; port 0 picks a free one
    #[arg(value_name = "ADDR")]
    address: PortSpec,
    /// Receive datagrams instead of connections, as ADDR/udp
    #[arg(long)]
    udp: bool,
    /// Let no other socket share the address, not even root's (limits: docs/security.md)
    #[arg(long)]
    exclusive: bool,
    /// End after this many connections or datagrams
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=u64::MAX))]
    count: Option<u64>,
    /// Print each event as a line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> VerbResult {
    let protocol = protocol_of(&args.address, args.udp.then_some(Protocol::Udp))?;
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    let address = without_device(args.address)?;
    let request = ListenRequest { address, protocol, exclusive: args.exclusive };
    let opened = listen::open(&request).map_err(|error| open_failure(&request, &error))?;
    for address in opened.addresses().map_err(StopReason::from).map_err(StopReason::failure)? {
        stdout::write(&output::listening(&address, request.exclusive, args.json))?;
    }
    let served = opened.serve(args.count, |arrival| {
        match stdout::line(&output::arrived(&arrival, args.json)) {
            Ok(()) => Ok(()),
            // The reader has gone.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(StopReason::Unread),
            Err(error) => Err(StopReason::Failed("write to stdout", error)),
        }
    });
    match served {
        Ok(()) | Err(StopReason::Unread) => Ok(ExitCode::SUCCESS),
        Err(stop) => Err(stop.failure()),
    }
}

/// The reason to stop.
enum StopReason {
    Unread,
    Failed(&'static str, io::Error),
}

impl From<io::Error> for StopReason {
    fn from(error: io::Error) -> Self {
        Self::Failed("accept", error)
    }
}

impl StopReason {
    fn failure(self) -> Failure {
        match self {
            Self::Unread => Failure::failed("stdout has no reader"),
            Self::Failed(call, error) => Failure::failed(format!("{call}: {error}")),
        }
    }
}

#[cfg(target_os = "linux")]
use crate::error::listen_failure as open_failure;

#[cfg(not(target_os = "linux"))]
fn open_failure(_: &ListenRequest, error: &sameport::Error) -> Failure {
    error.into()
}
