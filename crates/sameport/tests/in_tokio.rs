//! The conversions into tokio's types carry real traffic.
#![cfg(all(feature = "tokio", any(target_os = "linux", target_os = "android")))]

use std::time::Duration;

use sameport::IntoTokio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn listeners_streams_and_sockets() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = async {
        let near = sameport::listen("127.0.0.1:0").unwrap();
        let from = near.local_addr().unwrap();
        let far = sameport::listen("127.0.0.1:0").unwrap().into_tokio().unwrap();
        let to = far.local_addr().unwrap();
        let mut stream = sameport::connect(from, to).unwrap().into_tokio().unwrap();
        let (mut accepted, peer) = far.accept().await.unwrap();
        assert_eq!(peer, from);
        accepted.write_all(b"hello").await.unwrap();
        drop(accepted);
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");

        let socket = sameport::bind_udp("127.0.0.1:0").unwrap().into_tokio().unwrap();
        let to = socket.local_addr().unwrap();
        socket.send_to(b"self", to).await.unwrap();
        assert_eq!(socket.recv_from(&mut [0; 8]).await.unwrap(), (4, to));
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), work).await.unwrap() });
}
