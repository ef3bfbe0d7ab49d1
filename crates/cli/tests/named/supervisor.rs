//! The supervisor itself: stopped, killed, without descriptors, told to end; and what it holds.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use crate::room::{Room, Run, answer, asked, connect, has_ended, read, rogue, while_served, who};
use crate::stage::{
    Size, User, c_program, eventually, find_program, kill, settled_size, start_built,
};

fn drains(room: Room, options: &[&str]) -> Run {
    let program = c_program("drains", &[]);
    room.run(options, &[program.to_str().unwrap(), "{port}"])
}

/// Its workers do not need it to serve; whoever wants something of it waits.
#[test]
fn a_stopped_supervisor_goes_on_where_it_was() {
    for user in User::all() {
        let run = drains(Room::new(*user), &["-n", "2"]);
        let before = run.ready(2);
        let address = run.room.address();
        run.started.signal(libc::SIGSTOP);
        for _ in 0..20 {
            who(address).unwrap();
        }
        let killed = *before.first().unwrap();
        kill(killed, libc::SIGKILL);
        assert!(eventually(|| has_ended(killed).then_some(())).is_some());
        // Whoever comes to the killed one waits in its queue.
        let clients: Vec<_> = (0..20).map(|_| asked(connect(address).unwrap())).collect();
        let name = run.room.name.clone();
        let restart = start_built(run.room.command(&["restart", &name]));
        std::thread::sleep(Duration::from_millis(200));
        run.started.signal(libc::SIGCONT);
        for client in clients {
            read(client).unwrap();
        }
        let ended = restart.ended();
        assert!(matches!(ended.code, 0 | 1), "{ended:?}");
        let next = run.ready(2);
        assert!(!next.contains(&killed));
        while_served(&run, address, || run.does("restart", &[]));
        run.stop();
    }
}

/// After its kill -9 the workers serve on, `status` says what happened and who they are, and a new
/// run takes the name.
#[test]
fn a_killed_supervisor_leaves_workers_that_serve() {
    for user in User::all() {
        let run = drains(Room::new(*user), &["-n", "2"]);
        let workers = run.ready(2);
        let address = run.room.address();
        let Run { room, started } = run;
        let pid = started.pid();
        started.signal(libc::SIGKILL);
        assert_eq!(started.ended().code, 128 + 9);
        for _ in 0..20 {
            who(address).unwrap();
        }
        let name = room.name.clone();
        let status = start_built(room.command(&["status", &name])).ended();
        assert_eq!(status.code, 1, "{status:?}");
        assert!(status.stderr.contains(&pid.to_string()), "{status:?}");
        for worker in &workers {
            assert!(status.stderr.contains(&worker.to_string()), "{status:?}");
        }
        let list = start_built(room.command(&["status"])).ended();
        assert!(list.stdout.contains(&name) && list.stdout.contains("gone"), "{list:?}");

        let user = room.user;
        let port = room.port;
        let next = drains(room, &["-n", "1"]);
        next.ready(1);
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
        who(address).unwrap();
        next.stop();
    }
}

/// Ctrl-C once drains, twice ends.
#[test]
fn interrupts() {
    for user in User::all() {
        let run = drains(Room::new(*user), &["-n", "2"]);
        run.ready(2);
        // In hand when it comes, and answered all the same.
        let client = connect(run.room.address()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        run.started.signal(libc::SIGINT);
        run.started.wait_for_stderr(" drains");
        answer(client).unwrap();
        run.ended(0);

        let run = Room::new(*user).run(&["-n", "2"], &rogue("deaf"));
        run.ready(2);
        run.started.signal(libc::SIGINT);
        run.started.wait_for_stderr(" drains");
        run.started.signal(libc::SIGINT);
        // Long before the grace period of 30 seconds is over.
        run.ended(0);
    }
}

/// The terminal sends Ctrl-C to all that are in the foreground; workers are not.
#[test]
fn workers_have_a_process_group_of_their_own() {
    let run = drains(Room::new(User::Ourselves), &["-n", "1"]);
    let worker = *run.ready(1).first().unwrap();
    let group = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.split(' ').nth(2).unwrap().parse::<i32>().unwrap()
    };
    assert_eq!(group(worker), worker);
    assert_ne!(group(run.started.pid()), worker);
    run.stop();
}

/// With hardly a descriptor: it says so, workers serve, and it ends as it should.
#[test]
fn no_descriptors() {
    for user in User::all() {
        // With too few it does not even start.
        let run = (20..64).find_map(|limit| started_with(*user, limit)).expect("a start");
        let address = run.room.address();
        let served = eventually(|| who(address).ok());
        assert!(served.is_some(), "{}", run.started.stderr());
        run.started.wait_for_stderr("no descriptor left");
        for _ in 0..20 {
            who(address).unwrap();
        }
        run.started.signal(libc::SIGTERM);
        run.ended(0);
    }
}

/// A run with so many descriptors, if it can be started.
fn started_with(user: User, descriptors: libc::rlim_t) -> Option<Run> {
    let room = Room::new(user);
    let mut command = room.run_command(&["-n", "4"], &rogue("good"));
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
    let mut run = Run { room, started: start_built(command) };
    let mut runs = true;
    let known = eventually(|| {
        runs = run.started.is_running();
        let stderr = run.started.stderr();
        let words = [" is ready", "no descriptor left"];
        (!runs || words.iter().any(|word| stderr.contains(word))).then_some(())
    });
    assert!(known.is_some(), "{descriptors}: {}", run.started.stderr());
    runs.then_some(run)
}

/// What it holds does not grow with what it has done.
#[test]
fn descriptors_and_memory_are_flat_after_a_thousand_restarts() {
    const COPIES: usize = 8;
    const RESTARTS: usize = 1_000 / COPIES;
    let run = drains(Room::new(User::Ourselves), &["-n", &COPIES.to_string()]);
    run.ready(COPIES);
    run.does("restart", &[]);
    let before = settled_size(&run.started, None);
    for _ in 0..RESTARTS {
        run.does("restart", &[]);
    }
    let after = settled_size(&run.started, Some(before));
    assert_eq!(after.descriptors, before.descriptors, "{}", run.started.stderr());
    let Size { kib, .. } = after;
    assert!(kib < before.kib + 2048, "{before:?} {after:?}");
    run.stop();
}

/// Whoever ended its workers would find others in their place.
#[test]
fn why_names_the_run_that_has_a_port() {
    for user in User::all() {
        let run = drains(Room::new(*user), &["-n", "1"]);
        let workers = run.ready(1);
        let told = start_built(run.room.command(&["why", &run.room.port.to_string()])).ended();
        assert_eq!(told.code, 1, "{told:?}");
        let holder = told.stdout.lines().nth(1).unwrap_or_default();
        let worker = workers.first().unwrap();
        assert!(holder.starts_with(&format!("  pid {worker} (drains")), "{told:?}");
        assert!(holder.contains(&format!(", run {}, user ", run.room.name)), "{told:?}");
        let stop = format!("\n  sameport stop {}\n", run.room.name);
        assert!(told.stdout.contains(&stop) && !told.stdout.contains("kill "), "{told:?}");
        run.stop();
    }
}

/// The name is taken as long as the run is there, and free afterwards.
#[test]
fn a_name_is_one_runs() {
    for user in User::all() {
        let run = drains(Room::new(*user), &[]);
        run.ready(1);
        let port = run.room.port.to_string();
        let program = c_program("drains", &[]);
        let again = run.room.run_command(&[], &[program.to_str().unwrap(), &port]);
        let ended = start_built(again).ended();
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(&run.room.name), "{ended:?}");
        assert!(ended.stderr.contains(&run.started.pid().to_string()), "{ended:?}");
        let room = Room { name: run.room.name.clone(), user: *user, ..Room::new(*user) };
        let folder = run.room.folder.clone();
        run.stop();
        let run = drains(Room { folder, ..room }, &[]);
        run.ready(1);
        run.stop();
    }
    assert!(find_program("sh").is_some());
}
