"""A process that joins a group, and makes the kernel choose its member.

intruder.py PORT ADDRESS cbpf|ebpf INDEX [leave]   attaches a program that returns INDEX, and says "attached"
                                                   with its pid; `leave`: closes its socket after that

A client gets the pid, as the answer to a request of HTTP.
"""

import ctypes
import os
import socket
import struct
import sys

SO_ATTACH_REUSEPORT_CBPF = 51
SO_ATTACH_REUSEPORT_EBPF = 52
BPF_PROG_LOAD = 5
BPF_PROG_TYPE_SOCKET_FILTER = 1
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]


def classic(sock, index):
    step = struct.pack("HBBI", 0x06, 0, 0, index)
    buffer = ctypes.create_string_buffer(step)
    program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(buffer))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)


def extended(sock, index):
    steps = struct.pack("BBHi", 0xB7, 0, 0, index) + struct.pack("BBHi", 0x95, 0, 0, 0)
    code = ctypes.create_string_buffer(steps)
    license = ctypes.create_string_buffer(b"GPL")
    fields = (BPF_PROG_TYPE_SOCKET_FILTER, 2, ctypes.addressof(code), ctypes.addressof(license))
    attributes = struct.pack("IIQQIIQII16s", *fields, 0, 0, 0, 0, 0, b"intruder")
    buffer = ctypes.create_string_buffer(attributes)
    libc = ctypes.CDLL(None, use_errno=True)
    program = libc.syscall(SYS_BPF, BPF_PROG_LOAD, buffer, len(attributes))
    if program < 0:
        sys.exit("bpf: " + os.strerror(ctypes.get_errno()))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, program)


def main():
    port, address, kind, index = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((address, port))
    sock.listen(64)
    {"cbpf": classic, "ebpf": extended}[kind](sock, index)
    if "leave" in sys.argv:
        sock.close()
    print("attached", os.getpid(), flush=True)
    while "leave" not in sys.argv:
        connection, _ = sock.accept()
        body = b"%d\n" % os.getpid()
        if "bare" not in sys.argv:
            connection.recv(1000)
        connection.sendall(body if "bare" in sys.argv else b"HTTP/1.0 200 OK\r\n\r\n" + body)
        connection.close()
    sys.stdin.read()


main()
