//! Messages from children, from this process, and invalid ones.

use std::io::{IoSlice, Read as _};
use std::process::{Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::*;

fn parsed(text: &str) -> NotifyState {
    NotifyState::parse(text.as_bytes())
}

#[test]
fn messages_are_read() {
    let nothing = NotifyState::default();
    let ready = NotifyState { ready: true, ..nothing.clone() };
    let status = Some("a=b c".to_owned());
    for (text, expected) in [
        ("READY=1", ready.clone()),
        ("READY=1\n", ready.clone()),
        ("\n\nREADY=1\nWATCHDOG=1\nFDSTORE=1", ready.clone()),
        ("READY=0\nREADY\n=1", nothing.clone()),
        ("ready=1\n READY=1\nREADY=1 ", nothing.clone()),
        ("STOPPING=1", NotifyState { stopping: true, ..nothing.clone() }),
        ("RELOADING=1\nMONOTONIC_USEC=7", NotifyState { reloading: true, ..nothing.clone() }),
        ("MAINPID=4711\nREADY=1", NotifyState { main_pid: Some(4711), ..ready.clone() }),
        ("MAINPID=-1\nMAINPID=x\nMAINPID=0", nothing.clone()),
        ("STATUS=a=b c\nREADY=1", NotifyState { status, ..ready }),
        ("", nothing.clone()),
    ] {
        assert_eq!(parsed(text), expected, "{text:?}");
    }
    assert_eq!(NotifyState::parse(b"STATUS=\xff\xfe\nREADY=1"), parsed("READY=1"));
}

/// A child that sends the message and waits for the end of its standard input.
fn child(name: &OsStr, message: &str) -> std::process::Child {
    let script = r#"use Socket; my ($to, $text) = @ARGV; $to =~ s/^@/\0/;
        socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; $text =~ s/OWN/$$/;
        send($s, $text, 0, pack_sockaddr_un($to)) or die "send: $!"; print "sent\n"; <STDIN>"#;
    let mut child = Command::new("perl")
        .args(["-e", "$| = 1;", "-e", script])
        .args([name, OsStr::new(message)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    child
}

#[test]
fn messages_of_children_are_attributed() {
    let _turn = crate::serial::run_shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    for mut socket in [NotifySocket::open().unwrap(), NotifySocket::open_at(&path).unwrap()] {
        assert_eq!(socket.take(), []);
        let mut sender = child(socket.name(), "READY=1\nMAINPID=OWN\nSTATUS=up");
        let pid = sender.id().cast_signed();
        let state = NotifyState {
            ready: true,
            main_pid: Some(pid),
            status: Some("up".into()),
            ..NotifyState::default()
        };
        assert_eq!(socket.take(), [NotifyRecord { ancestry: vec![pid], state }]);
        assert_eq!(socket.take(), []);
        sender.kill().unwrap();

        // The ancestry of a zombie is known, that of a reaped process is not.
        let mut ended = child(socket.name(), "STOPPING=1");
        ended.kill().unwrap();
        let ancestry = vec![ended.id().cast_signed()];
        let state = NotifyState { stopping: true, ..NotifyState::default() };
        assert_eq!(socket.take(), [NotifyRecord { ancestry, state }]);
        let mut reaped = child(socket.name(), "READY=1");
        reaped.kill().unwrap();
        for child in [&mut sender, &mut ended, &mut reaped] {
            child.wait().unwrap();
        }
        assert_eq!(socket.take(), []);

        // Process 1 is no descendant.
        let mut sender = child(socket.name(), "MAINPID=1");
        assert_eq!(socket.take()[0].state, NotifyState::default());
        sender.kill().unwrap();
        sender.wait().unwrap();
    }
    assert!(!path.exists());
}

#[test]
fn messages_of_others_are_dropped_and_their_descriptors_closed() {
    let mut socket = NotifySocket::open().unwrap();
    let name = socket.name().as_bytes().strip_prefix(b"@").unwrap().to_vec();
    let to = SocketAddrUnix::new_abstract_name(&name).unwrap();
    let sender = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    let (mut end, sent) = std::io::pipe().unwrap();
    let sent = [sent];
    let fds: Vec<_> = std::iter::repeat_n(sent[0].as_fd(), 200).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let parts = [IoSlice::new(b"READY=1\nBARRIER=1")];
    rustix::net::sendmsg_addr(&sender, &to, &parts, &mut control, SendFlags::empty()).unwrap();
    drop(sent);
    assert_eq!(socket.take(), []);
    assert_eq!(end.read(&mut [0]).unwrap(), 0);

    rustix::net::sendto(&sender, &[b'x'; LONGEST + 1], SendFlags::empty(), &to).unwrap();
    assert_eq!(socket.take(), []);
}

#[test]
fn a_message_that_is_too_long_is_dropped() {
    let _turn = crate::serial::run_shared();
    let mut socket = NotifySocket::open().unwrap();
    let long = format!("READY=1\nSTATUS={}", "x".repeat(LONGEST));
    let mut sender = child(socket.name(), &long);
    assert_eq!(socket.take(), []);
    sender.kill().unwrap();
    sender.wait().unwrap();
}

#[test]
fn an_existing_file_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(NotifySocket::open_at(&path).err(), Some(Errno::ADDRINUSE));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let long = folder.path().join("x".repeat(120));
    assert_eq!(NotifySocket::open_at(&long).err(), Some(Errno::NAMETOOLONG));
}
