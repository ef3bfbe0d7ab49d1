//! What a scrape says, compared with `ss`, and read by promtool.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::exporter::{Exporter, freeze, run, series, value};
use crate::harness::{eventually, find_program, in_test_dir, kill, skip, spawn_process};

/// The numbers of an address by `ss`: connections in the accept queues, their limit, accepted connections.
pub(crate) fn by_ss(port: u16) -> Option<(u64, u64, u64)> {
    let list = |state: &[&str]| {
        let at = format!("sport = :{port}");
        let output = Command::new("ss").args(["-Htn"]).args(state).arg(&at).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let listeners = list(&["-l"])?;
    let numbers = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    };
    let (mut queue, mut limit) = (0, 0);
    for (waiting, most) in listeners.lines().filter_map(numbers) {
        (queue, limit) = (queue + waiting, limit + most);
    }
    let established = list(&["state", "established"])?.lines().count();
    // Without a state in front, ss leaves the column out; connections in the queue are established, too.
    Some((queue, limit, (established as u64).saturating_sub(queue)))
}

#[test]
fn connections_and_queues_are_those_of_ss() {
    if find_program("ss").is_none() {
        return skip("metrics-ss", "no ss");
    }
    let run = run(&["-n", "2"]);
    let pids = run.wait_for_ready(2);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let at = format!("{{protocol=\"tcp\",address=\"{}\"}}", run.setup.address());
    let open: Vec<TcpStream> =
        (0..7).map(|_| TcpStream::connect(run.setup.address()).unwrap()).collect();
    exporter.wait_for(&format!("sameport_address_connections{at}"), 7.0);
    assert_eq!(by_ss(run.setup.port).map(|it| it.2), Some(7));
    let of_workers = |text: &str| -> f64 {
        let worker = |n| series("sameport_worker_connections", &run, &format!(",worker=\"{n}\""));
        (1..=2).filter_map(|n| value(text, &worker(n))).sum()
    };
    assert_eq!(of_workers(&exporter.scrape()), 7.0);
    pids.iter().for_each(|pid| freeze(*pid));
    let waiting: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(run.setup.address()).unwrap()).collect();
    exporter.wait_for(&format!("sameport_address_accept_queue{at}"), 5.0);
    let (queue, limit, accepted) = by_ss(run.setup.port).unwrap();
    assert_eq!((queue, accepted), (5, 7));
    exporter.wait_for(&format!("sameport_address_accept_queue_limit{at}"), limit as f64);
    exporter.wait_for(&format!("sameport_address_members{at}"), 2.0);
    exporter.wait_for(&format!("sameport_address_drops_total{at}"), 0.0);
    pids.iter().for_each(|pid| kill(*pid, libc::SIGCONT));
    drop((open, waiting));
    exporter.wait_for(&format!("sameport_address_connections{at}"), 0.0);
    exporter.process.terminate();
    run.stop();
}

#[test]
fn promtool_has_no_complaint() {
    let Some(promtool) = find_program("promtool") else {
        return skip("metrics-promtool", "no promtool");
    };
    let run = run(&["-n", "2"]);
    let pids = run.wait_for_ready(2);
    kill(*pids.iter().next().unwrap(), libc::SIGKILL);
    run.verb("restart", &[]);
    // With the findings, and with every address of the machine.
    let once = spawn_process(run.setup.command(&["metrics", "--once", "--all"])).wait();
    assert_eq!((once.code, &*once.stderr), (0, ""), "{once:?}");
    for metric in ["sameport_audit_findings{", "sameport_run_change_duration_seconds_bucket{"] {
        assert!(once.stdout.contains(metric), "{}", once.stdout);
    }
    let mut checked = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checked.stdin.take().unwrap().write_all(once.stdout.as_bytes()).unwrap();
    let output = checked.wait_with_output().unwrap();
    let said = format!("{output:?}\n{}", once.stdout);
    assert!(
        output.status.success() && output.stderr.is_empty() && output.stdout.is_empty(),
        "{said}"
    );
    run.stop();
}

#[test]
fn the_configuration_and_the_alerts_of_the_guide_are_valid() {
    let Some(promtool) = find_program("promtool") else {
        return skip("metrics-guide", "no promtool");
    };
    let guide = crate::catalog::read("docs/guides/metrics.md");
    let config = guide.split("```").find_map(|block| block.strip_prefix("text\n")).unwrap();
    let alerts = guide.lines().filter_map(|line| {
        let expression = line.strip_prefix("| `")?.split('`').next()?;
        Some(format!("  - alert: x\n    expr: '{expression}'\n"))
    });
    let alerts: Vec<String> = alerts.collect();
    assert!(alerts.len() >= 7, "{alerts:?}");
    let rules = format!("groups:\n- name: x\n  rules:\n{}", alerts.concat());
    for (what, text) in [("config", config), ("rules", &rules)] {
        let file = in_test_dir(format!("guide-{what}.yml"));
        std::fs::write(&file, text).unwrap();
        let output = Command::new(&promtool)
            .args(["check", what, "--lint=none"])
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{text}\n{output:?}");
    }
}

#[test]
fn filters_limit_what_has_metrics() {
    let run = run(&[]);
    run.wait_for_ready(1);
    let name = run.setup.name.clone();
    let (port, single) = (run.setup.port.to_string(), std::net::TcpListener::bind("127.0.0.1:0"));
    let single = single.unwrap();
    let other = single.local_addr().unwrap();
    let scrape = |options: &[&str]| {
        let words: Vec<&str> =
            ["metrics", "--once", "--no-audit"].iter().chain(options).copied().collect();
        let exited = spawn_process(run.setup.command(&words)).wait();
        assert_eq!(exited.code, 0, "{exited:?}");
        exited.stdout
    };
    let at = |address: &str| {
        format!("sameport_address_members{{protocol=\"tcp\",address=\"{address}\"}}")
    };
    let (own, others) = (at(&run.setup.address().to_string()), at(&other.to_string()));
    let number = other.port().to_string();
    let udp = format!("{port}/udp");
    for (options, has_own, has_other) in [
        (&[][..], true, false),
        (&["--all"], true, true),
        (&["--run", &name, "--all"], true, false),
        (&["--port", &number], false, true),
        (&["--port", &port, "--port", &number], true, true),
        (&["--port", &udp], false, false),
        (&["--run", "none"], false, false),
    ] {
        let text = scrape(options);
        let found = (value(&text, &own).is_some(), value(&text, &others).is_some());
        assert_eq!(found, (has_own, has_other), "{options:?}:\n{text}");
        // A run that is named, and gone, is visible.
        let gone = value(&text, "sameport_run_up{run=\"none\"");
        assert_eq!(gone, None);
        let is_named = options.contains(&"none");
        assert_eq!(text.contains("sameport_run_up{run=\"none\","), is_named, "{text}");
        assert!(!text.contains("sameport_audit"), "{text}");
    }
    run.stop();
}

#[test]
fn a_unix_socket_is_served_and_a_stale_one_replaced() {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    let run = run(&[]);
    run.wait_for_ready(1);
    let path = run.setup.dir.join("metrics.sock");
    let listen = format!("unix:{}", path.display());
    let start = || {
        let words = ["metrics", "--listen", &*listen, "--no-audit"];
        spawn_process(run.setup.command(&words))
    };
    let first = start();
    first.wait_for_stderr("serves unix:");
    let ask = || {
        let mut stream = UnixStream::connect(&path).ok()?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.0 200").then_some(())
    };
    assert_eq!(eventually(ask), Some(()));
    let second = start().wait();
    assert_eq!(second.code, 1, "{second:?}");
    assert!(second.stderr.contains("another process listens on "), "{second:?}");
    kill(first.pid(), libc::SIGKILL);
    first.wait();
    let third = start();
    third.wait_for_stderr("serves unix:");
    assert_eq!(eventually(ask), Some(()));
    third.terminate();
    // A file that is no socket stays.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "kept").unwrap();
    let refused = start().wait();
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains(" is no socket, and stays"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept");
    std::fs::remove_file(&path).unwrap();
    run.stop();
}
