//! `sameport ls`.

use std::process::ExitCode;

use sameport_rules::wanted::{Host, Wanted, WantedError};

use super::Outcome;
use crate::operations::list::{self, Error, Listing, Nameless, Request};
use crate::tell::failure::{Failure, Kind};
use crate::tell::{listing, note, stdout};

const EXAMPLES: &str = "\
Examples:
  sameport ls                     every listening TCP and bound UDP socket
  sameport ls 8080                who is on port 8080
  sameport ls 127.0.0.1:8080      who takes traffic for this address: wildcards too
  sameport ls --udp --json 53     for programs";

const AFTER: &str = "\
SHARED says whether SO_REUSEPORT is set, so that others of the same user can join: read from the \
socket where that is allowed, inferred where two listeners have one address. QUEUE is waiting \
connections and their limit; for UDP, waiting bytes. ATTACHED, for root and where there is something \
to say, is the cgroup in which `sameport attach` acts on the socket.

Exit code: 0 when something is listed, 1 when nobody is on the port or address asked for, 2 when \
the command line is wrong, 3 when this machine cannot tell.";

/// Show who is on which port
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port, or what takes traffic for this address
    #[arg(value_name = "PORT|ADDR", value_parser = fixed)]
    on: Option<Wanted>,
    /// Only TCP
    #[arg(long, conflicts_with = "udp")]
    tcp: bool,
    /// Only UDP
    #[arg(long)]
    udp: bool,
    /// One line of JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Outcome {
    let nothing_chosen = !args.tcp && !args.udp;
    let request =
        Request { tcp: args.tcp || nothing_chosen, udp: args.udp || nothing_chosen, on: args.on };
    let listing = list::list(&request).map_err(failure)?;
    if args.json {
        stdout::write(&listing::json(&listing))?;
    } else {
        tell(&request, &listing)?;
    }
    // As lsof has it: a script can ask whether somebody is there.
    Ok(ExitCode::from(u8::from(listing.groups.is_empty() && request.on.is_some())))
}

fn tell(request: &Request, listing: &Listing) -> Result<(), Failure> {
    if listing.groups.is_empty() {
        note::say(&nobody(request));
        return Ok(());
    }
    stdout::write(&listing::text(listing))?;
    match listing.nameless {
        None => {}
        Some(Nameless::OtherUser) => note::hint("`-` is another user's program; root sees which"),
        Some(Nameless::EvenForRoot) => {
            note::hint("`-` is a program of another pid namespace, or of the kernel");
        }
    }
    Ok(())
}

fn nobody(request: &Request) -> String {
    let protocol = match (request.tcp, request.udp) {
        (true, false) => "tcp ",
        (false, true) => "udp ",
        _ => "",
    };
    match &request.on {
        None => format!("nobody is on any {protocol}port"),
        Some(Wanted { host: Host::Every, port }) => format!("nobody is on {protocol}port {port}"),
        Some(address) => format!("nobody is on {protocol}{address}"),
    }
}

/// Nobody can be on port 0.
fn fixed(text: &str) -> Result<Wanted, WantedError> {
    let wanted: Wanted = text.parse()?;
    if wanted.port == 0 {
        return Err(WantedError::FixedPort(text.to_owned()));
    }
    Ok(wanted)
}

fn failure(error: Error) -> Failure {
    match error {
        Error::Name { name, source } => {
            Failure::usage(format!("{name} does not resolve: {source}"))
                .hint("write its IP address instead")
        }
        Error::Machine(why) => Failure::new(Kind::MachineCannot, why)
            .hint("sameport doctor says what this machine can do"),
        Error::Look(why) => Failure::new(Kind::CouldNotBeDone, why),
    }
}
