//! `sameport audit`.

use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport audit              every port of this machine
  sameport audit 8443         one port, and who is in the way there
  sameport audit --json       for programs
  sameport audit --watch      what changes, as it does: one line of JSON each";

const AFTER: &str = "\
A warning: two programs of one user share a port, or stand in each other's way. Danger: another user \
is involved, or all traffic goes to the stranger. One program's own workers, services with their \
socket units, and mDNS are neither. `docs/audit.md` explains every finding.

Root sees everything. Others see every socket and its user, and of the programs only their own; what \
was not seen is said. nftables, tc and XDP are not looked at.

Exit code: 0 when nothing was found, 1 when something was, 2 when the command line is wrong, 3 when \
it could not be looked.";

/// Find who has taken a port, or a part of it, from another
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port
    #[arg(value_parser = sameport_policy::addr::parse_fixed_port)]
    port: Option<u16>,
    /// One line of JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Go on, and tell of every change, one line of JSON each
    #[arg(long)]
    watch: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;
    use std::time::SystemTime;

    use crate::operations::audit::{self, AuditRequest};
    use crate::output::{audit as tell, stderr, stdout};

    let request = AuditRequest { port: args.port };
    if args.watch {
        return watch(&request);
    }
    let report = audit::report(&request)?;
    if args.json {
        stdout::write(&tell::json(&report))?;
    } else {
        stdout::write(&tell::text(&report.findings, SystemTime::now()))?;
        if report.findings.is_empty() {
            stderr::say(&tell::nothing(request.port));
        }
        for unseen in &report.unseen {
            stderr::say(&tell::unseen(unseen));
        }
    }
    Ok(ExitCode::from(u8::from(!report.findings.is_empty())))
}

#[cfg(target_os = "linux")]
fn watch(request: &crate::operations::audit::AuditRequest) -> VerbResult {
    use std::io::ErrorKind;
    use std::ops::ControlFlow;
    use std::process::ExitCode;
    use std::time::{Duration, SystemTime};

    use crate::error::stdout_failure;
    use crate::operations::audit::watch;
    use crate::output::{audit as tell, stdout};

    let outcome = watch::watch(request, &mut |change| {
        let told = match change {
            Some(change) => stdout::line(&tell::change(&change, SystemTime::now())),
            None if stdout::is_unread(Duration::ZERO) => Err(ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        };
        match told {
            Ok(()) => ControlFlow::Continue(()),
            // The reader has gone, and with it the purpose.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => ControlFlow::Break(Ok(())),
            Err(error) => ControlFlow::Break(Err(error)),
        }
    });
    match outcome {
        Ok(Ok(())) => Ok(ExitCode::SUCCESS),
        Ok(Err(error)) => Err(stdout_failure(&error)),
        Err(error) => Err(error.into()),
    }
}
