"""Foreign CPU work: arm64 programs in a guest beside the same programs under the same emulator
on the host."""

import os
import shutil

from measure.process import Failed, Sample, measure
from measure.setting import PLACE, ROOT, output
from measure.stats import in_turns, ratio

TARGET = 1.05
PLATFORM = ("--platform", "linux/arm64", "--engine", "uml")

LOOP = """
import time
begin, total = time.perf_counter(), 0
for number in range({count}):
    total += number * number % 7
print("real", time.perf_counter() - begin)
"""


def run(setting):
    """sha256sum of a file in memory and a Python loop, in turns.

    Only the work counts: the loop measures itself, and the time that sha256sum takes for an
    empty file is taken off. coreutils' reads its file in pieces of 32 KiB, busybox' in such of
    4 KiB: the difference between them is what a guest's system calls cost.
    """
    if "uml" not in setting.engines or os.uname().machine != "x86_64":
        return setting.report.skip("cpu", "arm64 is foreign only to uml on x86_64")
    emulator = ROOT / "target/emulators/bin/qemu-aarch64"
    if not emulator.exists():
        return setting.report.skip("cpu", "the emulators are missing: run make build")
    hull, mega = setting.hull, setting.rounds(50, 5)
    roots = {image: unpack(hull, image) for image in ("busybox", "python")}
    guests = {image: hull.detach(*PLATFORM, image, "sleep", "10000") for image in roots}
    fill = ("dd", "if=/dev/zero", "of=/dev/shm/data", "bs=1M", f"count={mega}")
    for guest in guests.values():
        hull.output("exec", guest, *fill)
    data = PLACE / "data"
    data.write_bytes(bytes(mega << 20))
    loop = ("-c", LOOP.format(count=setting.rounds(3_000_000, 300_000)))

    def inside(image, *words):
        return lambda: told(hull.output("exec", guests[image], *words))

    def outside(image, *words):
        return [str(emulator), "-L", str(roots[image]), find(roots[image], words[0]), *words[1:]]

    def sums(image, shell, *program):
        """A way to sum in a guest and one on the host."""
        nothing, whole = (outside(image, *program, str(file)) for file in ("/dev/null", data))
        in_guest = "{ time -p sha256sum /dev/null; time -p sha256sum /dev/shm/data; } 2>&1"
        return (
            inside(image, shell, "-c", in_guest),
            lambda: difference(measure(nothing), measure(whole)),
        )

    works = {
        "sha256sum (coreutils)": sums("python", "bash", "sha256sum"),
        "sha256sum (busybox)": sums("busybox", "sh", "busybox", "sha256sum"),
        "python loop": (
            inside("python", "python3", *loop),
            lambda: told(output(outside("python", "python3", *loop))),
        ),
    }
    pairs = [
        (f"{what} {where}", work)
        for what, both in works.items()
        for where, work in zip(("in hull", "on the host"), both)
    ]
    series = in_turns(pairs, setting.rounds(9, 2))
    data.unlink()
    verdicts = [
        ratio(f"{what}, hull / qemu-user on the host", series[f"{what} in hull"],
              series[f"{what} on the host"], TARGET)
        for what in works
    ]
    title = f"arm64 programs under uml: sha256sum of {mega} MiB, a Python loop, ms"
    setting.report.section("cpu", title, list(series.values()), verdicts)


def told(text):
    """The seconds that a program says it took, beyond those of the one before it."""
    lines = [line.split() for line in text.splitlines()]
    times = [Sample(float(line[1])) for line in lines if line[:1] == ["real"]]
    if not times:
        raise Failed(f"no time in the output {text[-300:]!r}")
    return times[0] if len(times) == 1 else difference(*times)


def difference(less, more):
    return Sample(more.wall - less.wall)


def unpack(hull, image):
    """An arm64 image's files on the host."""
    place = PLACE / "arm64" / image
    if not place.exists():
        archive = PLACE / "image.tar"
        container = hull.output("create", *PLATFORM, image, "true").splitlines()[-1]
        hull.output("export", "--output", str(archive), container)
        hull.output("rm", container)
        shutil.rmtree(place.with_suffix(".new"), ignore_errors=True)
        place.with_suffix(".new").mkdir(parents=True)
        output(["tar", "-x", "--exclude=dev", "-C", place.with_suffix(".new"), "-f", archive])
        archive.unlink()
        place.with_suffix(".new").rename(place)
    return place


def find(root, program):
    """A program below a root directory."""
    path = ":".join(str(root / at) for at in ("usr/local/bin", "usr/bin", "bin"))
    found = shutil.which(program, path=path)
    if not found:
        raise Failed(f"{root} has no {program}")
    return found
