//! Process managers, and the tools that stop their tasks.

use std::path::Path;

use super::model::{Task, TaskTool};
use crate::model::Process;

/// The tool for the children of this process; `None` if it is no process manager with a known tool.
/// supervisord is an argument of its interpreter, or the name of a process.
#[must_use]
pub fn task_tool(manager: &Process) -> Option<TaskTool> {
    let is_script =
        |word: &String| Path::new(word).file_name().is_some_and(|it| it == "supervisord");
    match manager.program.as_str() {
        "supervisord" => Some(TaskTool::Supervisorctl),
        _ if words(manager).iter().take(2).any(is_script) => Some(TaskTool::Supervisorctl),
        "runsv" => Some(TaskTool::Sv),
        "s6-supervise" => Some(TaskTool::S6Svc),
        "supervise" => Some(TaskTool::Svc),
        _ => None,
    }
}

impl Task {
    /// The command that stops the task.
    #[must_use]
    pub fn stop(&self) -> Vec<String> {
        let (program, verb) = match self.tool {
            TaskTool::Supervisorctl => ("supervisorctl", "stop"),
            TaskTool::Sv => ("sv", "down"),
            TaskTool::S6Svc => ("s6-svc", "-d"),
            TaskTool::Svc => ("svc", "-d"),
        };
        let words = [program.to_owned()].into_iter().chain(self.options.iter().cloned());
        words.chain([verb.to_owned(), self.name.clone()]).collect()
    }
    /// A task of supervisord. `process` and `group` are the names that supervisord gives it; a group of one
    /// process has the name of the process. `supervisorctl` needs the configuration file of the manager, which
    /// is relative to the directory in which supervisord was started. `None`: not the name of one process.
    #[must_use]
    pub fn of_supervisor(
        process: String,
        group: Option<String>,
        manager: &Process,
        directory: Option<&Path>,
    ) -> Option<Self> {
        let name = match group {
            Some(group) if group != process => format!("{group}:{process}"),
            _ => process,
        };
        let options = configuration_file(words(manager)).map_or_else(Vec::new, |file| {
            let file = directory.map_or_else(|| file.into(), |directory| directory.join(file));
            vec!["-c".to_owned(), file.to_string_lossy().into_owned()]
        });
        is_one_process(&name).then_some(Self { tool: TaskTool::Supervisorctl, options, name })
    }
}

/// Whether `supervisorctl` takes this as the name of one process. The process can change its environment, and
/// `all`, `GROUP:*` and options mean more than itself.
fn is_one_process(name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_.@:-".contains(c);
    name != "all"
        && name.starts_with(char::is_alphanumeric)
        && !name.ends_with(':')
        && name.chars().all(is_part)
}

fn configuration_file(words: &[String]) -> Option<&str> {
    let after = |option: &str| words.iter().skip_while(|word| *word != option).nth(1);
    let joined = || words.iter().find_map(|word| word.strip_prefix("--configuration="));
    let apart = after("-c").or_else(|| after("--configuration")).map(String::as_str);
    apart.or_else(joined)
}

fn words(process: &Process) -> &[String] {
    process.details.as_ref().map_or(&[], |details| &details.command)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::process;
    use super::*;

    #[test]
    fn process_managers_have_a_tool() {
        for (command, expected) in [
            (
                &["/usr/bin/python3", "/usr/bin/supervisord", "-n"][..],
                Some(TaskTool::Supervisorctl),
            ),
            (&["/opt/supervisord"], Some(TaskTool::Supervisorctl)),
            (&["/usr/bin/vi", "-R", "/usr/bin/supervisord"], None),
            (&["runsv", "web"], Some(TaskTool::Sv)),
            (&["s6-supervise", "web"], Some(TaskTool::S6Svc)),
            (&["supervise", "web"], Some(TaskTool::Svc)),
            (&["runsvdir", "/etc/service"], None),
        ] {
            assert_eq!(task_tool(&process(7, 1, command).process), expected, "{command:?}");
        }
    }

    #[test]
    fn supervisorctl_gets_the_name_and_the_configuration_of_a_task() {
        let directory = Some(Path::new("/srv"));
        // Options of supervisord, its directory, the group of the task `web`, and the command.
        type Case<'a> = (&'a [&'a str], Option<&'a Path>, Option<&'a str>, &'a str);
        let cases: [Case<'_>; 7] = [
            (&[], directory, Some("web"), "supervisorctl stop web"),
            (&[], directory, None, "supervisorctl stop web"),
            (
                &["-c", "a.conf"],
                directory,
                Some("all"),
                "supervisorctl -c /srv/a.conf stop all:web",
            ),
            (&["-n", "-c", "/etc/a"], directory, None, "supervisorctl -c /etc/a stop web"),
            (&["--configuration", "a"], directory, None, "supervisorctl -c /srv/a stop web"),
            (&["--configuration=a"], None, None, "supervisorctl -c a stop web"),
            (&["-c"], directory, None, "supervisorctl stop web"),
        ];
        for (options, directory, group, expected) in cases {
            let command = [&["/usr/bin/python3", "/usr/bin/supervisord"], options].concat();
            let manager = process(7, 1, &command).process;
            let group = group.map(str::to_owned);
            let task = Task::of_supervisor("web".to_owned(), group, &manager, directory);
            assert_eq!(task.unwrap().stop().join(" "), expected, "{options:?}");
        }
    }

    #[test]
    fn a_name_that_means_more_than_one_process_is_none() {
        let manager = process(5, 1, &["supervisord"]).process;
        let is_task =
            |name: &str| Task::of_supervisor(name.to_owned(), None, &manager, None).is_some();
        assert!(["web", "web:web_00", "a.b@c-d"].iter().all(|name| is_task(name)));
        let more = ["", "all", "web:*", "web:", "-c", "--help", "web other", "web\nall"];
        assert!(!more.iter().any(|name| is_task(name)));
    }
}
