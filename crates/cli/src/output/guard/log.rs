//! The binds that a guard refused or noted.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use sameport_sys::bpf::guard::GuardDenial;
use sameport_sys::users;

use crate::output::json::{line, object};
use crate::output::table::table;
use crate::output::text::{age, quotable};

/// One row a bind, the newest last.
pub(crate) fn text(denials: &[GuardDenial]) -> String {
    let header = ["AGO", "BIND", "WAS", "PID", "PROGRAM", "USER", "CGROUP"];
    let now = SystemTime::now();
    let rows: Vec<_> = denials
        .iter()
        .map(|it| {
            [
                age(now.duration_since(it.at).unwrap_or_default()),
                format!("{}/{}", SocketAddr::new(it.ip, it.port), it.protocol),
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

/// A line of JSON for each bind. A gap in `number`, which counts from the first guard, is a bind that was
/// overwritten in the log; `refused` is false for a bind that a report-only guard noted; `pid` is in the
/// first pid namespace; `time` is in seconds since 1970.
pub(crate) fn json(denials: &[GuardDenial]) -> String {
    let denial = |it: &GuardDenial| {
        line(&object! {
            number: it.number,
            time: it.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            address: SocketAddr::new(it.ip, it.port),
            protocol: it.protocol,
            network: it.network,
            refused: !it.report_only,
            pid: it.pid,
            program: &it.program,
            uid: it.uid,
            user: users::user_name(it.uid),
            cgroup: it.cgroup.as_deref().map(|path| path.to_string_lossy()),
        })
    };
    denials.iter().map(denial).collect()
}
