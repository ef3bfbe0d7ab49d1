//! The program of a user of the registry: `cargo xtask package` builds it with the packaged library.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use sameport::IntoTokio as _;
use tokio::io::AsyncReadExt as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("here: {}", sameport::support().sharing);
    shared()?;
    exclusive()?;
    datagrams()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(with_tokio())?;
    println!("all of it works");
    Ok(())
}

fn greet(listener: &TcpListener) -> Result<(), Box<dyn Error>> {
    let (mut client, _) = listener.accept()?;
    client.write_all(b"hello")?;
    Ok(())
}

fn shared() -> Result<(), Box<dyn Error>> {
    let first = sameport::listen("127.0.0.1:0")?;
    let second = sameport::listen(first.local_addr()?)?;
    assert_eq!(first.local_addr()?, second.local_addr()?);
    drop(second);
    let mut client: TcpStream = sameport::connect("127.0.0.1:0", first.local_addr()?)?;
    greet(&first)?;
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    assert_eq!(text, "hello");
    println!("listen, connect: {text}");
    Ok(())
}

fn exclusive() -> Result<(), Box<dyn Error>> {
    let listener = sameport::listen_exclusive("127.0.0.1:0")?;
    let error = sameport::listen(listener.local_addr()?).unwrap_err();
    assert_eq!(error.kind(), sameport::ErrorKind::InUse);
    println!("listen_exclusive: {error}");
    Ok(())
}

fn datagrams() -> Result<(), Box<dyn Error>> {
    let server = sameport::bind_udp("127.0.0.1:0")?;
    let client = sameport::bind_udp("127.0.0.1:0")?;
    client.send_to(b"one", server.local_addr()?)?;
    let mut buffer = [0; 16];
    let (size, from) = server.recv_from(&mut buffer)?;
    assert_eq!((&buffer[..size], from), (&b"one"[..], client.local_addr()?));
    println!("bind_udp: {size} bytes");
    Ok(())
}

async fn with_tokio() -> Result<(), Box<dyn Error>> {
    let listener = sameport::listen("127.0.0.1:0")?;
    let client = sameport::connect("127.0.0.1:0", listener.local_addr()?)?;
    greet(&listener)?;
    let mut client = client.into_tokio()?;
    let mut text = String::new();
    client.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    println!("into_tokio: {text}");
    Ok(())
}
