//! The workflow of a hosted copy, `.github/workflows/ci.yml`: it runs what this project runs.
//!
//! Ruby's standard library reads YAML, and is installed for the tests of other programs.

use std::process::Command;

use serde_json::Value;

use super::{none, root};

const WORKFLOW: &str = ".github/workflows/ci.yml";

/// The workflow as JSON; `None` without ruby.
fn parsed(text: &str) -> Option<Result<Value, String>> {
    let program = "puts JSON.dump(YAML.load(ARGV[0]))";
    let output =
        Command::new("ruby").args(["-ryaml", "-rjson", "-e", program, text]).output().ok()?;
    if !output.status.success() {
        return Some(Err(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Some(serde_json::from_slice(&output.stdout).map_err(|error| error.to_string()))
}

/// Keys of a workflow, of a job and of a step that this project uses.
const KEYS: [&[&str]; 3] = [
    // YAML 1.1, which ruby reads, has `on` for `true`.
    &["concurrency", "env", "jobs", "name", "permissions", "true"],
    &["container", "runs-on", "steps", "strategy", "timeout-minutes"],
    &["run", "uses", "with"],
];

/// What the hosting service would refuse.
fn malformed(workflow: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut keys = |value: &Value, known: &[&str], at: &str| {
        let names = value.as_object().map(|map| map.keys().cloned().collect()).unwrap_or_default();
        let names: Vec<String> = names;
        if names.is_empty() {
            wrong.push(format!("{at}: not a map"));
        }
        let unknown = names.iter().filter(|name| !known.contains(&name.as_str()));
        wrong.extend(unknown.map(|name| format!("{at}: the key `{name}`")));
    };
    keys(workflow, KEYS[0], WORKFLOW);
    let jobs = workflow["jobs"].as_object().into_iter().flatten();
    let jobs: Vec<_> = jobs.collect();
    for (name, job) in &jobs {
        keys(job, KEYS[1], name);
        for step in job["steps"].as_array().into_iter().flatten() {
            keys(step, KEYS[2], name);
        }
    }
    for (name, job) in jobs {
        if !job["runs-on"].is_string() || !job["timeout-minutes"].is_u64() {
            wrong.push(format!("{name}: needs `runs-on` and `timeout-minutes`"));
        }
        for step in job["steps"].as_array().into_iter().flatten() {
            let uses = step["uses"].as_str();
            if uses.is_some() == step["run"].is_string() {
                wrong.push(format!("{name}: a step has either `uses` or `run`"));
            }
            if uses.is_some_and(|action| !action.contains('@')) {
                wrong.push(format!("{name}: an action has a version: `{uses:?}`"));
            }
        }
    }
    wrong
}

/// Commands of the workflow, with those of the virtual machine.
fn commands(workflow: &Value) -> Vec<&str> {
    let jobs = workflow["jobs"].as_object().into_iter().flatten();
    let steps = jobs.flat_map(|(_, job)| job["steps"].as_array().into_iter().flatten());
    steps.flat_map(|step| [&step["run"], &step["with"]["run"]]).filter_map(Value::as_str).collect()
}

#[test]
fn the_workflow_of_a_hosted_copy_is_valid() {
    let text = std::fs::read_to_string(root().join(WORKFLOW)).expect(WORKFLOW);
    let Some(workflow) = parsed(&text) else {
        sameport_skips::skip("the_workflow_of_a_hosted_copy_is_valid", "no ruby");
        return;
    };
    let workflow = workflow.expect(WORKFLOW);
    none(malformed(&workflow));
    let commands = commands(&workflow);
    assert!(commands.contains(&"bash .ci/run"), "{commands:?}");
    let tests = "test -p sameport -p sameport-addr --all-features";
    // macOS and Windows in one job, FreeBSD in another.
    assert_eq!(commands.iter().filter(|it| it.ends_with(tests)).count(), 2, "{commands:?}");
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let rust = workflow["env"]["RUST"].as_str().expect("env.RUST");
    let minor = rust.trim_end_matches(".0");
    assert!(manifest.contains(&format!("rust-version = \"{minor}\"")), "env.RUST is {rust}");
}

#[test]
fn a_malformed_workflow_is_seen() {
    let text = std::fs::read_to_string(root().join(WORKFLOW)).expect(WORKFLOW);
    let wrong = |from: &str, to: &str| {
        assert!(text.contains(from), "{from}");
        match parsed(&text.replacen(from, to, 1)) {
            Some(Ok(workflow)) => malformed(&workflow).len(),
            Some(Err(_)) => 1,
            None => {
                sameport_skips::skip("a_malformed_workflow_is_seen", "no ruby");
                1
            }
        }
    };
    assert_eq!(wrong("  linux:", "  linux:"), 0);
    assert!(wrong("runs-on:", "runs_on:") > 0);
    assert!(wrong("actions/checkout@v4", "actions/checkout") > 0);
    assert!(wrong("      - run: bash .ci/run", "      - bash .ci/run") > 0);
    assert!(wrong("jobs:\n", "jobs:\n\t") > 0);
}
