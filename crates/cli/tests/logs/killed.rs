//! A log writer, a supervisor, or both are killed: workers write on.

use crate::harness::named_run::has_exited;
use crate::harness::{eventually, kill};
use crate::run_with_kept_output::KeptRun;

/// Writes numbers, one every few milliseconds.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.005; done";

/// The highest number that worker 1 wrote.
fn highest(run: &KeptRun) -> u64 {
    run.texts(1).iter().filter_map(|text| text.parse().ok()).max().unwrap_or(0)
}

#[track_caller]
fn wait_for_more(run: &KeptRun) {
    let before = highest(run);
    let more = eventually(|| (highest(run) > before + 20).then_some(()));
    assert!(more.is_some(), "no line after {before}");
}

#[track_caller]
fn only(pids: Vec<i32>) -> i32 {
    assert_eq!(pids.len(), 1, "{pids:?}");
    pids[0]
}

#[test]
fn a_killed_log_writer_is_started_again() {
    let run = KeptRun::start(&[], COUNTS);
    wait_for_more(&run);
    let worker = run.workers();
    for _ in 0..3 {
        let writer = only(run.log_writers());
        kill(writer, libc::SIGKILL);
        let other = eventually(|| {
            let writers = run.log_writers();
            (!writers.is_empty() && !writers.contains(&writer)).then_some(())
        });
        assert!(other.is_some());
        wait_for_more(&run);
    }
    assert_eq!(run.workers(), worker);
    // Each kill loses at most what the log writer had in hand: the lines of one read, and those of one write.
    let numbers: Vec<u64> = run.texts(1).iter().filter_map(|text| text.parse().ok()).collect();
    let missing = numbers.windows(2).map(|pair| pair[1].saturating_sub(pair[0] + 1)).sum::<u64>();
    assert!(numbers.is_sorted() && missing < 60, "{missing} of {} are missing", numbers.len());
}

#[test]
fn workers_of_a_killed_supervisor_write_on() {
    let run = KeptRun::start(&[], COUNTS);
    wait_for_more(&run);
    let (supervisor, worker) = (run.supervisor(), only(run.workers()));
    kill(supervisor, libc::SIGKILL);
    assert!(eventually(|| has_exited(supervisor).then_some(())).is_some());
    wait_for_more(&run);
    assert!(!has_exited(worker));
    let numbers: Vec<u64> = run.texts(1).iter().filter_map(|text| text.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a line is missing");
    assert_eq!(run.verb("stop", &["--now"]).code, 0);
    assert!(eventually(|| run.log_writers().is_empty().then_some(())).is_some());
}

#[test]
fn no_worker_dies_of_a_pipe_without_a_reader_and_the_next_supervisor_reads_on() {
    let run = KeptRun::start(&[], COUNTS);
    wait_for_more(&run);
    let (supervisor, worker) = (run.supervisor(), only(run.workers()));
    // The supervisor first: it would start another log writer.
    kill(supervisor, libc::SIGKILL);
    kill(only(run.log_writers()), libc::SIGKILL);
    assert!(eventually(|| run.log_writers().is_empty().then_some(())).is_some());
    let before = highest(&run);
    // Some lines into the pipe, which no process reads.
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert!(!has_exited(worker), "SIGPIPE");
    assert_eq!(highest(&run), before);
    let follower = run.follow(&["-n", "0"]);
    // The same command line takes the worker over.
    let again = crate::harness::spawn_process(run.start_command(&[], COUNTS)).wait();
    assert_eq!(again.code, 0, "{again:?}");
    follower.wait_for_stdout(&format!(".1 | {}\n", before + 2));
    assert_eq!(run.verb("stop", &["--now"]).code, 0);
    assert_eq!(follower.wait().code, 0);
}

#[test]
fn reexec_keeps_the_log_writer() {
    let server = crate::harness::c_program("drains", &[]);
    let setup = crate::harness::named_run::RunSetup::new(crate::run_with_kept_output::user());
    let run = KeptRun { setup };
    let script = format!("echo begun; exec {} {}", server.display(), run.setup.port);
    let exited = crate::harness::spawn_process(run.start_command(&["--wait"], &script)).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    let writer = only(run.log_writers());
    let exited = run.verb("reexec", &[]);
    assert_eq!(exited.code, 0, "{exited:?}");
    assert_eq!(run.log_writers(), [writer]);
    // The workers of after write to it too.
    let begun = run.texts(1).iter().filter(|text| *text == "begun").count();
    assert_eq!(run.verb("restart", &[]).code, 0);
    let more = eventually(|| {
        let texts = run.texts(1);
        (texts.iter().filter(|text| *text == "begun").count() > begun).then_some(())
    });
    assert!(more.is_some());
    assert_eq!(run.log_writers(), [writer]);
}
