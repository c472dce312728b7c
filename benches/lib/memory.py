"""Host memory of a container: its processes, with the guest's own memory told apart."""

import re
from pathlib import Path

# What guest memory is mapped from: the memfd or the deleted file that the VMM shares.
GUEST = re.compile(r"/(memfd:|dev/shm/|tmp/vm_file)|\(deleted\)$")


def processes(word: str) -> list[int]:
    """Processes whose command line has the word, and all processes below them."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if word.encode() in (folder / "cmdline").read_bytes():
                found.add(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        grown = bool(more)
        found |= more
    return sorted(found)


def split(pids: list[int]) -> tuple[int, int]:
    """(guest, rest) in bytes: proportional shares, so that nothing is counted twice."""
    guest = rest = 0
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/smaps").read_text()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        of_guest = False
        for line in maps.splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                path = line.split(None, 5)[5] if len(line.split(None, 5)) == 6 else ""
                of_guest = GUEST.search(path) is not None
            elif line.startswith("Pss:"):
                size = int(line.split()[1]) * 1024
                guest, rest = (guest + size, rest) if of_guest else (guest, rest + size)
    return guest, rest
