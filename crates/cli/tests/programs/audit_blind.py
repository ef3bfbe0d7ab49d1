"""Executes its arguments with a filter under which socket(AF_NETLINK) fails with EACCES."""
import ctypes, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
SOCKET = 198 if os.uname().machine == "aarch64" else 41
filter = b"".join(struct.pack("<HBBI", *line) for line in [
    (0x20, 0, 0, 0),            # the number of the call
    (0x15, 0, 3, SOCKET),
    (0x20, 0, 0, 16),           # its first argument
    (0x15, 0, 1, 16),           # AF_NETLINK
    (0x06, 0, 0, 0x00050000 | 13),
    (0x06, 0, 0, 0x7FFF0000),
])
buffer = ctypes.create_string_buffer(filter)
program = struct.pack("HxxxxxxP", 6, ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
