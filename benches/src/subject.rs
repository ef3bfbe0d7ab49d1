//! The measured programs. None of them knows sameport.
//!
//! Each ends when its stdin is closed, so that none outlives the benchmark.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that one copy serves at once, with one thread each.
pub(crate) const THREADS: u16 = 32;

const BACKLOG: i32 = 1024;

/// The body of every HTTP answer.
pub(crate) const BODY: &str = "the same for everybody\n";

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    subject: BenchSubject,
}

#[derive(clap::Subcommand)]
enum BenchSubject {
    /// An HTTP/1.1 server
    Serve {
        port: u16,
        /// Set SO_REUSEPORT itself
        #[arg(long)]
        shared: bool,
    },
    /// A server that greets each accepted connection, and binds a port on request
    Greet { port: u16 },
    /// Opens, binds and closes sockets, and prints the nanoseconds of all of them, and whether
    /// one more is shared
    Bind {
        count: u32,
        port: u16,
        /// Also call `listen` on each
        #[arg(long)]
        listen: bool,
        /// UDP
        #[arg(long)]
        udp: bool,
        /// Print processor time instead of elapsed time
        #[arg(long)]
        processor: bool,
    },
    /// Listens on free ports, connects to itself, and prints the ports and a line when it is done
    Listen { count: u32, connections: u32 },
    /// A member of a group, which tells every client its pid
    Member(crate::balance::member::Args),
    /// Runs a command that does not read its stdin, and ends it when stdin is closed
    Keep {
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> ExitCode {
    let done = match &args.subject {
        BenchSubject::Serve { port, shared } => listener(*port, *shared)
            .and_then(|listener| accept_in_threads(&listener, |client| answer_requests(&client))),
        BenchSubject::Greet { port } => listener(*port, false)
            .and_then(|listener| accept_in_threads(&listener, |client| greet(&client))),
        BenchSubject::Bind { count, port, listen, udp, processor } => {
            let clock =
                if *processor { BenchClock::Processor } else { BenchClock::Wall(Instant::now()) };
            time_binds(*count, *port, *listen, *udp, clock)
        }
        BenchSubject::Listen { count, connections } => listen_on_free_ports(*count, *connections),
        BenchSubject::Member(args) => crate::balance::member::run(args),
        BenchSubject::Keep { command } => keep(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("subject: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits until stdin is closed.
fn wait_for_the_end_of_stdin() {
    let mut bytes = [0; 64];
    while !matches!(io::stdin().read(&mut bytes), Ok(0) | Err(_)) {}
}

fn listener(port: u16, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(shared)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn accept_in_threads(
    listener: &TcpListener,
    serve: fn(TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..THREADS {
        let listener = listener.try_clone()?;
        thread::spawn(move || {
            loop {
                match listener.accept() {
                    // The client reports a missing answer.
                    Ok((client, _)) => drop(serve(client)),
                    // Out of descriptors, or the client closed the connection: retry with the next one.
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
    }
    wait_for_the_end_of_stdin();
    Ok(())
}

/// The part of HTTP/1.1 that the load generator uses: requests without a body, one at a time.
fn answer_requests(mut client: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    let mut length = 0;
    loop {
        let read = client.read(&mut buffer[length..])?;
        if read == 0 {
            return Ok(());
        }
        length += read;
        let request = &buffer[..length];
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let close = request.windows(5).any(|word| word == b"close");
        write!(client, "{}", http_answer())?;
        if close {
            return Ok(());
        }
        length = 0;
    }
}

fn http_answer() -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len())
}

/// Sends one byte, by which the client knows that the connection was accepted; then reads one line
/// and answers it: `ping`, or `bind COUNT PORT`.
fn greet(client: &TcpStream) -> io::Result<()> {
    let mut to = client;
    to.write_all(b"+")?;
    let mut line = String::new();
    BufReader::new(client).read_line(&mut line)?;
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    match words.as_slice() {
        ["ping"] => to.write_all(b"pong\n"),
        ["bind", count, port] => {
            let (Ok(count), Ok(port)) = (count.parse(), port.parse()) else {
                return to.write_all(b"what?\n");
            };
            // Every second socket listens, which costs one more notification and one more report.
            match bind(count, port, Type::STREAM, |number| number % 2 == 1) {
                Ok(()) => to.write_all(b"done\n"),
                Err(error) => writeln!(to, "{error}"),
            }
        }
        _ => to.write_all(b"what?\n"),
    }
}

fn bind(count: u32, port: u16, kind: Type, listens: impl Fn(u32) -> bool) -> io::Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into();
    for number in 0..count {
        let socket = Socket::new(Domain::IPV4, kind, None)?;
        socket.bind(&address)?;
        if listens(number) {
            socket.listen(BACKLOG)?;
        }
    }
    Ok(())
}

/// The source of times.
enum BenchClock {
    /// Elapsed time since this moment.
    Wall(Instant),
    /// Processor time of this thread: other processes do not count.
    Processor,
}

impl BenchClock {
    /// Nanoseconds.
    fn now(&self) -> io::Result<u128> {
        match self {
            Self::Wall(since) => Ok(since.elapsed().as_nanos()),
            Self::Processor => {
                let figures = std::fs::read_to_string("/proc/thread-self/schedstat")?;
                let first = figures.split(' ').next().and_then(|figure| figure.parse().ok());
                first.ok_or_else(|| io::ErrorKind::InvalidData.into())
            }
        }
    }
}

fn time_binds(count: u32, port: u16, listen: bool, udp: bool, clock: BenchClock) -> io::Result<()> {
    let kind = if udp { Type::DGRAM } else { Type::STREAM };
    // The first binds fault pages in.
    bind(count.min(100), port, kind, |_| listen)?;
    let start = clock.now()?;
    bind(count, port, kind, |_| listen)?;
    let nanoseconds = clock.now()? - start;
    let last = Socket::new(Domain::IPV4, kind, None)?;
    last.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    let shared = if last.reuse_port()? { "shared" } else { "unshared" };
    writeln!(io::stdout(), "{nanoseconds} {shared}")
}

fn listen_on_free_ports(count: u32, connections: u32) -> io::Result<()> {
    let listeners: Vec<_> = (0..count).map(|_| listener(0, false)).collect::<io::Result<_>>()?;
    let mut connected = Vec::new();
    for (listener, _) in listeners.iter().cycle().zip(0..connections) {
        let client = TcpStream::connect(listener.local_addr()?)?;
        // A reset on both sides leaves no TIME_WAIT when this process ends.
        socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        connected.push((client, listener.accept()?));
    }
    let port = |listener: &TcpListener| listener.local_addr().map(|own| own.port().to_string());
    let ports = listeners.iter().map(port).collect::<io::Result<Vec<_>>>()?;
    writeln!(io::stdout(), "ports {}", ports.join(" "))?;
    writeln!(io::stdout(), "{} listeners, {} connections", listeners.len(), connected.len())?;
    wait_for_the_end_of_stdin();
    Ok(())
}

fn keep(command: &[String]) -> io::Result<()> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    wait_for_the_end_of_stdin();
    child.kill()?;
    child.wait().map(drop)
}
