//! Servers of sessions, most of them with a process for each.

use crate::harness::load::Client::{self, Talk};
use crate::harness::load::Step::{Expect, Pause, Send};
use crate::harness::load::talks::{ECHO, QUICK_ECHO};
use crate::server::servers;

const ECHOES: &[Client] = &[ECHO, ECHO, QUICK_ECHO];

/// The begin of a key exchange: both lists of algorithms, and after a second the client's key and
/// the server's answer with its host key.
const SSH: Client = Talk(&[
    Send(b"SSH-2.0-test\r\n"),
    Expect(b"SSH-2.0-"),
    Expect(b"curve25519-sha256"),
    Pause(1000),
    // SSH_MSG_KEXINIT of RFC 4253, section 7.1.
    Send(b"\0\0\0\x9c\x0b\x14sameport--cookie\0\0\0\x11curve25519-sha256\0\0\0\x0bssh-ed25519\0\0\0\x0aaes128-ctr\0\0\0\x0aaes128-ctr\0\0\0\x0dhmac-sha2-256\0\0\0\x0dhmac-sha2-256\0\0\0\x04none\0\0\0\x04none\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    // SSH_MSG_KEX_ECDH_INIT with a public key of 32 bytes.
    Send(b"\0\0\0,\x06\x1e\0\0\0 \x09\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    Expect(b"\0\0\0\x0bssh-ed25519\0\0\0\x20"),
]);

const FTP: Client = Talk(&[
    Expect(b"220 "),
    Send(b"USER anonymous\r\n"),
    Expect(b"331 "),
    Pause(1000),
    Send(b"NOOP\r\n"),
    Expect(b"530 "),
    Send(b"QUIT\r\n"),
    Expect(b"221 "),
]);

const RSYNC: Client = Talk(&[
    Expect(b"@RSYNCD: "),
    Pause(1000),
    Send(b"@RSYNCD: 31.0 sha1\n#list\n"),
    Expect(b"@RSYNCD: EXIT"),
]);

const GIT: Client =
    Talk(&[Pause(1000), Send(b"0025git-upload-pack /repo\0host=local\0"), Expect(b"ERR ")]);

const IRC: Client = Talk(&[
    Send(b"CAP LS\r\n"),
    Expect(b"CAP * LS"),
    Pause(1000),
    Send(b"CAP LS\r\n"),
    Expect(b"CAP * LS"),
]);

servers! {
    sshd: "openssh-server" {
        needs: &["sshd", "ssh-keygen"],
        root: true,
        files: &[("sshd_config", "\
            Port {port}\nHostKey {dir}/key\nPidFile none\nMaxStartups 100\nPerSourceMaxStartups none\n")],
        prepare: &[&["mkdir", "-p", "/run/sshd"],
            &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "{dir}/key"]],
        command: &["/usr/sbin/sshd", "-D", "-e", "-f", "{dir}/sshd_config"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[SSH, SSH, SSH],
    }
    dropbear: "dropbear-bin" {
        needs: &["dropbear", "dropbearkey"],
        root: true,
        prepare: &[&["dropbearkey", "-t", "ed25519", "-f", "{dir}/key"]],
        command: &["dropbear", "-F", "-E", "-p", "{port}", "-r", "{dir}/key", "-P", "{dir}/pid"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[SSH, SSH, SSH],
    }
    vsftpd: "vsftpd" {
        needs: &["vsftpd"],
        root: true,
        files: &[("vsftpd.conf", "\
            listen=YES\nlisten_port={port}\nbackground=NO\nanonymous_enable=NO\nlocal_enable=YES\n\
            secure_chroot_dir={dir}/empty\nnopriv_user=nobody\n")],
        prepare: &[&["mkdir", "{dir}/empty"]],
        command: &["vsftpd", "{dir}/vsftpd.conf"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[FTP, FTP, FTP],
    }
    xinetd: "xinetd" {
        needs: &["xinetd"],
        root: true,
        files: &[("xinetd.conf", "\
            defaults\n{\n instances = 100\n cps = 1000 1\n per_source = UNLIMITED\n}\n\
            service echo-lines\n{\n type = UNLISTED\n socket_type = stream\n protocol = tcp\n\
            \x20port = {port}\n wait = no\n user = root\n server = /bin/cat\n disable = no\n}\n")],
        command: &["xinetd", "-dontfork", "-f", "{dir}/xinetd.conf", "-pidfile", "{dir}/pid"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    tcpserver: "ucspi-tcp" {
        needs: &["tcpserver"],
        command: &["tcpserver", "-RHl0", "-c", "100", "0", "{port}", "/bin/cat"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    socat: "socat" {
        needs: &["socat"],
        command: &["socat", "TCP-LISTEN:{port},fork,reuseaddr,backlog=64", "EXEC:/bin/cat"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    ncat: "ncat" {
        needs: &["ncat"],
        command: &["ncat", "-l", "-k", "-m", "100", "-c", "/bin/cat", "{port}"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    python_forking: "python3" {
        needs: &["/usr/bin/python3"],
        files: &[("server.py", include_str!("apps/forking_echo.py"))],
        command: &["/usr/bin/python3", "server.py", "{port}"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    asyncio: "python3" {
        needs: &["/usr/bin/python3"],
        files: &[("server.py", include_str!("apps/asyncio_echo.py"))],
        command: &["/usr/bin/python3", "server.py", "{port}"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: ECHOES,
    }
    rsync: "rsync" {
        needs: &["rsync"],
        files: &[("rsyncd.conf", "use chroot = no\n[files]\npath = {dir}\n")],
        command: &["rsync", "--daemon", "--no-detach", "--port={port}", "--config={dir}/rsyncd.conf"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[RSYNC, RSYNC, RSYNC],
    }
    git_daemon: "git" {
        needs: &["git"],
        command: &["git", "daemon", "--port={port}", "--reuseaddr", "--base-path={dir}", "--verbose"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[GIT, GIT, GIT],
    }
    ngircd: "ngircd" {
        needs: &["ngircd"],
        root: true,
        files: &[("ngircd.conf", "\
            [Global]\nName = irc.localhost\nInfo = test\nPorts = {port}\nServerUID = 65534\n\
            ServerGID = 65534\n[Limits]\nMaxConnectionsIP = 100\n[Options]\nDNS = no\nIdent = no\n\
            PAM = no\n")],
        command: &["ngircd", "-n", "-f", "{dir}/ngircd.conf"],
        options: &["--drain", "all"],
        reason: "a session is idle between two lines",
        clients: &[IRC, IRC, IRC],
    }
}
