//! Servers in Ruby, PHP, JavaScript, Perl, Go and Java.

use crate::harness::load::Client::{OneShot, SlowAnswer};
use crate::python::{APPLICATION, APPLICATION_ONCE};
use crate::server::servers;

const RACK: (&str, &str) = ("config.ru", include_str!("apps/config.ru"));
const NODE: (&str, &str) = ("server.js", include_str!("apps/server.js"));

servers! {
    puma: "puma" {
        needs: &["puma"],
        files: &[RACK],
        command: &["puma", "-b", "tcp://0.0.0.0:{port}", "-t", "8:8", "-e", "production", "config.ru"],
        clients: APPLICATION,
    }
    puma_cluster: "puma" {
        needs: &["puma"],
        files: &[RACK],
        command: &["puma", "-b", "tcp://0.0.0.0:{port}", "-w", "2", "-t", "4:4", "-e", "production",
            "config.ru"],
        clients: APPLICATION,
    }
    thin: "thin" {
        needs: &["thin"],
        files: &[RACK],
        command: &["thin", "start", "-p", "{port}", "-R", "config.ru", "--threaded", "-q"],
        clients: APPLICATION,
    }
    unicorn: "unicorn" {
        needs: &["unicorn"],
        files: &[RACK, ("unicorn.rb", "worker_processes 3\n")],
        command: &["unicorn", "-l", "0.0.0.0:{port}", "-c", "unicorn.rb", "-E", "none", "config.ru"],
        clients: APPLICATION_ONCE,
    }
    webrick: "ruby-webrick" {
        needs: &["ruby", "/usr/share/doc/ruby-webrick"],
        files: &[("server.rb", include_str!("apps/webrick_server.rb"))],
        command: &["ruby", "server.rb", "{port}"],
        clients: APPLICATION,
    }
    php: "php-cli" {
        needs: &["php"],
        files: &[("index.php", include_str!("apps/index.php"))],
        command: &["env", "PHP_CLI_SERVER_WORKERS=3", "php", "-S", "0.0.0.0:{port}", "index.php"],
        clients: APPLICATION_ONCE,
    }
    node: "nodejs" {
        needs: &["node"],
        files: &[NODE],
        command: &["node", "server.js", "{port}"],
        clients: APPLICATION,
    }
    node_cluster: "nodejs" {
        needs: &["node"],
        files: &[NODE],
        command: &["node", "server.js", "{port}", "2"],
        clients: APPLICATION,
    }
    http_daemon: "libhttp-daemon-perl" {
        needs: &["perl", "/usr/share/perl5/HTTP/Daemon.pm"],
        files: &[("server.pl", include_str!("apps/http_daemon.pl"))],
        command: &["perl", "server.pl", "{port}"],
        clients: &[OneShot, OneShot, SlowAnswer],
    }
    perl_forking: "perl" {
        needs: &["perl"],
        files: &[("server.pl", include_str!("apps/forking.pl"))],
        command: &["perl", "server.pl", "{port}"],
        clients: APPLICATION_ONCE,
    }
    go: "golang-go" {
        needs: &["go"],
        files: &[("server.go", include_str!("apps/server.go"))],
        prepare: &[&["go", "build", "-o", "server", "server.go"]],
        command: &["{dir}/server", ":{port}"],
        clients: APPLICATION,
    }
    java: "default-jdk-headless" {
        needs: &["javac"],
        files: &[("Server.java", include_str!("apps/Server.java"))],
        prepare: &[&["javac", "Server.java"]],
        command: &["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "Server", "{port}"],
        clients: APPLICATION,
    }
}
