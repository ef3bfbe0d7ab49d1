//! When the first worker of a run is ready: nothing tells yet which addresses it must listen on.

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{User, eventually, find_program, free_port, script, skip};

/// Starts `ports.py`, with `{port}` for the first port and `{other}` for another one. `None` without
/// Python.
fn ports_run(test: &str, options: &[&str], words: &[&str]) -> Option<(NamedRun, u16)> {
    let Some(python) = find_program("python3") else {
        skip(test, "no python3");
        return None;
    };
    let (setup, other) = (RunSetup::new(User::Current), free_port());
    let fill = |word: &&str| word.replace("{other}", &other.to_string());
    let options: Vec<String> = options.iter().map(fill).collect();
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let program = script("ports.py");
    let start = [python.to_str()?, program.to_str()?].map(str::to_owned);
    let command: Vec<String> = start.into_iter().chain(words.iter().map(fill)).collect();
    Some((setup.run(&options, &command), other))
}

/// The addresses at the moment when the worker is ready.
#[track_caller]
fn addresses_when_ready(run: &NamedRun) -> usize {
    run.supervisor.wait_for_stderr("worker 1");
    let status = eventually(|| {
        let status = run.status();
        (status["workers"][0]["state"] == "ready").then_some(status)
    });
    let status = status.unwrap_or_else(|| panic!("{}", run.supervisor.stderr()));
    status["workers"][0]["addresses"].as_array().map_or(0, Vec::len)
}

/// A silent port, such as that of a debugger, opens first. The server's own port decides.
#[test]
fn http_uses_the_port_that_answers() {
    let words = ["silent:{port}:0", "http:{other}:4"];
    let Some((run, _)) =
        ports_run("http_uses_the_port_that_answers", &["--ready", "http:/"], &words)
    else {
        return;
    };
    let starting = eventually(|| {
        let worker = run.status()["workers"][0].clone();
        let why = worker["why"].as_str()?.to_owned();
        (worker["state"] == "starting" && why.starts_with("no answer from 127.0.0.1:"))
            .then_some(())
    });
    assert!(starting.is_some(), "{}", run.status());
    assert_eq!(addresses_when_ready(&run), 2);
    run.stop();
}

#[test]
fn http_names_every_port_that_does_not_answer() {
    let options = ["--ready", "http:/", "--ready-timeout", "2s", "--max-restarts", "0"];
    let words = ["silent:{port}:0", "silent:{other}:0"];
    let test = "http_names_every_port_that_does_not_answer";
    let Some((run, other)) = ports_run(test, &options, &words) else { return };
    let mut ports = [run.setup.port, other];
    ports.sort_unstable();
    let [first, second] = ports.map(|port| format!("no answer from 127.0.0.1:{port}"));
    run.supervisor.wait_for_stderr(&format!("not ready in time: {first}; {second}"));
    let (dir, name) = (run.setup.dir.clone(), run.setup.name.clone());
    run.wait_for_exit(1);
    // The report has the reason, not the signal that followed from it.
    let report = std::fs::read_to_string(dir.join("sameport").join(format!("{name}.ended")));
    assert!(report.is_ok_and(|report| report.contains(&format!("{first}; {second}"))));
}

#[test]
fn http_sets_the_host_and_the_port() {
    let test = "http_sets_the_host_and_the_port";
    let words = ["--host", "web.test:{other}", "silent:{port}:0", "http:{other}:0"];
    let options = ["--ready", "http://web.test:{other}/", "--ready-timeout", "2s", "--grace", "1s"];
    let Some((run, _)) = ports_run(test, &options, &words) else { return };
    run.wait_for_ready(1);
    run.stop();
    for (check, why) in [
        ("http://other.test:{other}/", "not ready in time: 400 from 127.0.0.1:{other}"),
        ("http://web.test:1/", "not ready in time: port 1 is missing; the worker listens on 127.0"),
    ] {
        let options = ["--ready", check, "--ready-timeout", "2s", "--grace", "1s"];
        let Some((run, other)) = ports_run(test, &options, &words) else { return };
        run.supervisor.wait_for_stderr(&why.replace("{other}", &other.to_string()));
        run.stop();
    }
}

/// `--expect` waits for late ports.
#[test]
fn a_first_worker_opens_all_ports_before_it_is_ready() {
    let test = "a_first_worker_opens_all_ports_before_it_is_ready";
    for (options, words) in [
        (&["--expect", "{other}"][..], ["http:{port}:0", "http:{other}:1"]),
        (&["--expect", "127.0.0.1:{other}", "--ready", "tcp"], ["http:{port}:0", "http:{other}:1"]),
    ] {
        let Some((run, _)) = ports_run(test, options, &words) else { return };
        assert_eq!(addresses_when_ready(&run), 2, "{options:?}");
        // A replacement must have both, and does not wait for others.
        run.verb("restart", &[]);
        run.stop();
    }
}

#[test]
fn an_expected_port_that_does_not_open_is_named() {
    let test = "an_expected_port_that_does_not_open_is_named";
    let options = ["--expect", "{other}", "--ready-timeout", "1s", "--grace", "1s"];
    let Some((run, other)) = ports_run(test, &options, &["http:{port}:0"]) else { return };
    let port = run.setup.port;
    run.supervisor.wait_for_stderr(&format!(
        "not ready in time: port {other} is missing; the worker listens on 127.0.0.1:{port}"
    ));
    run.stop();
    let run = RunSetup::new(User::Current).run(
        &options.map(|it| it.replace("{other}", "1")).each_ref().map(String::as_str),
        &["sleep", "60"],
    );
    run.supervisor.wait_for_stderr("not ready in time: the worker listens on no address");
    run.stop();
}
