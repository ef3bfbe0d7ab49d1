//! The HTTP probe of a worker with one or several TCP addresses: one that answers is enough.

use std::collections::BTreeMap;

use sameport_policy::lifecycle::InstanceId;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::readiness::{HttpTarget, status_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::attempt::{PAUSE, attempt};
use super::connection;
use crate::pool::SocketPool;

/// The most addresses that are probed at a time.
const MOST: usize = 16;

/// The most answers in one text.
const LISTED: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct HttpProbe {
    pub(super) start: InstanceId,
    pub(super) pool: SocketPool,
    pub(super) target: HttpTarget,
}

impl HttpProbe {
    /// Probes every address in parallel until one answers: a silent port, such as that of a debugger,
    /// must not delay the others, and the server's own port may open last.
    pub(super) async fn until_ready(self, texts: &mpsc::Sender<String>) {
        let (sender, mut results) = mpsc::channel(MOST);
        let mut probes: JoinSet<()> = JoinSet::new();
        let mut last: BTreeMap<Address, String> = BTreeMap::new();
        let mut running: BTreeMap<Address, tokio::task::AbortHandle> = BTreeMap::new();
        loop {
            let addresses = self.addresses();
            running.retain(|address, probe| {
                let is_there = addresses.contains(address);
                if !is_there {
                    probe.abort();
                }
                is_there
            });
            last.retain(|address, _| addresses.contains(address));
            for address in &addresses {
                if !running.contains_key(address) {
                    let probe = self.clone().probe(address.clone(), sender.clone());
                    running.insert(address.clone(), probes.spawn(probe));
                }
            }
            // Fails at the end of the run only.
            let _ = texts.send(self.summary(&last)).await;
            tokio::select! {
                Some((address, result)) = results.recv() => match result {
                    Ok(()) => return,
                    Err(why) => drop(last.insert(address, why)),
                },
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// The addresses to probe.
    fn addresses(&self) -> Vec<Address> {
        let all = self.pool.addresses(self.start).into_iter();
        let wanted = |address: &Address| {
            let is_port = self.target.port.is_none_or(|port| port == address.port());
            address.protocol == Protocol::Tcp && is_port
        };
        all.filter(wanted).take(MOST).collect()
    }

    /// The last answers of all addresses.
    fn summary(&self, last: &BTreeMap<Address, String>) -> String {
        match (last.is_empty(), self.target.port) {
            (false, _) => {
                let some: Vec<String> = last.values().take(LISTED).cloned().collect();
                let more = last.len().saturating_sub(LISTED);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                some.join("; ") + &more
            }
            (true, Some(port)) if self.addresses().is_empty() => {
                let all = self.pool.addresses(self.start);
                let all: Vec<String> = all.iter().take(LISTED).map(ToString::to_string).collect();
                format!("port {port} is missing; the worker listens on {}", all.join(", "))
            }
            (true, None) if self.addresses().is_empty() => {
                "the worker listens on no TCP address".into()
            }
            (true, _) => "no answer yet".into(),
        }
    }

    /// Probes one address until it answers.
    async fn probe(self, address: Address, results: mpsc::Sender<(Address, Result<(), String>)>) {
        let silent = format!("no answer from {address}");
        // Fails at the end of the check only.
        let tell = async |result| drop(results.send((address.clone(), result)).await);
        loop {
            let pending = tell(Err(silent.clone()));
            let result = attempt(self.answers(&address), &silent, pending).await;
            let is_ready = result.is_ok();
            tell(result).await;
            if is_ready {
                return;
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends one request, and reads the response.
    async fn answers(&self, address: &Address) -> Result<(), String> {
        let failed = |error| connection::describe(address, &error);
        let mut stream = connection::connect(&self.pool, self.start, address).await?;
        let own = connection::reachable(address.socket).to_string();
        let (path, host) = (&self.target.path, self.target.host.as_ref().unwrap_or(&own));
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sameport\r\nAccept: */*\r\n\
             Connection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        // Reads the body too: many servers log an error if a client closes early.
        const MAX_RESPONSE: u64 = 1 << 20;
        let mut response = Vec::new();
        let read = stream.take(MAX_RESPONSE).read_to_end(&mut response).await;
        match status_of(&response) {
            Some(200..400) => Ok(()),
            Some(code) => Err(format!("{code} from {address}")),
            None => match read {
                Err(error) if response.is_empty() => Err(failed(error)),
                _ if response.is_empty() => Err(format!("no response from {address}")),
                _ => Err(format!("no HTTP from {address}")),
            },
        }
    }
}
