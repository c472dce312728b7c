"""Throughput of TCP into and out of a container, through a published port and between two."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

from measure.process import Failed
from measure.setting import PLACE, output
from measure.stats import Series, Verdict

PORT = 5201
PROGRAM = "iperf3"


def run(setting):
    """iperf3 from the host to a published port, both directions, beside a process behind pasta,
    which is what a container of rootless podman is to the network."""
    program = shutil.which(PROGRAM)
    if not program:
        raise Failed("iperf3 is not installed: run scripts/setup peers")
    directory = collect(Path(program))
    seconds = setting.rounds(5, 1)
    rounds = setting.rounds(5, 1)
    hull = setting.hull
    volume = ["-v", f"{directory}:/iperf:ro"]
    server = [*volume, "busybox", *words("/iperf", "-s", "-p", str(PORT))]
    container = hull.detach("--engine", "uml", "-p", f"127.0.0.1::{PORT}", *server)
    port = int(hull.output("port", container, str(PORT)).rpartition(":")[2])
    candidates = {"hull, published port": port}
    pasta, free = None, free_port()
    try:
        # As root of a user namespace, like podman's: the host's root it refuses to be.
        pasta = subprocess.Popen(
            ["unshare", "-r", "pasta", "-q", "-f", "--config-net", "-t", str(free), "-T", "none", "-u", "none",
             "-U", "none", "--", PROGRAM, "-s", "-p", str(free)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        candidates["a process behind pasta"] = free
    except FileNotFoundError:
        setting.report.skip("a process behind pasta", "pasta is not installed")
    try:
        for one in candidates.values():
            wait_for(one)
        values = {}
        for _ in range(rounds):
            for name, one in candidates.items():
                for way, options in (("in", ()), ("out", ("-R",))):
                    figure = client([PROGRAM, "-c", "127.0.0.1", "-p", str(one), *options], seconds)
                    values.setdefault(f"{name}, {way}", []).append(figure)
    finally:
        if pasta:
            pasta.kill()
            pasta.wait()
    template = '{{(index .NetworkSettings.Networks "bridge").IPAddress}}'
    address = hull.output("inspect", "--format", template, container)
    for _ in range(rounds):
        command = words("/iperf", "-c", address, "-p", str(PORT))
        arguments = ["run", "--rm", "--engine", "uml", *volume, "busybox"]
        text = hull.output(*arguments, *command, "-J", "-t", str(seconds))
        values.setdefault("hull, between two containers", []).append(rate(text))
    series = [Series(name, "Gbit/s", found) for name, found in values.items()]
    verdicts = []
    medians = {one.name: one.median for one in series}
    for way in ("in", "out"):
        peer = medians.get(f"a process behind pasta, {way}")
        if peer:
            slower = peer / medians[f"hull, published port, {way}"]
            verdicts.append(Verdict(f"pasta against hull, {way}", slower, 2.0))
    setting.report.section("network", "TCP, one stream of iperf3, Gbit/s", series, verdicts)


def collect(program):
    """The program and its libraries in one directory, for images that have neither."""
    directory = PLACE / "iperf"
    directory.mkdir(parents=True, exist_ok=True)
    libraries = [word for word in output(["ldd", program]).split() if word.startswith("/")]
    for file in [program, *libraries]:
        shutil.copy2(file, directory)
    loader = next(Path(name).name for name in libraries if "ld-linux" in name)
    (directory / "loader").write_bytes((directory / loader).read_bytes())
    (directory / "loader").chmod(0o755)
    return directory


def words(directory, *arguments):
    """iperf3 in a container."""
    program = [f"{directory}/loader", "--library-path", directory, f"{directory}/{PROGRAM}"]
    return [*program, *arguments]


def free_port():
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    """Waits until a server measures."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(
            ["timeout", "5", PROGRAM, "-c", "127.0.0.1", "-p", str(port), "-n", "1K"],
            capture_output=True,
        )
        if done.returncode == 0:
            return
    raise Failed(f"no iperf3 server at port {port}")


def client(command, seconds):
    """Gbit/s of one measurement."""
    return rate(output(["timeout", "60", *command, "-J", "-t", str(seconds)]))


def rate(text):
    return json.loads(text)["end"]["sum_received"]["bits_per_second"] / 1e9
