//! `ls` where there are very many sockets: all of them, in memory that is bounded.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::skip;
use crate::{alone, sameport, text};

const SOCKETS: usize = 100_000;
/// What one socket may cost, in KiB of `ls` for programs, which knows most: the list, the JSON of it,
/// and what is thrown away on the way.
const KIB_A_SOCKET: usize = 3;
/// And what `ls` needs for none.
const KIB: usize = 30_000;

/// Binds so many ports of one address of 127.64.0.0/16, or as many as it may have open, tells how many,
/// and waits for the end of its input.
const HOLDER: &str = "\
import resource, socket, sys
number, wanted = int(sys.argv[1]), int(sys.argv[2])
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
held = []
for port in range(10000, 30000):
    if len(held) == min(wanted, most - 50):
        break
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        one.bind(('127.64.0.%d' % number, port))
        held.append(one)
    except OSError:
        one.close()
print(len(held), flush=True)
sys.stdin.read()
";

/// A process with very many sockets, ended when dropped.
struct Holder {
    child: Child,
    sockets: usize,
}

impl Holder {
    fn start(number: usize, wanted: usize) -> Option<Self> {
        let mut command = Command::new("python3");
        command.args(["-c", HOLDER, &number.to_string(), &wanted.to_string()]);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut holder = Self { child, sockets: 0 };
        let mut line = String::new();
        BufReader::new(holder.child.stdout.take()?).read_line(&mut line).ok()?;
        holder.sockets = line.trim().parse().ok()?;
        Some(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_hundred_thousand_sockets_are_all_listed() {
    let _alone = alone();
    let mut holders: Vec<Holder> = Vec::new();
    let mut missing = SOCKETS;
    while missing > 0 {
        let Some(holder) =
            Holder::start(holders.len() + 1, missing).filter(|_| holders.len() < 250)
        else {
            return skip("ls-100000-sockets", "python3 is not here, or may not open enough");
        };
        missing -= holder.sockets;
        holders.push(holder);
    }

    let output = sameport(&["ls", "--udp", "--json"]);
    let used = most_used_by_a_child();
    // 80 MB, which are not worth a parser.
    let told = text(&output.stdout);
    for Holder { child, sockets } in &holders {
        let theirs = format!("\"pids\":[{}],", child.id());
        assert_eq!(told.matches(&theirs).count(), *sockets);
    }
    assert!(used < KIB + KIB_A_SOCKET * SOCKETS, "{used} KiB");

    let output = sameport(&["ls", "--udp"]);
    assert!(text(&output.stdout).lines().count() > SOCKETS);
}

/// In KiB, by any child that was waited for.
fn most_used_by_a_child() -> usize {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage` through the pointer.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let read = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(read, 0);
    // SAFETY: all zeros are an `rusage`, and the kernel has filled it.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let usage = unsafe { usage.assume_init() };
    usize::try_from(usage.ru_maxrss).unwrap()
}
