//! The supervisor itself: stopped, killed, without descriptors, told to end; and what it holds.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, has_exited, read, request_over, responder, rogue_command,
    send_request, while_clients_served,
};
use crate::harness::{
    Footprint, User, c_program, eventually, find_program, kill, settled_footprint, spawn_process,
};

fn drains(setup: RunSetup, options: &[&str]) -> NamedRun {
    let program = c_program("drains", &[]);
    setup.run(options, &[program.to_str().unwrap(), "{port}"])
}

/// Its workers do not need it to serve; whoever wants something of it waits.
#[test]
fn a_stopped_supervisor_goes_on_where_it_was() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "2"]);
        let before = run.wait_for_ready(2);
        let address = run.setup.address();
        run.supervisor.signal(libc::SIGSTOP);
        for _ in 0..20 {
            responder(address).unwrap();
        }
        let killed = *before.first().unwrap();
        kill(killed, libc::SIGKILL);
        assert!(eventually(|| has_exited(killed).then_some(())).is_some());
        // Whoever comes to the killed one waits in its queue.
        let clients: Vec<_> = (0..20).map(|_| send_request(connect(address).unwrap())).collect();
        let name = run.setup.name.clone();
        let restart = spawn_process(run.setup.command(&["restart", &name]));
        std::thread::sleep(Duration::from_millis(200));
        run.supervisor.signal(libc::SIGCONT);
        for client in clients {
            read(client).unwrap();
        }
        let exited = restart.wait();
        assert!(matches!(exited.code, 0 | 1), "{exited:?}");
        let next = run.wait_for_ready(2);
        assert!(!next.contains(&killed));
        while_clients_served(&run, address, || run.verb("restart", &[]));
        run.stop();
    }
}

/// After its kill -9 the workers serve on, `status` says what happened and who they are, and a new
/// run takes the name.
#[test]
fn a_killed_supervisor_leaves_workers_that_serve() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "2"]);
        let workers = run.wait_for_ready(2);
        let address = run.setup.address();
        let NamedRun { setup, supervisor } = run;
        let pid = supervisor.pid();
        supervisor.signal(libc::SIGKILL);
        assert_eq!(supervisor.wait().code, 128 + 9);
        for _ in 0..20 {
            responder(address).unwrap();
        }
        let name = setup.name.clone();
        let status = spawn_process(setup.command(&["status", &name])).wait();
        assert_eq!(status.code, 1, "{status:?}");
        assert!(status.stderr.contains(&pid.to_string()), "{status:?}");
        for worker in &workers {
            assert!(status.stderr.contains(&worker.to_string()), "{status:?}");
        }
        let list = spawn_process(setup.command(&["status"])).wait();
        assert!(list.stdout.contains(&name) && list.stdout.contains("gone"), "{list:?}");

        let user = setup.user;
        let port = setup.port;
        let next = drains(setup, &["-n", "1"]);
        next.wait_for_ready(1);
        for worker in &workers {
            kill(*worker, libc::SIGTERM);
        }
        let gone = eventually(|| {
            // Nobody may have waited for one that has ended.
            let lives = |pid: &&i32| {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
            };
            workers.iter().find(lives).is_none().then_some(())
        });
        assert!(gone.is_some(), "{user:?}: {workers:?} on {port}");
        responder(address).unwrap();
        next.stop();
    }
}

/// Ctrl-C once drains, twice ends.
#[test]
fn interrupts() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "2"]);
        run.wait_for_ready(2);
        // In hand when it comes, and answered all the same.
        let client = connect(run.setup.address()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        run.supervisor.signal(libc::SIGINT);
        run.supervisor.wait_for_stderr(" drains");
        request_over(client).unwrap();
        run.wait_for_exit(0);

        let run = RunSetup::new(*user).run(&["-n", "2"], &rogue_command("deaf"));
        run.wait_for_ready(2);
        run.supervisor.signal(libc::SIGINT);
        run.supervisor.wait_for_stderr(" drains");
        run.supervisor.signal(libc::SIGINT);
        // Long before the grace period of 30 seconds is over.
        run.wait_for_exit(0);
    }
}

/// The terminal sends Ctrl-C to all that are in the foreground; workers are not.
#[test]
fn workers_have_a_process_group_of_their_own() {
    let run = drains(RunSetup::new(User::Current), &["-n", "1"]);
    let worker = *run.wait_for_ready(1).first().unwrap();
    let group = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().parse::<i32>().unwrap()
    };
    assert_eq!(group(worker), worker);
    assert_ne!(group(run.supervisor.pid()), worker);
    run.stop();
}

/// With hardly a descriptor: it says so, workers serve, and it ends as it should.
#[test]
fn no_descriptors() {
    for user in User::all() {
        // With too few it does not even start.
        let run = (20..64).find_map(|limit| started_with(*user, limit)).expect("a start");
        let address = run.setup.address();
        let served = eventually(|| responder(address).ok());
        assert!(served.is_some(), "{}", run.supervisor.stderr());
        run.supervisor.wait_for_stderr("no descriptor left");
        for _ in 0..20 {
            responder(address).unwrap();
        }
        run.supervisor.signal(libc::SIGTERM);
        run.wait_for_exit(0);
    }
}

/// A run with so many descriptors, if it can be started.
fn started_with(user: User, descriptors: libc::rlim_t) -> Option<NamedRun> {
    let setup = RunSetup::new(user);
    let mut command = setup.run_command(&["-n", "4"], &rogue_command("good"));
    let limit = libc::rlimit { rlim_cur: descriptors, rlim_max: descriptors };
    #[allow(unsafe_code, reason = "std cannot set a limit")]
    let lower = move || {
        // SAFETY: setrlimit(2) is async-signal-safe and reads a struct that the closure owns.
        match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call, and neither allocates nor locks.
    #[allow(unsafe_code, reason = "std cannot set a limit")]
    unsafe {
        command.pre_exec(lower)
    };
    let mut run = NamedRun { setup, supervisor: spawn_process(command) };
    let mut runs = true;
    let known = eventually(|| {
        runs = run.supervisor.is_running();
        let stderr = run.supervisor.stderr();
        let words = [" is ready", "no descriptor left"];
        (!runs || words.iter().any(|word| stderr.contains(word))).then_some(())
    });
    assert!(known.is_some(), "{descriptors}: {}", run.supervisor.stderr());
    runs.then_some(run)
}

/// What it holds does not grow with what it has done.
#[test]
fn descriptors_and_memory_are_flat_after_a_thousand_restarts() {
    const COPIES: usize = 8;
    const RESTARTS: usize = 1_000 / COPIES;
    let run = drains(RunSetup::new(User::Current), &["-n", &COPIES.to_string()]);
    run.wait_for_ready(COPIES);
    run.verb("restart", &[]);
    let before = settled_footprint(&run.supervisor, None);
    for _ in 0..RESTARTS {
        run.verb("restart", &[]);
    }
    let after = settled_footprint(&run.supervisor, Some(before));
    assert_eq!(after.descriptors, before.descriptors, "{}", run.supervisor.stderr());
    let Footprint { kib, .. } = after;
    assert!(kib < before.kib + 2048, "{before:?} {after:?}");
    run.stop();
}

/// Whoever ended its workers would find others in their place.
#[test]
fn why_names_the_run_that_has_a_port() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "1"]);
        let workers = run.wait_for_ready(1);
        let told = spawn_process(run.setup.command(&["why", &run.setup.port.to_string()])).wait();
        assert_eq!(told.code, 1, "{told:?}");
        let holder = told.stdout.lines().nth(1).unwrap_or_default();
        let worker = workers.first().unwrap();
        assert!(holder.starts_with(&format!("  pid {worker} (drains")), "{told:?}");
        assert!(holder.contains(&format!(", run {}, user ", run.setup.name)), "{told:?}");
        let stop = format!("\n  sameport stop {}\n", run.setup.name);
        assert!(told.stdout.contains(&stop) && !told.stdout.contains("kill "), "{told:?}");
        run.stop();
    }
}

/// The name is taken as long as the run is there, and free afterwards.
#[test]
fn a_name_is_one_runs() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &[]);
        run.wait_for_ready(1);
        let port = run.setup.port.to_string();
        let program = c_program("drains", &[]);
        let again = run.setup.run_command(&[], &[program.to_str().unwrap(), &port]);
        let exited = spawn_process(again).wait();
        assert_eq!(exited.code, 1, "{exited:?}");
        assert!(exited.stderr.contains(&run.setup.name), "{exited:?}");
        assert!(exited.stderr.contains(&run.supervisor.pid().to_string()), "{exited:?}");
        let setup = RunSetup { name: run.setup.name.clone(), user: *user, ..RunSetup::new(*user) };
        let folder = run.setup.folder.clone();
        run.stop();
        let run = drains(RunSetup { folder, ..setup }, &[]);
        run.wait_for_ready(1);
        run.stop();
    }
    assert!(find_program("sh").is_some());
}
