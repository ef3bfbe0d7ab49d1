"""Binds as servers do that rely on EADDRINUSE, and prints the results: at first without, then with
SO_REUSEADDR."""
import errno, os, socket, sys
port = int(sys.argv[1])
TCP, UDP = socket.SOCK_STREAM, socket.SOCK_DGRAM
def bound(kind, host='127.0.0.1', reuse=False):
    s = socket.socket(socket.AF_INET, kind)
    if reuse: s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    return s
def listening(s):
    s.listen(5)
    return s
def result(attempt):
    try: return 'ok' if attempt() else 'ok'
    except OSError as e: return errno.errorcode[e.errno]
def in_child(attempt):
    # A session that is forked without exec.
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, result(attempt).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    return os.read(reader, 99).decode()
results = []
first = listening(bound(TCP))
results.append(result(lambda: listening(bound(TCP))))
results.append(result(lambda: bound(TCP, '0.0.0.0')))
results.append(in_child(lambda: bound(TCP)))
moved = first.dup()
first.close()
results.append(result(lambda: bound(TCP)))
moved.close()
results.append(result(lambda: listening(bound(TCP))))
results.append(in_child(lambda: listening(bound(TCP))))
one, two = bound(TCP, reuse=True), bound(TCP, reuse=True)
results.append(result(lambda: listening(one)))
results.append(result(lambda: listening(two)))
results.append(result(lambda: bound(TCP, reuse=True)))
one.close(), two.close()
datagrams = bound(UDP)
results.append(result(lambda: bound(UDP)))
results.append(in_child(lambda: bound(UDP, '0.0.0.0')))
datagrams.close()
datagrams = bound(UDP, reuse=True)
results.append(result(lambda: bound(UDP, reuse=True)))
results.append(result(lambda: bound(UDP)))
print(*results, flush=True)
