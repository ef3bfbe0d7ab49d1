//! The programs, one row each.

use std::ffi::{OsStr, OsString};

use crate::harness::{compiled_by, find_program, go_program, script};
use crate::two_copies::{HTTP, Peer, Site, V4, V6, two_copies_share};

/// `who.c`, which answers a connection without a request.
pub(crate) const WHO: Peer = Peer { program: "who-static.bin", request: "", ..HTTP };

/// A command line.
fn words(all: &[&dyn AsRef<OsStr>]) -> Result<Vec<OsString>, String> {
    Ok(all.iter().map(|word| word.as_ref().to_owned()).collect())
}

/// The path of a system program, or why there is none.
pub(crate) fn installed(name: &str) -> Result<OsString, String> {
    find_program(name).map(Into::into).ok_or_else(|| format!("{name} is not installed"))
}

/// The command line of `who.c` with these arguments.
pub(crate) fn who(
    compiler: &str,
    flags: &[&str],
    protocol: &str,
    site: &Site,
    mode: &str,
) -> Result<Vec<OsString>, String> {
    installed(compiler)?;
    let program = compiled_by(compiler, "who", flags);
    words(&[&program, &protocol, &"127.0.0.1", &site.port.to_string(), &mode])
}

/// The command line of `python3 -m http.server`, which serves its directory; a file there names the
/// copy.
pub(crate) fn http_server(site: &Site, bind: Option<&str>) -> Result<Vec<OsString>, String> {
    std::fs::write(site.dir.join("index.html"), format!("copy {}\n", site.copy)).unwrap();
    let mut command: Vec<OsString> = words(&[
        &installed("python3")?,
        &"-m",
        &"http.server",
        &site.port.to_string(),
        &"--directory",
        &site.dir,
    ])?;
    command.extend(bind.into_iter().flat_map(|ip| ["--bind", ip]).map(OsString::from));
    Ok(command)
}

/// The command line of `serve.js`.
pub(crate) fn node(site: &Site, more: &[&str]) -> Result<Vec<OsString>, String> {
    let mut command: Vec<OsString> =
        words(&[&installed("node")?, &script("serve.js"), &site.port.to_string()])?;
    command.extend(more.iter().map(OsString::from));
    Ok(command)
}

/// nginx with a master and two workers. All its files are in the directory of the copy.
fn nginx(site: &Site, reuseport: &str) -> Result<Vec<OsString>, String> {
    let program = installed("nginx")?;
    let dir = site.dir.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {dir}/{name};\n"))
        .concat();
    let configuration = format!(
        "daemon off; worker_processes 2; pid {dir}/pid; error_log stderr;
         events {{}}
         http {{
             access_log off; {temporary}
             server {{
                 listen 127.0.0.1:{port}{reuseport};
                 location / {{ return 200 \"$pid\\n\"; }}
             }}
         }}\n",
        port = site.port,
    );
    let file = site.dir.join("nginx.conf");
    std::fs::write(&file, configuration).unwrap();
    words(&[&program, &"-e", &"stderr", &"-p", &site.dir, &"-c", &file])
}

fn go(site: &Site, protocol: &str) -> Result<Vec<OsString>, String> {
    installed("go")?;
    words(&[&go_program("serve"), &protocol, &format!(":{}", site.port)])
}

/// Every row.
pub(crate) const ALL: &[&Peer] = &[
    &PYTHON_HTTP_SERVER,
    &PYTHON_HTTP_SERVER_ON_ITS_DEFAULT_ADDRESS,
    &PYTHON_HTTP_SERVER_DUAL_STACK,
    &PYTHON_ASYNCIO_ON_TWO_SOCKETS,
    &NODE_HTTP,
    &NODE_CLUSTER_WHOSE_FIRST_PROCESS_ACCEPTS,
    &NODE_CLUSTER_WHOSE_WORKERS_ACCEPT,
    &NGINX_MASTER_AND_TWO_WORKERS,
    &NGINX_REUSEPORT,
    &C_DYNAMIC,
    &C_STATIC,
    &C_STATIC_MUSL,
    &C_FORKING,
    &C_THREADED,
    &C_UDP,
    &C_THAT_SHARES_BY_ITSELF,
    &GO_STATIC,
    &GO_STATIC_UDP,
];

pub(crate) const PYTHON_HTTP_SERVER: Peer = Peer {
    what: "`python3 -m http.server`",

    program: "python3",
    command: |site| http_server(site, Some("127.0.0.1")),
    ..HTTP
};

#[test]
fn python_http_server() {
    two_copies_share(&PYTHON_HTTP_SERVER);
}

pub(crate) const PYTHON_HTTP_SERVER_ON_ITS_DEFAULT_ADDRESS: Peer = Peer {
    what: "`python3 -m http.server`, on `0.0.0.0`",

    program: "python3",
    listens: &["0.0.0.0"],
    command: |site| http_server(site, None),
    ..HTTP
};

#[test]
fn python_http_server_on_its_default_address() {
    two_copies_share(&PYTHON_HTTP_SERVER_ON_ITS_DEFAULT_ADDRESS);
}

pub(crate) const PYTHON_HTTP_SERVER_DUAL_STACK: Peer = Peer {
    what: "`python3 -m http.server`, dual-stack",

    program: "python3",
    listens: &["*"],
    asked: &[V4, V6],
    command: |site| http_server(site, Some("::")),
    ..HTTP
};

#[test]
fn python_http_server_dual_stack() {
    two_copies_share(&PYTHON_HTTP_SERVER_DUAL_STACK);
}

pub(crate) const PYTHON_ASYNCIO_ON_TWO_SOCKETS: Peer = Peer {
    what: "Python, asyncio, on two sockets",

    program: "python3",
    listens: &["0.0.0.0", "[::]"],
    asked: &[V4, V6],
    command: |site| words(&[&installed("python3")?, &script("serve.py"), &site.port.to_string()]),
    ..HTTP
};

#[test]
fn python_asyncio_on_two_sockets() {
    two_copies_share(&PYTHON_ASYNCIO_ON_TWO_SOCKETS);
}

const NODE: Peer = Peer { program: "node", listens: &["*"], asked: &[V4, V6], ..HTTP };

pub(crate) const NODE_HTTP: Peer = Peer { what: "Node", command: |site| node(site, &[]), ..NODE };

#[test]
fn node_http() {
    two_copies_share(&NODE_HTTP);
}

pub(crate) const NODE_CLUSTER_WHOSE_FIRST_PROCESS_ACCEPTS: Peer = Peer {
    what: "Node, cluster whose first process accepts",
    command: |site| node(site, &["2", "rr"]),
    ..NODE
};

#[test]
fn node_cluster_primary_accepts() {
    two_copies_share(&NODE_CLUSTER_WHOSE_FIRST_PROCESS_ACCEPTS);
}

pub(crate) const NODE_CLUSTER_WHOSE_WORKERS_ACCEPT: Peer = Peer {
    what: "Node, cluster whose workers accept",
    command: |site| node(site, &["2", "none"]),
    ..NODE
};

#[test]
fn node_cluster_workers_accept() {
    two_copies_share(&NODE_CLUSTER_WHOSE_WORKERS_ACCEPT);
}

pub(crate) const NGINX_MASTER_AND_TWO_WORKERS: Peer = Peer {
    what: "nginx, a master and two workers",
    program: "nginx",
    code: 0,
    command: |site| nginx(site, ""),
    ..HTTP
};

#[test]
fn nginx_master_and_two_workers() {
    two_copies_share(&NGINX_MASTER_AND_TWO_WORKERS);
}

pub(crate) const NGINX_REUSEPORT: Peer = Peer {
    what: "nginx, `reuseport`",

    program: "nginx",
    sockets: 2,
    shares_itself: true,
    code: 0,
    command: |site| nginx(site, " reuseport"),
    ..HTTP
};

#[test]
fn nginx_reuseport() {
    two_copies_share(&NGINX_REUSEPORT);
}

pub(crate) const C_DYNAMIC: Peer = Peer {
    what: "C, dynamic",

    program: "who.bin",
    command: |site| who("cc", &[], "tcp", site, "once"),
    ..WHO
};

#[test]
fn c_dynamic() {
    two_copies_share(&C_DYNAMIC);
}

pub(crate) const C_STATIC: Peer =
    Peer { what: "C, static", command: |site| who("cc", &["-static"], "tcp", site, "once"), ..WHO };

#[test]
fn c_static() {
    two_copies_share(&C_STATIC);
}

pub(crate) const C_STATIC_MUSL: Peer = Peer {
    what: "C, static, musl",

    program: "who-static-musl",
    command: |site| who("musl-gcc", &["-static"], "tcp", site, "once"),
    ..WHO
};

#[test]
fn c_static_musl() {
    two_copies_share(&C_STATIC_MUSL);
}

pub(crate) const C_FORKING: Peer = Peer {
    what: "C, static, forking",
    command: |site| who("cc", &["-static"], "tcp", site, "fork"),
    ..WHO
};

#[test]
fn c_forking() {
    two_copies_share(&C_FORKING);
}

pub(crate) const C_THREADED: Peer = Peer {
    what: "C, static, bound by a second thread",

    command: |site| who("cc", &["-static"], "tcp", site, "thread"),
    ..WHO
};

#[test]
fn c_threaded() {
    two_copies_share(&C_THREADED);
}

pub(crate) const C_UDP: Peer = Peer {
    what: "C, static, UDP",

    protocol: "udp",
    command: |site| who("cc", &["-static"], "udp", site, "once"),
    ..WHO
};

#[test]
fn c_udp() {
    two_copies_share(&C_UDP);
}

pub(crate) const C_THAT_SHARES_BY_ITSELF: Peer = Peer {
    what: "C, static, shares by itself",

    shares_itself: true,
    command: |site| who("cc", &["-static"], "tcp", site, "setrp"),
    ..WHO
};

#[test]
fn c_with_reuseport() {
    two_copies_share(&C_THAT_SHARES_BY_ITSELF);
}

const GO: Peer = Peer { program: "serve", listens: &["*"], asked: &[V4, V6], ..HTTP };

pub(crate) const GO_STATIC: Peer = Peer { what: "Go", command: |site| go(site, "tcp"), ..GO };

#[test]
fn go_static() {
    two_copies_share(&GO_STATIC);
}

pub(crate) const GO_STATIC_UDP: Peer =
    Peer { what: "Go, UDP", protocol: "udp", command: |site| go(site, "udp"), ..GO };

#[test]
fn go_static_udp() {
    two_copies_share(&GO_STATIC_UDP);
}
