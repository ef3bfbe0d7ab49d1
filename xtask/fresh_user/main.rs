//! The program of a user of the registry: `cargo xtask package` builds it with the packaged library.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use sameport::{ErrorKind, IntoTokio as _, Options, PassedSockets};
use tokio::io::AsyncReadExt as _;

type Done = Result<(), Box<dyn Error>>;

fn main() -> Done {
    if let Some(address) = std::env::args().nth(1) {
        return child(address.parse()?);
    }
    println!("here: {}", sameport::support().sharing);
    set()?;
    drained()?;
    datagrams()?;
    passed()?;
    options()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(with_tokio())?;
    println!("all of it works");
    Ok(())
}

fn greet(listener: &TcpListener) -> Done {
    let (mut client, _) = listener.accept()?;
    client.write_all(b"hello")?;
    Ok(())
}

fn greeting(mut client: TcpStream) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    client.read_to_string(&mut text)?;
    Ok(text)
}

/// Three listeners on one port, a thread each.
fn set() -> Done {
    let members = sameport::listen_n("127.0.0.1:0", 3)?;
    let address = members.local_addr();
    println!("listen_n: {} members, {}", members.len(), members.steering());
    for member in members {
        // A thread waits for one connection or more, until the process ends.
        std::thread::spawn(move || while greet(&member).is_ok() {});
    }
    for _ in 0..10 {
        assert_eq!(greeting(sameport::connect(0, address)?)?, "hello");
    }
    Ok(())
}

/// A server that stops while clients wait.
fn drained() -> Done {
    let listener = sameport::listen_exclusive("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let clients: Vec<TcpStream> =
        (0..5).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    let mut drain = sameport::drain(listener);
    for connection in &mut drain {
        connection?.0.write_all(b"hello")?;
    }
    println!("drain: {:?}", drain.end());
    for client in clients {
        assert_eq!(greeting(client)?, "hello");
    }
    Ok(())
}

fn datagrams() -> Done {
    let server = sameport::bind_udp("127.0.0.1:0")?;
    let client = sameport::bind_udp("127.0.0.1:0")?;
    client.send_to(b"one", server.local_addr()?)?;
    let mut buffer = [0; 16];
    let (size, from) = server.recv_from(&mut buffer)?;
    assert_eq!((&buffer[..size], from), (&b"one"[..], client.local_addr()?));
    println!("bind_udp: {size} bytes");
    Ok(())
}

/// A listener that a service manager passes on, here by the shell: descriptor 3, `LISTEN_FDS`.
fn passed() -> Done {
    let listener = sameport::listen("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec \"$0\" \"$1\" 3<&0";
    let mut child = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe()?)
        .arg(address.to_string())
        .stdin(std::os::fd::OwnedFd::from(listener))
        .spawn()?;
    assert_eq!(greeting(TcpStream::connect(address)?)?, "hello");
    assert!(child.wait()?.success());
    Ok(())
}

fn child(address: SocketAddr) -> Done {
    let mut passed = PassedSockets::take()?;
    let names: Vec<String> = passed.iter().map(|it| it.name().to_owned()).collect();
    // It is shared, and therefore not what is asked for.
    let error = passed.listen(&Options::exclusive(), address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongSocket);
    println!("passed: {names:?}; as exclusive: {error}");
    greet(&passed.listen(&Options::shared(), address)?)
}

fn options() -> Done {
    let options = Options::shared().backlog(64).device("lo");
    assert_eq!((options.get_backlog(), options.get_device()), (64, Some("lo")));
    let held = Options::exclusive().listen("127.0.0.1:0")?;
    let error = options.listen(held.local_addr()?).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    println!("getters and errors: {error} (errno {:?})", error.raw_os_error());
    Ok(())
}

async fn with_tokio() -> Done {
    let listener = sameport::listen("127.0.0.1:0")?.into_tokio()?;
    let mut client = sameport::tokio::connect(0, listener.local_addr()?).await?;
    let (server, _) = listener.accept().await?;
    server.try_write(b"hello")?;
    drop(server);
    let mut text = String::new();
    client.read_to_string(&mut text).await?;
    assert_eq!(text, "hello");
    println!("tokio::connect: {text}");
    Ok(())
}
