//! Shells complete the names of runs, and ports.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;

use crate::harness::named_run::{NamedRun, RunSetup, rogue_command};
use crate::harness::{
    Exited, User, command_for, find_program, free_port, sameport, skip, spawn_process,
};

/// The output of `shell` for a script, with `sameport` in PATH and its completions in `$COMPLETIONS`.
fn shell(run: &NamedRun, program: PathBuf, arguments: &[&str], script: &str) -> Exited {
    let name = program.file_name().unwrap().to_str().unwrap().to_owned();
    let (bin, file) = (run.setup.dir.join("bin"), run.setup.dir.join("_sameport"));
    std::fs::create_dir_all(&bin).unwrap();
    let _ = symlink(sameport(), bin.join("sameport"));
    let completions = run.setup.command(&["completions", &name]);
    std::fs::write(&file, spawn_process(completions).wait().stdout).unwrap();
    let words: Vec<&str> = arguments.iter().copied().chain([script]).collect();
    let mut command = command_for(User::Current, program, &words);
    command
        .env("XDG_RUNTIME_DIR", &run.setup.dir)
        .env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
        .env("HOME", &run.setup.dir)
        .env("TERM", "dumb")
        .env("COMPLETIONS", &file)
        .stdin(Stdio::null());
    let exited = spawn_process(command).wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    exited
}

fn started() -> NamedRun {
    let run = RunSetup::new(User::Current).run(&[], &rogue_command("good"));
    run.wait_for_ready(1);
    run
}

#[test]
fn bash_completes_names_and_ports() {
    let Some(bash) = find_program("bash") else {
        return skip("completions-bash", "no bash");
    };
    let run = started();
    let (name, port) = (run.setup.name.clone(), run.setup.port.to_string());
    let complete = |words: &str| {
        let script = format!(
            "source $COMPLETIONS; COMP_WORDS=({words} ''); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _sameport_known sameport '' prev; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let exited = shell(&run, bash.clone(), &["--norc", "-c"], &script);
        exited.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for verb in ["restart", "stop", "status", "scale", "upgrade", "reexec", "restart --now"] {
        assert_eq!(complete(&format!("sameport {verb}")), std::slice::from_ref(&name), "{verb}");
    }
    for words in ["restart --surge 1", "restart --surge = 1"] {
        assert_eq!(complete(&format!("sameport {words}")), std::slice::from_ref(&name), "{words}");
    }
    for words in ["restart --user", &format!("restart {name}"), "run", "doctor"] {
        assert!(!complete(&format!("sameport {words}")).contains(&name), "{words}");
    }
    for verb in ["ls", "why", "guard"] {
        assert!(complete(&format!("sameport {verb}")).contains(&port), "{verb}");
    }
    run.stop();
}

#[test]
fn fish_completes_names_and_ports() {
    let Some(fish) = find_program("fish") else {
        return skip("completions-fish", "no fish");
    };
    let run = started();
    let complete = |line: &str| {
        let script = format!("source $COMPLETIONS; complete -C '{line}'");
        shell(&run, fish.clone(), &["--no-config", "-c"], &script).stdout
    };
    for verb in ["restart", "stop", "status", "scale", "upgrade", "reexec"] {
        let words = complete(&format!("sameport {verb} "));
        assert!(words.lines().any(|word| word == run.setup.name), "{verb}: {words}");
    }
    let words = complete("sameport ls ");
    assert!(words.lines().any(|word| word == run.setup.port.to_string()), "{words}");
    run.stop();
}

/// zsh completes in an interactive shell only, which runs on a terminal of its own (`zpty`).
#[test]
fn zsh_completes_names_and_ports() {
    let Some(zsh) = find_program("zsh") else {
        return skip("completions-zsh", "no zsh");
    };
    let run = started();
    let complete = |line: &str| {
        let script = format!(
            "zmodload zsh/zpty\n\
             zpty shell zsh -f -i\n\
             zpty -w shell 'PS1= ; fpath=({dir} $fpath); autoload -U compinit; compinit -u -D; echo re\"\"ady'\n\
             zpty -r -m shell line '*ready*'\n\
             zpty -w -n shell $'{line}\\t\\n'\n\
             zpty -w shell 'echo e\"\"nd'\n\
             zpty -r -m shell line '*end*'\n\
             print -r -- $line\n\
             zpty -d shell\n",
            dir = run.setup.dir.display(),
        );
        shell(&run, zsh.clone(), &["-f", "-c"], &script).stdout
    };
    // The only name is completed, and the whole line is executed.
    let text = complete("echo found; sameport status --check ");
    let expected = format!("{}: 1 of 1 workers ready", run.setup.name);
    assert!(text.contains(&expected), "{text}");
    // As much of the port as makes it one of a kind.
    let port = run.setup.port.to_string();
    let text = complete(&format!("sameport ls {port}"));
    assert!(text.contains(&format!("127.0.0.1:{port}")), "{text}");
    run.stop();
}

/// The list is quick: it reaches no supervisor, and so has no error.
#[test]
fn names_are_listed_without_their_supervisors() {
    let run = started();
    let list =
        |what: &str| spawn_process(run.setup.command(&["completions", "--list", what])).wait();
    run.supervisor.signal(libc::SIGSTOP);
    let names = list("runs");
    run.supervisor.signal(libc::SIGCONT);
    assert_eq!((names.code, names.stdout), (0, format!("{}\n", run.setup.name)));
    let ports = list("ports");
    assert!(ports.stdout.lines().any(|port| port == run.setup.port.to_string()), "{ports:?}");
    assert!(!ports.stdout.lines().any(|port| port == free_port().to_string()), "{ports:?}");
    let help = spawn_process(run.setup.command(&["completions", "--help"])).wait().stdout;
    assert!(!help.contains("--list"), "{help}");
    run.stop();
}
