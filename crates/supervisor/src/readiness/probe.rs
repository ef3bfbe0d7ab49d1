//! The check of one worker: its listeners first, then the check that the user chose.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::pin::pin;
use std::time::Duration;

use sameport_policy::addr::PortSpec;
use sameport_policy::lifecycle::NotReady;
use sameport_policy::lifecycle::exit::Exit;
use sameport_policy::model::{Address, Protocol};
use sameport_policy::readiness::{FirstStartFacts, FirstStartVerdict, listen_key};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use super::attempt::{PAUSE, attempt};
use super::connection;
use super::http::HttpProbe;
use super::worker::{CheckCommand, CheckedWorker, ProbeResult};
use crate::plan::ReadyCheck;
use crate::pool::SocketPool;

/// Interval at which a worker's listeners are read.
const LISTENERS: Duration = Duration::from_millis(10);

/// The check of one worker.
#[derive(Debug)]
pub(super) struct ReadinessProbe {
    pub(super) worker: CheckedWorker,
    pub(super) check: ReadyCheck,
    pub(super) expect: Vec<PortSpec>,
    /// The addresses of the same worker in the last run, as the lifecycle knows them.
    pub(super) last_run: BTreeSet<String>,
    pub(super) pool: SocketPool,
    pub(super) commands: mpsc::Sender<CheckCommand>,
    pub(super) results: mpsc::Sender<ProbeResult>,
}

impl ReadinessProbe {
    /// Checks until the worker is ready, and reports each change of the result.
    pub(super) async fn run(self) {
        let (texts, mut results) = mpsc::channel(16);
        let mut last = String::new();
        let mut check = pin!(self.until_ready(texts));
        let mut is_over = false;
        while !is_over {
            let result = tokio::select! {
                biased;
                Some(why) = results.recv() => Err(why),
                () = &mut check => Ok(()),
            };
            is_over = result.is_ok();
            if result.as_ref().err() != Some(&last) {
                last = result.clone().err().unwrap_or_default();
                // Fails at the end of the run only.
                let _ = self.results.send((self.worker.start, result)).await;
            }
        }
    }

    async fn until_ready(&self, texts: mpsc::Sender<String>) {
        self.until_listening(&texts).await;
        match &self.check {
            ReadyCheck::Listens | ReadyCheck::Notify => {}
            ReadyCheck::Tcp => self.until_accepting(&texts).await,
            ReadyCheck::Http(target) => {
                let (start, pool) = (self.worker.start, self.pool.clone());
                HttpProbe { start, pool, target: target.clone() }.until_ready(&texts).await;
            }
            ReadyCheck::Exec(command) => {
                let pending = "exec: has not exited";
                while let Err(why) =
                    attempt(self.execute(command), pending, report(&texts, pending.into())).await
                {
                    report(&texts, why).await;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Waits until the worker listens on all of its addresses.
    async fn until_listening(&self, texts: &mpsc::Sender<String>) {
        // A worker that announces its readiness does not need a quiet period.
        let announces = self.check == ReadyCheck::Notify;
        let mut known: BTreeSet<Address> = BTreeSet::new();
        let mut since = Instant::now();
        loop {
            let listening = self.pool.addresses(self.worker.start);
            if !listening.is_subset(&known) {
                since = Instant::now();
            }
            known = listening;
            let facts = FirstStartFacts {
                expect: &self.expect,
                has_predecessor: self.worker.has_predecessor || announces,
                last_run: &self.last_run,
                listening: &known,
                quiet_for: since.elapsed(),
            };
            match facts.verdict() {
                FirstStartVerdict::Complete => return,
                FirstStartVerdict::Wait(rest) => sleep(rest.min(LISTENERS)).await,
                FirstStartVerdict::Missing(missing) => {
                    let listening = known.iter().map(listen_key).collect();
                    let lacks = NotReady { missing, listening, check_result: None };
                    report(texts, lacks.to_string()).await;
                    sleep(LISTENERS).await;
                }
            }
        }
    }

    /// Waits until the worker accepts a TCP connection.
    async fn until_accepting(&self, texts: &mpsc::Sender<String>) {
        loop {
            let addresses = self.pool.addresses(self.worker.start);
            let address = addresses.into_iter().find(|it| it.protocol == Protocol::Tcp);
            let result = match address {
                None => Err("the worker listens on no TCP address".to_owned()),
                Some(address) => {
                    let accepted = async {
                        let start = self.worker.start;
                        let stream = connection::connect(&self.pool, start, &address).await?;
                        connection::accepted(&stream).await
                    };
                    let pending = format!("no accept on {address}");
                    attempt(accepted, &pending, report(texts, pending.clone())).await
                }
            };
            let Err(why) = result else { return };
            report(texts, why).await;
            sleep(PAUSE).await;
        }
    }

    /// Lets the supervisor run the command of the check.
    async fn execute(&self, command: &OsString) -> Result<(), String> {
        let (ended, result) = oneshot::channel();
        let command = CheckCommand { command: command.clone(), pid: self.worker.pid, ended };
        // Fails at the end of the run only.
        let _ = self.commands.send(command).await;
        match result.await {
            Ok(Ok(Exit::Code(0))) => Ok(()),
            Ok(Ok(exit)) => Err(format!("exec: {exit}")),
            Ok(Err(error)) => Err(format!("exec: sh cannot be started: {error}")),
            Err(_) => Err("exec: sh has ended unseen".into()),
        }
    }
}

async fn report(texts: &mpsc::Sender<String>, text: String) {
    // The receiver lives as long as the check.
    let _ = texts.send(text).await;
}
