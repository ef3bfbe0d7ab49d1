//! `sameport audit`.

use sameport_policy::addr::PortSpec;

use crate::args::parse_fixed_port;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport audit              every port of this machine
  sameport audit 8443         one port; 8443/tcp: only TCP
  sameport audit [::1]:8443   the findings about this address
  sameport audit --json       for programs
  sameport audit --watch      each change as a line of JSON";

const AFTER: &str = "\
Warning: two programs of one user share a port or conflict on it. Danger: another user is involved, or \
all traffic goes to another program. Workers of one program, services with their socket units, and mDNS \
are not reported. `docs/audit.md` explains every finding.

Root sees every process. Other users see every socket and its user, but only their own processes; the \
report lists what was not visible. nftables, tc and XDP are not inspected.

Exits with 1 when there is a finding.";

/// Find programs that took a port, or a part of it, from another program
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// Only this port, or the findings about this address, as `sameport` prints them: 8443, 8443/tcp,
    /// 127.0.0.1:8443, [::1]:8443/tcp
    #[arg(value_name = "PORT|ADDR", value_parser = parse_fixed_port)]
    on: Option<PortSpec>,
    /// Print one line of JSON
    #[arg(long, conflicts_with = "watch")]
    json: bool,
    /// Keep running and print each change as a line of JSON
    #[arg(long)]
    watch: bool,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;
    use std::time::SystemTime;

    use crate::operations::audit::{self, AuditRequest};
    use crate::output::{audit as output, stderr, stdout};

    let request = AuditRequest::new(args.on)?;
    if args.watch {
        return watch(&request);
    }
    let report = audit::report(&request)?;
    if args.json {
        stdout::write(&output::json(&report))?;
    } else {
        stdout::write(&output::text(&report.findings, SystemTime::now()))?;
        if report.findings.is_empty() {
            stderr::print(&output::nothing(request.on()));
        }
        for unseen in &report.unseen {
            stderr::print(&output::unseen(unseen));
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
    use crate::output::{audit as output, stdout};

    let outcome = watch::watch(request, &mut |change| {
        let written = match change {
            Some(change) => stdout::line(&output::change(&change, SystemTime::now())),
            None if stdout::is_unread(Duration::ZERO) => Err(ErrorKind::BrokenPipe.into()),
            None => Ok(()),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            // The reader has gone.
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
