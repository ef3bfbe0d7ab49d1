//! The sockets of one execution stay distinct with the preload library too. Executions share.

use crate::harness::{User, eventually, find_program, free_port, skip, start_command, start_run};
use crate::{preloaded, stdout_of};

const PROGRAM: &str = include_str!("../programs/own_sockets.py");

#[test]
fn sockets_of_one_execution_stay_distinct() {
    let Some(python) = find_program("python3") else {
        return skip("preload-own-sockets", "no python3");
    };
    let (python, port) = (python.to_str().unwrap(), free_port().to_string());
    let command = [python, "-c", PROGRAM, &port];
    let natively = start_command(User::Current, python, &command[1..]).wait();
    assert!(natively.stdout.starts_with("EADDRINUSE EADDRINUSE EADDRINUSE EADDRINUSE ok ok"));
    for user in User::all() {
        let exited = start_run(*user, &["--via", "preload"], &command).wait();
        assert_eq!(exited.stdout, natively.stdout, "{user:?}: {exited:?}");
    }
}

/// Two executions of one program share, also below one worker. A refusal that the program expects is not
/// reported.
#[test]
fn executions_share() {
    const SERVER: &str = "
import os, socket, sys, time
def bound():
    s = socket.socket()
    s.bind(('127.0.0.1', int(sys.argv[1])))
    return s
s = bound()
s.listen(5)
try:
    bound()
    print('twice')
except OSError:
    print('up', flush=True)
time.sleep(600)
";
    let Some(python) = find_program("python3") else {
        return skip("preload-executions", "no python3");
    };
    let port = free_port().to_string();
    let server = format!("{} -c \"$0\" {port}", python.display());
    let script = format!("{server} & {server} & wait");
    let command = ["sh", "-c", &script, SERVER];
    let run = start_run(User::Current, &["--via", "preload"], &command);
    let both = eventually(|| (run.stdout() == "up\nup\n").then_some(()));
    assert!(both.is_some(), "{}{}", run.stdout(), run.stderr());
    let exited = run.terminate();
    assert!(!exited.stderr.contains("error"), "{exited:?}");
}

/// A socket that was bound without success is compared at its next bind, and one whose bind succeeded later
/// is shared.
#[test]
fn next_free_port_is_found_with_one_socket() {
    const PROGRAM: &str = "
import errno, socket, sys
taken, own = int(sys.argv[1]), int(sys.argv[2])
first = socket.socket()
first.bind(('127.0.0.1', own))
s = socket.socket()
results = []
for address in [('192.0.2.1', taken), ('127.0.0.1', own), ('127.0.0.1', taken)]:
    try:
        s.bind(address)
        results.append('ok')
    except OSError as e:
        results.append(errno.errorcode[e.errno])
results.append(s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
print(*results)
";
    let Some(python) = find_program("python3") else {
        return skip("preload-next-port", "no python3");
    };
    let (taken, own) = (free_port().to_string(), free_port().to_string());
    let command = [python.to_str().unwrap(), "-c", PROGRAM, &taken, &own];
    let printed = stdout_of(User::Current, &[("SAMEPORT_SHARE", "1")], &command);
    assert_eq!(printed, "EADDRNOTAVAIL EADDRINUSE ok 1\n");
}

/// Far more sockets than the table holds: closed ones make room. With more open ones, the rest shares.
#[test]
fn many_sockets_are_shared() {
    const PROGRAM: &str = "
import errno, socket, sys
port = int(sys.argv[1])
def bound(n, host='127.3.%d.%d'):
    s = socket.socket()
    s.bind((host % (n // 250, n % 250 + 1), port))
    return s
def shared(s):
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
for n in range(600):
    s = bound(n)
    assert shared(s), n
    try:
        bound(n)
        print('twice', n)
    except OSError as e:
        assert e.errno == errno.EADDRINUSE
    s.close()
kept = [bound(n) for n in range(300)]
print(sum(shared(s) for s in kept))
";
    let Some(python) = find_program("python3") else {
        return skip("preload-many-own", "no python3");
    };
    let port = free_port().to_string();
    let command = [python.to_str().unwrap(), "-c", PROGRAM, &port];
    let exited = preloaded(User::Current, &[("SAMEPORT_SHARE", "1")], &command).wait();
    assert_eq!((&*exited.stdout, &*exited.stderr), ("300\n", ""), "{exited:?}");
}

/// Two sessions that are forked without `exec` are kept apart. The first can have become unreadable.
#[test]
fn forked_sessions_stay_distinct() {
    const PROGRAM: &str = "
import ctypes, errno, os, socket, sys, time
port, hide = int(sys.argv[1]), sys.argv[2] == 'hidden'
def bound():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(('0.0.0.0', port))
    s.listen(1)
    return s
def session(ready, end):
    pid = os.fork()
    if pid == 0:
        if hide: ctypes.CDLL(None).prctl(4, 0)
        try:
            s = bound()
            result = b'ok '
        except OSError as e:
            result = errno.errorcode[e.errno].encode() + b' '
        os.write(ready, result)
        os.read(end, 1)
        os._exit(0)
    return pid
ready, ready_to = os.pipe()
end, end_to = os.pipe()
results = b''
for _ in range(2):
    pids = [session(ready_to, end)]
    results += os.read(ready, 99)
    pids.append(session(ready_to, end))
    results += os.read(ready, 99)
    os.write(end_to, b'xx')
    for pid in pids: os.waitpid(pid, 0)
print(results.decode())
";
    let Some(python) = find_program("python3") else {
        return skip("preload-sessions", "no python3");
    };
    for how in ["readable", "hidden"] {
        let port = free_port().to_string();
        let command = [python.to_str().unwrap(), "-c", PROGRAM, &port, how];
        for user in User::all() {
            let printed = stdout_of(*user, &[("SAMEPORT_SHARE", "1")], &command);
            assert_eq!(printed, "ok EADDRINUSE ok EADDRINUSE \n", "{how} {user:?}");
        }
    }
}
