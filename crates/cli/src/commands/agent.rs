//! `sameport agent`.

use sameport_policy::addr::AddrSpec;
use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, parse_tcp_address};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport agent --listen 9465 web                 on every address
  sameport agent --listen 10.0.0.5:9465 web        on the address that the load balancer reaches
  sameport agent --listen 9465 web api             both: `agent-send \"web\\n\"` selects one
In haproxy.cfg:
  server m1 10.0.0.5:8080 weight 100 check agent-check agent-port 9465 agent-inter 2s";

const AFTER: &str = "\
Answers each connection with one line of HAProxy's agent-check: `up ready 75%` when 3 of 4 workers are ready, \
`drain` while the run leaves (`sameport stop --announce`) or stops, `down #REASON` when no worker is ready, the \
run has ended, or its supervisor was killed or does not answer. Goes on while the run is gone, and says `up` \
again when it is back. With several runs, the name that the client sends (`agent-send`) selects the run, and a \
client that sends none gets the worst of all.

Who reaches the address learns how many workers are ready, and can change nothing.";

/// Answer the agent-check of HAProxy: up, weight by ready workers, drain, down
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The address: a port for every address, or IP:PORT
    #[arg(long, value_name = "ADDR", value_parser = parse_tcp_address)]
    listen: AddrSpec,
    /// The names of the runs
    #[arg(value_name = "NAME", required = true)]
    names: Vec<RunName>,
    #[command(flatten)]
    owner: OwnerArgs,
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;
    use std::sync::Arc;

    use crate::error::{Failure, unshared_failure};
    use crate::operations::agent::{HealthReport, serve};
    use crate::operations::listen::{self, ListenRequest, OpenListeners};
    use crate::operations::named_runs::runs_of;
    use crate::output::{listen as output, stderr, stdout};
    use sameport_policy::model::Protocol;

    let runs = runs_of(args.owner.user.as_deref())?;
    let mut names = args.names;
    names.sort();
    names.dedup();
    let request = ListenRequest { address: args.listen, protocol: Protocol::Tcp, exclusive: true };
    let opened = listen::open(&request).map_err(|error| unshared_failure(&request, &error))?;
    for address in
        opened.addresses().map_err(|error| Failure::failed(format!("accept: {error}")))?
    {
        stdout::write(&output::listening(&address, request.exclusive, false))?;
    }
    let OpenListeners::Tcp(listeners) = opened else { return Ok(ExitCode::SUCCESS) };
    let report: HealthReport = Arc::new(|name, health| {
        stderr::print(&format!("{name}: {health}"));
    });
    serve(listeners, &runs, &names, &report)
        .map(|()| ExitCode::SUCCESS)
        .map_err(|error| Failure::failed(format!("accept: {error}")))
}
