//! Machines on which something is missing. The oldest kernels, by the documentation; machines that restrict even
//! root, as their kernel would show it: Yama's `ptrace_scope` 2 and 3, and lockdown=confidentiality. The files are
//! mounted over those of this machine, in a mount namespace; `cargo xtask kernels` sets them for real.
#![cfg(target_os = "linux")]

mod harness;

use harness::{Exited, User, c_program, command_for, find_program, free_port, spawn_process};

/// Runs a shell script in a mount and network namespace of its own. `$1`: sameport, `$2`: a static
/// program, `$3`: a dynamic one. `None`: not possible here.
fn script(test: &str, text: &str) -> Option<Exited> {
    if !harness::is_root() {
        harness::skip(test, "needs root, for a mount namespace");
        return None;
    }
    for program in ["unshare", "setpriv", "ip"] {
        if find_program(program).is_none() {
            harness::skip(test, &format!("no {program}"));
            return None;
        }
    }
    let words = ["--mount", "--net", "sh", "-e", "-c", text, "sh"];
    let mut command = command_for(User::Current, "unshare", &words);
    command.args([harness::sameport(), &c_program("who", &["-static"]), &c_program("who", &[])]);
    Some(spawn_process(command).wait_within(harness::TIMEOUT * 10))
}

/// `run` by seccomp is refused before the start, with the setting; `auto` takes another interposer.
#[test]
fn run_asks_for_ptrace_scope_before_the_start() {
    const SCRIPT: &str = r#"
        ip link set lo up
        mount -t tmpfs tmpfs /mnt
        mount -t tmpfs tmpfs /proc/sys/kernel
        mkdir /proc/sys/kernel/yama
        as() { uid=$1; shift; setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; }
        cd "$(mktemp -d -p /mnt)"
        for scope in 2 3; do
            echo $scope > /proc/sys/kernel/yama/ptrace_scope
            for uid in 0 65534; do
                for via in seccomp auto; do
                    code=0
                    as $uid "$1" run --via $via -- echo started > out 2> err || code=$?
                    echo "$scope $uid $via: $code $(cat out)"
                    sed 's/^/  /' err
                done
            done
            code=0
            as 65534 "$1" run -- "$2" tcp 127.0.0.1 8080 > out 2> err || code=$?
            echo "$scope static: $code $(cat out)"
            sed 's/^/  /' err
        done
    "#;
    let Some(exited) = script("ptrace-scope", SCRIPT) else { return };
    assert_eq!(exited.code, 0, "{exited:?}");
    let lines: Vec<&str> = exited.stdout.lines().filter(|line| !line.starts_with(' ')).collect();
    let expected = [
        "2 0 seccomp: 0 started",
        "2 0 auto: 0 started",
        "2 65534 seccomp: 3 ",
        "2 65534 auto: 0 started",
        "2 static: 3 ",
        "3 0 seccomp: 3 ",
        "3 0 auto: 0 started",
        "3 65534 seccomp: 3 ",
        "3 65534 auto: 0 started",
        "3 static: 3 ",
    ];
    assert_eq!(lines, expected, "{}", exited.stdout);
    for text in [
        "  error: pidfd_getfd: kernel.yama.ptrace_scope is 2, which permits access to workers only with",
        "  error: pidfd_getfd: kernel.yama.ptrace_scope is 3, which permits access to workers to no",
        "  hint: run it as root, or as root: sysctl -w kernel.yama.ptrace_scope=1; or use --via preload",
        "  sameport: using preload, because seccomp cannot: pidfd_getfd: kernel.yama.ptrace_scope is 3",
    ] {
        assert!(exited.stdout.contains(text), "{text}: {}", exited.stdout);
    }
}

/// The programs of a guard read kernel memory. Without them a guard is refused by its true reason, and one
/// of several guards that are not in force can still be taken from the list.
#[test]
fn a_guard_names_the_lockdown() {
    const SCRIPT: &str = r#"
        list() { "$sameport" guard --list --json | tr , '\n' | grep -c '"port":' || true; }
        sameport=$1
        # The list of guards is in /etc.
        mount -t tmpfs tmpfs /mnt
        mkdir /mnt/upper /mnt/work
        mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
        mount -t bpf bpf /sys/fs/bpf
        "$1" guard FIRST --allow uid=0
        "$1" guard SECOND --allow uid=0
        # As after a boot: nothing is in force.
        umount /sys/fs/bpf
        mount -t bpf bpf /sys/fs/bpf
        mount -t tmpfs tmpfs /sys/kernel/security
        echo 'none integrity [confidentiality]' > /sys/kernel/security/lockdown
        code=0; "$1" guard THIRD --allow uid=0 2>&1 || code=$?; echo "set: $code $(list)"
        code=0; "$1" guard FIRST --off || code=$?; echo "off: $code $(list)"
        code=0; "$1" guard --list 2>&1 > /dev/null || code=$?; echo "list: $code"
        code=0; "$1" guard --restore 2> /dev/null || code=$?; echo "restore: $code $(list)"
        code=0; "$1" guard --off-all || code=$?; echo "off-all: $code $(list)"
        "$1" doctor --json | tr '{' '\n' | grep -e '"kernel-memory"' -e '"name":"guard"'
    "#;
    let [first, second, third] = [(); 3].map(|()| free_port().to_string());
    let text = SCRIPT.replace("FIRST", &first).replace("SECOND", &second).replace("THIRD", &third);
    let Some(exited) = script("lockdown", &text) else { return };
    assert_eq!(exited.code, 0, "{exited:?}");
    for line in [
        "error: the kernel is locked down (lockdown=confidentiality), and refuses programs that",
        // Each for TCP and UDP.
        "set: 3 4\n",
        "off: 0 2\n",
        "hint: boot without lockdown=confidentiality, which refuses the programs of guards; then sameport guard",
        "list: 1\n",
        "restore: 3 2\n",
        "off-all: 0 0\n",
    ] {
        assert!(exited.stdout.contains(line), "{line}: {exited:?}");
    }
    let answers = exited.stdout.matches("\"answer\":\"no\"").count();
    assert_eq!(answers, 2, "{}", exited.stdout);
}

/// The documentation names the same oldest kernels as `doctor`.
#[test]
fn the_documentation_names_the_oldest_kernels() {
    use sameport_policy::capability::kernels::{CGROUP, SECCOMP, SOCKET_OPTIONS, UNINTERRUPTED};
    for (file, texts) in [
        (
            "run.md",
            vec![format!("Requirements: Linux {SECCOMP}"), format!("From Linux {UNINTERRUPTED} ")],
        ),
        ("interposers.md", vec![format!("| needs | Linux {SECCOMP},"), format!("Linux {CGROUP},")]),
        ("cgroup.md", vec![format!("CAP_NET_ADMIN; Linux {CGROUP};")]),
        ("guard.md", vec![format!("CAP_PERFMON; Linux {CGROUP} with BTF")]),
        ("ls.md", vec![format!("pidfd_getfd, Linux {SOCKET_OPTIONS}")]),
    ] {
        let path = format!("{}/../../docs/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        for wanted in texts {
            assert!(text.contains(&wanted), "docs/{file}: {wanted}");
        }
    }
}
