//! Clients that are broken, slow, many, gone, or of another user do not stop the supervisor.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::Instant;

use super::*;
use crate::control::client::Client;
use crate::control::fixtures::{ControlFixture, NAME, about, change, status, willing};
use crate::control::protocol::WorkerPhase;
use crate::control::{ControlSocket, client};

/// A time limit for every step, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);

fn client(fixture: &ControlFixture) -> UnixStream {
    let client = UnixStream::connect(fixture.socket()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client.set_write_timeout(Some(LIMIT)).unwrap();
    client
}

fn encoded(version: u32, request: ControlRequest) -> Vec<u8> {
    codec::encode(&VersionedRequest { version, request }, usize::MAX).unwrap()
}

/// The replies, to the end of the connection.
fn replies(mut client: &UnixStream) -> Vec<ControlReply> {
    let next = || codec::read(&mut client, codec::MAX_REPLY).unwrap();
    std::iter::from_fn(next).collect()
}

fn status_of(
    fixture: &ControlFixture,
) -> Result<Box<crate::control::protocol::RunStatus>, client::ClientError> {
    Client::new(Some(fixture.dir.path().into())).status(&NAME.parse().unwrap())
}

/// The answer to these bytes, and nothing after them.
fn answer_to(fixture: &ControlFixture, bytes: &[u8]) -> Vec<ControlReply> {
    let mut client = client(fixture);
    client.write_all(bytes).unwrap();
    replies(&client)
}

#[test]
fn garbage_is_answered_with_what_is_wrong() {
    let fixture = ControlFixture::willing();
    let text = |json: &str| {
        let length = u32::try_from(json.len()).unwrap().to_be_bytes();
        [&length[..], json.as_bytes()].concat()
    };
    let cases = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "1195725856 bytes is too long"),
        (0x8000_0000u32.to_be_bytes().to_vec(), "2147483648 bytes is too long"),
        (u32::MAX.to_be_bytes().to_vec(), "4294967295 bytes is too long"),
        (65537u32.to_be_bytes().to_vec(), "65537 bytes is too long"),
        (text(""), "cannot be understood"),
        (text("\u{1b}[2J"), "cannot be understood"),
        (text(&"[".repeat(60_000)), "cannot be understood"),
        (text("{}"), "missing field `version`"),
        (text("{\"version\":-1}"), "cannot be understood"),
        (text("{\"version\":1}"), "missing field `request`"),
        (text("{\"version\":1,\"request\":\"frobnicate\"}"), "unknown variant"),
        (text("{\"version\":1,\"request\":{\"scale\":{\"copies\":65536}}}"), "65536"),
        (text("{\"version\":1,\"request\":{\"upgrade\":{\"command\":[0]}}}"), "did not match"),
        (encoded(0, ControlRequest::Status), "version 1, not 0"),
        (text("{\"version\":2,\"verb\":[{}]}"), "version 1, not 2"),
    ];
    for (bytes, expected) in cases {
        match &answer_to(&fixture, &bytes)[..] {
            [ControlReply::Failed { error, .. }] => {
                assert!(error.contains(expected), "{expected}: {error}");
            }
            other => panic!("{expected}: {other:?}"),
        }
    }
    let answers = answer_to(&fixture, &encoded(VERSION, ControlRequest::Status));
    assert_eq!(answers, [ControlReply::Accepted, ControlReply::Status(Box::new(status()))]);
}

/// Whatever a client does, the next one is answered.
#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let fixture = ControlFixture::willing();
    let request = encoded(VERSION, ControlRequest::Restart { surge: Some(1000), now: false });
    for sent in (0..request.len()).chain([request.len(); 200]) {
        client(&fixture).write_all(&request[..sent]).unwrap();
    }
    // The server may not have noticed yet that clients left, and may be at its maximum.
    let answered = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        status_of(&fixture).is_ok()
    });
    assert!(answered);
}

/// Requests are whole, however they arrive.
#[test]
fn a_request_in_pieces_is_a_request() {
    let fixture = ControlFixture::willing();
    let mut client = client(&fixture);
    for byte in encoded(VERSION, ControlRequest::Restart { surge: Some(1), now: false }) {
        client.write_all(&[byte]).unwrap();
    }
    assert_eq!(
        replies(&client),
        [ControlReply::Accepted, ControlReply::Update(change(1)), ControlReply::Done]
    );
}

#[test]
fn what_was_asked_for_is_done_although_the_client_has_gone() {
    let (done, is_done) = std_mpsc::channel();
    let (left, has_left) = tokio::sync::oneshot::channel();
    let fixture =
        ControlFixture::new(|door, mut calls: mpsc::Receiver<PendingRequest>| async move {
            let PendingRequest { request, responder: replies } = calls.recv().await.unwrap();
            has_left.await.unwrap();
            for worker in 0..10_000 {
                replies.send_update(&change(worker));
                tokio::task::yield_now().await;
            }
            replies.finish(ControlReply::Done);
            done.send(request).unwrap();
            willing(door, calls).await;
        });
    let mut client = client(&fixture);
    client.write_all(&encoded(VERSION, ControlRequest::Stop)).unwrap();
    let heard: Option<ControlReply> = codec::read(&mut client, codec::MAX_REPLY).unwrap();
    assert_eq!(heard, Some(ControlReply::Accepted));
    drop(client);
    left.send(()).unwrap();
    assert_eq!(is_done.recv_timeout(LIMIT), Ok(ControlRequest::Stop));
    status_of(&fixture).unwrap();
}

/// A client that never reads misses updates, and delays neither others nor its last reply.
#[test]
fn a_slow_client_keeps_nobody_waiting() {
    let (done, is_done) = std_mpsc::channel();
    let fixture =
        ControlFixture::new(|door, mut calls: mpsc::Receiver<PendingRequest>| async move {
            let PendingRequest { responder: replies, .. } = calls.recv().await.unwrap();
            let why = Some("x".repeat(1000));
            let long = crate::control::protocol::WorkerUpdate {
                why,
                state: WorkerPhase::Gone,
                ..change(1)
            };
            for _ in 0..10_000 {
                replies.send_update(&long);
                tokio::task::yield_now().await;
            }
            replies.finish(ControlReply::Done);
            done.send(()).unwrap();
            willing(door, calls).await;
        });
    let mut slow = client(&fixture);
    slow.write_all(&encoded(VERSION, ControlRequest::Stop)).unwrap();
    is_done.recv_timeout(LIMIT).unwrap();
    status_of(&fixture).unwrap();
    let heard = replies(&slow);
    assert_eq!(heard.last(), Some(&ControlReply::Done));
    assert!((2..10_000).contains(&heard.len()), "{}", heard.len());
}

#[test]
fn a_thousand_half_open_clients_end_and_the_next_is_answered() {
    sameport_sys::process::startup::raise_descriptor_limit();
    let beats = Arc::new(AtomicU32::new(0));
    let beating = Arc::clone(&beats);
    let fixture =
        ControlFixture::new(|door, mut calls: mpsc::Receiver<PendingRequest>| async move {
            let heart = tokio::spawn(async move {
                loop {
                    beating.fetch_add(1, Ordering::Relaxed);
                    sleep(Duration::from_millis(1)).await;
                }
            });
            while let Some(call) = calls.recv().await {
                call.responder.finish(ControlReply::Status(Box::new(status())));
            }
            heart.abort();
            door.close().await;
        });
    let half = &encoded(VERSION, ControlRequest::Status)[..7];
    let before = beats.load(Ordering::Relaxed);
    let clients: Vec<_> = (0..1000)
        .map(|_| {
            let mut client = client(&fixture);
            // The server may have closed the connection already.
            match client.write_all(half) {
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                other => other.unwrap(),
            }
            client
        })
        .collect();
    assert!(beats.load(Ordering::Relaxed) > before, "the supervisor has stood still");
    // Each gets an error, or its time limit passes, while the connections stay open.
    let refused = clients.iter().filter(|client| match &replies(client)[..] {
        [] => false,
        [ControlReply::Failed { error, .. }] => error.contains("64 other clients"),
        other => panic!("{other:?}"),
    });
    assert!(refused.count() >= 1000 - 2 * MAX_CLIENTS);
    status_of(&fixture).unwrap();
    drop(clients);
}

/// A thread of another user: the directory refuses it, and with an open directory the server does.
#[test]
fn another_user_gets_nothing() {
    if effective_user() != 0 {
        // Without privilege the thread cannot change its uid.
        return;
    }
    let fixture = ControlFixture::willing();
    let as_nobody = |what: fn(&Path) -> Result<Vec<u8>, ErrorKind>| {
        let socket = fixture.socket();
        std::thread::spawn(move || {
            become_nobody();
            what(&socket)
        })
        .join()
        .unwrap()
    };
    let connect = |socket: &Path| {
        let mut client = UnixStream::connect(socket).map_err(|error| error.kind())?;
        client.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = client.write_all(&encoded(VERSION, ControlRequest::Status));
        let mut heard = Vec::new();
        match client.read_to_end(&mut heard) {
            // It has not read what we wrote.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => drop(other.unwrap()),
        }
        Ok(heard)
    };
    assert_eq!(as_nobody(connect), Err(ErrorKind::PermissionDenied));
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    open(fixture.dir.path(), 0o755);
    open(&fixture.folder(), 0o755);
    assert_eq!(as_nobody(connect), Err(ErrorKind::PermissionDenied), "the socket is ours");
    open(&fixture.socket(), 0o777);
    assert_eq!(as_nobody(connect), Ok(Vec::new()), "not a byte");
    status_of(&fixture).unwrap();
}

#[test]
fn root_may_ask_everybodys_supervisor() {
    if effective_user() != 0 {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(room.path(), Some(65534), None).unwrap();
    let folder = room.path().join("sameport");
    let socket = folder.join(format!("{NAME}.sock"));
    let (opened, is_open) = std_mpsc::channel();
    let supervisor = std::thread::spawn(move || {
        become_nobody();
        let claim =
            sameport_sys::run_files::NameClaim::take(&NAME.parse().unwrap(), &[folder]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (door, calls) = ControlSocket::open(claim, about()).unwrap();
            opened.send(()).unwrap();
            willing(door, calls).await;
        });
    });
    is_open.recv_timeout(LIMIT).unwrap();
    let mut client = UnixStream::connect(socket).unwrap();
    client.write_all(&encoded(VERSION, ControlRequest::Stop)).unwrap();
    assert_eq!(replies(&client), [ControlReply::Accepted, ControlReply::Done]);
    supervisor.join().unwrap();
}

/// A process of its own, whose limit harms no other test.
#[test]
fn without_a_free_descriptor_it_waits_and_does_not_spin() {
    let ourselves = std::env::current_exe().unwrap();
    let test = "control::server::tests::at_the_limit_of_descriptors";
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 32; exec \"$@\"", "sh"])
        .arg(ourselves)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && stdout.contains(" 1 passed"), "{output:?}");
}

#[test]
#[ignore = "`without_a_free_descriptor_it_waits_and_does_not_spin` starts it with a low limit"]
fn at_the_limit_of_descriptors() {
    let fixture = ControlFixture::willing();
    let fill = || std::fs::File::open("/dev/null");
    let mut files: Vec<_> = (0..1000).map_while(|_| fill().ok()).collect();
    assert!(files.len() < 32, "there is no limit");
    drop(files.pop());
    let mut client = client(&fixture);
    client.write_all(&encoded(VERSION, ControlRequest::Status)).unwrap();
    let before = processor_time(libc::CLOCK_PROCESS_CPUTIME_ID);
    let reference = spin(Duration::from_secs(1));
    let all = processor_time(libc::CLOCK_PROCESS_CPUTIME_ID) - before;
    let used = all.saturating_sub(reference);
    assert!(used < reference / 3, "{used:?} beside {reference:?} of a thread that spins");
    drop(files);
    assert_eq!(replies(&client).len(), 2);
}

/// Spins this thread for a while. Returns the processor time that the thread got.
fn spin(wall: Duration) -> Duration {
    let begin = Instant::now();
    let before = processor_time(libc::CLOCK_THREAD_CPUTIME_ID);
    while begin.elapsed() < wall {}
    processor_time(libc::CLOCK_THREAD_CPUTIME_ID) - before
}

/// The processor time that a clock counts: that of this process or of this thread.
#[expect(unsafe_code, reason = "std has no clock of processor time, and /proc takes a descriptor")]
fn processor_time(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime(2) writes to a live local.
    let encoded = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(encoded, 0);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// This thread, and no other, becomes uid 65534.
#[expect(unsafe_code, reason = "the user of one thread is changed by the bare call only")]
fn become_nobody() {
    // SAFETY: setresuid(2) takes three numbers, and changes the credentials of this thread.
    let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
    assert_eq!(changed, 0);
}
