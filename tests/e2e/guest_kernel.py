# Run by guest_kernel.rs: prints what an ordinary kernel makes of it.
import ctypes, math, mmap, os, signal, threading
hits = 0
def tick(*_):
    global hits
    hits += 1
    math.sqrt(hits)
signal.signal(signal.SIGALRM, tick)
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
def work(seed):
    x = float(seed)
    for i in range(100000):
        x = math.fmod(x * 1.5 + math.sin(i), 1000.0)
    return x
results = [[] for _ in range(4)]
threads = [threading.Thread(target=lambda r=r, n=n: r.append(work(n))) for n, r in enumerate(results)]
[t.start() for t in threads]
here = [work(n) for n in range(4)]
[t.join() for t in threads]
signal.setitimer(signal.ITIMER_REAL, 0)
print('threads', [r[0] for r in results] == here, hits > 0)
child = os.fork()
if child == 0:
    os._exit(0 if work(3) == here[3] else 1)
again = work(2) == here[2]
print('fork', os.waitpid(child, 0)[1], again)
def ends(what):
    child = os.fork()
    if child == 0:
        what()
        os._exit(0)
    return os.waitpid(child, 0)[1] & 0x7f
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ)
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
area = libc.mmap(None, 8192, 1, 0x22, -1, 0)
none = libc.mmap(None, 8192, 0, 0x22, -1, 0)
rw = libc.mmap(None, 8192, 3, 0x22, -1, 0)
print('faults', ends(lambda: ctypes.string_at(8, 1)), ends(lambda: ctypes.memset(area, 1, 1)), ends(lambda: ctypes.string_at(none, 1)),
      ends(lambda: ctypes.CFUNCTYPE(None)(rw)()), ends(lambda: ctypes.memset(rw, 1, 8192)), ends(lambda: ctypes.string_at(area, 8192)))
