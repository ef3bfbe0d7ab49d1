//! Groups of several named runs and programs of others, and members that leave.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fixture::{PORT, TrafficFixture};
use crate::harness::{self, Exited, Process, eventually, in_test_dir, script};

/// Named runs in the namespaces of a fixture, with their directory.
pub(crate) struct Runs<'a> {
    fixture: &'a TrafficFixture,
    directory: String,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(fixture: &'a TrafficFixture) -> Self {
        let directory = in_test_dir(format!("steer-mixed-{}", fixture.pid()));
        std::fs::create_dir(&directory).unwrap();
        let directory = directory.into_os_string().into_string().unwrap();
        Self { fixture, directory: format!("XDG_RUNTIME_DIR={directory}") }
    }

    pub(crate) fn start(&self, words: &[&str]) -> Process {
        let sameport = harness::sameport().to_str().unwrap();
        self.fixture.start("env", &[&[&*self.directory, sameport], words].concat())
    }

    #[track_caller]
    pub(crate) fn ok(&self, words: &str) -> Exited {
        let words: Vec<&str> = words.split(' ').collect();
        let exited = self.start(&words).wait();
        assert_eq!(exited.code, 0, "{words:?}: {exited:?}");
        exited
    }

    pub(crate) fn run(&self, name: &str, workers: &str) -> Process {
        self.run_with(name, workers, &[])
    }

    pub(crate) fn run_with(&self, name: &str, workers: &str, more: &[&str]) -> Process {
        let file = script("traffic.py");
        let command = ["python3", file.to_str().unwrap(), "alone", PORT, "127.0.0.1"];
        // The port has a program that is in no run.
        let options = ["run", "--name", name, "-n", workers, "--join"];
        self.start(&[&options[..], more, &["--"], &command].concat())
    }

    /// The members of each run, and those of none.
    pub(crate) fn members(&self) -> Value {
        let text = self.start(&["steer", PORT, "--json"]).wait().stdout;
        serde_json::from_str(&text).map_or(Value::Null, |mut all: Value| all["ports"][0].take())
    }

    #[track_caller]
    pub(crate) fn wait_for_members(&self, count: usize) {
        let has = || self.members()["members"].as_array().is_some_and(|it| it.len() == count);
        assert!(eventually(|| has().then_some(())).is_some(), "{}", self.members());
    }

    /// The connections of each run; those of programs without a run have the name "".
    #[track_caller]
    fn served(&self, times: u32) -> BTreeMap<String, u32> {
        let port = self.members();
        let served = self.fixture.connect(times, "127.0.0.1");
        let mut of = BTreeMap::new();
        for (pid, count) in served {
            let is = |it: &&Value| it["pid"] == pid;
            let member = port["members"].as_array().unwrap().iter().find(is);
            let member = member.unwrap_or_else(|| panic!("no {pid}: {port}"));
            *of.entry(member["run"].as_str().unwrap_or_default().to_owned()).or_insert(0) += count;
        }
        of
    }
}

#[test]
fn weights_of_two_runs_beside_a_program_of_another_hold_over_restarts() {
    let Some(fixture) = TrafficFixture::new("steer-mixed") else { return };
    let runs = Runs::new(&fixture);
    let foreign = fixture.members(1, &["127.0.0.1"]);
    let _web = runs.run("web", "2");
    let _next = runs.run("web-v2", "1");
    runs.wait_for_members(4);
    runs.ok(&format!("steer {PORT} weights web=9 web-v2=1 {}=0", foreign.pids[0]));
    // The standard deviation is 0.5 points, and 0.7 of fewer connections.
    let assert_weights = |times: u32, most: f64| {
        let served = runs.served(times);
        assert_eq!(served.keys().collect::<Vec<_>>(), ["web", "web-v2"], "{served:?}");
        let share = f64::from(served["web"]) / f64::from(times);
        assert!((share - 0.9).abs() < most, "{served:?}");
    };
    assert_weights(4000, 0.03);
    for name in ["web", "web-v2"] {
        runs.ok(&format!("restart {name}"));
        runs.wait_for_members(4);
        assert_weights(2000, 0.045);
    }
    let text = runs.ok(&format!("steer {PORT}")).stdout;
    assert!(text.contains("in force") && !text.contains("waits"), "{text}");
}

#[test]
fn members_without_a_weight_serve_when_no_other_is_left() {
    let Some(fixture) = TrafficFixture::new("steer-zero") else { return };
    let members = fixture.members(3, &["127.0.0.1"]);
    let [a, b, c] = members.pids[..] else { panic!("three members") };
    fixture.ok(&format!("steer {PORT} weights {a}=1 {b}=0 {c}=0"));
    assert_eq!(fixture.connect(20, "127.0.0.1"), [(a, 20)].into());
    harness::kill(a, libc::SIGKILL);
    let is_gone = || fixture.port()["members"].as_array().is_some_and(|it| it.len() == 2);
    assert!(eventually(|| is_gone().then_some(())).is_some(), "{}", fixture.port());
    // The hash of the kernel selects among them.
    let served = fixture.connect(60, "127.0.0.1");
    assert_eq!(served.keys().copied().collect::<Vec<_>>(), [b.min(c), b.max(c)], "{served:?}");
    let text = fixture.ok(&format!("steer {PORT}")).stdout;
    let remark = "every member has weight 0: the kernel's hash selects among all";
    assert!(text.contains(remark), "{text}");
    fixture.ok(&format!("steer {PORT} {c}=1"));
    assert_eq!(fixture.connect(20, "127.0.0.1"), [(c, 20)].into());
}
