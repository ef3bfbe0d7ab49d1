//! The verbs of each system, and what help says there.

use crate::args::{ENVIRONMENT, NO_COLOR};

/// The systems, as far as their verbs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Linux,
    Other,
}

/// The verbs of every system. The others need Linux.
const PORTABLE: [&str; 5] = ["listen", "dial", "doctor", "completions", "manual"];

impl System {
    /// The system of this build.
    pub(crate) const HERE: Self = if cfg!(target_os = "linux") { Self::Linux } else { Self::Other };

    /// Whether the system has this verb.
    pub(crate) fn has(self, verb: &str) -> bool {
        self == Self::Linux || PORTABLE.contains(&verb)
    }

    /// The environment variables that the verbs of the system read.
    pub(crate) fn environment(self) -> &'static str {
        match self {
            Self::Linux => ENVIRONMENT,
            Self::Other => NO_COLOR,
        }
    }

    /// The definition of the system's verbs, from that of all verbs.
    pub(crate) fn of(self, all: &clap::Command, about: &'static str) -> clap::Command {
        if self == Self::Linux {
            return all.clone();
        }
        let verbs = all.get_subcommands().filter(|verb| self.has(verb.get_name()));
        clap::Command::new("sameport")
            .version(env!("CARGO_PKG_VERSION"))
            .about(about)
            .before_help(EXAMPLES)
            .max_term_width(100)
            .subcommand_required(true)
            .arg_required_else_help(true)
            .subcommands(verbs.cloned().map(elsewhere))
    }
}

/// The help of a verb that names nothing of Linux.
fn elsewhere(verb: clap::Command) -> clap::Command {
    match verb.get_name() {
        "listen" => {
            verb.mut_arg("exclusive", |it| it.help("Let no other socket share the address"))
        }
        "doctor" => verb
            .about("List how this system shares addresses, and the reasons")
            .before_help(DOCTOR_EXAMPLES)
            .after_help("Exits with 3 when `sameport listen` cannot share an address here."),
        "completions" => verb.before_help(COMPLETIONS_EXAMPLES),
        "manual" => verb.before_help(MANUAL_EXAMPLES).mut_arg("out", |it| {
            it.help("Write sameport.1, sameport-listen.1 and so on into this directory, which must exist")
        }),
        _ => verb,
    }
}

/// The description of the program where `run` does not exist.
pub(crate) const ABOUT_ELSEWHERE: &str =
    "Listen on addresses that several programs share, and connect from them";

const EXAMPLES: &str = "\
Examples:
  sameport listen 127.0.0.1:8080                        listen on a shared address; start it twice
  sameport listen 127.0.0.1:8080 --exclusive            let no other program share it
  sameport dial --from 127.0.0.1:8080 127.0.0.1:9000    connect from a port that is listened on
  sameport doctor                                       what this system shares, and with whom";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  sameport doctor            what works here, as two tables
  sameport doctor --json     for programs";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  sameport completions powershell
  sameport completions zsh";

const MANUAL_EXAMPLES: &str = "\
Examples:
  sameport manual --out .    write the pages here, for man(1)";

#[cfg(test)]
mod tests {
    use super::*;

    fn help(system: System, verb: &str) -> String {
        let mut whole = crate::commands::definition_of(system);
        match verb {
            "" => whole.render_long_help().to_string(),
            verb => whole.find_subcommand_mut(verb).unwrap().render_long_help().to_string(),
        }
    }

    /// Words that are wrong where only the library's verbs exist.
    const OF_LINUX: &[&str] = &[
        "sameport run",
        "sameport ls",
        "named run",
        "worker",
        "root",
        "sudo",
        "systemd",
        "LD_PRELOAD",
        "RUNTIME",
        "LISTEN_FDS",
        "/usr/",
        "~/",
        "kernel",
    ];

    #[test]
    fn help_names_what_the_system_has_and_nothing_else() {
        let whole = help(System::Other, "");
        let definition = crate::commands::definition_of(System::Other);
        let verbs: Vec<&str> = definition.get_subcommands().map(clap::Command::get_name).collect();
        assert_eq!(verbs, PORTABLE);
        for verb in [""].iter().chain(&PORTABLE) {
            let help = help(System::Other, verb);
            for word in OF_LINUX {
                assert!(!help.contains(word), "{verb}: {word}:\n{help}");
            }
            assert!(help.contains("Exit codes: "), "{help}");
        }
        for example in whole.lines().filter(|line| line.starts_with("  sameport ")) {
            let command = example.trim().split("    ").next().unwrap();
            let words = command.split_whitespace();
            let verb = words.clone().nth(1).unwrap();
            assert!(PORTABLE.contains(&verb), "{example}");
            let line = definition.clone().try_get_matches_from(words);
            assert!(line.is_ok(), "{example}: {:?}", line.err());
        }
        assert!(whole.contains("NO_COLOR"), "{whole}");
        // Control: Linux has them all.
        assert!(OF_LINUX[..2].iter().all(|word| help(System::Linux, "").contains(word)));
        assert!(crate::commands::definition_of(System::Linux).find_subcommand("run").is_some());
    }

    #[test]
    fn manual_and_completions_name_nothing_else() {
        use crate::output::{completions, manual};

        let mut definition = crate::commands::definition_of(System::Other);
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
            let script = completions::script(shell, &mut definition);
            for absent in ["restart", "guard", "--list runs", "_sameport_known"] {
                assert!(!script.contains(absent), "{shell}: {absent}");
            }
        }
        definition.build();
        let verbs: Vec<String> = PORTABLE.iter().map(ToString::to_string).collect();
        let pages = definition.get_subcommands().cloned().chain([definition.clone()]);
        for page in pages.filter(|page| page.get_name() != "help") {
            let text = manual::page(page, &verbs, System::Other);
            for absent in ["sameport\\-run", "/sys/fs", "RUNTIME", "systemd", "seccomp"] {
                assert!(!text.contains(absent), "{absent}:\n{text}");
            }
        }
    }
}
