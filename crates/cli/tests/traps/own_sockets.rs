//! The sockets of one execution stay distinct: a program that relies on EADDRINUSE gets it. Executions of
//! a program share.

use super::harness::{User, eventually, find_program, free_port, skip, start_command, start_run};

const PROGRAM: &str = include_str!("../programs/own_sockets.py");

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
