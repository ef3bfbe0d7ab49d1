//! A server that answers with its pid, and clients that count the answers.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::{SOCKET_TIMEOUT, User, find_program, script};

/// The command line of the server, with `{port}` for the port; `None`: there is no Python.
pub(crate) fn server() -> Option<Vec<String>> {
    let python = find_program("python3")?.into_os_string().into_string().unwrap();
    let program = script("policy_server.py").into_os_string().into_string().unwrap();
    Some(vec![python, program, "{port}".to_owned()])
}

/// A user without privileges, if the test can become one.
pub(crate) fn unprivileged() -> User {
    User::all().last().copied().unwrap_or(User::Current)
}

/// Connects from an address of this machine, and gives the pid that answers.
pub(crate) fn answer_from(from: IpAddr, to: SocketAddr) -> std::io::Result<i32> {
    answer_within(from, to, SOCKET_TIMEOUT)
}

/// The same with a time limit of each step.
pub(crate) fn answer_within(from: IpAddr, to: SocketAddr, limit: Duration) -> std::io::Result<i32> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&to.into(), limit)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(limit))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let pid = text.rsplit("\r\n\r\n").next().and_then(|body| body.trim().parse().ok());
    pid.ok_or_else(|| std::io::Error::other(format!("not an answer: {text:?}")))
}

/// The number of answers of each worker to `count` connections, one after the other.
#[track_caller]
pub(crate) fn answers(to: SocketAddr, count: usize) -> BTreeMap<i32, usize> {
    let from = if to.is_ipv4() { "127.0.0.1" } else { "::1" };
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let pid = answer_from(from.parse().unwrap(), to).unwrap();
        *answers.entry(pid).or_default() += 1;
    }
    answers
}

/// A connection that is open until it is dropped, and the worker that has it.
pub(crate) struct Connection {
    pub(crate) pid: i32,
    _stream: TcpStream,
}

/// Opens a connection, and waits for the first answer.
pub(crate) fn hold(to: SocketAddr) -> std::io::Result<Connection> {
    let mut stream = TcpStream::connect_timeout(&to, SOCKET_TIMEOUT)?;
    stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
    stream.write_all(b"KEEP\r\n\r\n")?;
    let mut line = String::new();
    let mut reader = BufReader::new(&stream);
    reader.read_line(&mut line)?;
    let pid = line.trim().parse().map_err(|_| std::io::Error::other(format!("{line:?}")))?;
    Ok(Connection { pid, _stream: stream })
}
