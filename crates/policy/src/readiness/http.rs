//! The target of an HTTP probe, and its answer.

use std::fmt;
use std::str::FromStr;

use crate::addr::parse_fixed_port;

/// The request of an HTTP probe.
///
/// | text | Host header | port |
/// |---|---|---|
/// | `http:/PATH` | the address of the listener | any |
/// | `http://HOST/PATH` | `HOST` | any |
/// | `http://HOST:PORT/PATH` | `HOST:PORT` | `PORT` |
///
/// The host is not resolved: the connection goes to a listener of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpTarget {
    /// The value of the Host header; `None`: the address of the listener.
    pub host: Option<String>,
    /// The port; `None`: that of any listener which answers.
    pub port: Option<u16>,
    /// The path and the query. Begins with `/`.
    pub path: String,
}

/// A text that is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpTargetError;

impl fmt::Display for HttpTargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("write http:/PATH or http://HOST[:PORT]/PATH")
    }
}

impl std::error::Error for HttpTargetError {}

impl FromStr for HttpTarget {
    type Err = HttpTargetError;

    fn from_str(text: &str) -> Result<Self, HttpTargetError> {
        let rest = text.strip_prefix("http:").ok_or(HttpTargetError)?;
        // A line break or a space would end the request line or the header.
        if !rest.chars().all(|c| c.is_ascii_graphic()) || rest.contains('#') {
            return Err(HttpTargetError);
        }
        let Some(authority) = rest.strip_prefix("//") else {
            let is_path = rest.starts_with('/');
            let target = Self { host: None, port: None, path: rest.to_owned() };
            return is_path.then_some(target).ok_or(HttpTargetError);
        };
        let (host, path) = match authority.find('/') {
            Some(at) => (&authority[..at], &authority[at..]),
            None => (authority, "/"),
        };
        Ok(Self { host: Some(host.to_owned()), port: port_of(host)?, path: path.to_owned() })
    }
}

/// The port in `HOST`, `HOST:PORT` or `[IPV6]:PORT`.
fn port_of(host: &str) -> Result<Option<u16>, HttpTargetError> {
    let (name, after) = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(HttpTargetError)?,
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    if name.is_empty() || name.contains(['@', '?', '[', ']']) {
        return Err(HttpTargetError);
    }
    match after.strip_prefix(':') {
        Some(port) => parse_fixed_port(port).map(Some).map_err(|_| HttpTargetError),
        None if after.is_empty() => Ok(None),
        None => Err(HttpTargetError),
    }
}

/// The status code of an HTTP/1 response. Interim responses (100 Continue, 103 Early Hints) come before the
/// final one and are skipped; 101 is final (RFC 9110, section 15.2).
#[must_use]
pub fn status_of(response: &[u8]) -> Option<u16> {
    let mut rest = response;
    loop {
        let code = status_line(rest)?;
        let is_interim = matches!(code, 100 | 102..200);
        match after_header(rest).filter(|after| is_interim && !after.is_empty()) {
            Some(after) => rest = after,
            None => return Some(code),
        }
    }
}

/// The bytes after the empty line that ends a header.
fn after_header(response: &[u8]) -> Option<&[u8]> {
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    response.get(end + 4..)
}

fn status_line(response: &[u8]) -> Option<u16> {
    // "HTTP/1.1 204"
    let code = response.strip_prefix(b"HTTP/1.")?.get(1..5)?.strip_prefix(b" ")?;
    std::str::from_utf8(code).ok()?.parse().ok().filter(|code| (100..600).contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for (text, host, port, path) in [
            ("http:/", None, None, "/"),
            ("http:/ok?a=1", None, None, "/ok?a=1"),
            ("http://web/", Some("web"), None, "/"),
            ("http://web", Some("web"), None, "/"),
            ("http://web.example:8131/ok", Some("web.example:8131"), Some(8131), "/ok"),
            ("http://127.0.0.1:80", Some("127.0.0.1:80"), Some(80), "/"),
            ("http://[::1]:80/x", Some("[::1]:80"), Some(80), "/x"),
            ("http://[::1]/x", Some("[::1]"), None, "/x"),
        ] {
            let host = host.map(str::to_owned);
            let target = HttpTarget { host, port, path: path.into() };
            assert_eq!(text.parse(), Ok(target), "{text}");
        }
        for text in [
            "",
            "http:",
            "http:ok",
            "http://",
            "http:///ok",
            "http://:80/",
            "http://web:/",
            "http://web:0/",
            "http://web:99999/",
            "http://::1/",
            "http://[::1/",
            "http://[::1]x/",
            "http://a@b/",
            "http:/a b",
            "http:/a\r\nb",
            "http:/\u{e9}",
            "http://web/#top",
            "https://web/",
            "http://a?b/",
        ] {
            assert_eq!(text.parse::<HttpTarget>(), Err(HttpTargetError), "{text}");
        }
    }

    #[test]
    fn status_codes() {
        for (response, code) in [
            (&b"HTTP/1.1 204 No Content\r\n"[..], Some(204)),
            (b"HTTP/1.0 400\r\n", Some(400)),
            (b"HTTP/1.1 204", Some(204)),
            (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 500 No\r\n", Some(500)),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\n\r\nHTTP/1.1 200 OK\r\n", Some(200)),
            (b"HTTP/1.1 103 Early Hints\r\n\r\n", Some(103)),
            (b"HTTP/1.1 101 Switching\r\n\r\nHTTP/1.1 200 OK\r\n", Some(101)),
            (b"HTTP/1.1 100 Continue\r\n\r\nSSH", None),
            (b"HTTP/1.1 20", None),
            (b"HTTP/1.1 +20", None),
            (b"HTTP/1.1 999", None),
            (b"HTTP/2 200", None),
            (b"SSH-2.0-none", None),
            (b"", None),
        ] {
            assert_eq!(status_of(response), code, "{response:?}");
        }
    }
}
