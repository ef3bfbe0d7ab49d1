//! `sameport ls`.

use std::process::ExitCode;

use sameport_policy::addr::{PortSpec, Protocol};
use sameport_policy::model::netns::NetnsSpec;

use crate::args::{parse_fixed_port, protocol_of};
use crate::error::VerbResult;
use crate::operations::list::{self, ListRequest, Listing, Nameless};

use crate::output::ls::changes::ChangeLines;
use crate::output::ls::{json as ls_json, table as ls_table};
use crate::output::{screen, stderr, stdout};

const EXAMPLES: &str = "\
Examples:
  sameport ls                     every TCP and UDP socket on a port
  sameport ls 8080                the sockets on port 8080
  sameport ls 8080/tcp            only TCP, as --tcp
  sameport ls 127.0.0.1:8080      the sockets that take traffic for this address, wildcards too
  sameport ls -l 8080             with options and command lines
  sameport ls --netns blue        in another network namespace
  sameport ls --watch             changes, as they happen
  sameport ls --udp --json 53     for programs";

const AFTER: &str = "\
SHARED: whether SO_REUSEPORT is set, so that other sockets of the user can join; read from the socket \
where that is allowed, inferred where two listeners have one address. QUEUE: waiting connections and their \
limit; for UDP, waiting bytes.

Some columns appear only when needed. STATE: a TCP socket that is bound and does not listen is `bound`. \
DROPS: connections or datagrams that the socket lost, mostly because its queue was full. UNIT: the systemd \
unit or container in which the socket was created. ATTACHED, for root: the cgroup whose `sameport attach` \
applies. `unknown`: this user or kernel cannot read it.

With --watch, a terminal shows the current list; a pipe gets a line for each socket at the start and for \
each change. The sockets are listed once a second, until the reader has gone.

Exits with 1 when no socket is on the port or address.";

/// List the sockets on ports and their processes
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port, or the sockets that take traffic for this address, as `sameport` prints them:
    /// 8080, 8080/udp, 127.0.0.1:8080, [::1]:8080/tcp, *%eth0:8080
    #[arg(value_name = "PORT|ADDR", value_parser = parse_fixed_port)]
    on: Option<PortSpec>,
    /// Only TCP
    #[arg(long, conflicts_with = "udp")]
    tcp: bool,
    /// Only UDP
    #[arg(long)]
    udp: bool,
    /// List connected sockets too, by their local port
    #[arg(short, long)]
    all: bool,
    /// All columns, however wide
    #[arg(short = 'l', long, conflicts_with = "json")]
    wide: bool,
    /// List the sockets of this network namespace (needs root)
    #[arg(long, value_name = "NAME|PATH|pid:PID")]
    netns: Option<NetnsSpec>,
    /// List again every second
    #[arg(long)]
    watch: bool,
    /// Print one line of JSON; with --watch, one a change
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> VerbResult {
    let option = match (args.tcp, args.udp) {
        (true, _) => Some(Protocol::Tcp),
        (_, true) => Some(Protocol::Udp),
        (false, false) => None,
    };
    let protocol = args.on.as_ref().map_or(Ok(option), |on| protocol_of(on, option))?;
    let request = ListRequest {
        tcp: protocol != Some(Protocol::Udp),
        udp: protocol != Some(Protocol::Tcp),
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
        (false, true) => stderr::print(&no_sockets(&request)),
        (false, false) => stdout::write(&text(&listing, args.wide))?,
    }
    if !args.json {
        hints(&request, &listing).iter().for_each(|hint| stderr::hint(hint));
    }
    // As lsof: a script can ask whether the port is in use.
    let exit_code = u8::from(listing.groups.is_empty() && request.on.is_some());
    // The process exits: freeing the strings of every socket would take a tenth of the time.
    std::mem::forget(listing);
    Ok(ExitCode::from(exit_code))
}

fn watch(request: &ListRequest, json: bool, wide: bool) -> VerbResult {
    let mut changes = ChangeLines::default();
    let on_screen = !json && screen::is_terminal();
    let print = |listing: Listing| {
        if !on_screen {
            return stdout::line(&changes.lines(listing, json));
        }
        let mut frame = match listing.groups.is_empty() {
            true => no_sockets(request) + "\n",
            false => text(&listing, wide),
        };
        for hint in hints(request, &listing) {
            frame.push_str(&format!("hint: {hint}\n"));
        }
        screen::show(&frame)
    };
    let written = list::watch(request, print, stdout::is_unread)?;
    stdout::outcome(written)?;
    Ok(ExitCode::SUCCESS)
}

fn text(listing: &Listing, wide: bool) -> String {
    if wide { ls_table::wide(listing) } else { ls_table::text(listing, screen::width()) }
}

/// The parts that could not be seen, and how to see them.
fn hints(request: &ListRequest, listing: &Listing) -> Vec<&'static str> {
    let mut hints = Vec::new();
    match listing.nameless {
        None => {}
        Some(Nameless::OtherUser) => {
            hints.push("`-` is another user's program; root sees its name");
        }
        Some(Nameless::EvenForRoot) => {
            hints.push(
                "`-` is a program of another pid namespace, of the kernel, or hidden from here",
            );
        }
    }
    if !listing.bound && request.tcp {
        hints
            .push("bound sockets that do not listen may be missing: Linux 6.8 and later list them");
    }
    if listing.connected {
        hints.push("a connection comes from there, which --all lists");
    }
    hints
}

fn no_sockets(request: &ListRequest) -> String {
    let protocol = match (request.tcp, request.udp) {
        (true, false) => "tcp ",
        (false, true) => "udp ",
        _ => "",
    };
    match &request.on {
        None => format!("no socket is on any {protocol}port"),
        Some(on) if on.is_port() => format!("no socket is on {protocol}port {}", on.addr.port),
        Some(on) => {
            format!("no socket is on {protocol}{}", PortSpec { protocol: None, ..on.clone() })
        }
    }
}
