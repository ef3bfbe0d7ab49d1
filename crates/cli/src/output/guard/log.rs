//! Who was refused by a guard, or would have been.

use std::time::{SystemTime, UNIX_EPOCH};

use sameport_sys::bpf::guard::GuardDenial;
use sameport_sys::users;
use serde::Serialize;

use crate::output::json::line;
use crate::output::table::table;
use crate::output::text::{age, quotable};

/// One row a refusal, the newest last.
pub(crate) fn text(refusals: &[GuardDenial]) -> String {
    let header = ["AGO", "BIND", "WAS", "PID", "PROGRAM", "USER", "CGROUP"];
    let now = SystemTime::now();
    let rows: Vec<_> = refusals
        .iter()
        .map(|it| {
            [
                age(now.duration_since(it.at).unwrap_or_default()),
                format!("{}/{}", std::net::SocketAddr::new(it.ip, it.port), it.protocol),
                if it.report_only { "noted" } else { "refused" }.to_owned(),
                it.pid.to_string(),
                it.program.clone(),
                users::user_name(it.uid).unwrap_or_else(|| it.uid.to_string()),
                it.cgroup
                    .as_deref()
                    .map_or_else(|| "(gone)".to_owned(), |path| quotable(&path.to_string_lossy())),
            ]
        })
        .collect();
    table(header, &rows)
}

/// A line of JSON a refusal.
pub(crate) fn json(refusals: &[GuardDenial]) -> String {
    let told = |it: &GuardDenial| {
        line(&ToldRefusal {
            number: it.number,
            time: it.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            address: std::net::SocketAddr::new(it.ip, it.port),
            protocol: it.protocol.name(),
            network: it.network,
            refused: !it.report_only,
            pid: it.pid,
            program: &it.program,
            uid: it.uid,
            user: users::user_name(it.uid),
            cgroup: it.cgroup.as_deref().map(|path| path.to_string_lossy().into_owned()),
        })
    };
    refusals.iter().map(told).collect()
}

#[derive(Serialize)]
struct ToldRefusal<'a> {
    /// Counted since the first guard was set: a gap is what nobody has read in time.
    number: u64,
    /// Seconds since 1970.
    time: f64,
    address: std::net::SocketAddr,
    protocol: &'a str,
    network: u64,
    /// False: it was let through, and only noted.
    refused: bool,
    /// In the machine's first pid namespace.
    pid: u32,
    program: &'a str,
    uid: u32,
    user: Option<String>,
    cgroup: Option<String>,
}
