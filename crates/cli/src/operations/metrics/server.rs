//! The HTTP server: `/metrics`, `/healthz`, `/readyz`.
//!
//! Every limit is one of a client: the time until its header is there, the time of the whole connection, the
//! size of a header, and the number of connections. A connection serves one request, so that idle clients
//! hold no descriptor.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use sameport_policy::metrics::{ReadinessQuery, RunReadiness, readiness};
use sameport_sys::process::startup;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::collect::Exporter;
use super::endpoint::Endpoint;
use super::exposition;
use super::flight::Flight;
use crate::operations::accept_loop::{CONNECTIONS, StreamListener, accept_all};

/// The time for the header of a request.
const HEADER_LIMIT: Duration = Duration::from_secs(5);

/// The time of a connection: the wait for supervisors, and a slow reader.
const LIMIT: Duration = Duration::from_secs(15);

/// The largest header, in bytes.
const LARGEST_HEADER: usize = 16 * 1024;

const PATHS: &str = "/metrics\n/healthz\n/readyz\n/readyz?run=NAME&user=USER&min=WORKERS\n";

type Reply = Response<Full<Bytes>>;

/// What all connections share.
struct MetricsService {
    exporter: Arc<Exporter>,
    scrapes: Flight<Bytes>,
    readiness: Flight<Arc<Vec<RunReadiness>>>,
}

/// Serves until the process ends.
///
/// # Errors
///
/// Those of `epoll_create1(2)` and of the registration of the sockets.
pub(crate) fn serve(exporter: Exporter, endpoint: Endpoint) -> io::Result<Infallible> {
    // Without it, fewer clients are served at once.
    startup::raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(2)
        .build()?;
    let shared = Arc::new(MetricsService {
        exporter: Arc::new(exporter),
        scrapes: Flight::default(),
        readiness: Flight::default(),
    });
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    runtime.block_on(async move {
        match endpoint {
            Endpoint::Tcp(all) => {
                for listener in all {
                    listener.set_nonblocking(true)?;
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    spawn_accept(listener, &shared, &slots);
                }
            }
            Endpoint::Unix(listener, _) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                spawn_accept(listener, &shared, &slots);
            }
        }
        std::future::pending().await
    })
}

fn spawn_accept<L>(listener: L, shared: &Arc<MetricsService>, slots: &Arc<Semaphore>)
where
    L: StreamListener + Send + Sync + 'static,
    L::Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = shared.clone();
    let serve = move |stream, slot| {
        tokio::spawn(serve_one(stream, shared.clone(), slot));
    };
    tokio::spawn(accept_all(listener, slots.clone(), serve));
}

/// Serves one request.
async fn serve_one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    shared: Arc<MetricsService>,
    slot: OwnedSemaphorePermit,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(shared.reply(&request).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(LARGEST_HEADER)
        .keep_alive(false);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    // The client sees the error of its own request; no other process has a use for it.
    let _ = tokio::time::timeout(LIMIT, connection).await;
    drop(slot);
}

impl MetricsService {
    async fn reply(&self, request: &Request<Incoming>) -> Reply {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut reply = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return reply;
        }
        match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => text(StatusCode::OK, "the exporter serves\n"),
            "/readyz" => self.ready(request.uri().query().unwrap_or_default()).await,
            "/" => text(StatusCode::OK, PATHS),
            _ => text(StatusCode::NOT_FOUND, PATHS),
        }
    }

    async fn metrics(&self) -> Reply {
        let exporter = self.exporter.clone();
        match self.scrapes.result(move || exporter.collect().into()).await {
            Some(scrape) => with_type(StatusCode::OK, scrape, exposition::CONTENT_TYPE),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the collection failed\n"),
        }
    }

    async fn ready(&self, query: &str) -> Reply {
        let query: ReadinessQuery = match query.parse() {
            Ok(query) => query,
            Err(error) => return text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let exporter = self.exporter.clone();
        let Some(runs) = self.readiness.result(move || exporter.readiness()).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the runs could not be asked\n");
        };
        let (is_ready, lines) = readiness(&runs, &query);
        text(if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, lines)
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, body.into(), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
