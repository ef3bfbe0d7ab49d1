//! A server for several terminals: `cargo run --example answer -- 8080`. Each instance answers its
//! share of the connections of `nc 127.0.0.1 8080` with its process id.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "8080".into());
    let listener = sameport::listen(&address)?;
    println!("listening on {}, sharing is {}", listener.local_addr()?, sameport::support().sharing);
    loop {
        let (mut stream, peer) = listener.accept()?;
        println!("new connection {peer}");
        // A client can close the connection first.
        let _ = writeln!(stream, "process {}", std::process::id());
    }
}
