//! Messages from children, from ourselves, and what is no message.

use std::io::{IoSlice, Read as _};
use std::process::{Command, Stdio};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::*;

fn said(text: &str) -> NotifyState {
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
        assert_eq!(said(text), expected, "{text:?}");
    }
    assert_eq!(NotifyState::parse(b"STATUS=\xff\xfe\nREADY=1"), said("READY=1"));
}

/// A child that says this and waits to be let go.
fn child(name: &OsStr, message: &str) -> std::process::Child {
    let script = r#"use Socket; my ($to, $said) = @ARGV; $to =~ s/^@/\0/;
        socket(my $s, AF_UNIX, SOCK_DGRAM, 0) or die; $said =~ s/OWN/$$/;
        send($s, $said, 0, pack_sockaddr_un($to)) or die "send: $!"; print "sent\n"; <STDIN>"#;
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
fn what_children_say_is_heard_with_their_names() {
    let _turn = crate::serial::run_shared();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    for mut notices in [NotifySocket::open().unwrap(), NotifySocket::open_at(&path).unwrap()] {
        assert_eq!(notices.take(), []);
        let mut sender = child(notices.name(), "READY=1\nMAINPID=OWN\nSTATUS=up");
        let pid = sender.id().cast_signed();
        let said = NotifyState {
            ready: true,
            main_pid: Some(pid),
            status: Some("up".into()),
            ..NotifyState::default()
        };
        assert_eq!(notices.take(), [NotifyRecord { ancestry: vec![pid], state: said }]);
        assert_eq!(notices.take(), []);
        sender.kill().unwrap();

        // Not waited for yet, so that it has its name still; then not any more.
        let mut ended = child(notices.name(), "STOPPING=1");
        ended.kill().unwrap();
        let from = vec![ended.id().cast_signed()];
        let said = NotifyState { stopping: true, ..NotifyState::default() };
        assert_eq!(notices.take(), [NotifyRecord { ancestry: from, state: said }]);
        let mut reaped = child(notices.name(), "READY=1");
        reaped.kill().unwrap();
        for child in [&mut sender, &mut ended, &mut reaped] {
            child.wait().unwrap();
        }
        assert_eq!(notices.take(), []);

        // Process 1 is nobody that we have started.
        let mut liar = child(notices.name(), "MAINPID=1");
        assert_eq!(notices.take()[0].state, NotifyState::default());
        liar.kill().unwrap();
        liar.wait().unwrap();
    }
    assert!(!path.exists());
}

#[test]
fn others_are_not_heard_and_what_they_send_along_is_closed() {
    let mut notices = NotifySocket::open().unwrap();
    let name = notices.name().as_bytes().strip_prefix(b"@").unwrap().to_vec();
    let to = SocketAddrUnix::new_abstract_name(&name).unwrap();
    let us = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
    let (mut end, sent) = std::io::pipe().unwrap();
    let sent = [sent];
    let fds: Vec<_> = std::iter::repeat_n(sent[0].as_fd(), 200).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let parts = [IoSlice::new(b"READY=1\nBARRIER=1")];
    rustix::net::sendmsg_addr(&us, &to, &parts, &mut control, SendFlags::empty()).unwrap();
    drop(sent);
    assert_eq!(notices.take(), []);
    assert_eq!(end.read(&mut [0]).unwrap(), 0);

    rustix::net::sendto(&us, &[b'x'; LONGEST + 1], SendFlags::empty(), &to).unwrap();
    assert_eq!(notices.take(), []);
}

#[test]
fn a_message_that_is_too_long_is_not_read_by_halves() {
    let _turn = crate::serial::run_shared();
    let mut notices = NotifySocket::open().unwrap();
    let long = format!("READY=1\nSTATUS={}", "x".repeat(LONGEST));
    let mut sender = child(notices.name(), &long);
    assert_eq!(notices.take(), []);
    sender.kill().unwrap();
    sender.wait().unwrap();
}

#[test]
fn a_place_that_is_taken_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(NotifySocket::open_at(&path).err(), Some(Errno::ADDRINUSE));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    let long = folder.path().join("x".repeat(120));
    assert_eq!(NotifySocket::open_at(&long).err(), Some(Errno::NAMETOOLONG));
}
