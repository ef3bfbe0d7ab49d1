//! `up --watch`: a saved file restarts its service, and no connection is refused.

use std::collections::BTreeMap;

use crate::fixture::Project;
use crate::harness::User;
use crate::harness::load::{Client, while_served};

#[test]
fn a_saved_file_restarts_its_service() {
    for user in User::all() {
        let Some(project) = Project::new(*user, "a_saved_file_restarts_its_service") else {
            return;
        };
        project.write("[NAME]\nSERVER]\nworkers = 2\n");
        let watch = project.start(&["up", "--watch", "app"]);
        project.wait_for_answer(" unset 1");
        watch.wait_for_stdout(": start, 2 workers");
        let ((), tally) = while_served(&[Client::OneShot; 3], project.address(), || {
            project.release("2");
            project.wait_for_answer(" unset 2");
            watch.wait_for_stderr("server.py has changed: restart of");
            // Another change while the restart goes on.
            project.release("3");
            project.release("4");
            project.wait_for_answer(" unset 4");
            // The file of services is applied.
            project.write("[NAME]\nSERVER]\nworkers = 2\nenv = { MODE = \"new\" }\n");
            project.wait_for_answer(" new 4");
            // A version that cannot start does not replace the others, and the next one does.
            project.save("app/server.py", "raise SystemExit('broken')\n");
            watch.wait_for_stderr("was not replaced");
            project.release("5");
            project.wait_for_answer(" new 5");
        });
        assert_eq!(tally.kinds(), BTreeMap::new(), "{tally:?}");
        watch.signal(libc::SIGINT);
        let end = watch.wait();
        assert_eq!(end.code, 0, "{end:?}");
        assert!(end.stdout.contains("serving version 5"), "{end:?}");
        let status = project.sameport(&["status", &project.name]);
        assert_eq!(status.code, 1, "{status:?}");
        project.down();
    }
}

/// What was there before stays.
#[test]
fn a_watch_stops_what_it_has_started() {
    let Some(project) = Project::new(User::Current, "a_watch_stops_what_it_has_started") else {
        return;
    };
    project.write("[NAME]\nSERVER]\n");
    project.up(&[]);
    let watch = project.start(&["up", "--watch", "app"]);
    watch.wait_for_stdout(": as written, 1 worker");
    watch.signal(libc::SIGTERM);
    assert_eq!(watch.wait().code, 128 + libc::SIGTERM);
    project.up_says("NAME: as written, 1 worker");
    project.down();
}
