"""Runs in the guest of `cargo xtask kernels`, as root: driver.py BOOT RESULTS.

Writes one line of JSON to RESULTS for each step: what was executed, and what came of it. Judges nothing;
xtask does. The last line of a boot has the step "end".
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

PAYLOAD = "/payload"
SAMEPORT = "/usr/bin/sameport"
SERVER = f"{PAYLOAD}/named_http_server.py"
# An emulated processor is some ten times slower, and the machine below it may be busy.
STEP_TIMEOUT = 900
ANSWER_TIMEOUT = 120
# A second worker that has not answered for so long after the first does not answer.
NO_NEW_WORKER = 30
ORDINARY_USER = 1000
GUARDED_PORT, SECOND_GUARDED_PORT = 24530, 24531
GUARD_USER = "www-data"


class Results:
    """The second serial port."""

    def __init__(self, path, boot):
        self.file = open(path, "w", buffering=1)
        self.boot = boot

    def write(self, step, **fields):
        self.file.write(json.dumps({"boot": self.boot, "step": step, **fields}) + "\n")


def as_user(user, command):
    if user is None:
        return command
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--inh-caps=-all",
            "--", *command]


def home(user):
    return "/root" if user is None else "/home/ann"


def environment(user):
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": home(user)}


def execute(results, step, command, user=None):
    """Executes a command, and records its exit code, its output and its duration."""
    since = time.monotonic()
    try:
        # The table of kernel rules records its skips below the working directory.
        done = subprocess.run(as_user(user, command), env=environment(user), cwd=home(user),
                              timeout=STEP_TIMEOUT, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, errors="replace")
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as late:
        text = lambda part: (part or b"").decode(errors="replace")
        code, out, err = None, text(late.stdout), text(late.stderr)
    shown = ["sameport" if part == SAMEPORT else part for part in command]
    results.write(step, user=user or 0, command=" ".join(shown), code=code, stdout=out, stderr=err,
                  seconds=round(time.monotonic() - since, 1))
    return code


def ask(port):
    """One request on one connection. The answer is the pid of the worker."""
    with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while part := connection.recv(4096):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    if not body:
        raise ConnectionError(f"no answer: {head!r}")
    return int(body)


def wait_for(what):
    """Repeats `what` until it is true. False: it was not within the time of a step."""
    deadline = time.monotonic() + STEP_TIMEOUT
    while time.monotonic() < deadline:
        if what():
            return True
        time.sleep(0.2)
    return False


def workers_that_answer(port):
    try:
        return {ask(port) for _ in range(8)}
    except OSError:
        return set()


class Run:
    """A `sameport run` in the background, which ends with the block."""

    def __init__(self, arguments, user=None):
        self.errors = open("/tmp/run-errors", "w+")
        self.process = subprocess.Popen(as_user(user, [SAMEPORT, "run", *arguments]),
                                        env=environment(user), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=self.errors)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STEP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def has_ended(self):
        return self.process.poll() is not None

    def text(self):
        self.errors.seek(0)
        return self.errors.read()


def share(results, step, port, arguments, user=None):
    """Two workers on one port: how many answer, and what the run says."""
    since = time.monotonic()
    command = ["-n", "2", *arguments, "--", "python3", SERVER, str(port)]
    with Run(command, user) as run:
        answering, last_new = set(), time.monotonic()

        def is_known():
            nonlocal last_new
            before = len(answering)
            answering.update(workers_that_answer(port))
            if len(answering) > before:
                last_new = time.monotonic()
            is_alone = answering and time.monotonic() - last_new > NO_NEW_WORKER
            return len(answering) >= 2 or is_alone or run.has_ended()

        wait_for(is_known)
        listed = subprocess.run([SAMEPORT, "ls", str(port)], capture_output=True, text=True)
        code = run.process.poll()
    results.write(step, user=user or 0, command=" ".join(["sameport run", *command]), code=code,
                  stdout=listed.stdout, stderr=run.text(), answering=len(answering),
                  seconds=round(time.monotonic() - since, 1))


class Load:
    """Clients that ask, one connection for each request, until the block ends."""

    def __init__(self, port, clients):
        self.port, self.stop, self.phase = port, threading.Event(), "start"
        self.answered, self.lost, self.pids = {}, [], {}
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.client) for _ in range(clients)]

    def client(self):
        while not self.stop.is_set():
            phase = self.phase
            try:
                pid = ask(self.port)
                with self.lock:
                    self.answered[phase] = self.answered.get(phase, 0) + 1
                    self.pids[pid] = time.monotonic()
            except (OSError, ValueError) as error:
                with self.lock:
                    self.lost.append(f"{phase}: {error}")
            # The clients must leave the emulated processors to the servers.
            time.sleep(0.1)

    def wait_for_answers(self, count):
        """Until the phase has as many answers more."""
        enough = self.answered.get(self.phase, 0) + count
        return wait_for(lambda: self.answered.get(self.phase, 0) >= enough)

    def newest_pid(self):
        with self.lock:
            return max(self.pids, key=self.pids.get)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def named_run(results, port):
    """A named run under load: each request, and what is lost meanwhile."""
    name = "kernels"
    server = ["python3", SERVER, str(port)]
    command = ["--name", name, "-n", "2", "--ready", "tcp", "--", *server]

    def ready():
        check = [SAMEPORT, "status", name, "--check"]
        return subprocess.run(check, capture_output=True).returncode == 0

    with Run(command) as run:
        started = wait_for(lambda: ready() or run.has_ended())
        with Load(port, clients=3) as load:
            load.wait_for_answers(20)
            requests = [
                ("restart", [SAMEPORT, "restart", name]),
                ("kill", None),
                ("upgrade", [SAMEPORT, "upgrade", name, "--env", "VERSION=2", "--", *server]),
                ("scale", [SAMEPORT, "scale", name, "3"]),
                ("reexec", [SAMEPORT, "reexec", name]),
            ]
            for phase, request in requests:
                load.phase = phase
                if request is None:
                    os.kill(load.newest_pid(), signal.SIGKILL)
                    time.sleep(1)
                    wait_for(ready)
                else:
                    execute(results, f"named-{phase}", request)
                load.wait_for_answers(20)
            execute(results, "named-status", [SAMEPORT, "status", name])
        execute(results, "named-stop", [SAMEPORT, "stop", name])
    results.write("named-load", command=" ".join(["sameport run", *command]), started=started,
                  answered=load.answered, lost=load.lost, workers=len(load.pids),
                  code=run.process.poll(), stderr=run.text())


BIND = """
import errno, socket, sys
try:
    socket.socket().bind(("127.0.0.1", int(sys.argv[1])))
    print("ok")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def guard_is_enforced(results, step):
    """A bind by root, whom the guard refuses, and by the user whom it allows."""
    execute(results, f"{step}-root", ["python3", "-c", BIND, str(GUARDED_PORT)])
    allowed = ["setpriv", f"--reuid={GUARD_USER}", "--clear-groups", "--", "python3", "-c", BIND,
               str(GUARDED_PORT)]
    execute(results, f"{step}-allowed", allowed)


def doctor(results, step):
    for who, user in [("root", None), ("user", ORDINARY_USER)]:
        execute(results, f"{step}-{who}", [SAMEPORT, "doctor"], user)
        execute(results, f"{step}-json-{who}", [SAMEPORT, "doctor", "--json"], user)


def first_boot(results):
    doctor(results, "doctor")
    rules = f"{PAYLOAD}/kernel_rules"
    execute(results, "rules-root", [rules])
    execute(results, "rules-user", [rules], ORDINARY_USER)
    for via in ["seccomp", "preload", "cgroup"]:
        share(results, f"share-{via}-root", 24500, ["--via", via])
    for via in ["seccomp", "preload"]:
        share(results, f"share-{via}-user", 24501, ["--via", via], ORDINARY_USER)
    named_run(results, 24520)
    for port in [GUARDED_PORT, SECOND_GUARDED_PORT]:
        execute(results, "guard-set", [SAMEPORT, "guard", str(port), "--allow", f"uid={GUARD_USER}"])
    guard_is_enforced(results, "guard-bind")
    execute(results, "guard-enable", ["systemctl", "enable", "sameport-guard"])


def guard_after_boot(results):
    show = ["systemctl", "show", "sameport-guard", "-p", "ActiveState", "-p", "Result"]
    execute(results, "guard-unit", show)
    execute(results, "guard-journal", ["journalctl", "-u", "sameport-guard", "-o", "cat", "--no-pager"])
    execute(results, "guard-list", [SAMEPORT, "guard", "--list"])
    guard_is_enforced(results, "guard-bind")


def second_boot(results):
    guard_after_boot(results)
    for scope in ["2", "3"]:
        with open("/proc/sys/kernel/yama/ptrace_scope", "w") as file:
            file.write(scope)
        doctor(results, f"ptrace-{scope}-doctor")
        for who, user in [("root", None), ("user", ORDINARY_USER)]:
            share(results, f"ptrace-{scope}-seccomp-{who}", 24502, ["--via", "seccomp"], user)
            share(results, f"ptrace-{scope}-auto-{who}", 24503, [], user)


def lockdown_boot(results):
    with open("/sys/kernel/security/lockdown") as file:
        results.write("lockdown-mode", stdout=file.read(), code=0)
    doctor(results, "doctor")
    guard_after_boot(results)
    execute(results, "guard-off-one", [SAMEPORT, "guard", str(SECOND_GUARDED_PORT), "--off"])
    execute(results, "guard-set", [SAMEPORT, "guard", "24532", "--allow", f"uid={GUARD_USER}"])
    execute(results, "guard-restore", [SAMEPORT, "guard", "--restore"])
    execute(results, "guard-off-all", [SAMEPORT, "guard", "--off-all"])
    for via in ["seccomp", "preload", "cgroup"]:
        share(results, f"share-{via}-root", 24500, ["--via", via])
    listener = socket.create_server(("127.0.0.1", 24540))
    for step, arguments in [("ls", ["ls", "24540"]), ("why", ["why", "24540"]), ("audit", ["audit"])]:
        execute(results, f"{step}-root", [SAMEPORT, *arguments])
        execute(results, f"{step}-user", [SAMEPORT, *arguments], ORDINARY_USER)
    listener.close()


BOOTS = {"first": first_boot, "second": second_boot, "lockdown": lockdown_boot}


def prepare():
    shutil.copy(f"{PAYLOAD}/sameport", SAMEPORT)
    os.chmod(SAMEPORT, 0o755)
    shutil.copy(f"{PAYLOAD}/sameport-guard.service", "/etc/systemd/system/")
    subprocess.run(["useradd", "--create-home", "--uid", str(ORDINARY_USER), "ann"],
                   capture_output=True)


def main():
    boot, path = sys.argv[1:]
    results = Results(path, boot)
    try:
        results.write("start", kernel=os.uname().release)
        prepare()
        BOOTS[boot](results)
    except Exception as error:
        results.write("failure", stderr=repr(error))
    results.write("end")


main()
