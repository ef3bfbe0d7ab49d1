"""Attaches an eBPF program that returns SK_PASS to sk_lookup of its network namespace."""
import ctypes, os, signal, struct

libc = ctypes.CDLL(None, use_errno=True)
SYS_BPF, PROG_LOAD, LINK_CREATE, SK_LOOKUP_PROGRAM, SK_LOOKUP = 321, 5, 28, 30, 36
if os.uname().machine == "aarch64":
    SYS_BPF = 280


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    fd = libc.syscall(SYS_BPF, command, buffer, 128)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"bpf({command})")
    return fd


# r0 = SK_PASS; exit
program = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0))
license = ctypes.create_string_buffer(b"GPL")
loaded = bpf(PROG_LOAD, struct.pack(
    "<IIQQIIQII16sII", SK_LOOKUP_PROGRAM, 2, ctypes.addressof(program), ctypes.addressof(license),
    0, 0, 0, 0, 0, b"", 0, SK_LOOKUP))
network = os.open("/proc/self/ns/net", os.O_RDONLY)
link = bpf(LINK_CREATE, struct.pack("<IIII", loaded, network, SK_LOOKUP, 0))
with open(f"/proc/self/fdinfo/{loaded}") as told:
    number = next(line.split()[1] for line in told if line.startswith("prog_id:"))
print("program", number, flush=True)
signal.pause()
