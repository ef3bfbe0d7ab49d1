//! The footprint of the supervisor is the same before and after many connections and binds. `cargo
//! xtask bench soak` is the long version.
#![cfg(target_os = "linux")]

mod harness;

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use harness::{SOCKET_TIMEOUT, User, c_program, free_port, settled_footprint, start_run};

const CONNECTIONS: u32 = 20_000;
const BINDS: u32 = 100_000;
/// The warm-up: memory that a program touches once is not growth.
const WARM_UP: u32 = 1_000;
/// A peak is not growth either, and a busy machine has higher ones: the queues of reports are longer.
/// So memory must stay in one of these rounds. A leak grows in every round.
const ROUNDS: u32 = 3;
const CLIENTS: u32 = 4;
/// More than the error of the kernel's counter.
const MEMORY_ALLOWED_KIB: u64 = 1024;

#[test]
fn footprint_does_not_grow() {
    let who = c_program("who", &["-static"]);
    let churn = c_program("churn", &["-static"]);
    let (port, churned) = (free_port(), free_port());
    let server: SocketAddr = ([127, 0, 0, 1], port).into();
    // One supervisor answers the binds while it runs the server. The shell waits for a file before each
    // round.
    let gate = |round: u32| harness::in_test_dir(format!("soak-gate-{round}"));
    let script = format!(
        "{who} tcp 127.0.0.1 {port} & {churn} {WARM_UP} {churned} && echo warm && \
         for round in $(seq {ROUNDS}); do while [ ! -e {gate}$round ]; do sleep 0.05; done; \
         {churn} {BINDS} {churned} && echo churned $round; done; wait",
        who = who.display(),
        churn = churn.display(),
        gate = harness::in_test_dir("soak-gate-").display(),
    );
    let mut run = start_run(User::Current, &[], &["sh", "-c", &script]);
    harness::wait_until_answering(server);
    run.wait_for_stdout("warm\n");
    connect(server, WARM_UP);
    let mut footprints = vec![settled_footprint(&run, None)];
    for round in 1..=ROUNDS {
        let before = footprints[footprints.len() - 1];
        connect(server, CONNECTIONS);
        std::fs::write(gate(round), "").unwrap();
        run.wait_for_stdout(&format!("churned {round}\n"));
        let after = settled_footprint(&run, Some(before));
        footprints.push(after);
        assert!(run.is_running(), "{}", run.stderr());
        assert_eq!(after.descriptors, before.descriptors, "{footprints:?}\n{}", run.stderr());
        if after.kib.saturating_sub(before.kib) <= MEMORY_ALLOWED_KIB {
            return;
        }
    }
    panic!("the memory grows in every round: {footprints:?}\n{}", run.stderr());
}

/// Opens `count` connections. Every response must have a pid.
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
    let mut stream = TcpStream::connect_timeout(&server, SOCKET_TIMEOUT)?;
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer)?;
    // The server has closed first: a reset of its end leaves no TIME_WAIT, so no port runs out.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    Ok(answer)
}
