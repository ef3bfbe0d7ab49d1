//! `bench run`: requests per second of the same server with and without `run`.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::Failure;
use super::figures::{Pairs, Ratio};
use super::load::{Use, requests_per_second};
use super::report::{Report, progress, row};
use super::stage::{
    PATIENCE, Started, find_program, folder, free_address, listeners, start, subject, under_run,
};
use super::subject::{BODY, THREADS};

/// Requests per second of a server by itself and under `run`, one copy and two
#[derive(clap::Args)]
pub(super) struct Args {
    /// How often each pair is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Seconds of each single measurement
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Clients at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=i64::from(THREADS)))]
    clients: u16,
}

/// Each measurement is made of so many slices, in turns: a machine that is busy with something else
/// for half a second is so for both, and long-lived connections are spread anew in each.
const SLICES: u32 = 10;

#[derive(Serialize)]
struct Outcome {
    server: &'static str,
    copies: u16,
    connections: Use,
    requests_per_second: Pairs,
    ratio: Ratio,
}

enum Server {
    /// The small one in this program.
    Ours,
    Nginx {
        program: PathBuf,
        folder: PathBuf,
    },
}

impl Server {
    fn name(&self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Nginx { .. } => "nginx",
        }
    }

    /// The command of one copy, which shares the port by itself or knows nothing of that.
    fn command(&self, address: SocketAddr, shares: bool) -> Result<Vec<OsString>, Failure> {
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

/// One process, so that ending it leaves nothing behind; nothing written but below `folder`.
fn nginx_configuration(folder: &Path, address: SocketAddr, shares: bool) -> String {
    let folder = folder.display();
    let reuseport = if shares { " reuseport" } else { "" };
    let port = address.port();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("    {what}_temp_path {folder}/{what};\n"))
        .concat();
    format!(
        "daemon off;\nmaster_process off;\nerror_log stderr;\npid {folder}/{port}.pid;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}    access_log off;\n    keepalive_requests 1000000000;\n    server {{\n\
         \x20       listen {address} backlog=1024{reuseport};\n        location / {{ return 200 {BODY:?}; }}\n\
         \x20   }}\n}}\n"
    )
}

/// The same server twice, idle until it is driven: by itself, and under `run`.
struct Pair {
    bare: SocketAddr,
    run: SocketAddr,
    _started: Vec<Started>,
}

impl Pair {
    fn start(server: &Server, copies: u16, sameport: &Path) -> Result<Self, Failure> {
        let (bare, run) = (free_address()?, free_address()?);
        let mut started = Vec::new();
        for _ in 0..copies {
            started.push(start(&server.command(bare, copies > 1)?)?);
        }
        let options = ["-n", &copies.to_string()];
        started.push(start(&under_run(sameport, &options, &server.command(run, false)?))?);
        for (address, from) in [(bare, 0), (run, started.len() - 1)] {
            let what = format!("{copies} listeners on {address}");
            started[from].wait_for(&what, PATIENCE, |_| {
                (listeners(address) == usize::from(copies)).then_some(())
            })?;
        }
        Ok(Self { bare, run, _started: started })
    }
}

pub(super) fn measure(args: &Args, sameport: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut servers = vec![Server::Ours];
    match find_program("nginx") {
        Some(program) => servers.push(Server::Nginx { program, folder: folder()? }),
        None => progress("nginx is not here: measured without it"),
    }
    let mut outcomes = Vec::new();
    for server in &servers {
        for copies in [1, 2] {
            for connections in [Use::Short, Use::KeepAlive] {
                outcomes.push(compare(args, server, copies, connections, sameport)?);
            }
        }
    }
    let mut rows =
        vec![row!["server", "copies", "connections", "alone/s", "run/s", "ratio (rounds)"]];
    rows.extend(outcomes.iter().map(|it| {
        let connections = if it.connections == Use::Short { "short" } else { "keep-alive" };
        let rate = &it.requests_per_second;
        let (alone, run) = (format!("{:.0}", rate.without()), format!("{:.0}", rate.with()));
        row![it.server, it.copies, connections, alone, run, it.ratio]
    }));
    report.table(&rows)?;
    report.end("run", &outcomes)
}

fn compare(
    args: &Args,
    server: &Server,
    copies: u16,
    connections: Use,
    sameport: &Path,
) -> Result<Outcome, Failure> {
    let pair = Pair::start(server, copies, sameport)?;
    let drive = |address, time| requests_per_second(address, connections, args.clients, time);
    let warm_up = Duration::from_millis(200);
    drive(pair.bare, warm_up)?;
    drive(pair.run, warm_up)?;
    let slice = Duration::from_secs(args.seconds) / SLICES;
    let mut rates = Pairs::default();
    for round in 1..=args.rounds {
        let (mut bare, mut run) = (0.0, 0.0);
        for number in 0..SLICES {
            // Whoever goes first, goes second in the next slice.
            let ours_first = number % 2 == 0;
            if ours_first {
                run += drive(pair.run, slice)?;
            }
            bare += drive(pair.bare, slice)?;
            if !ours_first {
                run += drive(pair.run, slice)?;
            }
        }
        let (bare, run) = (bare / f64::from(SLICES), run / f64::from(SLICES));
        rates.push(bare, run);
        progress(&format!(
            "{}, {copies} copies, {connections:?}, round {round} of {}: {bare:.0} and {run:.0} \
             requests/s, ratio {:.2}",
            server.name(),
            args.rounds,
            run / bare
        ));
    }
    let ratio = rates.ratio();
    Ok(Outcome { server: server.name(), copies, connections, requests_per_second: rates, ratio })
}
