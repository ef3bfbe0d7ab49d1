//! A bind that succeeds without `run` beside the sockets of other programs also succeeds under `run`,
//! by each interposer, for two users: 1,088 pairs of sockets, and those of multicast services.

use std::collections::BTreeMap;

use crate::harness::{self, User, find_program, script, skip, start_command};

/// The user of the binds.
const USERS: [&str; 2] = ["0", "65534"];

/// Runs the script, and returns the result of each pair.
fn results(mode: &str, uid: &str, via: Option<&str>) -> Result<BTreeMap<String, String>, String> {
    let python = find_program("python3").ok_or("no python3")?;
    let script = script("native_binds.py").into_os_string().into_string().unwrap();
    let sameport = harness::sameport().to_str().unwrap().to_owned();
    let run = via.map(|via| [sameport.as_str(), "run", "--quiet", "--via", via, "--"]);
    let words = [script.as_str(), mode, uid].into_iter().chain(run.into_iter().flatten());
    let process = start_command(User::Current, python, &words.collect::<Vec<_>>());
    let exited = process.wait_within(harness::TIMEOUT * 10);
    assert_eq!(exited.code, 0, "{mode} {uid} {via:?}: {exited:?}");
    let pair = |line: &str| line.rsplit_once(' ').map(|(pair, it)| (pair.into(), it.into()));
    Ok(exited.stdout.lines().filter_map(pair).collect())
}

/// Whether `run` refuses the pair on purpose: sockets of one user that both have SO_REUSEPORT, where the
/// kernel would let a program of another group join. Datagram sockets that both have SO_REUSEADDR share
/// by that option.
fn is_refused_by_group(pair: &str) -> bool {
    let (holder, new) = pair.split_once(" | ").unwrap();
    let holder: Vec<&str> = holder.split(' ').collect();
    let by_address = holder[0] == "udp" && holder[1].contains("ra") && new.contains("ra");
    holder[2] == "same" && holder[1].contains("rp") && new.contains("rp") && !by_address
}

fn obstacle() -> Option<&'static str> {
    match (harness::is_root(), find_program("python3")) {
        (false, _) => Some("needs root, for two users and a network namespace"),
        (true, None) => Some("no python3"),
        (true, Some(_)) => None,
    }
}

#[test]
fn no_bind_fails_that_succeeds_without_run() {
    if let Some(reason) = obstacle() {
        return skip("native-binds", reason);
    }
    for uid in USERS {
        let native = results("all", uid, None).unwrap();
        assert_eq!(native.len(), 1088);
        for via in ["seccomp", "preload", "cgroup"] {
            // Only root attaches programs to a cgroup.
            if via == "cgroup" && uid != "0" {
                continue;
            }
            let shared = results("all", uid, Some(via)).unwrap();
            assert_eq!(shared.len(), native.len());
            let differs = |(pair, without): (&String, &String)| {
                let under = &shared[pair];
                let is_refused = under != "ok" && under != without;
                let on_purpose = via == "seccomp" && is_refused_by_group(pair);
                (is_refused && !on_purpose).then(|| format!("{pair}: {without}, {under}"))
            };
            let worse: Vec<String> = native.iter().filter_map(differs).collect();
            assert!(worse.is_empty(), "{via} {uid}: {worse:#?}");
        }
    }
}

/// mDNS, SSDP, DHCP and others: the socket of a run does not keep the programs of other users out.
#[test]
fn a_multicast_service_stays_open_for_other_programs() {
    if let Some(reason) = obstacle() {
        return skip("native-binds", reason);
    }
    for uid in USERS {
        let native = results("first", uid, None).unwrap();
        assert!(native.len() == 8 && native.values().all(|it| it == "ok"), "{native:?}");
        for via in ["seccomp", "preload", "cgroup"] {
            if via != "cgroup" || uid == "0" {
                assert_eq!(results("first", uid, Some(via)).unwrap(), native, "{via} {uid}");
            }
        }
    }
}
