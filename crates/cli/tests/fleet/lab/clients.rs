//! Clients of the load balancer, one request a connection, which count what they lose.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::balancer::{Balancer, FRONT};
use super::parts::{Parts, wait};

/// Requests at once.
const THREADS: u8 = 8;

/// What became of the requests: see `fleet.c`.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Running clients.
pub(crate) struct Clients {
    child: Child,
    /// The clients themselves: signals to `nsenter` do not reach them.
    pid: String,
    last: Arc<Mutex<Counts>>,
    reader: Option<JoinHandle<()>>,
}

impl Clients {
    /// `pause`: after each request, in microseconds.
    pub(crate) fn start(parts: &Parts, balancer: &Balancer, pause: u32) -> Result<Self, String> {
        let mut command = balancer.namespace.command(&parts.fleet);
        let numbers = [u32::from(FRONT), u32::from(THREADS), pause].map(|it| it.to_string());
        command.args(["ask", "127.0.0.1"]).args(numbers);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let stdout = child.stdout.take().ok_or("no pipe")?;
        let last = Arc::new(Mutex::new(Counts::new()));
        let counts = Arc::clone(&last);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(mut last) = counts.lock() {
                    *last = parse(&line);
                }
            }
        });
        let of = child.id();
        let mut clients = Self { child, pid: String::new(), last, reader: Some(reader) };
        clients.wait_for(1)?;
        let children = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children"));
        clients.pid = children.unwrap_or_default().trim().to_owned();
        Ok(clients)
    }

    /// Waits until this number of requests more are answered.
    pub(crate) fn wait_for(&self, more: u64) -> Result<(), String> {
        let mut before = self.answered();
        let wanted = before + more;
        while before < wanted {
            before = wait("requests are answered", || {
                let now = self.answered();
                if now > before { Ok(now) } else { Err(format!("{:?}", self.counts())) }
            })?;
        }
        Ok(())
    }

    pub(crate) fn answered(&self) -> u64 {
        self.counts().get("answered").copied().unwrap_or(0)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }

    /// Lets every client finish its request, and returns what became of all.
    pub(crate) fn end(mut self) -> Result<Counts, String> {
        let _ = Command::new("kill").args(["-TERM", &self.pid]).status();
        self.child.wait().map_err(|error| error.to_string())?;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        Ok(self.counts())
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").args(["-KILL", &self.pid]).status();
            let _ = self.child.wait();
        }
    }
}

/// `answered=12 refused=0 …`.
fn parse(line: &str) -> Counts {
    let count = |word: &str| {
        let (name, count) = word.split_once('=')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    line.split(' ').filter_map(count).collect()
}
