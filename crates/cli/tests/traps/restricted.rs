//! Workers with fewer rights than the supervisor: it lends them none.

use super::harness::{
    User, command_for, find_program, free_port, is_root, sameport, skip, spawn_process,
};

/// Restricts itself with Landlock, then tries `kind` on the port. Prints the result.
const RESTRICTED: &str = "
import ctypes, errno, os, socket, struct, sys
port = int(sys.argv[1])
kinds = sys.argv[2:]
libc = ctypes.CDLL(None, use_errno=True)
# handled_access_fs, handled_access_net = LANDLOCK_ACCESS_NET_BIND_TCP
attr = struct.pack('QQ', 0, 1)
rules = libc.syscall(444, ctypes.create_string_buffer(attr), 16, 0)
if rules < 0:
    print('no landlock', flush=True)
    sys.exit()
libc.prctl(38, 1, 0, 0, 0)
assert libc.syscall(446, rules, 0) == 0
results = []
for kind in kinds:
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == 'udp' else socket.SOCK_STREAM)
    try:
        s.bind(('127.0.0.1', port))
        if kind != 'udp': s.listen(5)
        results.append('ok')
    except OSError as e:
        results.append(errno.errorcode[e.errno])
print(*results, flush=True)
";

/// Landlock rules of a worker hold, also where the supervisor binds for workers: its held sockets,
/// sockets of `--listen`, map rules.
#[test]
fn landlock_rules_of_a_worker_hold() {
    let Some(python) = find_program("python3") else {
        return skip("trap-landlock", "no python3");
    };
    let (python, port, other) =
        (python.to_str().unwrap(), free_port().to_string(), free_port().to_string());
    let map = format!("{port}={other}");
    let listen = format!("127.0.0.1:{port}");
    let name = format!("landlock-{port}");
    let named = ["--name", &name, "--max-restarts", "0"];
    let cases: [(&[&str], &[&str], &str); 6] = [
        (&[], &["tcp"], "EACCES"),
        (&["--map", &map], &["tcp"], "EACCES"),
        (&named, &["tcp"], "EACCES"),
        (&[&named[..], &["--queue", "shared"]].concat(), &["tcp"], "EACCES"),
        (&[&named[..], &["--listen", &listen]].concat(), &["tcp"], "EACCES"),
        // Landlock has no rule for UDP.
        (&named, &["udp", "tcp"], "ok EACCES"),
    ];
    for user in User::all() {
        for (options, kinds, expected) in &cases {
            let run = ["run", "--via", "seccomp"].into_iter().chain(options.iter().copied());
            let command = ["--", python, "-c", RESTRICTED, &port];
            let all: Vec<&str> = run.chain(command).chain(kinds.iter().copied()).collect();
            let exited = spawn_process(command_for(*user, sameport(), &all)).wait();
            if exited.stdout == "no landlock\n" {
                return skip("trap-landlock", "no Landlock for networks (Linux 6.7)");
            }
            assert_eq!(exited.stdout.trim(), *expected, "{user:?} {options:?}: {exited:?}");
        }
    }
}

/// With the `/proc` of another pid namespace, a thread id names another process there: its rights must
/// not be taken for the worker's.
#[test]
fn rights_are_not_read_from_the_proc_of_another_namespace() {
    const WORKER: &str = "
import errno, os, socket
os.setgroups([]), os.setresgid(65534, 65534, 65534), os.setresuid(65534, 65534, 65534)
s = socket.socket()
try:
    s.bind(('0.0.0.0', 8123))
    print('bound', s.getsockname()[1], flush=True)
except OSError as e:
    print(errno.errorcode[e.errno], flush=True)
";
    let (Some(python), Some(unshare)) = (find_program("python3"), find_program("unshare")) else {
        return skip("trap-proc-of-others", "no python3 or unshare");
    };
    if !is_root() {
        return skip("trap-proc-of-others", "needs root");
    }
    let sameport = sameport();
    let run = [sameport.to_str().unwrap(), "run", "--via", "seccomp", "--map", "8123=81", "--"];
    let worker = [python.to_str().unwrap(), "-c", WORKER];
    // Many processes, so that the worker has the id of a root process outside.
    let script = "i=0; while [ $i -lt 20 ]; do true & i=$((i+1)); done; wait; exec \"$@\"";
    let namespaces = ["--net", "--pid", "--fork", "sh", "-c", script, "sh"];
    let all: Vec<&str> = namespaces.into_iter().chain(run).chain(worker).collect();
    let exited = spawn_process(command_for(User::Current, unshare, &all)).wait();
    assert_eq!(exited.stdout.trim(), "EACCES", "{exited:?}");
}
