//! `/healthz` and `/readyz`.

use crate::exporter::{Exporter, run, series};
use crate::harness::named_run::RunSetup;
use crate::harness::{User, eventually, kill};

#[track_caller]
fn wait_for(exporter: &Exporter, path: &str, status: u16, line: &str) {
    let mut last = None;
    let found = eventually(|| {
        let reply = exporter.get(path);
        let is_it = reply.status == status && reply.body.contains(line);
        last = Some(reply);
        is_it.then_some(())
    });
    assert!(found.is_some(), "{path}: {last:?}");
}

#[test]
fn a_run_is_ready_when_its_workers_are() {
    let setup = RunSetup::new(User::Current);
    let name = setup.name.clone();
    let exporter = Exporter::start(&setup, &["--run", &name, "--no-audit"]);
    assert_eq!(exporter.get("/healthz").status, 200);
    wait_for(&exporter, "/readyz", 503, &format!("{name}: there is no such run\n"));
    let command = setup.controlled_command();
    let options = ["-n", "2", "--surge", "0", "--ready", "http:/healthz", "--ready-timeout", "1h"];
    let run = setup.run(&options, &command);
    wait_for(&exporter, "/readyz", 200, &format!("{name}: ready, 2 of 2 workers\n"));
    // A replacement does not get ready before the file has gone.
    std::fs::write(run.setup.dir.join("status"), "500").unwrap();
    kill(run.wait_for_worker(2), libc::SIGKILL);
    let one = format!("{name}: not ready, 1 of 2 workers\n");
    wait_for(&exporter, "/readyz", 503, &one);
    wait_for(&exporter, &format!("/readyz?run={name}"), 503, &one);
    wait_for(&exporter, &format!("/readyz?run={name}&min=1"), 200, "1 of 2 workers\n");
    assert_eq!(exporter.get("/readyz?run=other").status, 503);
    assert_eq!(exporter.get("/readyz?min=many").status, 400);
    assert_eq!(exporter.get("/readyz?worker=1").status, 400);
    std::fs::remove_file(run.setup.dir.join("status")).unwrap();
    wait_for(&exporter, "/readyz", 200, "2 of 2 workers\n");
    let crashes = series("sameport_run_change_duration_seconds_count", &run, ",change=\"crash\"");
    exporter.wait_for(&crashes, 1.0);
    run.stop();
    wait_for(&exporter, "/readyz", 503, &format!("{name}: it has ended: "));
    assert_eq!(exporter.get("/healthz").status, 200);
    exporter.process.terminate();
}

#[test]
fn a_run_that_leaves_is_not_ready() {
    let run = run(&["-n", "2"]);
    run.wait_for_ready(2);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let leaving = series("sameport_run_leaving", &run, "");
    exporter.wait_for(&leaving, 0.0);
    let words = ["stop", &*name, "--announce", "1h"];
    let stop = crate::harness::spawn_process(run.setup.command(&words));
    wait_for(&exporter, "/readyz", 503, &format!("{name}: leaving, 2 of 2 workers\n"));
    exporter.wait_for(&leaving, 1.0);
    run.stop();
    stop.wait();
    exporter.process.terminate();
}

#[test]
fn a_supervisor_that_does_not_answer_is_not_up_and_blocks_no_scrape() {
    let run = run(&["-n", "2"]);
    run.wait_for_ready(2);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let up = series("sameport_run_up", &run, "");
    exporter.wait_for(&up, 1.0);
    run.supervisor.signal(libc::SIGSTOP);
    exporter.wait_for(&up, 0.0);
    wait_for(&exporter, "/readyz", 503, &format!("{name}: its supervisor does not answer\n"));
    run.supervisor.signal(libc::SIGCONT);
    exporter.wait_for(&up, 1.0);
    run.supervisor.signal(libc::SIGKILL);
    exporter.wait_for(&up, 0.0);
    wait_for(&exporter, "/readyz", 503, &format!("{name}: its supervisor was killed\n"));
    // Ends the workers.
    run.verb("stop", &["--now"]);
    exporter.process.terminate();
}

#[test]
fn reexec_is_not_seen() {
    let run = run(&["-n", "2"]);
    run.wait_for_ready(2);
    let name = run.setup.name.clone();
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--no-audit"]);
    let up = series("sameport_run_up", &run, "");
    for _ in 0..3 {
        run.verb("reexec", &[]);
        assert_eq!(exporter.get("/readyz").status, 200);
        assert_eq!(exporter.value(&up), Some(1.0));
    }
    exporter.process.terminate();
    run.stop();
}
