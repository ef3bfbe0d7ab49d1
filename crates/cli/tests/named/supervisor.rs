//! The supervisor: stopped, killed, without descriptors, interrupted; and its footprint.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use crate::harness::named_run::{
    NamedRun, RunSetup, connect, has_exited, read, request_over, responder, rogue_command,
    send_request, while_clients_served,
};
use crate::harness::terminal::terminal;
use crate::harness::{
    Footprint, User, c_program, eventually, find_program, kill, settled_footprint, spawn_process,
};

fn drains(setup: RunSetup, options: &[&str]) -> NamedRun {
    let program = c_program("drains", &[]);
    setup.run(options, &[program.to_str().unwrap(), "{port}"])
}

/// Workers serve while the supervisor is stopped; verbs wait.
#[test]
fn stopped_supervisor_continues() {
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
        // Connections to the killed worker wait in its queue.
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

/// After SIGKILL of the supervisor the workers serve, `status` names them, and a new run takes the
/// name.
#[test]
fn workers_of_a_killed_supervisor_serve() {
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

        let next = drains(setup, &["-n", "2"]);
        let gone = eventually(|| workers.iter().all(|pid| has_exited(*pid)).then_some(()));
        assert!(gone.is_some(), "{workers:?}: {}", next.supervisor.stderr());
        assert!(next.wait_for_ready(2).is_disjoint(&workers));
        responder(address).unwrap();
        next.stop();
    }
}

/// One Ctrl-C drains, a second one stops at once.
#[test]
fn ctrl_c_drains_then_stops() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "2"]);
        run.wait_for_ready(2);
        // The open connection is answered despite the signal.
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
        // Well before the end of the grace period of 30 s.
        run.wait_for_exit(0);
    }
}

/// A terminal that shows no styles gets no movement of the cursor, and so no count a second time.
#[test]
fn a_plain_terminal_gets_each_line_once() {
    let run = drains(RunSetup::new(User::Current), &["-n", "1"]);
    run.wait_for_ready(1);
    let client = connect(run.setup.address()).unwrap();
    let (mut ours, theirs) = terminal();
    let mut command = run.setup.command(&["restart", &run.setup.name]);
    let mut restart = command.env("NO_COLOR", "1").stderr(theirs).spawn().unwrap();
    // The terminal hangs up with the last copy of its end.
    drop(command);
    run.supervisor.wait_for_stderr(" drains");
    request_over(client).unwrap();
    assert!(restart.wait().unwrap().success());
    let mut shown = Vec::new();
    // EIO at the end.
    let _ = ours.read_to_end(&mut shown);
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.matches(" drains").count() == 1 && !shown.contains('\u{1b}'), "{shown:?}");
    run.stop();
}

/// The terminal sends Ctrl-C to the foreground process group, which has no worker.
#[test]
fn workers_have_their_own_process_group() {
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

/// With too few descriptors for its workers, the run does not start and says so.
#[test]
fn few_descriptors() {
    for user in User::all() {
        let refused = start_with_limit(*user, 79, &rogue_command("good"));
        let exited = refused.supervisor.wait();
        assert_eq!(exited.code, 3, "{exited:?}");
        let expected =
            "error: 4 workers take 80 descriptors of the supervisor, and its limit is 79\n";
        assert!(exited.stderr.starts_with(expected), "{exited:?}");
        let run = start_with_limit(*user, 80, &rogue_command("good"));
        run.wait_until_reachable();
        run.wait_for_ready(4);
        run.verb("restart", &[]);
        run.stop();
    }
}

/// A run with this limit of descriptors.
fn start_with_limit(user: User, descriptors: libc::rlim_t, command: &[String]) -> NamedRun {
    let setup = RunSetup::new(user);
    let mut command = setup.run_command(&["-n", "4"], command);
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
    NamedRun { setup, supervisor: spawn_process(command) }
}

/// The footprint does not grow with the number of restarts.
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

/// The advice is to stop the run, which would restart killed workers.
#[test]
fn why_names_the_run_that_has_a_port() {
    for user in User::all() {
        let run = drains(RunSetup::new(*user), &["-n", "2"]);
        let workers = run.wait_for_ready(2);
        let message =
            spawn_process(run.setup.command(&["why", &run.setup.port.to_string()])).wait();
        assert_eq!(message.code, 1, "{message:?}");
        let holders: Vec<&str> = message.stdout.lines().skip(1).take(2).collect();
        for worker in &workers {
            let pid = format!(" (pid {worker}, user ");
            let holder = holders.iter().find(|holder| holder.contains(&pid));
            assert!(holder.is_some_and(|it| it.starts_with("  drains")), "{message:?}");
            let run = format!("), run {}, worker ", run.setup.name);
            assert!(holder.is_some_and(|it| it.contains(&run)), "{message:?}");
        }
        // The lines that both have in common are printed once.
        assert_eq!(message.stdout.matches("    because ").count(), 1, "{message:?}");
        let stop = format!("\n  sameport stop {}\n", run.setup.name);
        assert!(message.stdout.contains(&stop) && !message.stdout.contains("kill "), "{message:?}");
        run.stop();
    }
}

/// A name is in use while its run exists, and free afterwards.
#[test]
fn name_belongs_to_one_run() {
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
        let dir = run.setup.dir.clone();
        run.stop();
        let run = drains(RunSetup { dir, ..setup }, &[]);
        run.wait_for_ready(1);
        run.stop();
    }
    assert!(find_program("sh").is_some());
}
