//! A QUIC server whose connection ids name its socket, as another process of this executable.

use std::net::UdpSocket;
use std::sync::Arc;

use quinn::rustls;
use quinn_proto::{ConnectionId, ConnectionIdGenerator};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use tokio::signal::unix::{SignalKind, signal};

/// The address to serve.
pub(crate) const SERVES: &str = "SAMEPORT_TEST_QUIC";

/// If set, connection ids are random, as every QUIC library makes them by default.
pub(crate) const RANDOM_IDS: &str = "SAMEPORT_TEST_QUIC_RANDOM";

/// If set, the server shares its port itself (SO_REUSEPORT).
pub(crate) const SHARES: &str = "SAMEPORT_TEST_QUIC_SHARES";

/// Connection ids with the low half of the socket's cookie: an octet whose first three bits are not 1, four
/// octets of the socket, and seven random ones.
#[derive(Clone, Copy)]
struct SocketIds {
    socket: [u8; 4],
}

impl SocketIds {
    const LENGTH: usize = 12;

    /// `socket` is bound: `run` may have replaced it until then.
    fn of(socket: &UdpSocket) -> Self {
        let cookie = socket2::SockRef::from(socket).cookie().expect("SO_COOKIE");
        let [.., a, b, c, d] = cookie.to_be_bytes();
        Self { socket: [a, b, c, d] }
    }
}

impl ConnectionIdGenerator for SocketIds {
    fn generate_cid(&mut self) -> ConnectionId {
        use std::hash::{BuildHasher as _, Hasher as _, RandomState};
        let mut id = [0; Self::LENGTH];
        id[1..5].copy_from_slice(&self.socket);
        let random = RandomState::new().build_hasher().finish().to_be_bytes();
        id[5..].copy_from_slice(&random[..7]);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        Self::LENGTH
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// No test of its own: the server, as the tests start it.
#[test]
fn serves_quic() {
    let Ok(address) = std::env::var(SERVES) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(serve(&address));
}

/// Answers every request of every connection with the pid. After SIGTERM no new connection is accepted,
/// and the process exits when the last one has ended.
async fn serve(address: &str) {
    let socket = match std::env::var_os(SHARES) {
        None => UdpSocket::bind(address).unwrap(),
        Some(_) => shared(address.parse().unwrap()),
    };
    let mut config = quinn::EndpointConfig::default();
    if std::env::var_os(RANDOM_IDS).is_none() {
        let ids = SocketIds::of(&socket);
        config.cid_generator(move || Box::new(ids));
    }
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(config, Some(crypto()), socket, runtime).unwrap();
    println!("serves");
    let mut stop = signal(SignalKind::terminate()).unwrap();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            _ = stop.recv() => break,
        };
        let Some(incoming) = incoming else { break };
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let _ = receive.read_to_end(100).await;
                // The client may have gone: then it needs no answer.
                let _ = send.write_all(std::process::id().to_string().as_bytes()).await;
                let _ = send.finish();
            }
        });
    }
    endpoint.set_server_config(None);
    endpoint.wait_idle().await;
}

fn shared(address: std::net::SocketAddr) -> UdpSocket {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// A key without certificate (RFC 7250), which the client takes from anyone.
fn crypto() -> quinn::ServerConfig {
    /// PKCS #8 of an Ed25519 key, without the 32 octets of the key.
    const HEADER: [u8; 16] = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];
    let key = [&HEADER[..], &[7; 32]].concat();
    let key = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(key)).unwrap();
    let public = CertificateDer::from(key.public_key().unwrap().to_vec());
    let certified = Arc::new(rustls::sign::CertifiedKey::new(vec![public], key));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    let tls = quinn::crypto::rustls::QuicServerConfig::try_from(tls).unwrap();
    quinn::ServerConfig::with_crypto(Arc::new(tls))
}
