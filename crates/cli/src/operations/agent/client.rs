//! One connection: the name of a run if several are served, the answer, the end.

use std::sync::Arc;
use std::time::Duration;

use sameport_policy::readiness::{DownReason, RunHealth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::watched_run::WatchedRun;

/// How long a client may take for the name of a run (`agent-send`), which HAProxy sends at once.
const NAME_LIMIT: Duration = Duration::from_millis(500);

/// How long a client may take to read its answer, and to close the connection.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Answers a client. `is_hasty`: it is not waited for.
pub(super) async fn answer(mut stream: TcpStream, runs: &[Arc<WatchedRun>], is_hasty: bool) {
    let health = match runs {
        [run] => run.health().await,
        _ => {
            let limit = if is_hasty { Duration::ZERO } else { NAME_LIMIT };
            let name = timeout(limit, read_name(&mut stream)).await.unwrap_or_default();
            health_of(runs, &name).await
        }
    };
    let line = health.agent_line();
    let end = async {
        stream.write_all(line.as_bytes()).await?;
        stream.shutdown().await?;
        // A socket that is closed with unread bytes sends a reset, which can overtake the answer.
        let mut bytes = [0; 256];
        for _ in 0..16 {
            if is_hasty {
                let _ = stream.try_read(&mut bytes);
                break;
            }
            if stream.read(&mut bytes).await? == 0 {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // A client that is gone, or reads nothing, gets no answer.
    let _ = timeout(END_LIMIT, end).await;
}

/// The run of this name; without a name, the worst of all.
async fn health_of(runs: &[Arc<WatchedRun>], name: &str) -> RunHealth {
    if !name.is_empty() {
        return match runs.iter().find(|run| run.name().as_str() == name) {
            Some(run) => run.health().await,
            None => RunHealth::Down(DownReason::Unknown),
        };
    }
    // All at once: one that does not answer delays none of the others.
    let tasks: Vec<_> = runs
        .iter()
        .map(|run| {
            let run = Arc::clone(run);
            tokio::spawn(async move { run.health().await })
        })
        .collect();
    let mut all = Vec::with_capacity(tasks.len());
    for task in tasks {
        all.push(task.await.unwrap_or(RunHealth::Down(DownReason::Silent)));
    }
    RunHealth::worst(all)
}

/// The first line, without its end; empty without one.
async fn read_name(stream: &mut TcpStream) -> String {
    const LONGEST: usize = 256;
    let mut line = Vec::new();
    while line.len() < LONGEST {
        match stream.read_u8().await {
            Ok(b'\n') | Err(_) => break,
            Ok(byte) => line.push(byte),
        }
    }
    String::from_utf8_lossy(&line).trim().to_owned()
}
