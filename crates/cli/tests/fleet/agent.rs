//! `agent`: its answers, and clients and supervisors that misbehave.

use std::net::TcpStream;
use std::time::Duration;

use crate::fixture::{Agent, run};
use crate::harness::named_run::RunSetup;
use crate::harness::{User, kill, spawn_process};

const ALL_READY: &str = "up ready 100%\n";

#[test]
fn the_weight_is_the_part_of_the_workers_that_is_ready() {
    let run =
        run(&["-n", "4", "--surge", "0", "--ready", "http:/healthz", "--ready-timeout", "1h"]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    run.wait_for_ready(4);
    agent.wait_for("", ALL_READY);
    // The replacement of the worker is not ready before the file has gone.
    std::fs::write(run.setup.dir.join("status"), "500").unwrap();
    kill(run.wait_for_worker(3), libc::SIGKILL);
    agent.wait_for("", "up ready 75%\n");
    std::fs::remove_file(run.setup.dir.join("status")).unwrap();
    agent.wait_for("", ALL_READY);
    // What HAProxy sends by agent-send selects nothing where one run is served.
    assert_eq!(agent.ask("anything\n"), ALL_READY);
    run.stop();
}

#[test]
fn a_run_that_is_gone_is_down_and_up_again_when_it_is_back() {
    let setup = RunSetup::new(User::Current);
    let name = setup.name.clone();
    let agent = Agent::start(&setup, &[&name]);
    assert_eq!(agent.ask(""), "down #no such run\n");
    let run = setup.controlled_run(&["-n", "2"]);
    run.wait_for_ready(2);
    agent.wait_for("", ALL_READY);
    run.verb("stop", &[]);
    agent.wait_for("", "down #the run has ended\n");
    let setup = run.setup;
    drop(run.supervisor);
    let run = setup.controlled_run(&["-n", "2"]);
    agent.wait_for("", ALL_READY);
    let stderr = agent.process.stderr();
    for line in ["down: no such run", "up, 2 of 2 workers ready", "down: the run has ended"] {
        assert!(stderr.contains(&format!("{name}: {line}\n")), "{stderr}");
    }
    run.stop();
}

#[test]
fn a_name_selects_one_of_several_runs() {
    let web = run(&[]);
    let agent = Agent::start(&web.setup, &[&web.setup.name, "api"]);
    agent.wait_for(&format!("{}\n", web.setup.name), ALL_READY);
    assert_eq!(agent.ask("api\n"), "down #no such run\n");
    assert_eq!(agent.ask("ftp\r\n"), "down #no such run\n");
    // A client that sends no name gets the worst.
    assert_eq!(agent.ask(""), "down #no such run\n");
    assert_eq!(agent.ask(&"x".repeat(5000)), "down #no such run\n");
    web.stop();
}

#[test]
fn an_upgrade_of_sameport_itself_is_not_seen() {
    let run = run(&["-n", "2"]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    run.wait_for_ready(2);
    agent.wait_for("", ALL_READY);
    for _ in 0..3 {
        run.verb("reexec", &[]);
        assert_eq!(agent.ask(""), ALL_READY);
    }
    run.stop();
}

#[test]
fn a_supervisor_that_hangs_or_was_killed_is_down() {
    let run = run(&[]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    run.wait_for_ready(1);
    agent.wait_for("", ALL_READY);
    run.supervisor.signal(libc::SIGSTOP);
    // The last answer holds while the supervisor may only be slow.
    agent.wait_for("", "down #the supervisor does not answer\n");
    run.supervisor.signal(libc::SIGCONT);
    agent.wait_for("", ALL_READY);
    run.supervisor.signal(libc::SIGKILL);
    agent.wait_for("", "down #the supervisor was killed, 1 of its workers run\n");
    // Ends the worker.
    run.verb("stop", &["--now"]);
    agent.wait_for("", "down #the run has ended\n");
}

#[test]
fn clients_that_read_nothing_keep_nobody_from_an_answer() {
    let run = run(&[]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    run.wait_for_ready(1);
    agent.wait_for("", ALL_READY);
    let mut silent = Vec::new();
    for round in 0..10 {
        // More at once than a process may have descriptors.
        silent.extend((0..100).filter_map(|_| TcpStream::connect(agent.address).ok()));
        assert_eq!(agent.ask(""), ALL_READY, "{round}");
    }
    assert!(silent.len() > 900, "{}", silent.len());
    drop(silent);
    assert_eq!(agent.ask(""), ALL_READY);
    let exited = agent.process.terminate();
    assert!(!exited.stderr.contains("panicked"), "{exited:?}");
    run.stop();
}

#[test]
fn a_thousand_clients_at_once_get_the_answer() {
    let run = run(&[]);
    let agent = Agent::start(&run.setup, &[&run.setup.name]);
    run.wait_for_ready(1);
    agent.wait_for("", ALL_READY);
    let ask = || (0..50).filter(|_| agent.ask("web\n") == ALL_READY).count();
    let answered: usize = std::thread::scope(|scope| {
        let clients = [(); 20].map(|()| scope.spawn(ask));
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert_eq!(answered, 1000);
    run.stop();
}

#[test]
fn an_address_in_use_is_refused_with_its_holder() {
    let setup = RunSetup::new(User::Current);
    let agent = Agent::start(&setup, &["web"]);
    let at = agent.address.to_string();
    let exited = spawn_process(setup.command(&["agent", "--listen", &at, "web"])).wait();
    assert_eq!(exited.code, 1, "{exited:?}");
    let holder = format!("is held by sameport (pid {}", agent.process.pid());
    assert!(exited.stderr.contains(&holder), "{exited:?}");
    assert!(exited.stderr.contains("\nhint: end that process, or give --listen"), "{exited:?}");
    // The advice does what it says.
    let Agent { process, .. } = agent;
    kill(process.pid(), libc::SIGTERM);
    process.wait();
    let again = spawn_process(setup.command(&["agent", "--listen", &at, "web"]));
    again.wait_for_stdout("listening on ");
}

#[test]
fn wrong_arguments() {
    let setup = RunSetup::new(User::Current);
    for words in [
        &["agent", "web"][..],
        &["agent", "--listen", "9465"],
        &["agent", "--listen", "0", "web"],
        &["agent", "--listen", "9465/udp", "web"],
        &["agent", "--listen", "9465", "../web"],
    ] {
        let exited = spawn_process(setup.command(words)).wait_within(Duration::from_secs(20));
        assert_eq!(exited.code, 2, "{words:?}: {exited:?}");
    }
}
