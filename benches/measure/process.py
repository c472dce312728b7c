"""Running commands and measuring them to the end of their last process."""

import contextlib
import ctypes
import os
import time
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
ADDR_NO_RANDOMIZE = 0x0040000

libc = ctypes.CDLL(None)


class Failed(Exception):
    """A command that should have succeeded did not."""


@dataclass
class Sample:
    """One command: seconds until it ended."""

    wall: float


@contextlib.contextmanager
def adopting():
    """Meanwhile, processes whose parents end become children of this process, to be waited for."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def children():
    """This process's children."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return {int(word) for word in file.read().split()}


def spawn(command, environment=None, pinned=False, errors=os.devnull):
    """Starts a command with its output discarded.

    A pinned command gets one CPU and fixed addresses, as hull's guests.
    """
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
    ]
    cpus = os.sched_getaffinity(0)
    if pinned:
        os.sched_setaffinity(0, {libc.sched_getcpu()})
        libc.personality(ADDR_NO_RANDOMIZE)
    try:
        return os.posix_spawnp(command[0], command, environment or os.environ, file_actions=files)
    finally:
        if pinned:
            libc.personality(0)
            os.sched_setaffinity(0, cpus)


def measure(command, environment=None, pinned=False, errors=os.devnull):
    """Runs a command to its end.

    What it leaves behind is waited for, so that it does not disturb the next sample, but does
    not count.
    """
    before = children()
    with adopting():
        started = time.perf_counter()
        pid = spawn(command, environment, pinned, errors)
        _, status = os.waitpid(pid, 0)
        wall = time.perf_counter() - started
        while left := children() - before:
            os.waitpid(left.pop(), 0)
    if status:
        code = os.waitstatus_to_exitcode(status)
        raise Failed(f"exit code {code}: {' '.join(map(str, command))}{last_words(errors)}")
    return Sample(wall)


def last_words(path):
    """The end of what a command wrote to its standard error."""
    if path == os.devnull:
        return ""
    with open(path, errors="replace") as file:
        return f": {file.read().strip()[-300:]}"
