//! A running exporter, and its clients.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::harness::named_run::{NamedRun, RunSetup};
use crate::harness::{Process, SOCKET_TIMEOUT, User, eventually, spawn_process};

/// An exporter in the runtime directory of a run.
pub(crate) struct Exporter {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Exporter {
    /// Starts an exporter on a free port.
    pub(crate) fn start(setup: &RunSetup, options: &[&str]) -> Self {
        let words: Vec<&str> =
            ["metrics", "--listen", "0"].into_iter().chain(options.iter().copied()).collect();
        let process = spawn_process(setup.command(&words));
        process.wait_for_stderr("/metrics\n");
        let stderr = process.stderr();
        let (_, rest) = stderr.split_once("serves http://").expect("the address");
        let address = rest.split('/').next().and_then(|text| text.parse().ok());
        Self { address: address.expect("an address"), process }
    }

    /// GET of a path.
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path} HTTP/1.1\r\nhost: exporter\r\n\r\n"))
    }

    /// The reply to this text.
    pub(crate) fn ask(&self, request: &str) -> Reply {
        let mut stream = TcpStream::connect_timeout(&self.address, SOCKET_TIMEOUT).unwrap();
        stream.set_read_timeout(Some(SOCKET_TIMEOUT)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).unwrap();
        Reply::read(&String::from_utf8_lossy(&text))
    }

    /// The metrics.
    #[track_caller]
    pub(crate) fn scrape(&self) -> String {
        let reply = self.get("/metrics");
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.body
    }

    /// The value of a sample in a scrape of now.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        value(&self.scrape(), series)
    }

    /// Scrapes until the sample has this value.
    #[track_caller]
    pub(crate) fn wait_for(&self, series: &str, wanted: f64) {
        let mut last = None;
        let found = eventually(|| {
            last = self.value(series);
            (last == Some(wanted)).then_some(())
        });
        assert!(found.is_some(), "{series} is {last:?}, not {wanted}:\n{}", self.scrape());
    }
}

impl Reply {
    pub(crate) fn read(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_owned(), body: body.to_owned() }
    }
}

/// The value of a sample: the line that begins with the series and a space.
pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// A run of a server that answers with its pid, and keeps a connection open until the client has sent a request.
pub(crate) fn run(options: &[&str]) -> NamedRun {
    RunSetup::new(User::Current).controlled_run(options)
}

/// `NAME{run="…",user="…"` of a run, and further labels.
pub(crate) fn series(metric: &str, run: &NamedRun, labels: &str) -> String {
    let user = user();
    format!("{metric}{{run=\"{}\",user=\"{user}\"{labels}}}", run.setup.name)
}

/// The login name of this user, or its number.
pub(crate) fn user() -> String {
    let uid = crate::harness::own_uid();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |line: &str| {
        let mut words = line.split(':');
        let name = words.next()?;
        (words.nth(1)? == uid.to_string()).then(|| name.to_owned())
    };
    passwd.lines().find_map(of).unwrap_or_else(|| uid.to_string())
}

/// Stops a process, and waits until each of its threads has stopped: one that waits in `accept` may take a
/// connection before.
#[track_caller]
pub(crate) fn freeze(pid: i32) {
    crate::harness::kill(pid, libc::SIGSTOP);
    let stopped = eventually(|| {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let mut stats = threads
            .flatten()
            .map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
        stats.all(|stat| stat.contains(") T ")).then_some(())
    });
    assert!(stopped.is_some(), "{pid} does not stop");
}
