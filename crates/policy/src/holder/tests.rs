//! The classes, their descriptions and their endings, as a table.

use super::fixtures::{Case, held_by, process, systemd, unit};
use super::*;
use crate::model::name::RunName;
use crate::model::unit::Engine;
use crate::model::{Protocol, Socket, SocketState};

fn stop(names: &[&str]) -> Ending {
    Ending::StopUnits(Manager::System, names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn programs_are_ended_unless_something_starts_them_again() {
    let kill = |pids: &[i32]| (Ending::Kill(pids.to_vec()), Rights::Caller);
    let server = |parent| process(12, parent, &["node", "app.js"]);
    // By a user at a terminal.
    let shell = || process(11, 10, &["-bash"]);
    held_by(&[12], vec![server(11), shell()]).is(
        "program",
        "node (pid 12, user ann)",
        &[kill(&[12])],
    );
    let orphan = "node (pid 12, user ann), whose parent has ended";
    held_by(&[12], vec![server(1), systemd()]).is("orphan", orphan, &[kill(&[12])]);
    // By the shell that is process 1 of a container.
    let case = held_by(&[12], vec![server(1), process(1, 0, &["bash"])]);
    case.is("program", "node (pid 12, user ann)", &[kill(&[12])]);
    // A process that inherited the socket holds it as well.
    let child = process(13, 12, &["sleep", "60"]);
    let both = held_by(&[12, 13], vec![child, server(11), shell()]);
    both.is("program", "node (pid 12 and 1 more, user ann)", &[kill(&[12, 13])]);
    // A shell waits for one command, sudo as well.
    let waits = process(14, 11, &["sh", "-c", "node app.js"]);
    let sudo = process(15, 14, &["sudo", "node", "app.js"]).of_user(0);
    let root = server(15).of_user(0);
    let as_root = [(Ending::Kill(vec![12]), Rights::Root)];
    let case = held_by(&[12], vec![root, sudo, waits, shell()]);
    case.is("program", "node (pid 12, user ann)", &as_root);
    // Process 1 of a container.
    let init = process(1, 0, &["nginx"]);
    let case = held_by(&[1], vec![init.clone()]);
    let ends = [(Ending::EndProcess1(init.process), Rights::Root)];
    case.is("program", "nginx (pid 1, user ann)", &ends);
}

#[test]
fn children_are_ended_by_their_parent() {
    let kill = |pids: &[i32]| (Ending::Kill(pids.to_vec()), Rights::Caller);
    let shell = || process(11, 10, &["-bash"]);
    let is = |worker: ProcessFacts, parent: ProcessFacts, expected: (Ending, Rights)| {
        let words = format!(
            "{} (pid 13, user ann), child of {} (pid 12)",
            worker.process.program, parent.process.program
        );
        let case = held_by(&[13], vec![worker, parent, shell(), systemd()]);
        case.is("supervised", &words, &[expected]);
    };
    let node = || process(13, 12, &["node", "app.js"]);
    let in_loop = process(12, 11, &["bash", "-c", "while true; do node app.js; done"]);
    is(node(), in_loop, kill(&[12, 13]));
    let sourced = process(12, 11, &["bash", "-c", "cd /srv; . ./run.sh"]);
    is(node(), sourced.clone(), (Ending::KillOrParent(vec![13], sourced.process), Rights::Caller));
    let script = process(12, 11, &["bash", "./run.sh"]);
    is(node(), script.clone(), (Ending::KillOrParent(vec![13], script.process), Rights::Caller));
    let make = process(12, 11, &["make", "serve"]);
    is(node(), make.clone(), (Ending::KillOrParent(vec![13], make.process), Rights::Caller));
    // A fork with the arguments of its parent, and titles.
    let python = |pid, parent| process(pid, parent, &["python3", "app.py"]);
    is(python(13, 12), python(12, 1), kill(&[12, 13]));
    let (master, worker) = (&["nginx: master process nginx"], &["nginx: worker process"]);
    let titles = |pid, parent, title: &[&str]| {
        let mut it = process(pid, parent, title);
        (it.process.program, it.details().executable) = ("nginx".into(), None);
        it
    };
    is(titles(13, 12, worker), titles(12, 1, master), kill(&[12, 13]));
    // The master holds the socket too: it is the holder.
    let nginx = |pid, parent| process(pid, parent, &["nginx"]);
    let case = held_by(&[12, 13], vec![nginx(12, 1), nginx(13, 12), systemd()]);
    let both = "nginx (pid 12 and 1 more, user ann), whose parent has ended";
    case.is("orphan", both, &[kill(&[12, 13])]);
    // Process managers.
    let supervisor = || process(12, 1, &["/usr/bin/python3", "/usr/bin/supervisord"]).of_user(0);
    let command = ["supervisorctl", "stop", "web:0"].map(str::to_owned).to_vec();
    let task = node().task(TaskTool::Supervisorctl, "web:0");
    is(task, supervisor(), (Ending::StopTask(command), Rights::Root));
    is(node(), supervisor(), (Ending::StopIn(supervisor().process), Rights::Root));
}

#[test]
fn runs_are_stopped_by_name() {
    let web: RunName = "web".parse().unwrap();
    let run = ["sameport", "run", "--name", "web", "--", "node", "app.js"];
    let supervisor = |uid| process(12, 11, &run).of_user(uid);
    let node = || process(13, 12, &["node", "app.js"]).worker(2);
    let stop_web = |rights| (Ending::StopRun(web.clone()), rights);
    let line = "node (pid 13, user ann), run web, worker 2";
    let case = held_by(&[12, 13], vec![supervisor(1000), node()]);
    case.is("run", line, &[stop_web(Rights::Caller)]);
    assert_eq!(case.holder().keepers, [Keeper::Supervisor { pid: 12, name: web.clone() }]);
    let case = held_by(&[13], vec![supervisor(1001), node()]);
    case.is("run", line, &[stop_web(Rights::User(1001))]);
    let by_root = endings([&case.holder()], 0);
    assert_eq!(by_root[0].ending, Ending::StopRunOf(web.clone(), 1001));
    let alone = held_by(&[12], vec![supervisor(1000)]);
    let kept = "sameport (pid 12, user ann), the supervisor of run web";
    alone.is("run", kept, &[stop_web(Rights::Caller)]);
    let killed = held_by(&[13], vec![process(13, 1, &["node"]), systemd()]);
    let killed = killed.with(|case| {
        let of = RunWorker { name: web.clone(), worker: Some(1) };
        case.facts.abandoned.insert(13, of);
    });
    let line = "node (pid 13, user ann), run web, worker 1, whose supervisor was killed";
    killed.is("run", line, &[stop_web(Rights::Caller)]);
    let by_root = endings([&killed.holder()], 0);
    assert_eq!(by_root[0].ending, Ending::StopRun(web.clone()));
    assert_eq!(by_root[0].rights, Rights::User(1000));
    let plain = process(12, 11, &["sameport", "run", "--", "node", "app.js"]);
    let case = held_by(&[13], vec![plain, process(13, 12, &["node", "app.js"])]);
    let line = "node (pid 13, user ann), under sameport run (pid 12)";
    case.is("plain-run", line, &[(Ending::Kill(vec![12]), Rights::Caller)]);
    // A run that is a service is stopped as one.
    let service = "/system.slice/web.service";
    let case = held_by(&[13], vec![supervisor(1000).in_cgroup(service), node().in_cgroup(service)]);
    let case = case.units(vec![unit("web.service", |_| {})]);
    let line = "node (pid 13, user ann), run web, worker 2, web.service";
    case.is("run", line, &[(stop(&["web.service"]), Rights::Root)]);
}

#[test]
fn units_are_stopped_with_the_sockets_that_start_them() {
    let service = || process(12, 1, &["api"]).in_cgroup("/system.slice/api.service");
    let loaded = || unit("api.service", |it| it.triggered_by = vec!["api.socket".to_owned()]);
    let socket = || {
        let address = "127.0.0.1:80".parse().unwrap();
        let listen = ListenAddress { address, stream: true };
        unit("api.socket", |it| it.listens = vec![listen])
    };
    let as_root = |names: &[&str]| (stop(names), Rights::Root);
    let case = held_by(&[12], vec![service(), systemd()]).units(vec![loaded()]);
    let line = "api (pid 12, user ann), api.service";
    case.is("unit", line, &[as_root(&["api.service", "api.socket"])]);
    // No manager answers: the process is ended.
    let case = held_by(&[12], vec![service()]);
    case.is("unit", line, &[(Ending::Kill(vec![12]), Rights::Caller)]);
    // `systemctl stop` would leave the process.
    let cron = unit("api.service", |it| (it.stops_all, it.main_pid) = (false, 5));
    let case = held_by(&[12], vec![service(), systemd()]).units(vec![cron]);
    let line = "api (pid 12, user ann), whose parent has ended, api.service";
    case.is("orphan", line, &[(Ending::Kill(vec![12]), Rights::Caller)]);
    // Process 1 keeps the socket: alone, and beside its server.
    let case = held_by(&[1], vec![systemd()]).units(vec![socket()]);
    case.is("service-manager", "systemd (pid 1), for api.socket", &[as_root(&["api.socket"])]);
    let case = held_by(&[1, 12], vec![systemd(), service()]).units(vec![loaded(), socket()]);
    let line = "api (pid 12, user ann), api.service, kept by systemd (pid 1) for api.socket";
    case.is("unit", line, &[as_root(&["api.service", "api.socket"])]);
    // By the cgroup, without an answer.
    let by_cgroup = |path: &str| {
        let case = held_by(&[1], vec![systemd()]);
        case.with(|case| case.member.cgroup = Some(path.to_owned()))
    };
    let case = by_cgroup("/system.slice/api.socket");
    case.is("service-manager", "systemd (pid 1), for api.socket", &[as_root(&["api.socket"])]);
    let stored = Unit { manager: Manager::System, name: "api.service".to_owned() };
    let case = by_cgroup("/system.slice/api.service");
    let clear = (Ending::ClearStore(stored), Rights::Root);
    case.is("service-manager", "systemd (pid 1), for api.service", &[clear]);
    let find = (Ending::FindSocketUnit(Manager::System), Rights::Root);
    let line = "systemd (pid 1), for a unit that is not known";
    by_cgroup("/init.scope").is("service-manager", line, &[find]);
}

/// A restart leaves spare sockets in the store for a moment. `systemctl clean` needs systemd 254, and a
/// service that has ended.
#[test]
fn the_store_of_a_running_service_is_cleared_by_its_stop() {
    let service = process(12, 1, &["api"]).in_cgroup("/system.slice/api.service");
    let stored = held_by(&[1], vec![systemd()]);
    let stored = stored
        .with(|case| case.member.cgroup = Some("/system.slice/api.service".to_owned()))
        .holder();
    let case = held_by(&[12], vec![service, systemd()]).units(vec![unit("api.service", |_| ())]);
    let stop = vec![EndingStep { ending: stop(&["api.service"]), rights: Rights::Root }];
    for holders in [[&stored, &case.holder()], [&case.holder(), &stored]] {
        assert_eq!(endings(holders, 1000), stop);
    }
}

#[test]
fn a_manager_binds_for_socket_units_and_not_for_its_store() {
    let server = || process(12, 1, &["api"]).in_cgroup("/system.slice/api.service");
    let by_cgroup = |pids: &[i32], path: Option<&str>| {
        let case = held_by(pids, vec![systemd(), server()]);
        case.with(|case| case.member.cgroup = path.map(str::to_owned)).holder()
    };
    let service = Some("/system.slice/api.service");
    for (pids, cgroup, stored) in [
        (&[1, 12][..], service, true),
        // The cgroup of a stored socket is gone after a restart of its service.
        (&[1, 12], None, true),
        (&[1, 12], Some("/system.slice/api.socket"), false),
        (&[1], service, false),
    ] {
        let holder = by_cgroup(pids, cgroup);
        assert_eq!(holder.is_stored_by(1), stored, "{pids:?} {cgroup:?}");
        // A guard keeps the processes that bind again: `guard` and the fixes of `audit` ask this.
        let binds = !stored;
        assert_eq!(
            binders(&holder, &HolderFacts::default()).contains(&1),
            binds,
            "{pids:?} {cgroup:?}"
        );
        assert!(!holder.is_stored_by(12), "{pids:?} {cgroup:?}");
    }
}

#[test]
fn a_user_manager_is_asked_by_its_user() {
    let manager = "/user.slice/user-1000.slice/user@1000.service";
    let user_systemd = || {
        let words = ["/lib/systemd/systemd", "--user"];
        process(9, 1, &words).in_cgroup(&format!("{manager}/init.scope"))
    };
    let names = |name: &str| vec![name.to_owned()];
    let user = Manager::User(1000);
    let web = unit("web.service", |it| it.unit.manager = user);
    let server = process(12, 9, &["web"]).in_cgroup(&format!("{manager}/app.slice/web.service"));
    let case = held_by(&[12], vec![server, user_systemd(), systemd()]).units(vec![web]);
    let stop_web = (Ending::StopUnits(user, names("web.service")), Rights::Caller);
    case.is("unit", "web (pid 12, user ann), user unit web.service", &[stop_web]);
    let case = held_by(&[9], vec![user_systemd(), systemd()]);
    let case =
        case.with(|case| case.member.cgroup = Some(format!("{manager}/app.slice/web.socket")));
    let line = "systemd (pid 9, user ann), for web.socket";
    let stop_socket = (Ending::StopUnits(user, names("web.socket")), Rights::Caller);
    case.is("service-manager", line, &[stop_socket]);
    let steps = endings([&case.holder()], 0);
    assert_eq!(steps[0].rights, Rights::Caller, "root becomes the user");
    assert_eq!(endings([&case.holder()], 1001)[0].rights, Rights::User(1000));
}

#[test]
fn containers_are_named_as_far_as_they_are_known() {
    let id = &"0123456789abcdef".repeat(4);
    let (docker, podman) = (Some(Engine::Docker), Some(Engine::Podman));
    let proxy = |words: &[&str], uid| held_by(&[12], vec![process(12, 11, words).of_user(uid)]);
    let words = [
        "/usr/bin/docker-proxy",
        "-proto",
        "tcp",
        "-host-ip",
        "0.0.0.0",
        "-host-port",
        "80",
        "-container-ip",
        "172.17.0.2",
        "-container-port",
        "8080",
    ];
    let line = "docker-proxy (pid 12, user ann), docker container at 172.17.0.2:8080";
    let published = (Ending::StopPublished(80, Protocol::Tcp), Rights::Root);
    proxy(&words, 0).is("container-proxy", line, &[published]);
    let known = |engine, name: Option<&str>| {
        let id = Some(id[..12].to_owned());
        ContainerName { engine, id, name: name.map(str::to_owned), ..ContainerName::default() }
    };
    let stops = |name: ContainerName, rights| (Ending::StopContainer(name), rights);
    let conmon = proxy(&["/usr/bin/conmon", "--api-version", "1", "-c", id, "-n", "web"], 1000);
    let line = "conmon (pid 12, user ann), podman container web (0123456789ab)";
    conmon.is("container-proxy", line, &[stops(known(podman, Some("web")), Rights::Caller)]);
    let socket = format!("--api-socket=/run/user/1000/libpod/tmp/{id}.net");
    let slirp = proxy(&["slirp4netns", "-c", &socket, "tap0"], 1000);
    let line = "slirp4netns (pid 12, user ann), podman container 0123456789ab";
    slirp.is("container-proxy", line, &[stops(known(podman, None), Rights::Caller)]);
    let rootless = proxy(&["rootlessport"], 1000);
    let line = "rootlessport (pid 12, user ann), an unknown podman container";
    let unknown = ContainerName { engine: podman, ..ContainerName::default() };
    rootless.is("container-proxy", line, &[(Ending::FindContainer(unknown), Rights::Caller)]);
    let inside = process(12, 11, &["nginx"]).in_cgroup(&format!("/system.slice/docker-{id}.scope"));
    // The user id of a process in a container is not the one of its engine.
    let case = held_by(&[12], vec![inside.of_user(1000)]);
    let line = "nginx (pid 12, user ann), docker container 0123456789ab";
    case.is("container", line, &[stops(known(docker, None), Rights::Root)]);
    let of_user = "/user.slice/user-1001.slice/user@1001.service/user.slice/libpod-";
    let inside = process(12, 11, &["nginx"]).in_cgroup(&format!("{of_user}{id}.scope"));
    let line = "nginx (pid 12, user ann), podman container 0123456789ab";
    let ends = stops(known(podman, None), Rights::User(1001));
    held_by(&[12], vec![inside.of_user(100_998)]).is("container", line, &[ends]);
}

#[test]
fn words_of_other_users_become_no_options_and_no_commands_of_root() {
    for name in ["--all", "-a", "--name=--all", "a b", "$(id)", ""] {
        let conmon = process(12, 11, &["conmon", "-n", name]);
        let steps = endings([&held_by(&[12], vec![conmon]).holder()], 0);
        let is_unnamed = |step: &EndingStep| matches!(step.ending, Ending::FindContainer(_));
        assert!(steps.iter().all(is_unnamed), "{name}: {steps:?}");
    }
    // The tool of a user's process manager reads files of that user.
    let server = || process(13, 12, &["node"]).task(TaskTool::Supervisorctl, "web");
    for (manager, caller, expected) in [
        (1000, 0, Rights::User(1000)),
        (1000, 1000, Rights::Caller),
        (1000, 1001, Rights::User(1000)),
        (0, 0, Rights::Caller),
        (0, 1000, Rights::Root),
    ] {
        let supervisor = process(12, 1, &["supervisord"]).of_user(manager);
        let holder = held_by(&[13], vec![server(), supervisor, systemd()]).holder();
        assert_eq!(endings([&holder], caller)[0].rights, expected, "{manager} {caller}");
    }
}

#[test]
fn connections_and_the_unseen() {
    let connection = |change: &dyn Fn(&mut Socket)| {
        let case = held_by(&[12], vec![process(12, 11, &["curl"])]);
        case.with(|case| {
            case.member.socket.state = SocketState::Connected;
            case.member.socket.peer = Some("127.0.0.1:443".parse().unwrap());
            change(&mut case.member.socket);
        })
    };
    let role = |case: Case| case.holder().connection;
    let on = |port| move |socket: &mut Socket| socket.address.socket.set_port(port);
    assert_eq!(role(connection(&on(40_000))), Some(ConnectionEnd::Outgoing));
    assert_eq!(role(connection(&on(80))), Some(ConnectionEnd::Either));
    let accepted = connection(&on(40_000)).with(|case| {
        let mut listener = case.member.clone();
        listener.socket.state = SocketState::Waiting;
        case.beside.push(listener);
    });
    assert_eq!(role(accepted), Some(ConnectionEnd::Accepted));
    assert!(connection(&|socket| socket.peer_closed = true).holder().peer_closed);

    let unseen = || held_by(&[], vec![]);
    let line = "a program that cannot be seen from here (user ann)";
    unseen().is("unseen", line, &[(Ending::AskRoot, Rights::Caller)]);
    assert_eq!(endings([&unseen().holder()], 0)[0].ending, Ending::Elsewhere);
    let kernel = unseen().with(|case| case.member.socket.inode = 0);
    let line = "the kernel, for no process (user ann)";
    kernel.is("kernel", line, &[(Ending::Wait, Rights::Caller)]);
    let closed = time_wait(None);
    assert_eq!(closed.description(), "a closed connection (TIME_WAIT)");
    assert_eq!(endings([&closed], 0), []);
}

#[test]
fn several_holders_are_ended_together() {
    let service = process(12, 1, &["api"]).in_cgroup("/system.slice/api.service");
    let facts = vec![unit("api.service", |_| {})];
    let one = held_by(&[12], vec![service, systemd()]).units(facts).holder();
    let program = |pid| held_by(&[pid], vec![process(pid, 1, &["a"]), systemd()]).holder();
    let (two, three) = (program(13), program(14));
    let steps = endings([&two, &one, &three, &one], 1000);
    let step = |ending, rights| EndingStep { ending, rights };
    let expected = [
        step(stop(&["api.service"]), Rights::Root),
        step(Ending::Kill(vec![13, 14]), Rights::Caller),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn sharing_names_what_to_start_again() {
    let command = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
    let shared = |case: Case| match Sharing::of(&case.holder()) {
        Some(Sharing::UnderRun { process, command }) => Some((process.pid, command)),
        _ => None,
    };
    let node = || process(12, 1, &["node", "app.js"]);
    let case = held_by(&[12], vec![node(), systemd()]);
    assert_eq!(shared(case), Some((12, command(&["node", "app.js"]))));
    let title = process(12, 1, &["nginx: master process /usr/sbin/nginx"]);
    assert_eq!(shared(held_by(&[12], vec![title])), Some((12, None)));
    assert_eq!(shared(held_by(&[1], vec![process(1, 0, &["nginx"])])), None);
    assert_eq!(shared(held_by(&[1], vec![systemd()])), None);
    let api = process(12, 1, &["api"]).in_cgroup("/system.slice/api.service");
    let case = held_by(&[12], vec![api]).units(vec![unit("api.service", |_| {})]);
    let unit = Unit { manager: Manager::System, name: "api.service".to_owned() };
    assert_eq!(Sharing::of(&case.holder()), Some(Sharing::AttachUnit(unit)));
}
