//! `bench run`: requests per second of one server, alone and under `run` with each interposer.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::error::BenchError;
use crate::figures::{Pairs, Ratio, in_turns};
use crate::harness::{
    BenchProcess, PATIENCE, find_program, folder, free_address, interposers, listeners, start,
    subject, under_run,
};
use crate::load::{Use, requests_per_second};
use crate::report::{FigureReport, progress, row};
use crate::subject::{BODY, THREADS};

/// Requests per second of a server, alone and under `run` with each interposer, one copy and two
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Rounds of each pair
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds per measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS)))]
    clients: u16,
}

/// Slices of each measurement, in turns: other load for half a second affects both sides, and
/// long-lived connections are distributed anew in each slice.
const SLICES: u32 = 10;

#[derive(Serialize)]
struct RateFigures {
    server: &'static str,
    copies: u16,
    connections: Use,
    via: &'static str,
    requests_per_second: Pairs,
    ratio: Ratio,
}

enum RateServer {
    /// The server of this package.
    Ours,
    Nginx {
        program: PathBuf,
        folder: PathBuf,
    },
}

impl RateServer {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Nginx { .. } => "nginx",
        }
    }

    /// The command of one copy, which either sets SO_REUSEPORT itself or does not.
    fn command(&self, address: SocketAddr, shares: bool) -> Result<Vec<OsString>, BenchError> {
        let Self::Nginx { program, folder } = self else {
            let port = address.port().to_string();
            let shared = shares.then_some("--shared");
            let arguments: Vec<&str> = ["serve", &port].into_iter().chain(shared).collect();
            return subject(&arguments);
        };
        let file = folder.join(format!("{}.conf", address.port()));
        fs::write(&file, nginx_configuration(folder, address, shares))
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = subject(&["keep", "--"])?;
        command.extend([program.into(), "-e".into(), "stderr".into(), "-c".into(), file.into()]);
        Ok(command)
    }
}

/// nginx with one process, which writes below `folder` only.
fn nginx_configuration(folder: &Path, address: SocketAddr, shares: bool) -> String {
    let server = nginx_server(folder, address, shares);
    format!("master_process off;\npid {}/{}.pid;\n{server}", folder.display(), address.port())
}

/// An nginx configuration that writes below `folder` only, without the number of processes and the
/// pid file.
pub(crate) fn nginx_server(folder: &Path, address: SocketAddr, shares: bool) -> String {
    let folder = folder.display();
    let reuseport = if shares { " reuseport" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {folder}/{what};\n"))
        .concat();
    format!(
        "daemon off;\nerror_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}    access_log off;\n    keepalive_requests 1000000000;\n    server {{\n\
         \x20       listen {address} backlog=1024{reuseport};\n        location / {{ return 200 {BODY:?}; }}\n\
         \x20   }}\n}}\n"
    )
}

/// One server several times, idle until it is measured: alone, and under `run` with each
/// interposer.
struct Arms {
    addresses: Vec<SocketAddr>,
    started: Vec<BenchProcess>,
}

impl Arms {
    fn start(
        server: &RateServer,
        copies: u16,
        sameport: &Path,
        vias: &[&str],
    ) -> Result<Self, BenchError> {
        let mut arms = Self { addresses: vec![free_address()?], started: Vec::new() };
        for _ in 0..copies {
            arms.started.push(start(&server.command(arms.addresses[0], copies > 1)?)?);
        }
        arms.wait_for(copies)?;
        for via in vias {
            arms.addresses.push(free_address()?);
            let bare = server.command(arms.addresses[arms.addresses.len() - 1], false)?;
            let options = ["--via", via, "-n", &copies.to_string()];
            arms.started.push(start(&under_run(sameport, &options, &bare))?);
            arms.wait_for(copies)?;
        }
        Ok(arms)
    }

    /// Waits until all copies at the last address listen.
    fn wait_for(&mut self, copies: u16) -> Result<(), BenchError> {
        let (Some(address), Some(last)) = (self.addresses.last(), self.started.last_mut()) else {
            return Ok(());
        };
        last.wait_for(&format!("{copies} listeners on {address}"), PATIENCE, |_| {
            (listeners(*address) == usize::from(copies)).then_some(())
        })
    }
}

pub(crate) fn measure(
    args: &Args,
    sameport: &Path,
    report: &mut FigureReport,
) -> Result<(), BenchError> {
    let mut servers = vec![RateServer::Ours];
    match find_program("nginx") {
        Some(program) => servers.push(RateServer::Nginx { program, folder: folder()? }),
        None => progress("nginx is not here: measured without it"),
    }
    let vias = interposers(sameport)?;
    let mut outcomes = Vec::new();
    for server in &servers {
        for copies in [1, 2] {
            for connections in [Use::Short, Use::KeepAlive] {
                let arms = Arms::start(server, copies, sameport, &vias)?;
                outcomes.extend(compare(args, server, copies, connections, &vias, &arms)?);
            }
        }
    }
    let heading = ["server", "copies", "connections", "via", "alone/s", "run/s", "ratio (rounds)"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(outcomes.iter().map(|it| {
        let connections = if it.connections == Use::Short { "short" } else { "keep-alive" };
        let rate = &it.requests_per_second;
        let (alone, run) = (format!("{:.0}", rate.without()), format!("{:.0}", rate.with()));
        row![it.server, it.copies, connections, it.via, alone, run, it.ratio]
    }));
    report.table(&rows)?;
    report.end("run", &outcomes)
}

fn compare(
    args: &Args,
    server: &RateServer,
    copies: u16,
    connections: Use,
    vias: &[&'static str],
    arms: &Arms,
) -> Result<Vec<RateFigures>, BenchError> {
    let drive = |address, time| requests_per_second(address, connections, args.clients, time);
    for address in &arms.addresses {
        drive(*address, Duration::from_millis(200))?;
    }
    let slice = Duration::from_secs(args.seconds) / SLICES;
    let mut pairs = vec![Pairs::default(); vias.len()];
    for round in 1..=args.rounds {
        let mut rates = vec![0.0; arms.addresses.len()];
        for number in 0..SLICES {
            for arm in in_turns(rates.len(), number) {
                rates[arm] += drive(arms.addresses[arm], slice)? / f64::from(SLICES);
            }
        }
        for (pairs, rate) in pairs.iter_mut().zip(&rates[1..]) {
            pairs.push(rates[0], *rate);
        }
        let rates: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
        progress(&format!(
            "{}, {copies} copies, {connections:?}, round {round} of {}: alone, {}: {} requests/s",
            server.name(),
            args.rounds,
            vias.join(", "),
            rates.join(", ")
        ));
    }
    let outcomes = vias.iter().zip(pairs).map(|(via, pairs)| {
        let (server, ratio) = (server.name(), pairs.ratio());
        RateFigures { server, copies, connections, via, requests_per_second: pairs, ratio }
    });
    Ok(outcomes.collect())
}
