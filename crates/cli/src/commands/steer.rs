//! `sameport steer`.

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use sameport_policy::addr::PortSpec;
use sameport_policy::traffic::model::{MemberValue, TrafficPolicy};

use crate::args::parse_fixed_port;
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport steer 8080                            what holds: policy, members, shares, open connections
  sameport steer 8080 on                         the default policy of this machine
  sameport steer 8080 least-connections          the member with the fewest open connections
  sameport steer 8080 weights web=9 web-v2=1     nine in ten new connections for web
  sameport steer 8080 4130=0                     nothing new for pid 4130
  sameport steer 8080 standby web=0 backup=1     backup serves only while web cannot
  sameport steer 443/udp sticky --connection-id  a QUIC connection stays where its id says
  sameport steer 8080 off                        the kernel's hash again";

const AFTER: &str = "\
A member is named by its run (web), its group, its worker (web.2) or its pid. The VALUE is a weight, 0 to \
4294967295: 0 means no new connections, a member without a value has the weight 1, and the weight of a run \
is divided among its workers. With `standby` the value is a rank: rank 0 serves first. Values without a \
policy change those that hold.

POLICY: hash (the kernel's), random, weights, sticky (by the address of the client), round-robin, standby, \
least-connections, two-choices (the less loaded of two at random), cpu, numa. `on` is two-choices by eBPF, \
else random by classic BPF; on cpu and numa: on loopback all clients have the CPU of one worker.

If all members are workers of one named run, its supervisor steers them, without a privilege where classic \
BPF suffices. Any other group, also of programs that sameport did not start, needs root, or CAP_BPF, \
CAP_NET_ADMIN and CAP_PERFMON. Then the policy stays in the kernel, without a process of sameport, until \
`off` or the end of the last member: members that join get connections, members that end are forgotten. An \
address stands for its port.

Exits with 3 when this machine cannot do it, and names what could.";

/// Choose which member of a port gets the next connection, or show who does
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The port: 8080, 8080/tcp or 8080/udp
    #[arg(value_name = "PORT", value_parser = parse_fixed_port)]
    on: PortSpec,
    /// The policy, or on, or off; or the first of the values
    #[arg(value_name = "POLICY", value_parser = SteerWords.try_map(|text: String| parse_word(&text)))]
    policy: Option<SteerWord>,
    /// Weights of members, or ranks with `standby`
    #[arg(value_name = "MEMBER=VALUE")]
    values: Vec<MemberValue>,
    /// Keep a QUIC connection at the member whose socket its connection id names: docs/udp.md
    #[arg(long, requires = "policy")]
    connection_id: bool,
    /// Replace the program of another that selects among the members, or what is left of another version
    #[arg(long, requires = "policy")]
    replace: bool,
    /// Print one line of JSON: what holds after the change
    #[arg(long)]
    json: bool,
}

/// The word after the port.
#[derive(Debug, Clone, PartialEq, Eq)]
enum SteerWord {
    On,
    Off,
    Policy(TrafficPolicy),
    Value(MemberValue),
}

fn parse_word(text: &str) -> Result<SteerWord, String> {
    match text {
        "on" | "auto" => Ok(SteerWord::On),
        "off" => Ok(SteerWord::Off),
        text if text.contains('=') => {
            text.parse().map(SteerWord::Value).map_err(|error| format!("{error}"))
        }
        text => text.parse().map(SteerWord::Policy).map_err(|error| format!("{error}")),
    }
}

/// The words that a shell completes. Values are taken too.
#[derive(Clone)]
struct SteerWords;

impl TypedValueParser for SteerWords {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let policies = TrafficPolicy::ALL.iter().map(|policy| policy.name());
        Some(Box::new(["on", "off"].into_iter().chain(policies).map(PossibleValue::new)))
    }
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::process::ExitCode;

    use crate::error::Failure;
    use crate::operations::traffic::change::SteerChange;
    use crate::operations::traffic::status::show;
    use crate::operations::traffic::steer::steer;
    use crate::output::{screen, stderr, stdout, traffic};

    crate::operations::traffic::remove_stale();
    let json = args.json;
    let change = match args.policy {
        None => {
            let ports = show(&args.on)?;
            stdout::write(&match json {
                true => traffic::json(&ports),
                false => traffic::text(&ports, screen::width()),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(SteerWord::On | SteerWord::Off) if !args.values.is_empty() => {
            return Err(Failure::usage("`on` and `off` take no values of members")
                .hint("name a policy, such as weights web=9 web-v2=1"));
        }
        Some(SteerWord::Off) if args.connection_id => {
            return Err(Failure::usage("`off` follows no connection ids").hint("leave one out"));
        }
        // For datagrams every tier has the same default.
        Some(SteerWord::On) if args.connection_id => SteerChange::Rules {
            policy: Some(TrafficPolicy::Random),
            values: args.values,
            connection_ids: true,
        },
        Some(SteerWord::On) => SteerChange::On,
        Some(SteerWord::Off) => SteerChange::Off,
        Some(SteerWord::Policy(policy)) => SteerChange::Rules {
            policy: Some(policy),
            values: args.values,
            connection_ids: args.connection_id,
        },
        Some(SteerWord::Value(first)) => SteerChange::Rules {
            policy: None,
            values: [first].into_iter().chain(args.values).collect(),
            connection_ids: args.connection_id,
        },
    };
    let Some(status) = steer(&args.on, &change, args.replace)? else {
        stderr::print(&format!("{}: what was left of a policy is removed", args.on));
        return Ok(ExitCode::SUCCESS);
    };
    if json {
        stdout::write(&traffic::json(std::slice::from_ref(&status)))?;
    } else {
        stderr::print(&traffic::headline(&status));
        traffic::notes(&status).iter().for_each(|note| stderr::print(&format!("note: {note}")));
    }
    match &status.in_force {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => Err(Failure::failed(format!(
            "{}/{}: the policy is not in force: {why}",
            status.port, status.protocol
        ))),
    }
}
