//! `sameport ls`.

use std::process::ExitCode;

use sameport_policy::addr::{AddrSpec, AddrSpecError, Host};
use sameport_policy::model::netns::NetnsSpec;

use crate::error::VerbResult;
use crate::operations::list::{self, ListRequest, Listing, Nameless};

use crate::output::ls::changes::ChangeLines;
use crate::output::ls::{json as ls_json, table as ls_table};
use crate::output::{screen, stderr, stdout};

const EXAMPLES: &str = "\
Examples:
  sameport ls                     every TCP and UDP socket that has a port to itself or shares one
  sameport ls 8080                who is on port 8080
  sameport ls 127.0.0.1:8080      who takes traffic for this address: wildcards too
  sameport ls -l 8080             with options and command lines
  sameport ls --netns blue        in another network namespace
  sameport ls --watch             as it changes
  sameport ls --udp --json 53     for programs";

const AFTER: &str = "\
SHARED says whether SO_REUSEPORT is set, so that others of the same user can join: read from the \
socket where that is allowed, inferred where two listeners have one address. QUEUE is waiting \
connections and their limit; for UDP, waiting bytes.

These columns are there where there is something to say. STATE: bound is a TCP socket that keeps its \
port and does not listen. DROPS is what the socket has lost, mostly because its queue was full. UNIT is \
the systemd unit or container that the socket was made in. ATTACHED, for root, is the cgroup in which \
`sameport attach` acts on the socket. `unknown` is what this user or kernel cannot tell.

With --watch, a terminal shows the list as it is; a pipe gets one line for each socket that is there, \
comes, goes or changes. It looks once a second, and ends when nobody reads any more.

Exit code: 0 when something is listed, 1 when nobody is on the port or address asked for, 2 when \
the command line is wrong, 3 when this machine cannot tell.";

/// Show who is on which port
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port, or what takes traffic for this address
    #[arg(value_name = "PORT|ADDR", value_parser = fixed)]
    on: Option<AddrSpec>,
    /// Only TCP
    #[arg(long, conflicts_with = "udp")]
    tcp: bool,
    /// Only UDP
    #[arg(long)]
    udp: bool,
    /// Connected sockets too, by their local port
    #[arg(short, long)]
    all: bool,
    /// All that is known, however wide
    #[arg(short = 'l', long, conflicts_with = "json")]
    wide: bool,
    /// Look in this network namespace (needs root)
    #[arg(long, value_name = "NAME|PATH|pid:PID")]
    netns: Option<NetnsSpec>,
    /// Look again every second
    #[arg(long)]
    watch: bool,
    /// One line of JSON; with --watch, one for each change
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> VerbResult {
    let nothing_chosen = !args.tcp && !args.udp;
    let request = ListRequest {
        tcp: args.tcp || nothing_chosen,
        udp: args.udp || nothing_chosen,
        on: args.on,
        all: args.all,
        details: args.wide || args.json,
        network: args.netns,
    };
    if args.watch {
        return watch(&request, args.json, args.wide);
    }
    let listing = list::list(&request)?;
    match (args.json, listing.groups.is_empty()) {
        (true, _) => stdout::outcome(ls_json::write(&listing, stdout::raw()))?,
        (false, true) => stderr::say(&nobody(&request)),
        (false, false) => stdout::write(&text(&listing, args.wide))?,
    }
    if !args.json {
        hints(&request, &listing).iter().for_each(|hint| stderr::hint(hint));
    }
    // As lsof has it: a script can ask whether somebody is there.
    Ok(ExitCode::from(u8::from(listing.groups.is_empty() && request.on.is_some())))
}

fn watch(request: &ListRequest, json: bool, wide: bool) -> VerbResult {
    let mut comings = ChangeLines::default();
    let on_screen = !json && screen::is_there();
    let tell = |listing: Listing| {
        if !on_screen {
            return stdout::line(&comings.lines(listing, json));
        }
        let mut frame = match listing.groups.is_empty() {
            true => nobody(request) + "\n",
            false => text(&listing, wide),
        };
        for hint in hints(request, &listing) {
            frame.push_str(&format!("hint: {hint}\n"));
        }
        screen::show(&frame)
    };
    let written = list::watch(request, tell, stdout::is_unread)?;
    stdout::outcome(written)?;
    Ok(ExitCode::SUCCESS)
}

fn text(listing: &Listing, wide: bool) -> String {
    if wide { ls_table::wide(listing) } else { ls_table::text(listing) }
}

/// What could not be seen, and how it could.
fn hints(request: &ListRequest, listing: &Listing) -> Vec<&'static str> {
    let mut hints = Vec::new();
    match listing.nameless {
        None => {}
        Some(Nameless::OtherUser) => hints.push("`-` is another user's program; root sees which"),
        Some(Nameless::EvenForRoot) => {
            hints.push(
                "`-` is a program of another pid namespace, of the kernel, or hidden from here",
            );
        }
    }
    if !listing.bound && request.tcp {
        hints.push(
            "sockets that are bound and do not listen may be missing: only Linux 6.8 and later lists them",
        );
    }
    if listing.connected {
        hints.push("somebody is connected from there, which --all shows");
    }
    hints
}

fn nobody(request: &ListRequest) -> String {
    let protocol = match (request.tcp, request.udp) {
        (true, false) => "tcp ",
        (false, true) => "udp ",
        _ => "",
    };
    match &request.on {
        None => format!("nobody is on any {protocol}port"),
        Some(AddrSpec { host: Host::Any, port }) => format!("nobody is on {protocol}port {port}"),
        Some(address) => format!("nobody is on {protocol}{address}"),
    }
}

/// Nobody can be on port 0.
fn fixed(text: &str) -> Result<AddrSpec, AddrSpecError> {
    let wanted: AddrSpec = text.parse()?;
    if wanted.port == 0 {
        return Err(AddrSpecError::FixedPort(text.to_owned()));
    }
    Ok(wanted)
}
