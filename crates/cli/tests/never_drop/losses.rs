//! Restarts and kills under load, and the losses of the clients.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::clients::{Clients, Loss, Results, accepted};
use crate::harness::{
    Exited, Process, SOCKET_TIMEOUT, TIMEOUT, User, c_program, chown_to, command_for, descendants,
    eventually, free_port, in_test_dir, kill, sameport, spawn_process,
};

const CLIENTS: u16 = 32;
const CONNECTIONS: u64 = 100_000;
/// For repetitions.
const FEWER: u64 = 20_000;

/// A named run of `drains`, which records the connections that it accepts.
struct LoadedRun {
    name: String,
    user: User,
    address: SocketAddr,
    /// The directory of the records, a file a worker.
    accepted: PathBuf,
    started: Process,
}

impl LoadedRun {
    fn start(user: User, copies: usize) -> Self {
        let port = free_port();
        let name = format!("losses-{port}");
        let accepted = in_test_dir(format!("{name}-accepted"));
        let runtime = in_test_dir(format!("{name}-runtime"));
        for dir in [&accepted, &runtime] {
            std::fs::create_dir(dir).unwrap();
            chown_to(dir, user);
        }
        let server = c_program("drains", &[]).into_os_string().into_string().unwrap();
        let copies = copies.to_string();
        let words = ["run", "--name", &name, "-n", &copies, "--ready", "tcp", "--", &server];
        let mut command = command_for(user, sameport(), &words);
        command.arg(port.to_string()).env("ACCEPTED", &accepted);
        command.env("XDG_RUNTIME_DIR", &runtime);
        let started = spawn_process(command);
        let address = ([127, 0, 0, 1], port).into();
        Self { name, user, address, accepted, started }
    }

    /// Waits until the supervisor has reported this many ready workers since the start.
    fn wait_for(&self, workers: usize) {
        let ready = || self.started.stderr().matches(" is ready").count();
        let all = eventually(|| (ready() >= workers).then_some(()));
        assert!(all.is_some(), "{} of {workers} ready\n{}", ready(), self.started.stderr());
    }

    /// Runs `sameport VERB NAME MORE`.
    fn try_verb(&self, verb: &str, more: &[&str]) -> Exited {
        let words = [&[verb, &self.name], more].concat();
        let mut command = command_for(self.user, sameport(), &words);
        command.env("XDG_RUNTIME_DIR", in_test_dir(format!("{}-runtime", self.name)));
        // A restart starts eight processes one after the other, on a machine that is busy with the
        // clients.
        spawn_process(command).wait_within(6 * TIMEOUT)
    }

    fn restart(&self) {
        let exited = self.try_verb("restart", &[]);
        assert_eq!(exited.code, 0, "{}\n{}", exited.stderr, self.started.stderr());
    }

    /// Runs the clients, and `action` this many times, spread over their connections.
    fn under_load(
        &self,
        connections: u64,
        times: u64,
        mut happens: impl FnMut(u64) + Send,
    ) -> Results {
        let mut clients = Clients::of(self.address, CLIENTS);
        clients.patience = SOCKET_TIMEOUT;
        let (clients, over) = (&clients, &AtomicBool::new(false));
        thread::scope(|scope| {
            let happening = scope.spawn(move || {
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    for number in 0..times {
                        let due = connections * number / times;
                        while clients.begun.load(Ordering::Relaxed) < due {
                            thread::sleep(Duration::from_millis(1));
                        }
                        happens(number);
                    }
                }));
                over.store(true, Ordering::Relaxed);
                done
            });
            let enough = |begun| over.load(Ordering::Relaxed) && begun >= connections;
            let results = clients.drive(enough).unwrap();
            happening.join().unwrap().unwrap_or_else(|why| std::panic::resume_unwind(why));
            results
        })
    }

    /// The losses of each kind, and the losses that a worker had accepted.
    fn losses(&self, results: &Results) -> (HashMap<Loss, usize>, usize) {
        let accepted = accepted(&self.accepted).unwrap();
        let mut ways = HashMap::new();
        let mut in_hand = 0;
        for (how, from) in &results.lost {
            if *how == Loss::Reset && accepted.contains(from) {
                in_hand += 1;
            } else {
                *ways.entry(*how).or_default() += 1;
            }
        }
        (ways, in_hand)
    }

    /// The number of workers so far.
    fn workers(&self) -> usize {
        std::fs::read_dir(&self.accepted).unwrap().count()
    }
}

fn assert_rolling_restarts_lose_nothing(copies: usize) {
    const RESTARTS: u64 = 10;
    for user in User::all() {
        let run = LoadedRun::start(*user, copies);
        run.wait_for(copies);
        let results = run.under_load(CONNECTIONS, RESTARTS, |_| run.restart());
        assert_eq!(run.losses(&results), (HashMap::new(), 0), "{user:?}: {}", run.started.stderr());
        assert!(results.answered >= CONNECTIONS, "{user:?}: {}", results.answered);
        let expected = copies * (1 + usize::try_from(RESTARTS).unwrap());
        assert_eq!(run.workers(), expected, "{user:?}: {}", run.started.stderr());
    }
}

#[test]
fn rolling_restarts_of_four_workers_lose_nothing() {
    assert_rolling_restarts_lose_nothing(4);
}

#[test]
fn rolling_restarts_of_the_only_worker_lose_nothing() {
    assert_rolling_restarts_lose_nothing(1);
}

/// A killed worker loses its accepted connections, and no others.
#[test]
fn killed_worker_loses_only_accepted_connections() {
    const KILLS: usize = 10;
    /// Workers of `drains.c`, with one connection each.
    const THREADS: usize = 8;
    for copies in [4, 1] {
        let run = LoadedRun::start(User::Current, copies);
        run.wait_for(copies);
        let mut killed = 0;
        let results = run.under_load(CONNECTIONS, KILLS as u64, |_| {
            let workers = descendants(run.started.pid());
            assert!(!workers.is_empty(), "{}", run.started.stderr());
            kill(workers[killed % workers.len()], libc::SIGKILL);
            killed += 1;
            run.wait_for(copies + killed);
        });
        let (ways, in_hand) = run.losses(&results);
        assert_eq!(ways, HashMap::new(), "{copies} workers: {}", run.started.stderr());
        assert!(in_hand <= KILLS * THREADS, "{copies} workers: {in_hand}");
        assert_eq!(run.workers(), copies + KILLS, "{copies} workers");
    }
}

#[test]
fn failed_replacements_and_reexec_lose_nothing() {
    let user = *User::all().last().unwrap();
    for copies in [4, 1] {
        let run = LoadedRun::start(user, copies);
        run.wait_for(copies);
        let results = run.under_load(FEWER, 4, |_| {
            let broken = run.try_verb("upgrade", &["--", "sh", "-c", "exit 3"]);
            assert_eq!(broken.code, 1, "{}", broken.stderr);
            assert!(broken.stderr.contains("exited with 3"), "{}", broken.stderr);
            let absent = run.try_verb("upgrade", &["--", "/nonexistent/program"]);
            assert_eq!(absent.code, 127, "{}", absent.stderr);
            let again = run.try_verb("reexec", &[]);
            assert_eq!(again.code, 0, "{}\n{}", again.stderr, run.started.stderr());
        });
        assert_eq!(run.losses(&results), (HashMap::new(), 0), "{}", run.started.stderr());
        assert_eq!(run.workers(), copies, "the old ones serve");
        run.restart();
        let stopped = run.try_verb("stop", &[]);
        assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    }
}
