//! A QUIC client that can change its port, as one behind a router that forgets its mapping does.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::rustls;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

/// One connection from a socket of its own.
#[derive(Debug, Clone)]
pub(crate) struct QuicClient {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    /// The process that the connection is with.
    pub(crate) pid: i32,
}

impl QuicClient {
    pub(crate) async fn connect(to: SocketAddr) -> Result<Self, String> {
        let endpoint = quinn::Endpoint::client(any_port(to)).map_err(|error| error.to_string())?;
        let connecting =
            endpoint.connect_with(crypto(), to, "localhost").map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| format!("no connection: {error}"))?;
        let mut client = Self { endpoint, connection, pid: 0 };
        client.pid = client.request().await?;
        Ok(client)
    }

    /// Sends a request; the pid of the process that answers.
    pub(crate) async fn request(&self) -> Result<i32, String> {
        let words = |error: &dyn std::error::Error| format!("no answer: {error}");
        let (mut send, mut receive) =
            self.connection.open_bi().await.map_err(|error| words(&error))?;
        send.write_all(b"who").await.map_err(|error| words(&error))?;
        send.finish().map_err(|error| words(&error))?;
        let answer = receive.read_to_end(100).await.map_err(|error| words(&error))?;
        String::from_utf8_lossy(&answer).parse().map_err(|_| format!("{answer:?}"))
    }

    /// [`Self::request`], given up after this time.
    pub(crate) async fn request_within(&self, limit: Duration) -> Result<i32, String> {
        let answer = tokio::time::timeout(limit, self.request()).await;
        answer.unwrap_or_else(|_| Err(format!("no answer for {limit:?}")))
    }

    /// Goes on from another port.
    pub(crate) fn migrate(&self) {
        let from = any_port(self.connection.remote_address());
        self.endpoint.rebind(UdpSocket::bind(from).unwrap()).unwrap();
    }

    /// Ends the connection and tells the server.
    pub(crate) async fn close(self) {
        self.connection.close(0_u8.into(), b"");
        self.endpoint.wait_idle().await;
    }
}

fn any_port(to: SocketAddr) -> SocketAddr {
    let ip = if to.is_ipv4() { "127.0.0.1" } else { "::1" };
    SocketAddr::new(ip.parse().unwrap(), 0)
}

fn crypto() -> quinn::ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(120).try_into().unwrap()));
    transport.keep_alive_interval(None);
    config.transport_config(Arc::new(transport));
    config
}

/// The tests are about who answers, not about who that is.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
