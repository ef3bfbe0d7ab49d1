//! Web servers, caches and proxies.

use crate::harness::load::Client::{self, KeepAlive, OneShot, SlowRequest, Talk};
use crate::harness::load::Step::{Expect, Pause, Send};
use crate::server::servers;

/// Two clients without, two with keep-alive, and a slow one.
pub(crate) const WEB: &[Client] = &[OneShot, OneShot, KeepAlive(300), KeepAlive(1000), SlowRequest];

/// For servers that close every connection after an answer.
const NO_KEEP_ALIVE: &[Client] = &[OneShot, OneShot, OneShot, SlowRequest];

/// HTTP/2 without TLS: the preface, a pause, and a ping.
const HTTP2: Client = Talk(&[
    Send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"),
    Expect(b"\x04\x01\0\0\0\0"),
    Pause(1000),
    Send(b"\0\0\x08\x06\0\0\0\0\0sameport"),
    Expect(b"\x06\x01\0\0\0\0sameport"),
]);

const INDEX: (&str, &str) = ("index.html", "served\n");

servers! {
    nginx: "nginx-light" {
        needs: &["nginx"],
        files: &[("nginx.conf", "\
            daemon off; worker_processes 2; error_log stderr; pid {dir}/pid; events {}\n\
            http { access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;\n\
            fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
            server { listen {port}; location / { return 200 served; } } }\n")],
        command: &["nginx", "-e", "stderr", "-p", "{dir}", "-c", "{dir}/nginx.conf"],
        clients: WEB,
    }
    haproxy: "haproxy" {
        needs: &["haproxy"],
        files: &[("haproxy.cfg", "\
            defaults\n mode http\n timeout client 30s\n timeout server 30s\n timeout connect 5s\n\
            frontend f\n bind :{port}\n http-request return status 200 content-type text/plain string served\n")],
        command: &["haproxy", "-db", "-f", "{dir}/haproxy.cfg"],
        clients: WEB,
    }
    apache2: "apache2-bin" {
        needs: &["apache2"],
        files: &[INDEX, ("apache.conf", "\
            ServerName localhost\nServerRoot {dir}\nPidFile {dir}/pid-${SAMEPORT_START}\nListen {port}\n\
            LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n\
            LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so\n\
            LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so\n\
            User nobody\nGroup nogroup\nErrorLog /dev/stderr\nDocumentRoot {dir}\n")],
        command: &["apache2", "-D", "FOREGROUND", "-f", "{dir}/apache.conf"],
        clients: WEB,
    }
    lighttpd: "lighttpd" {
        needs: &["lighttpd"],
        files: &[INDEX, ("lighttpd.conf", "\
            server.document-root = \"{dir}\"\nserver.port = {port}\n\
            index-file.names = (\"index.html\")\n")],
        command: &["lighttpd", "-D", "-f", "{dir}/lighttpd.conf"],
        clients: WEB,
    }
    caddy: "caddy" {
        needs: &["caddy"],
        files: &[("Caddyfile", "{\n admin off\n auto_https off\n}\n:{port} {\n respond served\n}\n")],
        command: &["caddy", "run", "--adapter", "caddyfile", "--config", "{dir}/Caddyfile"],
        clients: WEB,
    }
    busybox: "busybox" {
        needs: &["busybox"],
        files: &[INDEX],
        command: &["busybox", "httpd", "-f", "-p", "{port}", "-h", "{dir}"],
        clients: NO_KEEP_ALIVE,
    }
    mini_httpd: "mini-httpd" {
        needs: &["mini_httpd"],
        files: &[INDEX],
        command: &["mini_httpd", "-D", "-p", "{port}", "-d", "{dir}", "-i", "{dir}/pid", "-u", "root"],
        clients: NO_KEEP_ALIVE,
    }
    webfs: "webfs" {
        needs: &["webfsd"],
        files: &[INDEX],
        command: &["webfsd", "-F", "-p", "{port}", "-r", "{dir}", "-f", "index.html"],
        clients: WEB,
    }
    h2o: "h2o" {
        root: true,
        needs: &["h2o"],
        files: &[INDEX, ("h2o.conf", "\
            listen: {port}\nuser: root\nnum-threads: 2\nhosts:\n  default:\n    paths:\n      /:\n\
            \x20       file.dir: {dir}\n")],
        command: &["h2o", "-c", "{dir}/h2o.conf"],
        clients: WEB,
    }
    varnish: "varnish" {
        needs: &["varnishd"],
        files: &[("default.vcl", "\
            vcl 4.1;\nbackend none none;\nsub vcl_recv { return (synth(200, \"served\")); }\n")],
        command: &["sh", "-c", "exec varnishd -F -a 0.0.0.0:{port} -f {dir}/default.vcl \
            -n {dir}/varnish-$SAMEPORT_START -s malloc,8m -T none"],
        clients: WEB,
    }
    nghttpd: "nghttp2-server" {
        needs: &["nghttpd"],
        files: &[INDEX],
        command: &["nghttpd", "--no-tls", "-d", "{dir}", "{port}"],
        options: &["--drain", "all"],
        reason: "an HTTP/2 connection is idle between two requests",
        clients: &[HTTP2, HTTP2, HTTP2],
    }
    tinyproxy: "tinyproxy-bin" {
        needs: &["tinyproxy"],
        files: &[("tinyproxy.conf", "Port {port}\nTimeout 600\nStatHost \"localhost\"\nMaxClients 50\n")],
        command: &["tinyproxy", "-d", "-c", "{dir}/tinyproxy.conf"],
        clients: NO_KEEP_ALIVE,
    }
}
