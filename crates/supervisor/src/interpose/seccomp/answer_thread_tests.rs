//! Failures of answers, with a thread of this process as the worker.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use sameport_policy::seccomp::calls::Architecture;
use sameport_policy::seccomp::filter;
use sameport_policy::seccomp::filter::{FilterOptions, IoUring};
use sameport_sys::seccomp::{FilterInstall, install};
use tokio::sync::mpsc;

use super::*;

/// A thread that binds this many times, with its listener.
fn worker(binds: usize) -> (NotifyListener, std::thread::JoinHandle<Vec<bool>>) {
    let (give, take) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let machine = Architecture::named(std::env::consts::ARCH).unwrap();
        let stops = FilterOptions {
            io_uring: IoUring::Allow,
            connections: false,
            shutdowns: false,
            restrictions: false,
        };
        let installation = FilterInstall::new(&filter::program(machine, stops), true);
        give.send(install(&installation).unwrap()).unwrap();
        (0..binds).map(|_| std::net::UdpSocket::bind("127.0.0.1:0").is_ok()).collect()
    });
    (NotifyListener::new(take.recv().unwrap()), thread)
}

/// Lets calls continue, after `first` was called with the number of the call.
struct Scripted<F> {
    count: usize,
    first: F,
}

impl<F: FnMut(usize) -> Result<(), Errno> + Send + 'static> Answer for Scripted<F> {
    fn answer(
        &mut self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<Option<Report>, Errno> {
        self.count += 1;
        (self.first)(self.count)?;
        listener.let_continue(notification.id).map(|_| None)
    }

    fn answer_unseen(
        &self,
        listener: &NotifyListener,
        notification: &Notification,
    ) -> Result<(), Errno> {
        listener.let_continue(notification.id).map(drop)
    }
}

fn troubles(reports: &mut mpsc::Receiver<Report>) -> Vec<AnswerTrouble> {
    let mut found = Vec::new();
    while let Ok(report) = reports.try_recv() {
        if let Report::Event(RunEvent::AnswerTrouble { trouble, .. }) = report {
            found.push(trouble);
        }
    }
    found
}

#[test]
fn a_panic_or_an_error_is_reported_once_and_the_call_continues() {
    let failed = AnswerTrouble::Failed(Errno::NOMEM.to_string());
    type Call = fn(usize) -> Result<(), Errno>;
    let cases: [(Call, Vec<AnswerTrouble>); 4] = [
        (|_| Ok(()), vec![]),
        (|_| Err(Errno::NOMEM), vec![failed.clone()]),
        (|_| panic!("as the test wants"), vec![AnswerTrouble::Panicked]),
        (|count| if count == 2 { Err(Errno::NOMEM) } else { Ok(()) }, vec![failed]),
    ];
    for (first, expected) in cases {
        let (sender, mut reports) = mpsc::channel(16);
        let threads = AnswerThreads::start(sender, KeptSockets::default()).unwrap();
        let (listener, worker) = worker(5);
        threads.add(listener, Scripted { count: 0, first }).unwrap();
        assert_eq!(worker.join().unwrap(), [true; 5]);
        assert!(threads.stop());
        assert_eq!(troubles(&mut reports), expected);
    }
}

#[test]
fn a_blocked_answer_costs_one_worker() {
    let (sender, _reports) = mpsc::channel(16);
    let threads = AnswerThreads::start(sender, KeptSockets::default()).unwrap();
    let gate = Arc::new(Barrier::new(2));
    let is_open = Arc::new(AtomicBool::new(false));
    let (listener, blocked) = worker(1);
    let (its, opened) = (Arc::clone(&gate), Arc::clone(&is_open));
    let first = move |_| {
        its.wait();
        assert!(opened.load(Ordering::Acquire));
        Ok(())
    };
    threads.add(listener, Scripted { count: 0, first }).unwrap();
    let (listener, free) = worker(100);
    threads.add(listener, Scripted { count: 0, first: |_| Ok(()) }).unwrap();
    assert_eq!(free.join().unwrap(), [true; 100]);
    assert!(!blocked.is_finished());
    is_open.store(true, Ordering::Release);
    gate.wait();
    assert_eq!(blocked.join().unwrap(), [true]);
    assert!(threads.stop());
}
