//! HTTP clients: one request a connection, many, and slow ones.

use std::fmt::Debug;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::tally::{Moment, Tally, connect};

/// The pause within a slow request.
const WITHIN: Duration = Duration::from_millis(1200);

fn request(path: &str, connection: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n")
}

pub(crate) fn one_shot(client: &dyn Debug, to: SocketAddr, path: &str, tally: &mut Tally) {
    let mut moment = Moment::First;
    let answered = connect(to).and_then(|mut stream| {
        stream.write_all(request(path, "close").as_bytes())?;
        read_answer(&mut stream, &mut moment)
    });
    match answered {
        Ok(_) => tally.answered += 1,
        Err(error) => tally.fail(&error, moment, client),
    }
}

pub(crate) fn slow_request(client: &dyn Debug, to: SocketAddr, tally: &mut Tally) {
    let mut moment = Moment::First;
    let answered = connect(to).and_then(|mut stream| {
        let request = request("/", "close");
        let (first, second) = request.split_at(request.len() / 2);
        stream.write_all(first.as_bytes())?;
        thread::sleep(WITHIN);
        stream.write_all(second.as_bytes())?;
        read_answer(&mut stream, &mut moment)
    });
    match answered {
        Ok(_) => tally.answered += 1,
        Err(error) => tally.fail(&error, moment, client),
    }
}

/// Requests over one connection, until the server closes it or the clients stop.
pub(crate) fn keep_alive(
    client: &dyn Debug,
    to: SocketAddr,
    pause: Duration,
    stop: &AtomicBool,
    tally: &mut Tally,
) {
    let mut moment = Moment::First;
    let mut serve = |moment: &mut Moment| -> io::Result<()> {
        let mut stream = connect(to)?;
        while !stop.load(Ordering::Relaxed) && !is_closed(&stream)? {
            stream.write_all(request("/", "keep-alive").as_bytes())?;
            let stays_open = read_answer(&mut stream, moment)?;
            tally.answered += 1;
            *moment = Moment::Idle;
            if !stays_open {
                break;
            }
            thread::sleep(pause);
        }
        Ok(())
    };
    if let Err(error) = serve(&mut moment) {
        tally.fail(&error, moment, client);
    }
}

/// Whether the server has closed the idle connection, by a FIN or a reset. A client that sees this
/// before its next request loses nothing.
fn is_closed(stream: &TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Ok(true),
        Ok(_) => Err(io::Error::new(ErrorKind::InvalidData, "bytes that follow the answer")),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error),
    }
}

/// How the end of a body is found.
#[derive(Debug, PartialEq, Eq)]
enum Body {
    Length(usize),
    Chunked,
    UntilClosed,
}

/// Reads a whole answer with status 200. Returns whether the connection stays open.
fn read_answer(stream: &mut TcpStream, moment: &mut Moment) -> io::Result<bool> {
    let mut answer = Vec::new();
    let mut bytes = [0; 8192];
    loop {
        let length = stream.read(&mut bytes)?;
        if length > 0 {
            *moment = Moment::Within;
            answer.extend_from_slice(&bytes[..length]);
        }
        let closed = length == 0;
        let Some((body, rest, stays_open)) = parse_head(&answer)? else {
            if closed {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            continue;
        };
        let complete = match body {
            Body::Length(length) => rest.len() >= length,
            Body::Chunked => rest.ends_with(b"0\r\n\r\n"),
            Body::UntilClosed => closed,
        };
        if complete {
            return Ok(stays_open && body != Body::UntilClosed);
        }
        if closed {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The kind of body, its bytes so far, and whether the connection stays open. `None` if the header
/// is not complete.
fn parse_head(answer: &[u8]) -> io::Result<Option<(Body, &[u8], bool)>> {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split_whitespace().nth(1) != Some("200") {
        return Err(io::Error::new(ErrorKind::InvalidData, status));
    }
    let headers: Vec<(&str, &str)> = lines
        .filter_map(|line| line.split_once(':').map(|(name, text)| (name, text.trim())))
        .collect();
    let value = |wanted: &str| headers.iter().find(|(name, _)| *name == wanted).map(|it| it.1);
    let body = match (
        value("content-length").and_then(|text| text.parse().ok()),
        value("transfer-encoding"),
    ) {
        (Some(length), _) => Body::Length(length),
        (None, Some("chunked")) => Body::Chunked,
        _ => Body::UntilClosed,
    };
    let stays_open = match value("connection") {
        Some(text) => text != "close",
        None => status.starts_with("http/1.1"),
    };
    Ok(Some((body, &answer[end + 4..], stays_open)))
}
