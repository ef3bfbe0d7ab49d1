//! Containers of the image: `sameport run` is process 1, under the seccomp profile and the capabilities that podman
//! gives by default.

use std::net::SocketAddr;

use crate::harness::load::{Client, Loss, while_served};
use crate::harness::{c_program, free_port, in_test_dir, wait_until_answering};
use crate::podman::Podman;

/// Requests are answered while a container stops, and a reader of the kernel finds nothing that it lost.
#[test]
fn stop_loses_no_connection_in_hand() {
    let Some(podman) = Podman::start("image-stop") else { return };
    let port = free_port();
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let server = c_program("drains", &[]);
    let (server, port) = (server.to_str().unwrap(), port.to_string());
    let volume = format!("--volume={0}:{0}:ro", in_test_dir("").display());
    let run = [
        "run",
        "--name",
        "web",
        "-n",
        "2",
        "--ready",
        "tcp",
        "--drain-timeout",
        "5s",
        "--grace",
        "3s",
    ];
    let arguments = [&run[..], &["--", server, &port, "any"]].concat();
    let container = podman.container("web", &[&volume], &arguments);
    wait_until_answering(address);
    let status = ["exec", "web", "/sameport", "status", "web", "--check"];
    container.wait_for_stderr("worker 2 (pid ");
    let (stopped, tally) =
        while_served(&[Client::OneShot, Client::OneShot, Client::SlowRequest], address, || {
            let restarted = podman.run(&["exec", "web", "/sameport", "restart", "web"]);
            assert_eq!(restarted.code, 0, "{restarted:?}");
            let checked = podman.run(&status);
            assert!(checked.stdout.contains("2 of 2 workers ready"), "{checked:?}");
            // SIGTERM, and SIGKILL after 10 s.
            podman.run(&["stop", "web"])
        });
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let exited = container.wait();
    assert_eq!(exited.code, 0, "{exited:?}");
    // A client that comes after the end is refused.
    let is_late = |loss: &Loss| matches!(loss, Loss::Refused);
    assert!(tally.answered > 0 && tally.kinds().keys().all(is_late), "{tally:?} {exited:?}");
    println!("podman stop: {} answered, lost {:?}", tally.answered, tally.kinds());
}

/// The default profile permits the calls of the seccomp interposer, also to a user without a name, without
/// capabilities, with a read-only root and no other directory to write to than /dev/shm.
#[test]
fn default_profile_permits_seccomp() {
    let Some(podman) = Podman::start("image-profile") else { return };
    for options in [
        &[][..],
        &[
            "--read-only",
            "--read-only-tmpfs=false",
            "--user=4321:4321",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ],
    ] {
        let port = free_port();
        let address: SocketAddr = ([127, 0, 0, 1], port).into();
        let port = port.to_string();
        let server = ["/usr/bin/python3", "-m", "http.server", &port, "--directory", "/usr/share"];
        let run = ["run", "--name", "web", "-n", "2", "--via", "seccomp", "--ready", "tcp", "--"];
        let container = podman.container("web", options, &[&run[..], &server].concat());
        wait_until_answering(address);
        container.wait_for_stderr("worker 2 (pid ");
        let doctor = podman.run(&["exec", "web", "/sameport", "doctor"]);
        assert!(doctor.stdout.starts_with("`sameport run` works here, by seccomp"), "{doctor:?}");
        let stopped = podman.run(&["stop", "web"]);
        assert_eq!(stopped.code, 0, "{options:?}: {stopped:?}");
        let exited = container.wait();
        assert_eq!(exited.code, 0, "{options:?}: {exited:?}");
        podman.run(&["rm", "web"]);
    }
}
