//! `dial`: connect, then copy both ways.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use sameport_policy::addr::AddrSpec;
use sameport_policy::model::Protocol;

/// The options of `dial`.
#[derive(Debug, Clone)]
pub(crate) struct DialRequest {
    pub(crate) from: Option<AddrSpec>,
    pub(crate) to: AddrSpec,
    pub(crate) protocol: Protocol,
    pub(crate) timeout: Option<Duration>,
}

/// A connected socket.
#[derive(Debug)]
pub(crate) enum DialStream {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

/// Connects, from any free local port unless one is requested.
pub(crate) fn connect(request: &DialRequest) -> Result<DialStream, sameport::Error> {
    let from = request.from.as_ref().map_or_else(|| "0".to_owned(), AddrSpec::to_string);
    let to = request.to.to_string();
    match (request.protocol, request.timeout) {
        (Protocol::Tcp, None) => sameport::connect(&from, &to).map(DialStream::Tcp),
        (Protocol::Tcp, Some(timeout)) => {
            sameport::connect_timeout(&from, &to, timeout).map(DialStream::Tcp)
        }
        (Protocol::Udp, _) => sameport::connect_udp(&from, &to).map(DialStream::Udp),
    }
}

impl DialStream {
    /// Copies `input` to the other side in a thread of its own, and what comes back to `output`.
    ///
    /// TCP: the end of the input closes our half, and the call ends with both halves. UDP, where no
    /// end can be seen: each read is a datagram, and a second without an answer after the end of
    /// the input ends the call.
    pub(crate) fn copy(
        self,
        input: impl Read + Send + 'static,
        output: &mut impl Write,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => copy_stream(stream, input, output),
            Self::Udp(socket) => copy_datagrams(&socket, input, output),
        }
    }
}

fn copy_stream(
    mut stream: TcpStream,
    mut input: impl Read + Send + 'static,
    output: &mut impl Write,
) -> io::Result<()> {
    let mut ours = stream.try_clone()?;
    let sending = std::thread::spawn(move || -> io::Result<()> {
        let copied = io::copy(&mut input, &mut ours).map(drop);
        // The other side may have closed first.
        let _ = ours.shutdown(Shutdown::Write);
        copied
    });
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            // The input is still sent to its end, as nc does.
            Ok(0) => return sending.join().unwrap_or(Ok(())),
            Ok(n) => {
                output.write_all(&buffer[..n])?;
                output.flush()?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn copy_datagrams(
    socket: &UdpSocket,
    mut input: impl Read + Send + 'static,
    output: &mut impl Write,
) -> io::Result<()> {
    const QUIET: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(100);
    const LARGEST: usize = 65_507;
    let ours = socket.try_clone()?;
    let sending = std::thread::spawn(move || -> io::Result<()> {
        let mut buffer = vec![0; LARGEST];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(()),
                n => ours.send(&buffer[..n])?,
            };
        }
    });
    socket.set_read_timeout(Some(STEP))?;
    let mut buffer = vec![0; LARGEST];
    let mut last = Instant::now();
    loop {
        match socket.recv(&mut buffer) {
            Ok(n) => {
                output.write_all(&buffer[..n])?;
                output.flush()?;
                last = Instant::now();
            }
            Err(error) if is_timeout(&error) => {
                if !sending.is_finished() {
                    last = Instant::now();
                } else if last.elapsed() >= QUIET {
                    return sending.join().unwrap_or(Ok(()));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
