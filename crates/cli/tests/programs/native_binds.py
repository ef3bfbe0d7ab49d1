# Binds beside sockets of programs outside the run, in a network namespace of its own.
#
#   native_binds.py all UID [RUN…]: opens every socket that can be in the way, runs the binds of `bind` below
#       as UID, behind the words RUN, and prints "KIND OPTIONS USER ADDRESS | OPTIONS ADDRESS RESULT" for each.
#   native_binds.py first UID [RUN…]: the binds come first, and stay; then other programs bind. The ports are
#       those of multicast services.
import ctypes, errno, fcntl, itertools, json, os, shutil, socket, struct, subprocess, sys

OPTIONS = ("none", "ra", "rp", "ra+rp")
PLACES = (
    ("0.0.0.0", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "127.0.0.1"),
    ("::", "0.0.0.0"), ("0.0.0.0", "::"), ("::1", "::1"), ("::", "::1"), ("127.0.0.1", "127.0.0.2"),
)
GROUPS = (
    ("224.0.0.251", "224.0.0.251"), ("224.0.0.251", "0.0.0.0"), ("0.0.0.0", "224.0.0.251"),
    ("255.255.255.255", "255.255.255.255"), ("ff02::fb", "::"), ("::", "ff02::fb"), ("ff05::2", "ff05::2"),
)
SERVICES = (1900, 3702, 5353, 5355, 67, 68, 319, 320, 546, 547)


def opened(kind, options, ip, port):
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    if "ra" in options:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if "rp" in options:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        s.bind((ip, port) + ((0, 1 if ip.startswith("ff02") else 0) if family == socket.AF_INET6 else ()))
        if kind == "listening":
            s.listen()
    except OSError as error:
        s.close()
        return None, errno.errorcode[error.errno]
    return s, "ok"


def of_user(uid, *what):
    os.seteuid(uid)
    try:
        return opened(*what)
    finally:
        os.seteuid(0)


def own_network():
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):
        raise OSError(ctypes.get_errno(), "unshare")
    with socket.socket() as s:
        flags = struct.pack("16sh", b"lo", 0x1 | 0x40)
        fcntl.ioctl(s, 0x8914, flags)
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as f:
        f.write("0")


def binder(uid, run):
    python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable  # one that every user can execute
    command = [*run, python, sys.argv[0], "bind"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, user=uid, group=uid, extra_groups=[])


def asked(process, binds):
    print(json.dumps(binds), file=process.stdin, flush=True)
    return json.loads(process.stdout.readline() or sys.exit("no answer"))


def beside_others(uid, run):
    others = {"same": uid, "other": 101}
    process = binder(uid, run)
    ports = itertools.count(2000)
    kinds = (("udp", PLACES + GROUPS), ("bound", PLACES), ("listening", PLACES))
    for kind, (at, to) in ((kind, place) for kind, places in kinds for place in places):
        cases = list(itertools.product(OPTIONS, ("same", "other"), OPTIONS))
        holders, binds = [], []
        for (held, user, ask), port in zip(cases, ports):
            holder, result = of_user(others[user], kind, held, at, port)
            assert holder, (kind, held, user, at, result)
            holders.append(holder)
            binds.append((kind, ask, to, port))
        for (held, user, ask), result in zip(cases, asked(process, binds)):
            print(kind, held, user, at, "|", ask, to, result)
    process.stdin.close()
    process.wait()


def before_others(uid, run):
    cases = list(itertools.product(("ra", "ra+rp"), ("ra", "ra+rp"), ("same", "other")))
    others = {"same": uid, "other": 101}
    process = binder(uid, run)
    mine = asked(process, [("udp", held, "0.0.0.0", port) for (held, _, _), port in zip(cases, SERVICES)])
    for (held, ask, user), port, first in zip(cases, SERVICES, mine):
        _, second = of_user(others[user], "udp", ask, "0.0.0.0", port)
        print("first", held, user, "|", ask, first, second)
    process.stdin.close()
    process.wait()


if sys.argv[1] == "bind":
    for line in sys.stdin:
        sockets = [opened(*what) for what in json.loads(line)]
        print(json.dumps([result for _, result in sockets]), flush=True)
else:
    own_network()
    todo = {"all": beside_others, "first": before_others}[sys.argv[1]]
    todo(int(sys.argv[2]), sys.argv[3:])
