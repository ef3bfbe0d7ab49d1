//! Whether the supervisor keeps anything of the work it has done: many connections, many binds, and
//! the same descriptors and memory after as before. `cargo xtask bench soak` is the long version.
#![cfg(target_os = "linux")]

mod stage;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use stage::{PATIENCE, Started, User, c_program, eventually, free_port, start_run};

const CONNECTIONS: u32 = 20_000;
const BINDS: u32 = 20_000;
/// What a program touches once is no growth.
const WARM_UP: u32 = 1_000;
const CLIENTS: u32 = 4;
/// The kernel counts a process's pages no more exactly than some hundred KiB.
const MEMORY_ALLOWED_KIB: u64 = 1024;

#[test]
fn the_supervisor_keeps_nothing_of_connections_and_binds() {
    let who = c_program("who", &["-static"]);
    let churn = c_program("churn", &["-static"]);
    let (port, churned) = (free_port(), free_port());
    let server: SocketAddr = ([127, 0, 0, 1], port).into();
    // One supervisor for all of it: it answers the binds while it runs the server. The shell waits
    // for a line between the first binds, which warm up, and the rest.
    let gate = stage::in_folder("soak-gate");
    let script = format!(
        "{who} tcp 127.0.0.1 {port} & {churn} {WARM_UP} {churned} && echo warm && \
         while [ ! -e {gate} ]; do sleep 0.05; done && {churn} {BINDS} {churned} && echo churned; \
         wait",
        who = who.display(),
        churn = churn.display(),
        gate = gate.display(),
    );
    let mut run = start_run(User::Ourselves, &[], &["sh", "-c", &script]);
    stage::wait_until_answering(server);
    run.wait_for_stdout("warm\n");
    connect(server, WARM_UP);
    let before = settled(&run, None);

    connect(server, CONNECTIONS);
    std::fs::write(&gate, "").unwrap();
    run.wait_for_stdout("churned\n");
    let after = settled(&run, Some(before.0));

    assert!(run.is_running(), "{}", run.stderr());
    assert_eq!(after.0, before.0, "descriptors, after and before\n{}", run.stderr());
    assert!(
        after.1 <= before.1 + MEMORY_ALLOWED_KIB,
        "memory grew from {} to {} KiB\n{}",
        before.1,
        after.1,
        run.stderr()
    );
}

/// Makes so many connections, each of which must be answered with a pid.
fn connect(server: SocketAddr, count: u32) {
    let begun = AtomicU32::new(0);
    let ask = || {
        while begun.fetch_add(1, Ordering::Relaxed) < count {
            let answer = greeted(server).unwrap_or_else(|error| panic!("{server}: {error}"));
            assert!(answer.trim().parse::<u32>().is_ok(), "{server}: {answer:?}");
        }
    };
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(ask);
        }
    });
}

fn greeted(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    // The server has closed first: resetting its end leaves no TIME_WAIT, and no port runs out.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(answer)
}

/// The supervisor's descriptors and memory (KiB) once it has let go of the last bind: when the
/// descriptors have stopped changing for longer than it follows one (two seconds), or are as many
/// as expected for that long.
fn settled(run: &Started, expected: Option<usize>) -> (usize, u64) {
    const QUIET: u32 = 25;
    let (mut last, mut quiet) = (descriptors(run), 0);
    let settled = eventually(|| {
        thread::sleep(Duration::from_millis(90));
        let now = descriptors(run);
        quiet = if now == last { quiet + 1 } else { 0 };
        last = now;
        (quiet >= QUIET && expected.is_none_or(|expected| expected == now)).then_some(now)
    });
    // Where they never got there, the test says what they were.
    (settled.unwrap_or(last), memory(run))
}

fn descriptors(run: &Started) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", run.pid())).unwrap().count()
}

fn memory(run: &Started) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", run.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}
