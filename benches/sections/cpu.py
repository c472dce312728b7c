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
    empty file is taken off.
    """
    if "uml" not in setting.engines or os.uname().machine != "x86_64":
        return setting.report.skip("cpu", "arm64 is foreign only to uml on x86_64")
    emulator = ROOT / "target/emulators/bin/qemu-aarch64"
    if not emulator.exists():
        return setting.report.skip("cpu", "the emulators are missing: run make build")
    hull, mega = setting.hull, setting.rounds(50, 5)
    roots = {image: unpack(hull, image) for image in ("busybox", "python")}
    guests = {image: hull.detach(*PLATFORM, image, "sleep", "10000") for image in roots}
    hull.output(
        "exec", guests["busybox"], "dd", "if=/dev/zero", "of=/dev/shm/data", "bs=1M", f"count={mega}"
    )
    data = PLACE / "data"
    data.write_bytes(bytes(mega << 20))
    loop = ("-c", LOOP.format(count=setting.rounds(3_000_000, 300_000)))

    def inside(image, *words):
        return lambda: told(hull.output("exec", guests[image], *words))

    def outside(image, *words):
        return [str(emulator), "-L", str(roots[image]), find(roots[image], words[0]), *words[1:]]

    sums = outside("busybox", "busybox", "sha256sum", str(data))
    nothing = outside("busybox", "busybox", "sha256sum", "/dev/null")
    in_guest = "{ time -p sha256sum /dev/null; time -p sha256sum /dev/shm/data; } 2>&1"
    series = in_turns(
        [
            ("sha256sum in hull", inside("busybox", "sh", "-c", in_guest)),
            ("sha256sum on the host", lambda: difference(measure(nothing), measure(sums))),
            ("python loop in hull", inside("python", "python3", *loop)),
            ("python loop on the host", lambda: told(output(outside("python", "python3", *loop)))),
        ],
        setting.rounds(9, 2),
    )
    data.unlink()
    verdicts = [
        ratio(f"{what}, hull / qemu-user on the host", series[f"{what} in hull"],
              series[f"{what} on the host"], TARGET)
        for what in ("sha256sum", "python loop")
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
