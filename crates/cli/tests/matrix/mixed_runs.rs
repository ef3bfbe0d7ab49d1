//! More than two copies, and different programs on one port.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{self, Patience, TIMEOUT, User, descendants, free_port, start_run};
use crate::programs::{WHO, http_server, installed, node, who};
use crate::two_copies::{HTTP, Peer, V4, V6, ask_peer, command, ip_of, list, pids};

/// The last lines of the responses, until `count` different ones have come.
fn answers(peer: &Peer, address: SocketAddr, count: usize) -> BTreeSet<String> {
    let mut responses = BTreeSet::new();
    let patience = Patience::new(TIMEOUT);
    while responses.len() < count && !patience.is_over() {
        if let Ok(answer) = ask_peer(peer, address) {
            responses.insert(last_line(&answer));
        }
    }
    responses
}

fn last_line(answer: &str) -> String {
    answer.trim_end().lines().last().unwrap_or_default().to_owned()
}

fn members(listing: &Value) -> &[Value] {
    listing["groups"][0]["members"].as_array().unwrap()
}

#[test]
fn four_copies_at_once() {
    let rows = [
        Peer { command: |site| who("cc", &["-static"], "tcp", site, "once"), ..WHO },
        Peer { command: |site| node(site, &[]), listens: &["*"], asked: &[V4, V6], ..HTTP },
    ];
    for (peer, user) in rows.iter().flat_map(|row| User::all().iter().map(move |user| (row, *user)))
    {
        let port = free_port();
        let command = match command(peer, user, port, 1) {
            Ok(command) => command,
            Err(reason) => return harness::skip("four-copies-at-once", &reason),
        };
        let run = start_run(user, &["-n", "4"], &command);
        run.wait_for_stderr(&format!("{}:{port}/tcp is now shared by 4: pid ", peer.listens[0]));

        let workers: BTreeSet<i32> = descendants(run.pid()).into_iter().collect();
        assert_eq!(workers.len(), 4, "{workers:?}");
        let listing = list(user, port);
        assert_eq!(members(&listing).len(), 4, "{listing:#}");
        let listed: BTreeSet<i32> = members(&listing).iter().flat_map(pids).collect();
        assert_eq!(listed, workers, "{listing:#}");
        assert!(members(&listing).iter().all(|member| member["shared"] == true), "{listing:#}");
        let as_told: BTreeSet<String> = workers.iter().map(ToString::to_string).collect();
        for ip in peer.asked {
            assert_eq!(answers(peer, (ip_of(*ip), port).into(), 4), as_told);
        }

        let exited = run.terminate();
        assert_eq!(exited.code, peer.code, "{exited:?}");
        assert_eq!(list(User::Current, port)["groups"], Value::Array(vec![]));
    }
}

#[test]
fn two_different_programs_share_a_port() {
    if let Err(reason) = installed("python3") {
        return harness::skip("two-different-programs", &reason);
    }
    for user in User::all() {
        let port = free_port();
        let rows = [
            Peer { command: |site| http_server(site, Some("127.0.0.1")), ..HTTP },
            Peer { command: |site| who("cc", &["-static"], "tcp", site, "once"), ..WHO },
        ];
        let [python, c] = [0, 1].map(|row| {
            let command = command(&rows[row], *user, port, row + 1).unwrap();
            start_run(*user, &["--group", "different"], &command)
        });
        let message = format!("127.0.0.1:{port}/tcp is now shared by 2: pid ");
        // The later run reports the other; if both start at once, both do.
        let teller = harness::eventually(|| {
            [&python, &c]
                .into_iter()
                .find_map(|run| run.stderr().contains(&message).then(|| run.stderr()))
        });
        let teller = teller.unwrap_or_else(|| panic!("{} {}", python.stderr(), c.stderr()));
        for program in ["(python3)", "(who-static.bin)"] {
            assert!(teller.contains(program), "{teller}");
        }
        let pid = descendants(c.pid())[0].to_string();
        let expected = BTreeSet::from([pid, "copy 1".to_owned()]);
        assert_eq!(answers(&HTTP, ([127, 0, 0, 1], port).into(), 2), expected);

        let listing = list(*user, port);
        let programs: BTreeSet<_> =
            members(&listing).iter().map(|member| member["program"].as_str().unwrap()).collect();
        assert_eq!(programs, BTreeSet::from(["python3", "who-static.bin"]), "{listing:#}");
        python.terminate();
        c.terminate();
    }
}

/// The more specific address receives all of its traffic, and the run that binds it with `--join` is warned.
#[test]
fn programs_beside_a_dual_stack_one() {
    let node_peer = Peer { command: |site| node(site, &[]), ..HTTP };
    let rows = [
        (
            Peer { command: |site| http_server(site, None), program: "python3", ..HTTP },
            "0.0.0.0",
            "IPv4 connections",
        ),
        (
            Peer { command: |site| who("cc", &["-static"], "tcp", site, "once"), ..WHO },
            "127.0.0.1",
            "connections to it",
        ),
    ];
    for (peer, ip, what) in &rows {
        for user in User::all() {
            let port = free_port();
            let commands = [&node_peer, peer].map(|peer| command(peer, *user, port, 2));
            let [Ok(dual), Ok(narrow)] = commands else {
                return harness::skip("dual-stack-beside-ipv4", "no node or python3");
            };
            let dual = start_run(*user, &[], &dual);
            let [v4, v6] = [V4, V6].map(|ip| SocketAddr::from((ip_of(ip), port)));
            harness::wait_until_answering(v4);
            let narrow = start_run(*user, &["--join"], &narrow);
            narrow.wait_for_stderr("sameport: note: ");
            let [wide, narrower] = [&dual, &narrow].map(|run| descendants(run.pid())[0]);
            narrow.wait_for_stderr(&format!(
                "sameport: note: {ip}:{port}/tcp (pid {narrower} ({})) takes all {what}, \
                 *:{port}/tcp (pid {wide} (node)) gets none of those\n",
                peer.program
            ));
            assert!(!narrow.stderr().contains("is now shared by"), "{}", narrow.stderr());
            let [wide, narrower] = [wide.to_string(), narrower.to_string()];
            for _ in 0..20 {
                let answer = last_line(&ask_peer(&HTTP, v4).unwrap());
                assert!(answer == "copy 2" || answer == narrower, "{answer}");
                assert_eq!(last_line(&ask_peer(&HTTP, v6).unwrap()), wide);
            }
            narrow.terminate();
            // The traffic returns when it exits.
            assert_eq!(last_line(&ask_peer(&HTTP, v4).unwrap()), wide);
            dual.terminate();
        }
    }
}
