//! Runs the examples, with clients. Linux only.
#![cfg(target_os = "linux")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A running example, which the end of the test ends.
struct Example {
    child: Child,
    /// The line that it printed when it was listening.
    line: String,
}

impl Example {
    fn start(path: &str, address: &str) -> Self {
        let mut child =
            Command::new(path).arg(address).stdout(Stdio::piped()).spawn().expect("the example");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        Self { child, line }
    }

    /// The address after ` on `.
    fn address(&self) -> String {
        let rest = self.line.split(" on ").nth(1).expect("an address");
        rest.split(',').next().expect("an address").to_owned()
    }

    /// Sends SIGTERM and waits for the end.
    fn terminate(mut self) -> bool {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("kill");
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // Ended already, if the test succeeded.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address.parse().expect("an address"), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[test]
fn tokio_answers_on_each_processor() {
    let example = Example::start(env!("CARGO_BIN_EXE_tokio-per-core"), "127.0.0.1:0");
    for _ in 0..16 {
        let mut stream = BufReader::new(connect(&example.address()).unwrap());
        for word in ["one\n", "two\n"] {
            stream.get_mut().write_all(word.as_bytes()).unwrap();
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            assert!(line.contains("processor") && line.ends_with(word), "{line:?}");
        }
    }
}

/// One request; the process id that answered.
fn ask(address: &str) -> std::io::Result<String> {
    let mut stream = connect(address)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let pid = answer.split("process ").nth(1).map(|pid| pid.trim().to_owned());
    pid.filter(|_| answer.starts_with("HTTP/1.1 200")).ok_or_else(|| std::io::Error::other(answer))
}

#[test]
fn axum_restarts_without_losing_a_connection() {
    let start = |address: &str| Example::start(env!("CARGO_BIN_EXE_axum-per-core"), address);
    let first = start("127.0.0.1:0");
    if !first.line.contains("SO_INCOMING_CPU") {
        let why = "the kernel is older than 6.2, or a control group grants fewer processors";
        sameport_skips::skip("axum_restarts_without_losing_a_connection", why);
        return;
    }
    let address = first.address();
    let (asked, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failures = std::sync::Mutex::new(Vec::new());
    // Ended after the last client.
    let _last = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = ask(&address) {
                        failures.lock().unwrap().push(error.to_string());
                    }
                }
            });
        }
        let mut present = first;
        for _ in 0..3 {
            let next = start(&address);
            let seen = asked.load(Ordering::Relaxed);
            let deadline = Instant::now() + PATIENCE;
            while asked.load(Ordering::Relaxed) < seen + 100 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(std::mem::replace(&mut present, next).terminate());
        }
        let expected = present.child.id().to_string();
        let answered: Vec<_> = (0..8).map(|_| ask(&address)).collect();
        done.store(true, Ordering::Relaxed);
        for pid in answered {
            assert_eq!(pid.unwrap(), expected);
        }
        present
    });
    let (asked, failures) = (asked.into_inner(), failures.into_inner().unwrap());
    println!("{asked} connections, 3 restarts");
    assert!(failures.is_empty(), "{} of {asked}: {:?}", failures.len(), failures.first());
}
