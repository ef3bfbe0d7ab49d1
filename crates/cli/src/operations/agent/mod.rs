//! `agent`: HAProxy's agent-check for named runs. One connection, one line, from any number of clients.

mod client;
mod watched_run;

use std::io;
use std::net::TcpListener;
use std::sync::Arc;

use sameport_policy::model::name::RunName;
use sameport_supervisor::control::client::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use watched_run::HealthReport;
use watched_run::WatchedRun;

use crate::operations::accept_loop::{CONNECTIONS, accept_all};

/// Answers on these sockets until the process ends.
///
/// # Errors
///
/// If the runtime cannot be created, or a socket cannot be used.
pub(crate) fn serve(
    listeners: Vec<TcpListener>,
    runs: &Client,
    names: &[RunName],
    report: &HealthReport,
) -> io::Result<()> {
    let watched =
        |name: &RunName| Arc::new(WatchedRun::new(runs.clone(), name.clone(), Arc::clone(report)));
    let watched: Arc<[Arc<WatchedRun>]> = names.iter().map(watched).collect();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async move {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut loops = JoinSet::new();
        for listener in listeners {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loops.spawn(accept(listener, Arc::clone(&watched), Arc::clone(&permits)));
        }
        loops.join_all().await;
        Ok(())
    })
}

async fn accept(
    listener: tokio::net::TcpListener,
    runs: Arc<[Arc<WatchedRun>]>,
    permits: Arc<Semaphore>,
) {
    let free = Arc::clone(&permits);
    accept_all(listener, permits, |stream, permit| {
        let runs = Arc::clone(&runs);
        // Among many connections, none gets time for what it may still say.
        let is_hasty = free.available_permits() < CONNECTIONS / 2;
        tokio::spawn(async move {
            client::answer(stream, &runs, is_hasty).await;
            drop(permit);
        });
    })
    .await;
}
