//! `sameport metrics`.

use std::time::Duration;

use sameport_policy::bind::verdict::SharedPort;
use sameport_policy::model::name::RunName;

use crate::args::{parse_duration, parse_port};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport metrics                             on 127.0.0.1:9464, for Prometheus
  sameport metrics --listen 9100               another port, still on 127.0.0.1
  sameport metrics --listen 10.0.0.5:9464      where others reach it: there is no TLS and no password
  sameport metrics --listen unix:/run/sameport-metrics.sock
  sameport metrics --run web --port 8080       only these
  sameport metrics --once                      print what a scrape gets, and end
  curl -f '127.0.0.1:9464/readyz?run=web&min=1'";

const AFTER: &str = "\
Paths: /metrics in the text format of Prometheus; /healthz: 200 while the exporter serves; /readyz: 200 when every \
named run has all its workers ready, else 503, with a line for each run. /readyz?run=NAME asks for one run, min=N for \
N ready workers, user=USER for runs of one user.

Metrics are of the named runs that this user sees (root: of all users), of their addresses, and of addresses that \
several sockets share. --all adds addresses with one socket, without UDP clients. At most 5,000 addresses have metrics.

A supervisor that does not answer within 1 s has sameport_run_up 0. Scrapes at the same time share one \
collection. Findings of `audit` are looked for in the background, at the interval.";

/// Serve metrics for Prometheus, and whether runs are ready
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The address: a port (on 127.0.0.1), IP:PORT, *:PORT for every address, or unix:PATH
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9464")]
    listen: String,
    /// Print the metrics once, and end
    #[arg(long, conflicts_with = "listen")]
    once: bool,
    /// Only this run and its addresses; may be repeated
    #[arg(long = "run", value_name = "NAME")]
    runs: Vec<RunName>,
    /// Only addresses of this port: 8080, 8080/udp; may be repeated
    #[arg(long = "port", value_name = "PORT", value_parser = parse_port)]
    ports: Vec<SharedPort>,
    /// Also addresses with one socket that belongs to no run
    #[arg(short, long)]
    all: bool,
    /// The time between two audits, 10s to 24h
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_pause)]
    audit_interval: Duration,
    /// Look for no findings
    #[arg(long, conflicts_with = "audit_interval")]
    no_audit: bool,
}

/// Parses a duration from 10 s to 1 d.
fn parse_pause(text: &str) -> Result<Duration, &'static str> {
    let pause = parse_duration(text)?;
    let range = Duration::from_secs(10)..=Duration::from_secs(86_400);
    if range.contains(&pause) { Ok(pause) } else { Err("write a time from 10s to 24h") }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::Failure;
    use crate::operations::metrics::endpoint::EndpointSpec;
    use crate::operations::metrics::{Exporter, MetricsRequest, server};
    use crate::output::{stderr, stdout};

    let failed = |error| Failure::failed(format!("start a thread: {error}"));
    let endpoint: EndpointSpec = args
        .listen
        .parse()
        .map_err(|error| Failure::usage(format!("--listen {}: {error}", args.listen)))?;
    let request = MetricsRequest {
        runs: args.runs,
        ports: args.ports,
        all: args.all,
        audit: (!args.no_audit).then_some(args.audit_interval),
    };
    if args.once {
        stdout::write(&Exporter::once(request).map_err(failed)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let endpoint = endpoint.open()?;
    let urls = endpoint.urls().map_err(|error| Failure::failed(format!("getsockname: {error}")))?;
    let exporter = Exporter::start(request).map_err(failed)?;
    urls.iter().for_each(|url| stderr::print(&format!("serves {url}")));
    match server::serve(exporter, endpoint) {
        Ok(never) => match never {},
        Err(error) => Err(Failure::failed(format!("serve: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_limited() {
        for (text, expected) in [("10s", true), ("24h", true), ("9s", false), ("25h", false)] {
            assert_eq!(parse_pause(text).is_ok(), expected, "{text}");
        }
    }
}
