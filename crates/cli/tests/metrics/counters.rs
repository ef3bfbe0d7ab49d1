//! What a run has counted, in `status --json` and in a scrape.

use std::net::TcpStream;

use crate::exporter::{Exporter, run, series};
use crate::harness::named_run::RunSetup;
use crate::harness::{User, eventually, kill};

#[test]
fn ends_restarts_and_changes_survive_reexec_and_takeover() {
    let run = run(&["-n", "2"]);
    run.wait_for_ready(2);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let killed = series(
        "sameport_run_worker_ends_total",
        &run,
        ",code=\"\",signal=\"SIGKILL\",requested=\"false\"",
    );
    let restarts = series("sameport_worker_restarts_total", &run, ",worker=\"1\"");
    let restarted =
        series("sameport_run_change_duration_seconds_count", &run, ",change=\"restart\"");
    kill(run.wait_for_worker(1), libc::SIGKILL);
    exporter.wait_for(&killed, 1.0);
    exporter.wait_for(&restarts, 1.0);
    run.wait_for_ready(2);
    run.verb("restart", &[]);
    let starts = series("sameport_run_worker_starts_total", &run, "");
    let check = || {
        exporter.wait_for(&killed, 1.0);
        exporter.wait_for(&restarts, 1.0);
        exporter.wait_for(&restarted, 1.0);
        let counters = run.status()["counters"].clone();
        assert_eq!(
            (&counters["restarts"], &counters["refused"]),
            (&1.into(), &0.into()),
            "{counters}"
        );
    };
    check();
    exporter.wait_for(&starts, 5.0);
    run.wait_for_ready(2);
    // The processes that the restart replaced may still end.
    let reexec = || (run.try_verb("reexec", &[]).code == 0).then_some(());
    assert_eq!(eventually(reexec), Some(()));
    check();
    exporter.wait_for(&starts, 5.0);
    // Another supervisor takes the workers over, and replaces them.
    run.supervisor.signal(libc::SIGKILL);
    let command = run.setup.controlled_command();
    let words = run.setup.run_command(&["-n", "2"], &command);
    let supervisor = crate::harness::spawn_process(words);
    exporter.wait_for(&starts, 7.0);
    exporter.wait_for(&killed, 1.0);
    exporter.wait_for(&restarted, 1.0);
    run.verb("stop", &[]);
    assert_eq!(supervisor.wait().code, 0);
    exporter.process.terminate();
}

#[test]
fn connections_that_the_end_of_a_drain_cuts_are_counted() {
    let run = run(&["--drain", "all", "--drain-timeout", "1s", "--grace", "1s"]);
    run.wait_for_ready(1);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let cut = series("sameport_run_cut_connections_total", &run, "");
    exporter.wait_for(&cut, 0.0);
    let open: Vec<TcpStream> =
        (0..3).map(|_| TcpStream::connect(run.setup.address()).unwrap()).collect();
    let at = format!(
        "sameport_address_connections{{protocol=\"tcp\",address=\"{}\"}}",
        run.setup.address()
    );
    exporter.wait_for(&at, 3.0);
    run.verb("restart", &[]);
    exporter.wait_for(&cut, 3.0);
    assert_eq!(run.status()["counters"]["cut"], 3);
    drop(open);
    run.stop();
    exporter.process.terminate();
}

#[test]
fn refused_joins_are_counted() {
    let setup = RunSetup::new(User::Current);
    let holder = std::net::TcpListener::bind(setup.address()).unwrap();
    let command = setup.controlled_command();
    let run = setup.run(&[], &command);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let refused = series("sameport_run_refused_joins_total", &run, "");
    let found = eventually(|| exporter.value(&refused).filter(|count| *count >= 1.0));
    assert!(found.is_some(), "{}", exporter.scrape());
    drop(holder);
    run.wait_for_ready(1);
    run.stop();
    exporter.process.terminate();
}
