"""Processes and their memory as /proc tells it."""

import os
import re
from dataclasses import dataclass, field

MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \S+\s*(.*)$")


def tree(pid):
    """A process and everything below it, parents first."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    parent = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has just ended
            parents.setdefault(parent, []).append(int(entry))
    found = [pid]
    for one in found:
        found.extend(parents.get(one, []))
    return found


def arguments(pid):
    """A process's command line."""
    with open(f"/proc/{pid}/cmdline") as file:
        return file.read().split("\0")[:-1]


@dataclass
class Memory:
    """Proportional memory in KiB; what a guest touched of its own memory is kept apart."""

    guest: int = 0
    beyond: int = 0
    # The part of `beyond` that file-backed mappings hold: programs, which others may share.
    programs: int = 0
    processes: dict = field(default_factory=dict)

    @property
    def total(self):
        return self.guest + self.beyond


def memory(pids):
    """The memory of some processes.

    A guest's memory is a memfd: whatever maps one, the guest kernel's process, those of the
    guest's processes, the devices', QEMU, has pages of it that the guest touched. As each page's
    size is divided among those who map it, the sum counts every page once.
    """
    result = Memory()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps") as file, open(f"/proc/{pid}/comm") as name:
                own = count(file, result)
                result.processes[f"{name.read().strip()} {pid}"] = own
        except OSError:
            continue  # it has just ended
    return result


def count(smaps, into):
    """Adds one process's mappings; returns its share beyond the guest's memory."""
    path, own = "", 0
    for line in smaps:
        if mapping := MAPPING.match(line):
            path = mapping.group(1)
        elif line.startswith("Pss:"):
            size = int(line.split()[1])
            if path.startswith("/memfd:"):
                into.guest += size
            else:
                own += size
                if path.startswith("/"):
                    into.programs += size
    into.beyond += own
    return own


def available():
    """Memory that the host could still give, in KiB."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable:"))
