//! The screen in a terminal of tmux, which shows what a user would see.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::harness::named_run::{NamedRun, RunSetup, rogue_command};
use super::harness::{User, eventually, find_program, in_test_dir, kill, sameport, skip};

/// A terminal with a shell. Dropping it ends both.
struct Tmux {
    socket: PathBuf,
    run: NamedRun,
}

impl Tmux {
    /// A terminal of 80x24, and a run of two workers. `None` without tmux.
    fn start(check: &str) -> Option<Self> {
        if find_program("tmux").is_none() {
            skip(check, "no tmux");
            return None;
        }
        let run = RunSetup::new(User::Current).run(&["-n", "2"], &rogue_command("good"));
        run.wait_for_ready(2);
        let socket = in_test_dir(format!("tmux-{}", run.setup.port));
        let terminal = Self { socket, run };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh"]);
        Some(terminal)
    }

    /// Runs a command of tmux, and returns its output.
    #[track_caller]
    fn tmux(&self, words: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words).stdin(Stdio::null());
        command
            .env("XDG_RUNTIME_DIR", &self.run.setup.dir)
            .env("PS1", "$ ")
            .env("LC_ALL", "C.UTF-8");
        let output = command.env_remove("TMUX").env_remove("NO_COLOR").output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Types a command line into the shell.
    fn command(&self, line: &str) {
        self.keys(&[line, "Enter"]);
    }

    fn shown(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let shown = eventually(|| Some(self.shown()).filter(|shown| shown.contains(text)));
        shown.unwrap_or_else(|| panic!("{text}:\n{}", self.shown()))
    }

    /// A variable of tmux.
    fn value(&self, name: &str) -> String {
        self.tmux(&["display-message", "-p", &format!("#{{{name}}}")]).trim().to_owned()
    }

    #[track_caller]
    fn wait_for_value(&self, name: &str, expected: &str) {
        let is_set = eventually(|| (self.value(name) == expected).then_some(()));
        assert!(is_set.is_some(), "{name}: {}\n{}", self.value(name), self.shown());
    }

    /// Starts `top`, with the modes of the terminal before and after in files. Returns when the run is shown.
    fn start_top(&self, before: &str) -> String {
        let dir = self.run.setup.dir.display();
        let (top, port) = (sameport().display(), self.run.setup.port);
        self.command(&format!(
            "cd {dir}; stty -g > before; {before} {top} top {port}; echo code=$?; stty -g > after"
        ));
        self.wait_for(&format!("{port}/tcp"));
        self.wait_for(&format!("{}.2", self.run.setup.name))
    }

    /// The terminal is as it was: its modes, its cursor, its screen.
    #[track_caller]
    fn is_restored(&self) {
        self.wait_for_value("alternate_on", "0");
        self.wait_for_value("cursor_flag", "1");
        let modes = |name| std::fs::read_to_string(self.run.setup.dir.join(name)).ok();
        let after = eventually(|| modes("after").filter(|after| after.ends_with('\n')));
        assert!(after.is_some() && after == modes("before"), "{after:?} {:?}", modes("before"));
        assert!(self.shown().contains("stty -g"), "{}", self.shown());
    }

    /// The process of `top`: a child of the shell.
    fn top_pid(&self) -> i32 {
        let shell = self.value("pane_pid");
        let children = format!("/proc/{shell}/task/{shell}/children");
        let children = std::fs::read_to_string(children).unwrap();
        children.split_whitespace().next().expect("a child").parse().unwrap()
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let kill = ["-S", self.socket.to_str().unwrap_or_default(), "kill-server"];
        // A server that is gone already is no failure.
        let _ = Command::new("tmux").args(kill).stderr(Stdio::null()).status();
    }
}

#[test]
fn the_screen_answers_keys_and_sizes_and_is_restored_after_sigterm() {
    let Some(terminal) = Tmux::start("top-terminal") else { return };
    let shown = terminal.start_top("");
    assert!(shown.contains("2 members") && shown.contains("q quit"), "{shown}");
    assert_eq!(terminal.value("alternate_on"), "1");
    assert_eq!(terminal.value("cursor_flag"), "0");

    terminal.keys(&["s"]);
    terminal.wait_for("by new");
    terminal.keys(&["?"]);
    terminal.wait_for("any key closes this");
    terminal.keys(&["Down"]);
    terminal.wait_for("q quit");
    terminal.tmux(&["resize-window", "-x", "60", "-y", "15"]);
    let small = terminal.wait_for("60x15: 80x24 shows every column");
    assert!(small.contains("serving") && !small.contains("RESTARTS"), "{small}");
    terminal.tmux(&["resize-window", "-x", "20", "-y", "4"]);
    terminal.wait_for("20x4: top needs 30x6");
    terminal.tmux(&["resize-window", "-x", "80", "-y", "24"]);
    terminal.wait_for("RESTARTS");

    kill(terminal.top_pid(), libc::SIGTERM);
    terminal.wait_for("code=143");
    terminal.is_restored();
}

#[test]
fn a_run_is_restarted_by_a_key_and_an_answer() {
    let Some(terminal) = Tmux::start("top-restart") else { return };
    let before = terminal.run.wait_for_ready(2);
    terminal.start_top("NO_COLOR=1");
    let question = format!("restart {}? y: yes", terminal.run.setup.name);
    terminal.keys(&["j", "r"]);
    terminal.wait_for(&question);
    terminal.keys(&["n", "r"]);
    terminal.wait_for(&question);
    terminal.keys(&["y"]);
    terminal.wait_for(&format!("restart {}: done", terminal.run.setup.name));
    let after = terminal.run.wait_for_ready(2);
    assert!(before.is_disjoint(&after), "{before:?} {after:?}");
    // NO_COLOR: bold and inverse, and none of the colours of a frame.
    let styled = terminal.tmux(&["capture-pane", "-pe"]);
    assert!(styled.contains("\u{1b}["), "{styled:?}");
    assert!(!["31m", "33m", "36m"].iter().any(|color| styled.contains(color)), "{styled:?}");
    terminal.keys(&["q"]);
    terminal.wait_for("code=0");
    terminal.is_restored();
}

/// The supervisor of the run does it, without a privilege.
#[test]
fn a_worker_is_drained_and_weighed_by_keys() {
    let Some(terminal) = Tmux::start("top-steer") else { return };
    terminal.start_top("");
    let setup = &terminal.run.setup;
    let on = format!("{}.1 on {}/tcp", setup.name, setup.port);
    terminal.keys(&["j", "d"]);
    terminal.wait_for(&format!("drain {on}? y: yes"));
    terminal.keys(&["y"]);
    terminal.wait_for(&format!("drain {on}: done"));
    terminal.wait_for("draining");
    terminal.keys(&["d"]);
    terminal.wait_for(&format!("undo the drain of {on}? y: yes"));
    terminal.keys(&["y"]);
    terminal.wait_for(&format!("undo the drain of {on}: done"));
    let is_serving = || (!terminal.shown().contains("draining")).then_some(());
    assert!(eventually(is_serving).is_some(), "{}", terminal.shown());

    terminal.keys(&["+"]);
    terminal.wait_for(&format!("{}.1=2 on {}/tcp: done", setup.name, setup.port));
    // As root by eBPF.
    terminal.wait_for("  weights by ");
    let found = super::frame(setup, "100ms");
    let weights: Vec<_> = super::members(&found).iter().map(|it| it["weight"].as_u64()).collect();
    assert_eq!(weights, [Some(2), Some(1)], "{found}");
    terminal.keys(&["q"]);
    terminal.wait_for("code=0");
}

#[test]
fn the_screen_is_left_and_taken_again_by_the_job_control_of_the_shell() {
    let Some(terminal) = Tmux::start("top-job-control") else { return };
    terminal.start_top("");
    terminal.keys(&["C-z"]);
    terminal.wait_for_value("alternate_on", "0");
    terminal.wait_for_value("cursor_flag", "1");
    terminal.command("stty -a | grep -o '[-]*icanon' > icanon; echo left; fg");
    terminal.wait_for_value("alternate_on", "1");
    terminal.wait_for(&format!("{}.2", terminal.run.setup.name));
    let mode = std::fs::read_to_string(terminal.run.setup.dir.join("icanon"));
    assert_eq!(mode.ok().as_deref(), Some("icanon\n"));
    terminal.keys(&["C-c"]);
    terminal.wait_for_value("alternate_on", "0");
    terminal.wait_for_value("cursor_flag", "1");
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_is_refused() {
    let Some(terminal) = Tmux::start("top-dumb") else { return };
    let top = sameport().display().to_string();
    let dumb = "the terminal cannot move its cursor";
    for (number, before, after, why) in [
        (1, "TERM=dumb", "", dumb),
        (2, "TERM=", "", dumb),
        (3, "", "</dev/null", "stdin is not a terminal"),
    ] {
        terminal.command(&format!("{before} {top} top {after}; echo end{number}=$?"));
        let shown = terminal.wait_for(&format!("end{number}=2"));
        assert!(shown.contains(why), "{shown}");
    }
}

/// Nothing is left to restore, and no process stays behind.
#[test]
fn a_closed_terminal_ends_the_program() {
    let Some(terminal) = Tmux::start("top-hang-up") else { return };
    terminal.start_top("");
    let pid = terminal.top_pid();
    terminal.tmux(&["kill-server"]);
    let proc = format!("/proc/{pid}/stat");
    assert!(eventually(|| std::fs::metadata(&proc).is_err().then_some(())).is_some());
}
