//! A server to start twice: `cargo run --example answer -- 8080`, then again in another terminal.
//! Each answers its share of `nc 127.0.0.1 8080` with its process id.

use std::io::Write;

fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "8080".into());
    let listener = sameport::listen(&address)?;
    println!("listening on {}, sharing is {}", listener.local_addr()?, sameport::support().sharing);
    loop {
        let (mut stream, peer) = listener.accept()?;
        println!("new connection {peer}");
        // A client that is gone already is no reason to stop.
        let _ = writeln!(stream, "process {}", std::process::id());
    }
}
