"""A FUSE file system whose one file never answers: hung_files.py DIRECTORY [async]

Mounts at DIRECTORY (needs root and a mount namespace of its own), prints a line when it is mounted, and then
answers everything but reads, attributes and flushes of DIRECTORY/file. `async`: reads are asynchronous
(FUSE_ASYNC_READ), so that the kernel waits for them killably.
"""
import ctypes
import os
import struct
import sys

LOOKUP, GETATTR, OPEN, READ, FLUSH, INIT = 1, 3, 14, 15, 25, 26
RELEASE, OPENDIR, ACCESS, FORGET, INTERRUPT, BATCH_FORGET = 18, 27, 34, 2, 36, 42
ENOENT, ENOSYS = 2, 38


def attributes(node):
    mode, size = (0o040755, 0) if node == 1 else (0o100666, 65536)
    return struct.pack("<6Q9I4x", node, size, 128, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096)[:88]


def main():
    directory, is_async = sys.argv[1], "async" in sys.argv[2:]
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    if libc.mount(b"hung", directory.encode(), b"fuse", 0, options.encode()) != 0:
        sys.exit(f"mount: {os.strerror(ctypes.get_errno())}")
    print("mounted", flush=True)
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
        elif opcode in (READ, GETATTR, FLUSH, INTERRUPT, FORGET, BATCH_FORGET):
            # The last two have no answer.
            continue
        else:
            error = -ENOSYS
        os.write(device, struct.pack("<IiQ", 16 + len(body), error, unique) + body)


main()
