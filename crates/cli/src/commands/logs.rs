//! `sameport logs`.

use sameport_policy::model::name::RunName;

use crate::args::{OwnerArgs, number};
use crate::error::VerbResult;

const EXAMPLES: &str = "\
Examples:
  sameport logs web                 what the workers of the run wrote, the oldest line first
  sameport logs web -f              the last 10 lines, and every new one, until the run ends
  sameport logs web -n 100          the last 100 lines
  sameport logs web --worker 2      of one worker
  sameport logs web --since 10m     of the last 10 minutes
  sameport logs web --json | jq -r .text
  sudo sameport logs web --user ann";

const AFTER: &str = "\
The output of a run in the background is kept in files (`sameport run --detach`), that of a service in the \
journal, that of `run --log FILE` in FILE. A run in the foreground writes to its terminal only. `web.2 | ` is \
in front of a line of worker 2, `web | ` of the run itself; `+` in place of `|` marks a line that goes on in the \
worker's next line. In a terminal, control characters are escaped; a pipe gets every byte.

Exits with 1 when nothing is kept under the name.";

/// Show what the workers of a named run wrote
#[derive(clap::Args)]
#[command(before_help = EXAMPLES, after_help = AFTER)]
pub(crate) struct Args {
    /// The run; it may have ended
    name: RunName,
    /// Go on with new lines until the run ends; with the last 10 lines unless -n or --since says more
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines
    #[arg(short = 'n', long = "lines", value_name = "N", value_parser = number::<usize>(0..=1_000_000))]
    lines: Option<usize>,
    /// Only lines of this worker
    #[arg(long, value_name = "K", value_parser = number::<u16>(1..=1024))]
    worker: Option<u16>,
    /// Only lines since then: 30s, 10m, 2h or 3d ago, or a time such as 2026-11-30T21:55:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_since)]
    since: Option<u64>,
    #[command(flatten)]
    owner: OwnerArgs,
    /// Print one object of JSON for each line
    #[arg(long)]
    json: bool,
}

fn parse_since(text: &str) -> Result<u64, &'static str> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_millis();
    sameport_policy::output::parse_since(text, u64::try_from(now).unwrap_or(u64::MAX))
}

#[cfg(target_os = "linux")]
pub(crate) fn run(args: Args) -> VerbResult {
    use std::io;
    use std::io::Write as _;
    use std::process::ExitCode;

    use crate::error::logs_failure;
    use crate::operations::logs;
    use crate::operations::logs::{LogEvent, LogQuery};
    use crate::output::logs::LogFormat;
    use crate::output::text::printable;
    use crate::output::{stderr, stdout};

    let query = LogQuery {
        name: args.name,
        user: args.owner.user,
        follow: args.follow,
        lines: args.lines,
        worker: args.worker,
        since: args.since,
    };
    let format = LogFormat::of_stdout(args.json);
    let mut out = io::BufWriter::with_capacity(64 * 1024, stdout::raw());
    let mut written = Ok(());
    let mut each = |event: LogEvent<'_>| {
        let step = match event {
            LogEvent::Line(line) => format.write(&line, &mut out),
            LogEvent::Pause(time) => match out.flush() {
                Ok(()) if stdout::is_unread(time) => Err(io::ErrorKind::BrokenPipe.into()),
                result => result,
            },
            LogEvent::Note(note) => out.flush().map(|()| stderr::print(&printable(&note))),
        };
        let goes_on = step.is_ok();
        written = step;
        goes_on
    };
    let result = logs::read(&query, &mut each);
    let flushed = out.flush();
    stdout::outcome(written.and(flushed))?;
    result.map_err(|error| logs_failure(&query.name, error))?;
    Ok(ExitCode::SUCCESS)
}
