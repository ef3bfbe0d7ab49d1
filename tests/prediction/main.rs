//! What `rules::predict` says, against what this kernel does: thousands of generated cases over
//! options, users, families, wildcards, devices and states, in networks of the test's own.
//!
//! The cases are enumerated, or drawn by a generator with a fixed seed: every run has the same ones, but
//! for one or another that a busy machine cannot set up in time. A prediction may be a doubt; it must
//! never be wrong. docs/why.md says what is claimed.

mod cases;
mod kernel;
mod sockets;
mod traffic;

use std::process::ExitCode;

use sameport_policy::predict::{PredictedResult, predict};

use cases::Case;
use kernel::Rights;
use sockets::{Answer, Stage};

const NAME: &str = "the-kernel-does-as-predicted";
/// Fewer would not be the whole matrix.
const LEAST: usize = 2_000;
/// More disagreements than these say nothing new.
const SHOWN: usize = 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let unwanted = |arg: &&String| !arg.starts_with('-') && !NAME.contains(arg.as_str());
    if args.iter().any(|arg| arg == "--ignored") || args.iter().find(unwanted).is_some() {
        return ExitCode::SUCCESS;
    }
    let rights = match Rights::probe() {
        Ok(rights) => rights,
        Err(why) => {
            eprintln!("skipped: {NAME}: {why}");
            let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
            return if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let mut count = Count::default();
    // A network for each batch: what is left of a case stays on its port for a minute.
    for batch in cases::all(rights.users, rights.devices).chunks(cases::PORTS) {
        let (rights, batch) = (rights.clone(), batch.to_vec());
        let counted = std::thread::spawn(move || run(&rights, &batch)).join();
        count.add(counted.expect("the batch ran"));
    }
    println!("{count}");
    let enough = count.compared >= LEAST
        && [count.shares, count.taken, count.kept, count.races].iter().all(|tried| *tried > 0);
    // With every option known, hardly anything is left open.
    let bold = count.doubts * 25 <= count.compared;
    if !enough || !bold {
        println!("FAIL  {NAME}: too little was claimed and compared");
    }
    if count.wrong == 0 && enough && bold { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Count {
    /// Cases in which the prediction was a yes or a no.
    compared: usize,
    granted: usize,
    /// Cases in which it was a doubt, although every option was known.
    doubts: usize,
    /// The same cases again, options of one side unknown: yes, no, and doubt.
    hidden: usize,
    hidden_doubts: usize,
    /// Claims about traffic that were tried.
    shares: usize,
    taken: usize,
    kept: usize,
    races: usize,
    wrong: usize,
}

impl Count {
    fn add(&mut self, more: Self) {
        self.compared += more.compared;
        self.granted += more.granted;
        self.doubts += more.doubts;
        self.hidden += more.hidden;
        self.hidden_doubts += more.hidden_doubts;
        self.shares += more.shares;
        self.taken += more.taken;
        self.kept += more.kept;
        self.races += more.races;
        self.wrong += more.wrong;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cases compared ({} granted), {} doubts; {} again with unknown options, {} doubts; \
             traffic of {}: {} shared, {} taken, {} kept; {} races; {} disagreements",
            self.compared,
            self.granted,
            self.doubts,
            self.hidden,
            self.hidden_doubts,
            self.shares + self.taken + self.kept,
            self.shares,
            self.taken,
            self.kept,
            self.races,
            self.wrong
        )
    }
}

fn run(rights: &Rights, batch: &[Case]) -> Count {
    let stage = Stage::new(rights).expect("a network of its own");
    let mut count = Count::default();
    for (case, port) in batch.iter().zip(cases::FIRST_PORT..) {
        compare(&stage, case, port, &mut count);
    }
    count
}

fn compare(stage: &Stage, case: &Case, port: u16, count: &mut Count) {
    let port = case.port.unwrap_or(port);
    // What does not come to be is no case.
    let Some(there) = stage.open_all(&case.there, port) else { return };
    let others: Vec<_> = there.iter().map(|open| open.other.clone()).collect();
    let (wish, machine) = (case.wish.wish(port), case.wish.machine());
    let predicted = predict(&wish, &machine, &others);
    let (answer, socket) = stage.attempt(&case.wish, port);

    let mut wrong = |what: String| {
        count.wrong += 1;
        if count.wrong <= SHOWN {
            println!(
                "FAIL  port {port}: {what}\n      there: {:?}\n      wish: {:?}",
                case.there, case.wish
            );
        }
    };
    if let Some(said) = said(&predicted.verdict) {
        count.compared += 1;
        count.granted += usize::from(said == Answer::Ok);
        if said != answer {
            wrong(format!("predicted {said:?}, the kernel says {answer:?}"));
        }
    } else {
        count.doubts += 1;
    }
    for hidden in cases::hidden(&others) {
        match said(&predict(&wish, &machine, &hidden).verdict) {
            None => count.hidden_doubts += 1,
            Some(said) => {
                count.hidden += 1;
                if said != answer {
                    wrong(format!("without its options {said:?}, the kernel says {answer:?}"));
                }
            }
        }
    }
    let Some(socket) = socket.filter(|_| predicted.verdict == PredictedResult::Granted) else {
        return;
    };
    for effect in &predicted.effects {
        match traffic::check(effect, &socket, &there) {
            traffic::Seen::Untried => {}
            traffic::Seen::Differs(seen) => wrong(format!("predicted {effect:?}, seen {seen}")),
            traffic::Seen::Shared => count.shares += 1,
            traffic::Seen::Taken => count.taken += 1,
            traffic::Seen::Kept => count.kept += 1,
            traffic::Seen::Race => count.races += 1,
        }
    }
}

/// What a prediction claims that the calls answer; nothing for a doubt.
fn said(verdict: &PredictedResult) -> Option<Answer> {
    match verdict {
        PredictedResult::Granted => Some(Answer::Ok),
        PredictedResult::Refused(refused) => {
            let (call, errno) = refused.error();
            Some(Answer::Failed(call.to_owned(), errno.to_owned()))
        }
        PredictedResult::Depends(_) => None,
    }
}
