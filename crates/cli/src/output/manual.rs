//! The manual pages, from the definition of the command line.

use clap::{Arg, ArgAction, Command};
use clap_mangen::Man;

use crate::system::System;

/// The exit codes of every verb.
const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Not done."),
    ("2", "The command line is wrong. Nothing was started."),
    (
        "3",
        "This machine cannot do it: kernel, privilege or system. `sameport doctor` gives the reason.",
    ),
];

/// The verbs that use the files of named runs.
const OF_RUNS: &[&str] = &[
    "run", "status", "logs", "restart", "scale", "upgrade", "stop", "reexec", "up", "down",
    "steer", "drain", "agent", "metrics",
];

/// The verbs that use the kept output of named runs.
const OF_LOGS: &[&str] = &["run", "logs", "up"];

/// Files of named runs.
const RUN_FILES: &[(&str, &str)] = &[
    (
        "$XDG_RUNTIME_DIR/sameport, /run/sameport (root), /run/user/UID/sameport, /tmp/sameport-UID, \
         /dev/shm/sameport-UID",
        "Directories of named runs, the preferred one first.",
    ),
    ("NAME.sock", "The control socket of a run, in one of these directories."),
    ("NAME.lock", "Locked while the supervisor lives; contains its pid."),
    ("NAME.json", "The record of the run, which verbs read after SIGKILL of the supervisor."),
    ("NAME.ended", "The report about the end of the run."),
];

/// The output of named runs in the background.
const LOG_FILES: &[(&str, &str)] = &[(
    "$LOGS_DIRECTORY/sameport/NAME, /var/log/sameport/NAME (root), $XDG_STATE_HOME/sameport/NAME, ~/.local/state/sameport/NAME",
    "The output of a run in the background: `current`, and `log.N` before it, until they are removed.",
)];

/// The files of services.
const DEFINITION_FILES: &[(&str, &str)] =
    &[("sameport.toml, Procfile", "The services, in the working directory.")];

const GUARD_FILES: &[(&str, &str)] = &[
    ("/sys/fs/bpf/sameport/guard", "The guards in force, as pinned eBPF objects."),
    (
        "/etc/sameport/guards.json",
        "The guards that `sameport guard --restore` puts in force after a reboot.",
    ),
];

const ATTACH_FILES: &[(&str, &str)] = &[
    ("/sys/fs/bpf/sameport", "The attachments, as pinned eBPF objects."),
    (
        "/run/systemd/system/UNIT.d/50-sameport-attach.conf, /etc/systemd/system/UNIT.d/50-sameport-attach.conf",
        "The drop-in of `attach --unit`, until a reboot or, with --permanent, until `sameport detach`.",
    ),
];

const SERVICE_FILES: &[(&str, &str)] = &[
    (
        "/etc/systemd/system/NAME.service, ~/.config/systemd/user/NAME.service",
        "The unit of a run, of root or of another user.",
    ),
    (
        "/etc/systemd/system/NAME.service.d/50-sameport-hardened.conf",
        "The drop-in of `--hardened`.",
    ),
];

const TRAFFIC_FILES: &[(&str, &str)] = &[(
    "/sys/fs/bpf/sameport/traffic",
    "The policies of ports, as pinned eBPF objects, until `steer PORT off` or a reboot.",
)];

const PROC_FILES: &[(&str, &str)] =
    &[("/proc/PID/fd, /proc/PID/cmdline", "The sockets of processes and their command lines.")];

const NO_FILES: &str = ".SH FILES\nNone.\n";

/// One page, with the sections of man-pages(7).
pub(crate) fn page(command: Command, verbs: &[String], system: System) -> String {
    let name = command.get_name().to_owned();
    let is_whole = name == "sameport";
    let examples = command.get_before_help().map(ToString::to_string).unwrap_or_default();
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let version = concat!("sameport ", env!("CARGO_PKG_VERSION"));
    let synopsis = synopsis(&command);
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command).source(version);
    let rendered = |section: &dyn Fn(&mut Vec<u8>) -> std::io::Result<()>| {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = section(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    };
    let mut text = rendered(&|to| man.render_title(to));
    text.push_str(&rendered(&|to| man.render_name_section(to)));
    text.push_str(&format!(".SH SYNOPSIS\n{synopsis}\n.SH DESCRIPTION\n{}\n", escaped(&about)));
    let (exits, rest): (Vec<&str>, Vec<&str>) =
        notes.split("\n\n").partition(|paragraph| paragraph.starts_with("Exit"));
    let (environment, rest): (Vec<&str>, Vec<&str>) =
        rest.into_iter().partition(|paragraph| paragraph.starts_with("Environment"));
    for paragraph in rest.iter().filter(|paragraph| !paragraph.is_empty()) {
        text.push_str(&format!(".PP\n{}\n", escaped(paragraph)));
    }
    text.push_str(&rendered(&|to| man.render_options_section(to)));
    if is_whole {
        text.push_str(&rendered(&|to| man.render_subcommands_section(to)));
    }
    text.push_str(".SH EXAMPLES\n");
    text.push_str(&preformatted(examples.lines().filter(|line| line.starts_with(' '))));
    text.push_str(&exit_status(&exits));
    text.push_str(&environment_section(&name, &environment, system));
    text.push_str(&files(&name, system));
    text.push_str(&see_also(&name, verbs, system));
    text
}

/// The usage with the value of each option, and `--` before a command.
fn synopsis(command: &Command) -> String {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let mut parts = vec![format!("\\fB{}\\fR", escaped(&name.replacen('-', " ", 1)))];
    // One of several arguments, of which the verb needs one.
    let choice: Vec<&Arg> = command
        .get_groups()
        .filter(|group| group.is_required_set())
        .flat_map(clap::ArgGroup::get_args)
        .filter_map(|id| command.get_arguments().find(|arg| arg.get_id() == id))
        .collect();
    let shown = |arg: &&Arg| {
        !arg.is_hide_set()
            && !["help", "version"].contains(&arg.get_id().as_str())
            && !choice.contains(arg)
    };
    if !choice.is_empty() {
        let choices: Vec<String> = choice.iter().map(|arg| bare(arg)).collect();
        parts.push(format!("{{{}}}", choices.join("|")));
    }
    parts.extend(command.get_opts().filter(shown).map(option));
    // An option without a value is neither in the list above nor positional.
    let is_switch = |arg: &&Arg| !arg.is_positional() && !takes_value(arg);
    parts.extend(command.get_arguments().filter(shown).filter(is_switch).map(option));
    parts.extend(command.get_positionals().filter(shown).map(positional));
    if command.has_subcommands() {
        parts.push("\\fIVERB\\fR [\\fIARGUMENT\\fR ...]".to_owned());
    }
    parts.dedup();
    parts.join(" ")
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// A positional argument, or an option with its value.
fn bare(arg: &Arg) -> String {
    if arg.is_positional() { value(arg) } else { named(arg) }
}

fn named(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("\\fB\\-{short}\\fR"));
    let long = arg.get_long().map(|long| format!("\\fB\\-\\-{}\\fR", escaped(long)));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let mut text = names.join("|");
    if takes_value(arg) {
        let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
        let separator = if arg.is_require_equals_set() { "=" } else { " " };
        text.push_str(&match is_optional {
            true => format!("[{separator}{}]", value(arg)),
            false => format!("{separator}{}", value(arg)),
        });
    }
    text
}

fn option(arg: &Arg) -> String {
    let mut text = named(arg);
    if !arg.is_required_set() {
        text = format!("[{text}]");
    }
    if matches!(arg.get_action(), ArgAction::Append) {
        text.push_str("...");
    }
    text
}

fn positional(arg: &Arg) -> String {
    let several = arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    let dashes = if arg.is_last_set() { "\\fB\\-\\-\\fR " } else { "" };
    let text = format!("{dashes}{}{}", value(arg), if several { " ..." } else { "" });
    if arg.is_required_set() { text } else { format!("[{text}]") }
}

/// The name of a value, or the words that it can be. More words than this do not fit into a line of 80
/// columns, and OPTIONS lists them.
fn value(arg: &Arg) -> String {
    const MOST_WORDS: usize = 6;
    let words: Vec<String> = arg
        .get_possible_values()
        .iter()
        .map(|word| format!("\\fB{}\\fR", escaped(word.get_name())))
        .collect();
    if (1..=MOST_WORDS).contains(&words.len()) {
        return words.join("|");
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    format!("\\fI{}\\fR", escaped(&name.unwrap_or_else(|| arg.get_id().as_str().to_uppercase())))
}

fn exit_status(paragraphs: &[&str]) -> String {
    let special = paragraphs.iter().filter(|paragraph| !paragraph.starts_with("Exit codes"));
    let special = special.map(|paragraph| format!(".PP\n{}\n", escaped(paragraph)));
    format!(".SH EXIT STATUS\n{}{}", tagged(EXIT_STATUS), special.collect::<String>())
}

/// The variables that a verb reads.
fn environment_section(verb: &str, own: &[&str], system: System) -> String {
    let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let all = lines(system.environment());
    let mut variable = String::new();
    let mut is_read = |line: &&String| {
        // The description goes on in lines that begin further right.
        if !line.starts_with("   ") {
            variable = line.split_whitespace().next().unwrap_or_default().to_owned();
        }
        let of_runs = variable.ends_with("RUNTIME_DIR") || variable == "RUNTIME_DIRECTORY";
        let of_logs = ["LOGS_DIRECTORY", "XDG_STATE_HOME"].contains(&variable.as_str());
        let of_verb = of_logs && OF_LOGS.contains(&verb)
            || of_runs && OF_RUNS.contains(&verb)
            || variable == "NO_COLOR";
        of_verb || ["sameport", "run"].contains(&verb)
    };
    let mut shown: Vec<String> = all.iter().filter(|line| is_read(line)).cloned().collect();
    let others = own.iter().filter(|text| !text.contains("NO_COLOR"));
    shown.extend(others.flat_map(|text| lines(text)));
    format!(".SH ENVIRONMENT\n{}", preformatted(shown.iter().map(String::as_str)))
}

fn files(verb: &str, system: System) -> String {
    let entries = match verb {
        _ if system == System::Other => return NO_FILES.to_owned(),
        "sameport" => [
            RUN_FILES,
            LOG_FILES,
            DEFINITION_FILES,
            SERVICE_FILES,
            GUARD_FILES,
            ATTACH_FILES,
            TRAFFIC_FILES,
            PROC_FILES,
        ]
        .concat(),
        "install-service" => [SERVICE_FILES, RUN_FILES].concat(),
        "steer" | "drain" => [TRAFFIC_FILES, RUN_FILES].concat(),
        "run" | "logs" => [RUN_FILES, LOG_FILES].concat(),
        "up" | "down" => [DEFINITION_FILES, RUN_FILES, LOG_FILES].concat(),
        "top" => [PROC_FILES, RUN_FILES].concat(),
        verb if OF_RUNS.contains(&verb) => RUN_FILES.to_vec(),
        "guard" => GUARD_FILES.to_vec(),
        "attach" | "detach" => ATTACH_FILES.to_vec(),
        "ls" | "why" | "audit" | "doctor" => PROC_FILES.to_vec(),
        _ => return NO_FILES.to_owned(),
    };
    format!(".SH FILES\n{}", tagged(&entries))
}

fn see_also(verb: &str, verbs: &[String], system: System) -> String {
    let others: &[&str] = match verb {
        "sameport" => &["socket(7)", "ip(7)", "systemd.service(5)"],
        "run" => &[
            "sameport-status",
            "sameport-restart",
            "sameport-why",
            "seccomp_unotify(2)",
            "ld.so(8)",
        ],
        "status" | "restart" | "scale" | "upgrade" | "stop" | "reexec" => {
            &["sameport-run", "sameport-status", "sameport-restart", "systemd.service(5)"]
        }
        "steer" | "drain" => {
            &["sameport-steer", "sameport-drain", "sameport-status", "socket(7)", "bpf(2)"]
        }
        "install-service" => {
            &["sameport-run", "systemctl(1)", "systemd.service(5)", "systemd.exec(5)"]
        }
        "logs" => &["sameport-run", "sameport-status", "journalctl(1)"],
        "up" | "down" => &["sameport-up", "sameport-down", "sameport-run", "sameport-logs"],
        "metrics" | "agent" => &["sameport-metrics", "sameport-agent", "sameport-status"],
        "top" => &["sameport-ls", "sameport-steer", "sameport-status", "ss(8)", "top(1)"],
        "attach" | "detach" => &["sameport-attach", "sameport-detach", "cgroups(7)", "bpf(2)"],
        "guard" => &["sameport-audit", "sameport-why", "bpf(2)", "cgroups(7)"],
        "ls" | "why" | "audit" => {
            &["sameport-ls", "sameport-why", "sameport-audit", "ss(8)", "socket(7)"]
        }
        "preload" => &["sameport-run", "ld.so(8)"],
        "listen" | "dial" => &["sameport-listen", "sameport-dial", "socket(7)", "tcp(7)", "udp(7)"],
        "doctor" => &["sameport-run", "seccomp(2)", "bpf(2)"],
        "completions" => &["bash(1)", "zsh(1)"],
        _ => &["man(1)"],
    };
    // The pages of other programs are Linux's.
    let exists = |page: &&&str| match page.strip_prefix("sameport-") {
        Some(verb) => system.has(verb),
        None => system == System::Linux,
    };
    let whole = (verb != "sameport").then(|| "sameport".to_owned());
    let all = verbs.iter().filter(|_| verb == "sameport").map(|verb| format!("sameport-{verb}"));
    let own = format!("sameport-{verb}");
    let others =
        others.iter().filter(exists).map(|page| (*page).to_owned()).filter(|page| *page != own);
    let pages = whole.into_iter().chain(all).chain(others).map(|page| {
        let (name, section) = page.split_once('(').unwrap_or((&page, "1)"));
        format!("\\fB{}\\fR({section}", escaped(name))
    });
    format!(".SH SEE ALSO\n{}\n", pages.collect::<Vec<_>>().join(",\n"))
}

fn tagged(entries: &[(&str, &str)]) -> String {
    let entry =
        |(tag, text): &(&str, &str)| format!(".TP\n\\fB{}\\fR\n{}\n", escaped(tag), escaped(text));
    entries.iter().map(entry).collect()
}

fn preformatted<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: String = lines.map(|line| format!("{}\n", escaped(line))).collect();
    format!(".nf\n{lines}.fi\n")
}

/// Text without control characters of roff. A line must not begin with one of its requests.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    let line = |line: &str| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}
