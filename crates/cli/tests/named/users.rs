//! Root and the runs of other users.

use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::harness::named_run::{RunSetup, only_run, rogue_command};
use crate::harness::{
    Exited, User, chown_to, command_for, eventually, executable, find_program, is_root, kill,
    sameport, skip, spawn_process,
};

/// `sameport` as root, in a directory of no run.
fn root(words: &[&str]) -> Exited {
    spawn_process(command_for(User::Current, sameport(), words)).wait()
}

fn listed(name: &str) -> Option<Value> {
    let all = root(&["status", "--all", "--json"]);
    let all: Value = serde_json::from_str(&all.stdout).unwrap();
    all["runs"].as_array().unwrap().iter().find(|run| run["name"] == name).cloned()
}

/// A run in a directory that no environment of root names is found by its process.
#[test]
fn root_sees_and_changes_the_runs_of_others() {
    if !is_root() {
        return skip("root_sees_and_changes_the_runs_of_others", "needs root");
    }
    let run = RunSetup::new(User::Nobody).run(&[], &rogue_command("good"));
    let (name, first) = (run.setup.name.clone(), run.wait_for_ready(1));
    let seen = listed(&name).unwrap();
    let user = seen["user"].as_str().unwrap();
    assert_eq!(seen["pid"], run.supervisor.pid(), "{seen}");
    let table = root(&["status", "--all"]).stdout;
    assert!(table.starts_with("NAME ") && table.contains(&format!("{name}  {user} ")), "{table}");
    // Without --user the run is not found: another user cannot answer for a run of root.
    let exited = root(&["status", &name, "--check"]);
    assert_eq!(exited.code, 1, "{exited:?}");
    assert!(exited.stderr.contains(&format!("add --user {user}\n")), "{exited:?}");

    for user in [user, "65534"] {
        let exited = root(&["status", &name, "--user", user, "--json"]);
        assert_eq!(
            (exited.code, &only_run(&exited.stdout)["pid"]),
            (0, &seen["pid"]),
            "{exited:?}"
        );
    }
    let exited = root(&["restart", &name, "--user", user]);
    assert_eq!(exited.code, 0, "{exited:?}");
    assert!(run.wait_for_ready(1).is_disjoint(&first));
    let exited = root(&["stop", &name, "--user", user]);
    assert_eq!(exited.code, 0, "{exited:?}");
    run.wait_for_exit(0);
    assert_eq!(listed(&name), None);
}

#[test]
fn others_do_not_see_the_runs_of_root() {
    if !is_root() {
        return skip("others_do_not_see_the_runs_of_root", "needs root");
    }
    let run = RunSetup::new(User::Current).run(&[], &rogue_command("good"));
    run.wait_for_ready(1);
    let name = &run.setup.name;
    let nobody =
        |words: &[&str]| spawn_process(command_for(User::Nobody, sameport(), words)).wait();
    let all = nobody(&["status", "--all"]);
    assert!(all.code == 0 && !all.stdout.contains(name.as_str()), "{all:?}");
    assert!(all.stderr.contains("hint: the runs of other users are not listed"), "{all:?}");
    let exited = nobody(&["stop", name, "--user", "root"]);
    assert_eq!(exited.code, 3, "{exited:?}");
    assert!(exited.stderr.contains("a run obeys its own user and root"), "{exited:?}");
    let exited = nobody(&["stop", name]);
    assert_eq!(exited.code, 1, "{exited:?}");
    assert_eq!(root(&["status", name, "--user", "no such user"]).code, 2);
    run.stop();
}

/// A process of another user that looks like a supervisor, and whose socket leads to a run of root.
#[test]
fn a_false_supervisor_leads_nowhere() {
    const TEST: &str = "a_false_supervisor_leads_nowhere";
    let Some(python) = find_program("python3").filter(|_| is_root()) else {
        return skip(TEST, "needs root and python3");
    };
    let run = RunSetup::new(User::Current).run(&[], &rogue_command("good"));
    let workers = run.wait_for_ready(1);
    let setup = RunSetup::new(User::Nobody);
    let name = format!("{}-false", setup.name);
    let own = run.setup.dir.join("sameport").join(format!("{}.sock", run.setup.name));
    symlink(own, setup.dir.join(format!("{name}.sock"))).unwrap();
    // The command line is that of a run, with another program in front.
    let script = "import os, signal, sys\n\
                  os.open('.', os.O_RDONLY)\n\
                  os.open(sys.argv[2] + '.lock', os.O_RDWR | os.O_CREAT)\n\
                  print('open', flush=True)\nsignal.pause()\n";
    let file = setup.dir.join("run");
    std::fs::copy(executable("false-run", script), &file).unwrap();
    chown_to(&file, User::Nobody);
    let words = ["run", "--name", &name, "--", "x"];
    let mut command = command_for(User::Nobody, python, &words);
    command.current_dir(&setup.dir);
    let false_run = spawn_process(command);
    false_run.wait_for_stdout("open");

    let seen = eventually(|| listed(&name)).unwrap();
    let error = seen["error"].as_str().unwrap();
    assert!(error.contains("user 0 listens in the place of"), "{seen}");
    for verb in ["status", "restart", "stop"] {
        let exited = root(&[verb, &name, "--user", "65534"]);
        assert_eq!(exited.code, 1, "{exited:?}");
        assert!(exited.stderr.contains("listens in the place of"), "{exited:?}");
    }
    assert_eq!(run.wait_for_ready(1), workers);
    kill(false_run.pid(), libc::SIGKILL);
    run.stop();
}

/// What a killed supervisor of another user left is not root's to end: its record names the processes.
#[test]
fn the_record_of_another_user_is_not_acted_on() {
    if !is_root() {
        return skip("the_record_of_another_user_is_not_acted_on", "needs root");
    }
    let setup = RunSetup::new(User::Nobody);
    let (name, folder) = (setup.name.clone(), "/tmp/sameport-65534");
    let words = ["run", "--name", &name, "--"].map(str::to_owned).into_iter();
    let port = setup.port.to_string();
    let words =
        words.chain(rogue_command("good").into_iter().map(|word| word.replace("{port}", &port)));
    let words: Vec<String> = words.collect();
    // The directory in which root looks for the runs of this user.
    let of_user = |words: &[String]| {
        let mut command = command_for(User::Nobody, sameport(), words);
        command.env_remove("XDG_RUNTIME_DIR");
        spawn_process(command)
    };
    let supervisor = of_user(&words);
    supervisor.wait_for_stderr(" is ready");
    let pid = listed(&name).unwrap()["workers"][0]["pid"].as_i64().unwrap();
    let record = std::path::Path::new(folder).join(format!("{name}.json"));
    let is_recorded = || std::fs::read_to_string(&record).ok()?.contains("127.0.0.1").then_some(());
    assert!(eventually(is_recorded).is_some());
    supervisor.signal(libc::SIGKILL);
    supervisor.wait();
    let seen = listed(&name).unwrap();
    assert_eq!(seen["running"], serde_json::json!([pid]), "{seen}");
    for verb in ["status", "restart", "stop"] {
        let exited = root(&[verb, &name, "--user", "65534"]);
        assert_eq!(exited.code, 1, "{exited:?}");
        let hint = "hint: what it left is ended by its user only: ";
        assert!(exited.stderr.contains(hint), "{exited:?}");
    }
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    let ended = of_user(&["stop".to_owned(), name.clone()]).wait();
    assert_eq!(ended.code, 0, "{ended:?}");
    let _ = std::fs::remove_file(record.with_extension("ended"));
}

/// An ended run of root does not hide the running one of another user.
#[test]
fn an_ended_run_names_the_user_of_a_running_one() {
    if !is_root() {
        return skip("an_ended_run_names_the_user_of_a_running_one", "needs root");
    }
    let own = RunSetup::new(User::Current);
    let (name, dir) = (own.name.clone(), own.dir.clone());
    own.run(&[], &rogue_command("good")).stop();
    let setup = RunSetup { name: name.clone(), ..RunSetup::new(User::Nobody) };
    let run = setup.run(&[], &rogue_command("good"));
    let seen = listed(&name).unwrap();
    let hint = format!("has a run of that name: add --user {}", seen["user"].as_str().unwrap());
    for verb in ["status", "stop"] {
        let mut command = command_for(User::Current, sameport(), &[verb, &name]);
        command.env("XDG_RUNTIME_DIR", &dir);
        let exited = spawn_process(command).wait();
        assert_eq!(exited.code, 1, "{exited:?}");
        assert!(exited.stderr.contains(&hint), "{exited:?}");
        assert!(exited.stderr.contains("has ended: "), "{exited:?}");
    }
    run.stop();
}
