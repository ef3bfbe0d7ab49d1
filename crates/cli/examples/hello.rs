//! A server that knows nothing of sameport: plain std, one thread, one port. It answers every
//! request with its process id, so that one can see who did.
//!
//! ```text
//! hello [PORT]
//! ```

use std::io::{Error, Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

fn main() -> std::io::Result<()> {
    let port = match std::env::args().nth(1) {
        Some(port) => {
            port.parse::<u16>().map_err(|_| Error::other(format!("{port} is not a port")))?
        }
        None => 8080,
    };
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    let pid = std::process::id();
    println!("hello: pid {pid} answers on http://127.0.0.1:{port}/");
    for connection in listener.incoming() {
        let mut connection = connection?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        // One read holds a small request; what a client does wrong is its own affair.
        let _ = connection.read(&mut [0; 4096]);
        let body = format!("hello from pid {pid}\n");
        let _ = write!(
            connection,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
    }
    Ok(())
}
