//! Completion scripts, with the names of runs and the ports that this machine knows.
//!
//! The generator of clap completes verbs and options. The scripts here add a function that asks `sameport
//! completions --list`, which is quick and reaches no supervisor.

use clap::{Arg, ArgAction};
use clap_complete::Shell;

/// The verbs whose first argument is the name of a run.
const OF_RUNS: &[&str] =
    &["restart", "stop", "status", "logs", "scale", "upgrade", "reexec", "down"];

/// The verbs whose first argument is a port.
const OF_PORTS: &[&str] = &["ls", "why", "audit", "guard", "steer", "drain", "top"];

/// The script for a shell.
pub(crate) fn script(shell: Shell, definition: &mut clap::Command) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, definition, "sameport", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    if definition.find_subcommand("run").is_none() {
        // This system has no verb whose argument the scripts could list.
        return script;
    }
    match shell {
        Shell::Bash => script + &bash(definition),
        Shell::Fish => script + &fish(),
        Shell::Zsh => zsh(&script),
        _ => script,
    }
}

/// The options with a value, such as `--surge`, of the verbs above.
fn options_with_value(definition: &clap::Command) -> Vec<String> {
    let is_of = |verb: &&clap::Command| [OF_RUNS, OF_PORTS].concat().contains(&verb.get_name());
    let takes_value =
        |option: &&Arg| matches!(option.get_action(), ArgAction::Set | ArgAction::Append);
    let options = definition.get_subcommands().filter(is_of).flat_map(clap::Command::get_opts);
    let mut names: Vec<String> = options
        .filter(takes_value)
        .filter_map(|option| Some(format!("--{}", option.get_long()?)))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn bash(definition: &clap::Command) -> String {
    const FUNCTION: &str = r#"
# The first argument of a verb: the name of a run, or a port.
_sameport_known() {
    _sameport "$@"
    local what names at=2 cur="${COMP_WORDS[COMP_CWORD]}"
    case "${COMP_WORDS[1]}" in
        @RUNS@) what=runs ;;
        @PORTS@) what=ports ;;
        *) return ;;
    esac
    [[ ${COMP_CWORD} -ge 2 && "${cur}" != -* ]] || return
    while [[ ${at} -lt ${COMP_CWORD} ]]; do
        case "${COMP_WORDS[at]}" in
            @OPTIONS@) [[ "${COMP_WORDS[at + 1]}" == "=" ]] && at=$((at + 1)); at=$((at + 2)) ;;
            -*) at=$((at + 1)) ;;
            *) return ;;
        esac
    done
    [[ ${at} -eq ${COMP_CWORD} ]] || return
    names="$("${1/#\~/${HOME}}" completions --list "${what}" 2>/dev/null)"
    COMPREPLY=( $(compgen -W "${names}" -- "${cur}") )
}
complete -F _sameport_known -o bashdefault -o default sameport
"#;
    let replaced = FUNCTION.replace("@RUNS@", &OF_RUNS.join("|"));
    let replaced = replaced.replace("@PORTS@", &OF_PORTS.join("|"));
    replaced.replace("@OPTIONS@", &options_with_value(definition).join("|"))
}

fn fish() -> String {
    let line = |verbs: &[&str], what| {
        format!(
            "complete -c sameport -n \"__fish_sameport_using_subcommand {}\" -f -a \"(sameport \
             completions --list {what} 2>/dev/null)\"\n",
            verbs.join(" ")
        )
    };
    line(OF_RUNS, "runs") + &line(OF_PORTS, "ports")
}

/// The first arguments get a function of their own in place of `_default`.
fn zsh(script: &str) -> String {
    const FUNCTIONS: &str = "\
(( $+functions[_sameport_runs] )) ||
_sameport_runs() {
    local -a names
    names=(${(f)\"$(sameport completions --list runs 2>/dev/null)\"})
    compadd -a names
}
(( $+functions[_sameport_ports] )) ||
_sameport_ports() {
    local -a ports
    ports=(${(f)\"$(sameport completions --list ports 2>/dev/null)\"})
    compadd -a ports
}

";
    let mut lines = String::new();
    let mut verb = "";
    for line in script.lines() {
        if let Some(name) = line.trim().strip_prefix('(').and_then(|line| line.strip_suffix(')')) {
            verb = name;
        }
        // The functions precede the dispatch at the end.
        if line.starts_with("if [ \"$funcstack[1]\"") {
            lines.push_str(FUNCTIONS);
        }
        let known = match verb {
            verb if OF_RUNS.contains(&verb) => "_sameport_runs",
            verb if OF_PORTS.contains(&verb) => "_sameport_ports",
            _ => "_default",
        };
        let is_first =
            ["':name -- ", "'::name -- ", "':on -- ", "'::on -- ", "':address -- ", "'::port -- "];
        match is_first.iter().any(|begin| line.starts_with(begin)) {
            true => lines.push_str(&line.replace(":_default'", &format!(":{known}'"))),
            false => lines.push_str(line),
        }
        lines.push('\n');
    }
    lines
}
