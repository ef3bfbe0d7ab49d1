//! `ls` lists 100,000 sockets in bounded memory.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::harness::skip;
use crate::{sameport, serialize, text};

const SOCKETS: usize = 100_000;
/// The memory limit of one socket in `ls --json`, in KiB: the list, the JSON value, and temporary
/// values.
const KIB_A_SOCKET: usize = 3;
/// The memory of `ls` without sockets, in KiB.
const KIB: usize = 30_000;

/// Binds ports of one address in 127.64.0.0/16 up to the descriptor limit, prints their number, and
/// waits for the end of its input.
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

/// A process with many sockets, killed on drop.
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
fn lists_a_hundred_thousand_sockets() {
    let _lock = serialize();
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
    let used = max_rss_of_children();
    // The output has 80 MB, so this scans the text and does not parse it.
    let listing = text(&output.stdout);
    for Holder { child, sockets } in &holders {
        let theirs = format!("{{\"pids\":[{}],\"program\"", child.id());
        assert_eq!(listing.matches(&theirs).count(), *sockets);
    }
    assert!(used < KIB + KIB_A_SOCKET * SOCKETS, "{used} KiB");

    let output = sameport(&["ls", "--udp"]);
    assert!(text(&output.stdout).lines().count() > SOCKETS);
}

/// The largest resident set of any waited-for child, in KiB.
fn max_rss_of_children() -> usize {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the kernel writes one `rusage` through the pointer.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let read = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) };
    assert_eq!(read, 0);
    // SAFETY: all zeros are a valid `rusage`, and the kernel has written it.
    #[allow(unsafe_code, reason = "no safe wrapper among the dev-dependencies")]
    let usage = unsafe { usage.assume_init() };
    usize::try_from(usage.ru_maxrss).unwrap()
}
