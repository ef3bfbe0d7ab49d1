//! The sockets of one execution stay distinct: a program that relies on EADDRINUSE gets it. Executions of
//! a program share.

use super::harness::{User, eventually, find_program, free_port, skip, start_command, start_run};

/// Binds as servers do that rely on EADDRINUSE, and prints the results: at first without, then with
/// SO_REUSEADDR.
const PROGRAM: &str = "
import errno, os, socket, sys
port = int(sys.argv[1])
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
def bound(kind, host='127.0.0.1', reuse=False):
    s = socket.socket(socket.AF_INET, kind)
    if reuse: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    return s
def listening(s):
    s.listen(5)
    return s
def result(attempt):
    try: return 'ok' if attempt() else 'ok'
    except OSError as e: return errno.errorcode[e.errno]
def in_child(attempt):
    # A session that is forked without exec.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, result(attempt).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(reader, 99).decode()
results = []
first = listening(bound(TCP))
results.append(result(lambda: listening(bound(TCP))))
results.append(result(lambda: bound(TCP, '0.0.0.0')))
results.append(in_child(lambda: bound(TCP)))
moved = first.dup()
first.close()
results.append(result(lambda: bound(TCP)))
moved.close()
results.append(result(lambda: listening(bound(TCP))))
results.append(in_child(lambda: listening(bound(TCP))))
one, two = bound(TCP, reuse=True), bound(TCP, reuse=True)
results.append(result(lambda: listening(one)))
results.append(result(lambda: listening(two)))
results.append(result(lambda: bound(TCP, reuse=True)))
one.close(), two.close()
datagrams = bound(UDP)
results.append(result(lambda: bound(UDP)))
results.append(in_child(lambda: bound(UDP, '0.0.0.0')))
datagrams.close()
datagrams = bound(UDP, reuse=True)
results.append(result(lambda: bound(UDP, reuse=True)))
results.append(result(lambda: bound(UDP)))
print(*results, flush=True)
";

#[test]
fn sockets_of_one_execution_stay_distinct() {
    let Some(python) = find_program("python3") else {
        return skip("trap-own-sockets", "no python3");
    };
    let (python, port) = (python.to_str().unwrap(), free_port().to_string());
    let command = [python, "-c", PROGRAM, &port];
    let natively = start_command(User::Current, python, &command[1..]).wait();
    assert!(natively.stdout.starts_with("EADDRINUSE EADDRINUSE EADDRINUSE EADDRINUSE ok ok"));
    for user in User::all() {
        let exited = start_run(*user, &["--via", "seccomp"], &command).wait();
        assert_eq!(exited.stdout, natively.stdout, "{user:?}: {exited:?}");
        let named = format!("own-{port}");
        let options = ["--via", "seccomp", "--name", &named, "--max-restarts", "0"];
        let exited = start_run(User::Current, &options, &command).wait();
        assert_eq!(exited.stdout, natively.stdout, "{exited:?}");
    }
}

/// Two executions of one program share, also below one worker and with the same addresses in memory.
#[test]
fn executions_share() {
    const SERVER: &str = "
import socket, sys, time
s = socket.socket()
s.bind(('127.0.0.1', int(sys.argv[1])))
s.listen(5)
print('up', flush=True)
time.sleep(600)
";
    let Some(python) = find_program("python3") else {
        return skip("trap-executions", "no python3");
    };
    let port = free_port().to_string();
    let server = format!("{} -c \"$0\" {port}", python.display());
    let script = format!("{server} & {server} & wait");
    let not_random = find_program("setarch");
    for wrapper in [None, not_random.as_deref()] {
        let mut command: Vec<&str> = Vec::new();
        if let Some(setarch) = wrapper {
            command.extend([setarch.to_str().unwrap(), "-R"]);
        }
        command.extend(["sh", "-c", &script, SERVER]);
        let run = start_run(User::Current, &["--via", "seccomp"], &command);
        let both = eventually(|| (run.stdout() == "up\nup\n").then_some(()));
        assert!(both.is_some(), "{wrapper:?}: {}", run.stderr());
        run.terminate();
    }
}
