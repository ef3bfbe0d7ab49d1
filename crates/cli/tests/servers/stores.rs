//! Databases, caches and queues, whose clients stay connected.

use crate::harness::load::Client::{self, Talk};
use crate::harness::load::Step::{Expect, Pause, Send};
use crate::server::servers;

const REDIS: Client = Talk(&[
    Send(b"PING\r\n"),
    Expect(b"+PONG\r\n"),
    Pause(1000),
    Send(b"PING\r\n"),
    Expect(b"+PONG\r\n"),
]);
const MEMCACHED: Client = Talk(&[
    Send(b"version\r\n"),
    Expect(b"VERSION "),
    Pause(1000),
    Send(b"version\r\n"),
    Expect(b"VERSION "),
]);
const BEANSTALK: Client = Talk(&[
    Send(b"list-tubes\r\n"),
    Expect(b"OK "),
    Pause(1000),
    Send(b"list-tubes\r\n"),
    Expect(b"OK "),
]);
/// CONNECT and CONNACK, PINGREQ and PINGRESP.
const MQTT: Client = Talk(&[
    Send(b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"),
    Expect(b"\x20\x02\0\0"),
    Pause(1000),
    Send(b"\xc0\0"),
    Expect(b"\xd0\0"),
]);
/// Whether TLS is possible, and after a second the login to the administration.
const POSTGRES: Client = Talk(&[
    Send(b"\0\0\0\x08\x04\xd2\x16\x2f"),
    Expect(b"N"),
    Pause(1000),
    Send(b"\0\0\0\x28\0\x03\0\0user\0anyone\0database\0pgbouncer\0\0"),
    Expect(b"R\0\0\0\x08\0\0\0\0"),
]);

servers! {
    redis: "redis-server" {
        needs: &["redis-server"],
        command: &["redis-server", "--port", "{port}", "--dir", "{dir}", "--save", "",
            "--protected-mode", "no"],
        options: &["--drain", "all"],
        reason: "a client is idle between two commands",
        clients: &[REDIS, REDIS, REDIS],
    }
    memcached: "memcached" {
        needs: &["memcached"],
        command: &["memcached", "-u", "nobody", "-p", "{port}", "-U", "0", "-l", "0.0.0.0"],
        options: &["--drain", "all"],
        reason: "a client is idle between two commands",
        clients: &[MEMCACHED, MEMCACHED, MEMCACHED],
    }
    beanstalkd: "beanstalkd" {
        needs: &["beanstalkd"],
        command: &["beanstalkd", "-l", "0.0.0.0", "-p", "{port}"],
        options: &["--drain", "all"],
        reason: "a client is idle between two commands",
        clients: &[BEANSTALK, BEANSTALK, BEANSTALK],
    }
    mosquitto: "mosquitto" {
        needs: &["mosquitto"],
        files: &[("mosquitto.conf", "listener {port}\nallow_anonymous true\nuser root\n")],
        command: &["mosquitto", "-c", "{dir}/mosquitto.conf"],
        options: &["--drain", "all"],
        reason: "a client is idle between two commands",
        clients: &[MQTT, MQTT, MQTT],
    }
    pgbouncer: "pgbouncer" {
        root: true,
        needs: &["pgbouncer"],
        files: &[("pgbouncer.ini", "\
            [databases]\n[pgbouncer]\nlisten_addr = *\nlisten_port = {port}\nauth_type = trust\n\
            auth_file = {dir}/users\nunix_socket_dir =\nadmin_users = anyone\n"),
            ("users", "\"anyone\" \"\"\n")],
        command: &["pgbouncer", "-u", "nobody", "{dir}/pgbouncer.ini"],
        options: &["--drain", "all"],
        reason: "a client is idle between two commands",
        clients: &[POSTGRES, POSTGRES, POSTGRES],
    }
}
