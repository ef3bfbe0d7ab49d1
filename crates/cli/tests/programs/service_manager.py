"""A fake systemd: starts a service, receives its notifications, and stores its sockets.

service_manager.py NOTIFY_SOCKET UID SOCKETS COMMAND...
  SOCKETS  inherited descriptors, comma-separated, which it passes as those of web.socket; or -

Datagrams control it: DO=start, DO=kill (SIGKILL to the main process) and DO=stop (SIGTERM, then a wait
for the exit). After both it kills the remaining processes of the service, as systemd does. It prints: `told LINE`, `stored NAME`, `removed NAME`, `ended CODE`.
"""

import array
import ctypes
import fcntl
import os
import select
import signal
import socket
import sys

path, uid, sockets, command = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]
unit = [] if sockets == "-" else [int(number) for number in sockets.split(",")]
stored = []  # (name, descriptor)
main = None
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)

ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ears.bind(path)
os.chmod(path, 0o666)
ears.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def say(text):
    os.write(1, (text + "\n").encode())


def same(a, b):
    a, b = os.fstat(a), os.fstat(b)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def start():
    global main
    all = [("web.socket", fd) for fd in unit] + stored
    main = os.fork()
    if main:
        return
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for _, fd in all]
    os.dup2(2, 1)
    for number, fd in enumerate(above, 3):
        os.dup2(fd, number, inheritable=True)
    os.closerange(3 + len(above), 1024)
    environment = dict(os.environ, NOTIFY_SOCKET=path)
    if all:
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDS"] = str(len(all))
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in all)
    if uid != os.getuid():
        os.setgid(uid)
        os.setuid(uid)
    os.execve(command[0], command, environment)


def hear(patience):
    """One message, if it comes in time."""
    if not select.select([ears], [], [], patience)[0]:
        return None
    text, ancillary, _, _ = ears.recvmsg(4096, 1024)
    fds = array.array("i")
    pid = 0
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        elif kind == socket.SCM_CREDENTIALS:
            pid = array.array("i", data[:4])[0]
    lines = text.decode().splitlines()
    said = dict(line.split("=", 1) for line in lines)
    if "DO" in said:
        return said["DO"]
    if pid != main:  # NotifyAccess=main
        say(f"ignored {lines} of {pid}")
        return ""
    name = said.get("FDNAME", "stored")
    if said.get("FDSTORE") == "1":
        for fd in fds:
            if any(same(fd, there) for _, there in stored):
                os.close(fd)
            else:
                stored.append((name, fd))
                say(f"stored {name}")
        return ""
    for fd in fds:
        os.close(fd)
    if said.get("FDSTOREREMOVE") == "1":
        for _, fd in [one for one in stored if one[0] == name]:
            os.close(fd)
        stored[:] = [one for one in stored if one[0] != name]
        say(f"removed {name}")
    elif said.get("BARRIER") != "1":
        for line in lines:
            say("told " + line)
    return ""


def children():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def end(number):
    os.kill(main, number)
    while True:
        pid, status = os.waitpid(main, os.WNOHANG)
        if pid:
            break
        hear(0.01)
    while hear(0) is not None:
        pass
    while left := children():
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    say(f"ended {os.waitstatus_to_exitcode(status)}")


start()
while True:
    order = hear(60)
    if order is None:
        sys.exit("nobody needs me")
    if order == "start":
        start()
    elif order == "kill":
        end(signal.SIGKILL)
    elif order == "stop":
        end(signal.SIGTERM)
