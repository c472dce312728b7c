"""The bare guest that hull is compared with: the same kernel, command line, memory size and
CPU pinning as hull's, without devices, jail and agent, and an init that powers off at once."""

import contextlib
import copy
import os
import shutil

from . import proc
from .process import Failed, measure, spawn
from .setting import PLACE, ROOT, output

# As hull gives it to its guests.
ENVIRONMENT = {"HOME": "/"}

DIRECTORY = 0o40755
EXECUTABLE = 0o100755


class BareGuest:
    """How hull starts a guest with an engine, found out from one that it started."""

    def __init__(self, hull, engine):
        container = hull.detach("--engine", engine, "busybox", "sleep", "1000")
        try:
            guest, words = find(hull, container)
            self.pinned = len(os.sched_getaffinity(guest)) == 1
        finally:
            hull.clean_up()
        # Where files for its memory are made; without one it makes its memory by itself.
        self.memory = None
        initramfs = initramfs_that_ends()
        if engine == "uml":
            self.command = [str(hull.assets / "kernels/linux-um"), *bare_uml(words, initramfs)]
        else:
            self.command = [shutil.which(f"qemu-system-{os.uname().machine}"), *bare_qemu(words)]
            kernel = "vmlinux-x86_64" if os.uname().machine == "x86_64" else "Image-aarch64"
            replace_after(self.command, "-kernel", str(hull.assets / "kernels" / kernel))
            replace_after(self.command, "-initrd", initramfs)

    def with_huge_pages(self):
        """The same user-mode Linux with its memory where hull's guests have theirs."""
        guest = copy.copy(self)
        guest.memory = huge_pages()
        return guest

    def measure(self):
        """One boot to its end."""
        with self.started_with() as command:
            return measure(command, ENVIRONMENT, self.pinned, str(PLACE / "stderr"))

    def start(self):
        """One boot that is not waited for."""
        with self.started_with() as command:
            return spawn(command, ENVIRONMENT, self.pinned, str(PLACE / "stderr"))

    @contextlib.contextmanager
    def started_with(self):
        """The command, while what it inherits is open."""
        if self.memory is None:
            yield self.command
            return
        file = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=self.memory)
        os.set_inheritable(file, True)
        try:
            yield [*self.command, f"memory_fd={file}"]
        finally:
            os.close(file)


def huge_pages():
    """A directory in memory, in huge pages, that only its descriptor leads to; needs root."""
    place = PLACE / "memory"
    place.mkdir(exist_ok=True)
    output(["mount", "-t", "tmpfs", "-o", "huge=within_size", "hull-bench", place])
    try:
        return os.open(place, os.O_DIRECTORY)
    finally:
        output(["umount", "--lazy", place])


def find(hull, container):
    """The guest's process of a container, and its command line."""
    for pid in proc.tree(hull.processes_of(container)):
        words = proc.arguments(pid)
        if words and words[0].startswith(("hull-guest", "qemu")):
            return pid, words
    raise Failed("hull's guest process was not found")


def bare_uml(words, initramfs):
    """User-mode Linux's arguments without devices and with another initramfs."""
    others = ("virtio_uml.device=", "initrd=", "memory_fd=")
    kept = [word for word in words[1:] if not word.startswith(others)]
    return [f"initrd={initramfs}", *kept]


def bare_qemu(words):
    """QEMU's arguments without the devices that hull serves, in pairs but for a few words."""
    kept, skip = [], False
    for word in words[1:]:
        device = word in ("-chardev", "-device", "-netdev")
        if not skip and not device:
            kept.append(word)
        skip = device
    return kept


def replace_after(words, option, value):
    words[words.index(option) + 1] = value


def initramfs_that_ends():
    """Builds the do-nothing init and an initramfs with it."""
    program, archive = PLACE / "init", PLACE / "init.cpio"
    source = ROOT / "benches/init.S"
    output(["cc", "-static", "-nostdlib", "-o", program, source])
    entries = [("dev", DIRECTORY, b""), ("init", EXECUTABLE, program.read_bytes())]
    archive.write_bytes(b"".join(entry(i, *e) for i, e in enumerate(entries, 1)) + entry(0, "TRAILER!!!", 0, b""))
    return str(archive)


def entry(inode, name, mode, content):
    """One file of a newc archive."""
    fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
    head = "070701" + "".join(f"{field:08x}" for field in fields) + name + "\0"
    return padded(head.encode()) + padded(content)


def padded(data):
    return data + bytes(-len(data) % 4)
