"""A FUSE file system whose one file never answers, and a command: hung_files.py DIRECTORY sync|async COMMAND...

Needs root. Mounts at DIRECTORY in a mount namespace of its own, prints `hung PID`, and executes the command. The
process PID, which is no descendant of the command, answers everything but reads and attributes of
DIRECTORY/file. `async`: reads are asynchronous (FUSE_ASYNC_READ), and SIGKILL ends the process that waits for one.
"""
import ctypes
import os
import struct
import sys

LOOKUP, GETATTR, OPEN, READ, INIT = 1, 3, 14, 15, 26
RELEASE, OPENDIR, ACCESS, FORGET, INTERRUPT, BATCH_FORGET = 18, 27, 34, 2, 36, 42
ENOENT, ENOSYS = 2, 38


def attributes(node):
    mode, size = (0o040755, 0) if node == 1 else (0o100666, 65536)
    return struct.pack("<6Q9I4x", node, size, 128, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096)[:88]


def serve(device, is_async):
    while True:
        try:
            request = os.read(device, 1 << 20)
        except OSError:
            return
        _, opcode, unique, node = struct.unpack("<IIQQ", request[:24])
        error, body = 0, b""
        if opcode == INIT:
            body = struct.pack("<IIIIHHIIHHI28x", 7, 31, 65536, 1 if is_async else 0, 12, 9, 65536, 1, 0, 0, 0)
        elif opcode == LOOKUP and request[40:].rstrip(b"\0") == b"file":
            # The attributes are valid for no time: each `stat` asks again.
            body = struct.pack("<QQQQII", 2, 0, 3600, 0, 0, 0) + attributes(2)
        elif opcode == LOOKUP:
            error = -ENOENT
        elif opcode == GETATTR and node == 1:
            body = struct.pack("<QII", 3600, 0, 0) + attributes(1)
        elif opcode in (OPEN, OPENDIR):
            body = struct.pack("<QII", 0, 0, 0)
        elif opcode in (RELEASE, ACCESS):
            pass
        elif opcode in (READ, GETATTR, INTERRUPT, FORGET, BATCH_FORGET):
            # The last three have no answer.
            continue
        else:
            error = -ENOSYS
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)



def main():
    directory, is_async, command = sys.argv[1], sys.argv[2] == "async", sys.argv[3:]
    libc = ctypes.CDLL(None, use_errno=True)
    new_mount_namespace, private = 0x20000, 0x44000
    if libc.unshare(new_mount_namespace) != 0 or libc.mount(None, b"/", None, private, None) != 0:
        sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"hung", directory.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit("mount: " + os.strerror(ctypes.get_errno()))
    between = os.fork()
    if between == 0:
        daemon = os.fork()
        if daemon == 0:
            os.setsid()
            serve(device, is_async)
            os._exit(0)
        print("hung", daemon, flush=True)
        os._exit(0)
    os.waitpid(between, 0)
    os.close(device)
    os.execvp(command[0], command)


main()
