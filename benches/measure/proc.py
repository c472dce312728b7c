"""Processes and their memory as /proc tells it."""

import os
import re
from dataclasses import dataclass, field

MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \S+\s*(.*)$")

# The name of user-mode Linux's main process, whose image is at the lowest of its addresses.
GUEST_KERNEL = "linux-um"
# A file without a name: a memfd, or one that was made without one.
GUEST_MEMORY = ("/memfd:", "/#")


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
    """Proportional memory in KiB; the guest's own memory is kept apart."""

    # Pages that the guest touched.
    guest: int = 0
    # The guest kernel's image and map of its memory, where those are not such pages.
    kernel: int = 0
    beyond: int = 0
    # The part of `beyond` that is programs, which containers share with each other.
    programs: int = 0
    processes: dict = field(default_factory=dict)

    @property
    def total(self):
        return self.guest + self.kernel + self.beyond


def memory(pids):
    """The memory of some processes. As each page's size is divided among those who map it, the
    sum counts every page once.

    A guest's memory is a file without a name: whatever maps one (the guest kernel's process, those of the
    guest's processes, the devices', QEMU) has pages of it that the guest touched. User-mode
    Linux has its image and its memory map at guest-physical addresses that are not in the
    file; under QEMU the same things are.
    """
    result = Memory()
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps") as file, open(f"/proc/{pid}/comm") as name:
                name = name.read().strip()
                mappings = list(read_mappings(file))
        except OSError:
            continue  # it has just ended
        own = count(mappings, name == GUEST_KERNEL, result)
        result.processes[f"{name} {pid}"] = own
    return result


def read_mappings(smaps):
    """Start, end, path and proportional size of each mapping."""
    for line in smaps:
        if mapping := MAPPING.match(line):
            start, end, path = mapping.groups()
        elif line.startswith("Pss:"):
            yield int(start, 16), int(end, 16), path, int(line.split()[1])


def count(mappings, guest_kernel, into):
    """Adds one process's mappings; returns its share beyond the guest's memory."""
    begin = mappings[0][0] if guest_kernel else 0
    ends = [end for _, end, path, _ in mappings if path.startswith(GUEST_MEMORY)]
    limit = max(ends, default=0) if guest_kernel else 0
    own = 0
    for start, end, path, size in mappings:
        if path.startswith(GUEST_MEMORY):
            into.guest += size
        elif begin <= start and end <= limit:
            into.kernel += size
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
