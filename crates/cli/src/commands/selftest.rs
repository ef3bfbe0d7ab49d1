//! `sameport selftest`: the kernel's rules for shared addresses, run as a table.

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport selftest                   every row that this user can run
  sudo sameport selftest              every row
  sameport selftest udp/ra-ra         the rows whose name has this in it
  sameport selftest --list            names, and what each shows
  sameport selftest --json            a line of JSON for each row, and one at the end";

const AFTER: &str = "\
A row opens sockets of several users on one port, sends traffic to it and compares what the kernel \
answers with what it must answer (RA is SO_REUSEADDR, RP is SO_REUSEPORT). Each row has a network \
namespace of its own where that is allowed, and a free port on the loopback address elsewhere; \
nothing leaves the machine.

Exit code: 0 when all that could be run agree, 1 when a row differs or breaks off, 2 when the command \
line is wrong, 3 when no row could be run.";

/// Check that this kernel keeps the rules that sharing a port stands on
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only rows with one of these in their name, such as tcp/ or reserved-uid
    #[arg(value_name = "PART")]
    parts: Vec<String>,
    /// Name the rows and run none
    #[arg(long, conflicts_with = "json")]
    list: bool,
    /// A line of JSON for each row, and one at the end
    #[arg(long)]
    json: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::{Failure, shortened};
    use crate::operations::selftest::{choose, run};
    use crate::output::selftest::{Rows, list};
    use crate::output::stdout;

    let unknown = args.parts.iter().find(|part| choose(&[(*part).clone()]).is_empty());
    if let Some(part) = unknown {
        let part = shortened(&part.escape_debug().to_string());
        return Err(Failure::usage(format!("no row has `{part}` in its name"))
            .hint("sameport selftest --list names them"));
    }
    let chosen = choose(&args.parts);
    if args.list {
        stdout::write(&list(&chosen))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Rows::new(args.json);
    let counts = run(&chosen, &mut |chosen, verdict| rows.tell(chosen, verdict));
    rows.done(&counts)?;
    Ok(match counts {
        counts if counts.nothing_ran() => ExitCode::from(3),
        counts if counts.differ + counts.broken > 0 => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn run(args: Args) -> VerbResult {
    use crate::error::{ExitKind, Failure};

    let Args { parts: _, list: _, json: _ } = args;
    Err(Failure::new(
        ExitKind::MachineCannot,
        "`selftest` needs Linux: its table is of Linux's rules",
    )
    .hint("sameport doctor says what sharing is on this system"))
}
