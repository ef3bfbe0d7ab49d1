//! Compares `policy::predict` with this kernel, in tens of thousands of generated cases over options,
//! users, families, wildcards, devices and states.
//!
//! The cases are enumerated, or chosen by a generator with a fixed seed. Every run has the same cases,
//! except for those that a busy machine cannot set up in time. A prediction may be undecided, but must
//! not be wrong. docs/why.md lists the claims.

mod cases;
mod kernel;
#[path = "../netns/mod.rs"]
mod netns;
mod sockets;
mod traffic;

use std::process::ExitCode;

use sameport_policy::predict::{PredictedResult, predict};

use cases::Case;
use kernel::Rights;
use sockets::{Answer, Network};

const NAME: &str = "the-kernel-does-as-predicted";
/// The smallest number of cases that covers the matrix.
const MIN_COMPARED: usize = 2_000;
/// How many disagreements are printed.
const MAX_PRINTED: usize = 20;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        if !args.iter().any(|arg| arg == "--ignored") {
            println!("{NAME}: test");
        }
        return ExitCode::SUCCESS;
    }
    let excludes = |arg: &&String| !arg.starts_with('-') && !NAME.contains(arg.as_str());
    if args.iter().any(|arg| arg == "--ignored") || args.iter().find(excludes).is_some() {
        return ExitCode::SUCCESS;
    }
    let rights = match Rights::probe() {
        Ok(rights) => rights,
        Err(reason) => {
            let allowed = sameport_skips::record(NAME, &reason);
            return if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        }
    };
    let mut totals = Totals::default();
    // A network namespace for each batch: TIME_WAIT keeps the port of a case for a minute.
    for batch in cases::all(rights.users, rights.devices).chunks(cases::PORTS) {
        let (rights, batch) = (rights.clone(), batch.to_vec());
        let added = std::thread::spawn(move || run(&rights, &batch)).join();
        totals.add(added.expect("the batch ran"));
    }
    println!("{totals}");
    let enough = totals.compared >= MIN_COMPARED
        && [totals.shares, totals.taken, totals.kept, totals.races].iter().all(|count| *count > 0);
    // With every option known, few predictions may be undecided.
    let decided = totals.undecided * 25 <= totals.compared;
    if !enough || !decided {
        println!("FAIL  {NAME}: too few cases were predicted and compared");
    }
    if totals.wrong == 0 && enough && decided { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Default)]
struct Totals {
    /// Cases whose prediction is granted or refused.
    compared: usize,
    granted: usize,
    /// Cases whose prediction is undecided although every option is known.
    undecided: usize,
    /// The same cases with unknown options of existing sockets: decided and undecided.
    unknown_options: usize,
    unknown_options_undecided: usize,
    /// Predicted effects on traffic that were tested.
    shares: usize,
    taken: usize,
    kept: usize,
    races: usize,
    wrong: usize,
}

impl Totals {
    fn add(&mut self, more: Self) {
        self.compared += more.compared;
        self.granted += more.granted;
        self.undecided += more.undecided;
        self.unknown_options += more.unknown_options;
        self.unknown_options_undecided += more.unknown_options_undecided;
        self.shares += more.shares;
        self.taken += more.taken;
        self.kept += more.kept;
        self.races += more.races;
        self.wrong += more.wrong;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} cases compared ({} granted), {} undecided; {} with unknown options, {} undecided; \
             traffic of {}: {} shared, {} taken, {} kept; {} races; {} disagreements",
            self.compared,
            self.granted,
            self.undecided,
            self.unknown_options,
            self.unknown_options_undecided,
            self.shares + self.taken + self.kept,
            self.shares,
            self.taken,
            self.kept,
            self.races,
            self.wrong
        )
    }
}

fn run(rights: &Rights, batch: &[Case]) -> Totals {
    let network = Network::new(rights).expect("a network namespace");
    let mut totals = Totals::default();
    for (case, port) in batch.iter().zip(cases::FIRST_PORT..) {
        compare(&network, case, port, &mut totals);
    }
    totals
}

fn compare(network: &Network, case: &Case, port: u16, totals: &mut Totals) {
    let port = case.port.unwrap_or(port);
    let Some(existing) = network.open_all(&case.existing, port) else { return };
    let others: Vec<_> = existing.iter().map(|open| open.existing.clone()).collect();
    let (request, limits) = (case.request.bind_request(port), case.request.port_limits());
    let predicted = predict(&request, &limits, &others);
    let (answer, socket) = network.attempt(&case.request, port);

    let mut wrong = |difference: String| {
        totals.wrong += 1;
        if totals.wrong <= MAX_PRINTED {
            println!(
                "FAIL  port {port}: {difference}\n      existing: {:?}\n      request: {:?}",
                case.existing, case.request
            );
        }
    };
    if let Some(claim) = claim(&predicted.result) {
        totals.compared += 1;
        totals.granted += usize::from(claim == Answer::Ok);
        if claim != answer {
            wrong(format!("predicted {claim:?}, the kernel answers {answer:?}"));
        }
    } else {
        totals.undecided += 1;
    }
    for others in cases::with_unknown_options(&others) {
        match claim(&predict(&request, &limits, &others).result) {
            None => totals.unknown_options_undecided += 1,
            Some(claim) => {
                totals.unknown_options += 1;
                if claim != answer {
                    wrong(format!(
                        "unknown options: predicted {claim:?}, the kernel answers {answer:?}"
                    ));
                }
            }
        }
    }
    let Some(socket) = socket.filter(|_| predicted.result == PredictedResult::Granted) else {
        return;
    };
    for effect in &predicted.effects {
        match traffic::check(effect, &socket, &existing) {
            traffic::Observed::NotTested => {}
            traffic::Observed::Differs(actual) => {
                wrong(format!("predicted {effect:?}, got {actual}"));
            }
            traffic::Observed::Shared => totals.shares += 1,
            traffic::Observed::Taken => totals.taken += 1,
            traffic::Observed::Kept => totals.kept += 1,
            traffic::Observed::Race => totals.races += 1,
        }
    }
}

/// The answer of the calls that a prediction claims. None: the prediction is undecided.
fn claim(verdict: &PredictedResult) -> Option<Answer> {
    match verdict {
        PredictedResult::Granted => Some(Answer::Ok),
        PredictedResult::Refused(refused) => {
            let (call, errno) = refused.error();
            Some(Answer::Failed(call.to_owned(), errno.to_owned()))
        }
        PredictedResult::Uncertain(_) => None,
    }
}
