//! A server with one runtime of tokio for each processor, and no state that they share:
//! `cargo run -p sameport-examples --bin tokio-per-core -- 127.0.0.1:8080`.
//!
//! Answers each line of `nc 127.0.0.1 8080` with the processor that answered. Each thread has its own
//! listener, so that no thread accepts for another, and no task moves between processors.

use std::io;
use std::net::TcpListener;
use std::thread;

use sameport::{IntoTokio, Member};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

mod processor;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".into());
    let members = sameport::per_core(&address)?;
    println!("{} threads on {}, {}", members.len(), members.local_addr(), members.steering());
    let threads: Vec<_> =
        members.into_iter().map(|member| thread::spawn(move || serve(member))).collect();
    for thread in threads {
        thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
    }
    Ok(())
}

/// Serves one member on the calling thread, until accepting fails.
fn serve(member: Member<TcpListener>) -> io::Result<()> {
    let cpu = member.cpu();
    processor::pin(cpu)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = member.into_tokio()?;
        loop {
            let (stream, _peer) = listener.accept().await?;
            tokio::spawn(async move {
                // A client can close the connection first.
                let _ = answer(stream, cpu).await;
            });
        }
    })
}

async fn answer(stream: TcpStream, cpu: Option<usize>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let place = cpu.map_or_else(|| "some processor".into(), |cpu| format!("processor {cpu}"));
        stream.write_all(format!("{place}: {line}").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
