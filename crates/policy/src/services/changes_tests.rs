//! The least that makes a run the service that is written, as a table.

use std::ffi::OsString;
use std::path::Path;

use super::*;
use crate::services::model::{ServiceOption, ServicePolicy, SteeringPolicy, WorkerCount};

/// A service of two workers of `node server.js` in `/srv`.
fn service() -> ServiceSpec {
    ServiceSpec {
        name: "web".parse().unwrap(),
        line: 1,
        command: vec!["node".into(), "server.js".into()],
        workers: WorkerCount::Number(2),
        directory: "/srv".into(),
        environment: vec![("MODE".into(), "a".into())],
        policy: None,
        canary: None,
        options: Vec::new(),
    }
}

fn words(words: &[String]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn line(spec: &ServiceSpec) -> Vec<OsString> {
    let mut line: Vec<OsString> =
        ["sameport", "run", "--origin", "/srv/sameport.toml"].map(OsString::from).to_vec();
    line.extend(spec.run_arguments().into_iter().skip(1));
    line
}

/// The run that the service is.
fn run(spec: &ServiceSpec) -> RunningFacts {
    let variable = |(name, value): &(String, String)| (name.into(), value.into());
    RunningFacts {
        arguments: Some(line(spec)),
        copies: 2,
        ready: 2,
        command: words(&spec.command),
        directory: spec.directory.clone(),
        environment: spec.environment.iter().map(variable).collect(),
        steered: Vec::new(),
        canary: None,
        can_hand_over: true,
    }
}

fn option(option: &'static str, value: &str) -> ServiceOption {
    let values = if value.is_empty() { Vec::new() } else { vec![value.to_owned()] };
    ServiceOption { option, values }
}

fn canary_spec(command: Option<&str>) -> CanarySpec {
    CanarySpec {
        share: "10%".parse().unwrap(),
        after: None,
        command: command.map(|command| vec![command.to_owned()]),
        directory: None,
        environment: Vec::new(),
    }
}

fn canary_facts(command: &[&str], share: &str) -> CanaryFacts {
    CanaryFacts {
        command: command.iter().map(OsString::from).collect(),
        directory: "/srv".into(),
        share: share.parse().unwrap(),
    }
}

/// The steps as one word each.
fn steps(spec: &ServiceSpec, present: &PresentRun) -> String {
    let arguments = line(spec);
    let copies = match spec.workers {
        WorkerCount::Number(number) => number,
        WorkerCount::Auto => 2,
    };
    let wanted = WantedRun { spec, copies, arguments: &arguments };
    let text = |change: &ServiceChange| match change {
        ServiceChange::Upgrade(parts) => {
            let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
            format!("upgrade:{}", parts.join("+"))
        }
        ServiceChange::Reconfigure { options, workers } => {
            let workers = match workers {
                OptionEffect::Supervisor => "keep",
                OptionEffect::Workers => "replace",
                OptionEffect::Addresses => "move",
                OptionEffect::Fixed => "fixed",
            };
            format!("{workers}:{}", options.join("+"))
        }
        ServiceChange::Scale(from, to) => format!("scale:{from}-{to}"),
        ServiceChange::Restart { is_served, .. } => {
            if *is_served { "restart:served" } else { "restart" }.to_owned()
        }
        other => format!("{other:?}").to_lowercase(),
    };
    changes(wanted, present).iter().map(text).collect::<Vec<_>>().join(" ")
}

fn steps_to(change: impl Fn(&mut ServiceSpec, &mut RunningFacts)) -> String {
    let mut spec = service();
    let mut facts = run(&spec);
    change(&mut spec, &mut facts);
    steps(&spec, &PresentRun::Running(Box::new(facts)))
}

#[test]
fn without_a_run_it_is_started() {
    let spec = service();
    assert_eq!(steps(&spec, &PresentRun::None), "start");
    for (workers, expected) in [(0, "start"), (2, "takeover")] {
        let orphaned = PresentRun::Orphaned { workers, origin: None };
        assert_eq!(steps(&spec, &orphaned), expected);
    }
}

#[test]
fn the_least_is_done() {
    type Change = fn(&mut ServiceSpec, &mut RunningFacts);
    let cases: &[(Change, &str)] = &[
        (|_, _| {}, ""),
        (|spec, _| spec.workers = WorkerCount::Number(4), "scale:2-4"),
        (|spec, _| spec.workers = WorkerCount::Auto, ""),
        // By `sameport scale`.
        (|_, run| run.copies = 7, "scale:7-2"),
        (|spec, _| spec.command.push("--new".into()), "upgrade:command"),
        (|spec, _| spec.directory = "/srv/v2".into(), "upgrade:directory"),
        (|spec, _| spec.environment[0].1 = "b".into(), "upgrade:env"),
        (|spec, _| spec.environment.push(("Z".into(), "1".into())), "upgrade:env"),
        (|spec, _| spec.environment.clear(), "replace:env"),
        // By `sameport upgrade`.
        (|_, run| run.command = words(&["other".into()]), "upgrade:command"),
        (|spec, _| spec.options.push(option("ready", "tcp")), "keep:ready"),
        (|spec, _| spec.options.push(option("surge", "2")), "keep:surge"),
        (|spec, _| spec.options.push(option("group", "www")), "replace:group"),
        (|spec, _| spec.options.push(option("user", "www")), "restart:served"),
        (|spec, _| spec.options.push(option("map", "80=8080")), "move:map"),
        (|spec, _| spec.options.push(option("via", "preload")), "restart:served"),
        (|spec, _| spec.options.push(option("private", "")), "restart:served"),
        (
            |spec, _| {
                spec.options.push(option("ready", "tcp"));
                spec.command.push("--new".into());
                spec.workers = WorkerCount::Number(3);
            },
            "replace:ready+command scale:2-3",
        ),
        (|_, run| run.arguments = None, "reexec"),
        (
            |_, run| run.arguments = Some(words(&["sameport".into(), "run".into()])),
            "restart:served",
        ),
        // Every client that would be served is served.
        (
            |spec, run| {
                spec.options.push(option("via", "preload"));
                run.ready = 0;
            },
            "restart",
        ),
        (
            |spec, run| {
                spec.options.push(option("ready", "tcp"));
                run.ready = 0;
            },
            "restart",
        ),
        // A command that cannot start is replaced like any other.
        (
            |spec, run| {
                spec.command.push("--new".into());
                run.ready = 0;
            },
            "upgrade:command",
        ),
        (
            |spec, run| {
                spec.options.push(option("ready", "tcp"));
                run.can_hand_over = false;
            },
            "restart:served",
        ),
    ];
    for (index, (change, expected)) in cases.iter().enumerate() {
        assert_eq!(steps_to(change), *expected, "case {index}");
    }
}

#[test]
fn a_policy_is_that_of_the_file() {
    use crate::traffic::model::TrafficPolicy;

    let random = || Some(TrafficRules::new(TrafficPolicy::Random));
    // By `sameport steer`.
    assert_eq!(steps_to(|_, run| run.steered = vec![random()]), "keep:policy");
    let with_policy = |spec: &mut ServiceSpec| {
        let policy = SteeringPolicy::Only(TrafficPolicy::Random);
        spec.policy = Some(ServicePolicy { policy, values: Vec::new() });
    };
    assert_eq!(steps_to(|spec, _| with_policy(spec)), "keep:policy");
    let values = ["web.1=9".parse().unwrap()];
    let weights = |spec: &mut ServiceSpec, run: &mut RunningFacts| {
        let policy = SteeringPolicy::Only(TrafficPolicy::Weights);
        spec.policy = Some(ServicePolicy { policy, values: values.to_vec() });
        run.arguments = Some(line(spec));
    };
    assert_eq!(steps_to(weights), "steer");
    let steered = steps_to(|spec, run| {
        weights(spec, run);
        let rules = TrafficRules::new(TrafficPolicy::Weights);
        run.steered = vec![Some(TrafficRules { values: values.to_vec(), ..rules })];
    });
    assert_eq!(steered, "");
}

#[test]
fn a_canary_is_that_of_the_file() {
    type Change = fn(&mut ServiceSpec, &mut RunningFacts);
    let cases: &[(Change, &str)] = &[
        // The service itself is the new version, or there is nothing new.
        (|spec, _| spec.canary = Some(canary_spec(None)), ""),
        (
            |spec, _| {
                spec.canary = Some(canary_spec(None));
                spec.command = vec!["v2".into()];
            },
            "startcanary",
        ),
        (
            |spec, run| {
                spec.canary = Some(canary_spec(None));
                spec.command = vec!["v2".into()];
                run.canary = Some(canary_facts(&["v2"], "10%"));
            },
            "",
        ),
        (
            |spec, run| {
                spec.canary = Some(canary_spec(None));
                spec.command = vec!["v2".into()];
                run.canary = Some(canary_facts(&["v2"], "5%"));
            },
            "rollback startcanary",
        ),
        // The key is gone: the version that is written stays.
        (
            |spec, run| {
                spec.command = vec!["v2".into()];
                run.canary = Some(canary_facts(&["v2"], "10%"));
            },
            "promote",
        ),
        (|_, run| run.canary = Some(canary_facts(&["v2"], "10%")), "rollback"),
        // A command of its own.
        (|spec, _| spec.canary = Some(canary_spec(Some("v2"))), "startcanary"),
        (
            |spec, run| {
                spec.canary = Some(canary_spec(Some("v2")));
                run.canary = Some(canary_facts(&["v2"], "10%"));
            },
            "",
        ),
        (
            |spec, run| {
                spec.canary = Some(canary_spec(Some("v2")));
                run.command = words(&["v2".into()]);
            },
            "",
        ),
        // One that differs in a variable, and was promoted.
        (
            |spec, run| {
                let environment = vec![("MODE".to_owned(), "b".to_owned())];
                spec.canary = Some(CanarySpec { environment, ..canary_spec(None) });
                run.environment = vec![("MODE".into(), "b".into())];
            },
            "",
        ),
        (
            |spec, _| {
                let environment = vec![("MODE".to_owned(), "b".to_owned())];
                spec.canary = Some(CanarySpec { environment, ..canary_spec(None) });
            },
            "startcanary",
        ),
        (
            |spec, run| {
                spec.canary = Some(canary_spec(Some("v2")));
                run.command = words(&["v0".into()]);
            },
            "upgrade:command",
        ),
    ];
    for (index, (change, expected)) in cases.iter().enumerate() {
        assert_eq!(steps_to(change), *expected, "case {index}");
    }
}

#[test]
fn a_run_of_another_file_differs_in_its_file_only() {
    let spec = service();
    let mut facts = run(&spec);
    let arguments = facts.arguments.as_mut().unwrap();
    arguments[3] = "/other/sameport.toml".into();
    assert_eq!(
        LineOptions::read(arguments).unwrap().origin.as_deref(),
        Some(Path::new("/other/sameport.toml"))
    );
    assert_eq!(steps(&spec, &PresentRun::Running(Box::new(facts))), "keep:");
}
