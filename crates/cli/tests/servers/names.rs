//! Name servers: UDP and TCP on one port.

use crate::harness::load::Client::{self, Query, Talk};
use crate::harness::load::Step::{Expect, Pause, Send};
use crate::server::servers;

/// The address of `localhost`, over UDP.
const UDP: Client = Query(b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01");
/// The same over TCP.
const TCP: Client = Talk(&[
    Send(b"\0\x1b\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01"),
    Expect(b"\x7f\0\0\x01"),
]);
/// A question whose second half follows after a second.
const SLOW: Client = Talk(&[
    Send(b"\0\x1b\x12\x34\x01\0\0\x01\0\0\0"),
    Pause(1000),
    Send(b"\0\0\0\x09localhost\0\0\x01\0\x01"),
    Expect(b"\x7f\0\0\x01"),
]);
const CLIENTS: &[Client] = &[UDP, UDP, TCP, SLOW];

const ZONE: (&str, &str) = (
    "localhost.zone",
    "\
    $TTL 60\n@ IN SOA localhost. root.localhost. 1 60 60 60 60\n@ IN NS localhost.\n@ IN A 127.0.0.1\n",
);

servers! {
    unbound: "unbound" {
        needs: &["unbound"],
        files: &[("unbound.conf", "\
            server:\n interface: 0.0.0.0\n port: {port}\n num-threads: 2\n chroot: \"\"\n\
            \x20username: \"\"\n directory: \"{dir}\"\n pidfile: \"\"\n use-syslog: no\n\
            \x20do-daemonize: no\n module-config: iterator\n access-control: 127.0.0.0/8 allow\n\
            remote-control:\n control-enable: no\n")],
        command: &["unbound", "-d", "-c", "{dir}/unbound.conf"],
        clients: CLIENTS,
    }
    dnsmasq: "dnsmasq-base" {
        needs: &["dnsmasq"],
        command: &["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
            "--port={port}", "--pid-file=", "--address=/localhost/127.0.0.1", "--user=root"],
        clients: CLIENTS,
    }
    nsd: "nsd" {
        needs: &["nsd"],
        files: &[ZONE, ("nsd.conf", "\
            server:\n ip-address: 0.0.0.0\n port: {port}\n server-count: 2\n username: \"\"\n\
            \x20zonesdir: \"{dir}\"\n xfrdir: \"{dir}\"\n database: \"\"\n pidfile: \"\"\n xfrdfile: \"{dir}/xfrd-{port}\"\n\
            \x20zonelistfile: \"{dir}/zones\"\nremote-control:\n control-enable: no\n\
            zone:\n name: localhost\n zonefile: localhost.zone\n")],
        command: &["nsd", "-d", "-c", "{dir}/nsd.conf"],
        clients: CLIENTS,
    }
    dnsdist: "dnsdist" {
        needs: &["dnsdist"],
        files: &[("dnsdist.conf", "\
            setLocal('0.0.0.0:{port}')\nsetACL('127.0.0.0/8')\n\
            addAction(AllRule(), SpoofAction('127.0.0.1'))\n")],
        command: &["dnsdist", "--supervised", "--disable-syslog", "-C", "{dir}/dnsdist.conf"],
        clients: CLIENTS,
    }
}
