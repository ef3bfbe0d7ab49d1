//! A real Prometheus reads a real exporter, and runs every query of the dashboard.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::catalog::read;
use crate::exporter::{Exporter, freeze, run};

use crate::harness::{
    Process, ask, eventually, find_program, free_port, is_root, kill, skip, spawn_process,
};
use crate::scrape::by_ss;

/// The longest range of a query, in place of the dashboard's `$__rate_interval`.
const RANGE: &str = "1m";

struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    /// Starts Prometheus with one target. `None`: it is not installed.
    fn start(target: SocketAddr, directory: &std::path::Path) -> Option<Self> {
        let program = find_program("prometheus")?;
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let config = directory.join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:\n  - job_name: sameport\n    \
             static_configs:\n      - targets: ['{target}']\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        Some(Self { _process: spawn_process(command), address })
    }

    /// The result of a query now.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let request =
            format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\nhost: prometheus\r\n\r\n");
        let reply = ask(self.address, request.as_bytes()).map_err(|error| error.to_string())?;
        let reply = String::from_utf8_lossy(&reply);
        let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let value: Value = serde_json::from_str(body).map_err(|_| reply.clone().into_owned())?;
        match value["data"]["result"].as_array() {
            Some(result) if value["status"] == "success" => Ok(result.clone()),
            _ => Err(body.to_owned()),
        }
    }

    /// The only value of a query.
    fn number(&self, query: &str) -> Option<f64> {
        match self.query(query).ok()?.as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }

    #[track_caller]
    fn wait_for(&self, query: &str, wanted: f64) {
        let found = eventually(|| (self.number(query) == Some(wanted)).then_some(()));
        assert!(found.is_some(), "{query}: {:?}, not {wanted}", self.query(query));
    }
}

/// The queries of every panel.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&read("packaging/grafana/sameport.json")).unwrap();
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36), "Grafana 9");
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_query_of_the_dashboard_has_a_result() {
    let has_counts = is_root()
        && crate::harness::start(crate::harness::User::Current, &["doctor", "--json"])
            .wait()
            .stdout
            .contains("\"steer\"");
    let policy = if has_counts { "least-connections" } else { "random" };
    let run = run(&["-n", "2", "--policy", policy]);
    let pids = run.wait_for_ready(2);
    let name = run.setup.name.clone();
    // Findings are of the whole machine: the first audit suffices.
    let exporter = Exporter::start(&run.setup, &["--run", &name, "--audit-interval", "1h"]);
    let Some(prometheus) = Prometheus::start(exporter.address, &run.setup.dir) else {
        run.stop();
        return skip("metrics-prometheus", "no prometheus");
    };
    let of_run = format!("{{run=\"{name}\"}}");
    prometheus.wait_for(&format!("sameport_run_up{of_run}"), 1.0);
    kill(*pids.iter().next().unwrap(), libc::SIGKILL);
    run.wait_for_ready(2);
    run.verb("restart", &[]);
    let at = run.setup.address();
    let pids = run.wait_for_ready(2);
    let mut open: Vec<TcpStream> = (0..9).map(|_| TcpStream::connect(at).unwrap()).collect();
    let here = format!("{{address=\"{at}\"}}");
    prometheus.wait_for(&format!("sameport_address_connections{here}"), 9.0);
    pids.iter().for_each(|pid| freeze(*pid));
    open.extend((0..4).map(|_| TcpStream::connect(at).unwrap()));
    prometheus.wait_for(&format!("sameport_address_accept_queue{here}"), 4.0);
    let (queue, limit, connections) = by_ss(run.setup.port).unwrap();
    assert_eq!((queue, connections), (4, 9));
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    prometheus.wait_for(&format!("sameport_address_accept_queue_limit{here}"), limit as f64);
    pids.iter().for_each(|pid| kill(*pid, libc::SIGCONT));
    let mut count = 0;
    for query in queries() {
        let filled = query.replace("$run", &name).replace("$__rate_interval", RANGE);
        assert!(!filled.contains('$'), "{query}: another variable");
        let is_of_bpf = query.contains("sameport_member_");
        let mut last = Ok(Vec::new());
        let found = eventually(|| {
            last = prometheus.query(&filled);
            let is_enough = |it: &Vec<Value>| !it.is_empty() || (is_of_bpf && !has_counts);
            last.as_ref().is_ok_and(is_enough).then_some(())
        });
        assert!(found.is_some(), "{filled}: {last:?}\n{}", exporter.scrape());
        count += 1;
    }
    assert!(count >= 20, "{count} queries");
    drop(open);
    exporter.process.terminate();
    run.stop();
}
