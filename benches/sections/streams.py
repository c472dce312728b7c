"""Throughput of a container's standard streams."""

import os
import subprocess
import time

from measure.process import Failed, Sample
from measure.stats import Series, in_turns

CHUNK = 1 << 20


def run(setting):
    """Bytes through `cat` and out of `dd`, hull beside docker and podman."""
    size = setting.rounds(1 << 30, 64 << 20)
    both, out = ("cat",), ("dd", "if=/dev/zero", "bs=64k", f"count={size >> 16}")
    candidates = []

    def add(runtime, name, *options):
        for what, words in (("in and out", both), ("out", out)):
            command = ["run", "--rm", "-i", *options, "busybox", *words]
            candidates.append(
                (f"{name}, {what}", lambda c=command, w=words: carry(runtime, c, size, w is both))
            )

    for engine in setting.engines:
        if engine != "tcg" or setting.quick:
            add(setting.hull, f"hull run, {engine}", "--engine", engine)
    for name, peer in setting.peers.items():
        add(peer, f"{name} run")
    timed = in_turns(candidates, setting.rounds(5, 1))
    series = [
        Series(one.name, "MB/s", [size / 1e3 / value for value in one.values])
        for one in timed.values()
    ]
    title = f"{size >> 20} MiB through run -i, MB/s (the whole command's time)"
    setting.report.section("streams", title, series)


def carry(runtime, command, size, feed):
    """Runs a command that writes `size` bytes, which it reads before if it is fed."""
    started = time.perf_counter()
    source = subprocess.Popen(
        ["head", "-c", str(size if feed else 0), "/dev/zero"], stdout=subprocess.PIPE
    )
    files = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = runtime.popen(*command, stdin=source.stdout, **files)
    source.stdout.close()
    received, buffer = 0, bytearray(CHUNK)
    while count := os.readv(process.stdout.fileno(), [buffer]):
        received += count
    code = process.wait()
    wall = time.perf_counter() - started
    process.stdout.close()
    source.wait()
    if code or received != size:
        raise Failed(f"{received} of {size} bytes, exit code {code}: {' '.join(command)}")
    return Sample(wall)
