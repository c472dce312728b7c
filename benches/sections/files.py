"""Files: large ones and many small ones, on the writable layer and in a shared directory."""

import subprocess
import tempfile

from measure.process import Failed
from measure.setting import PLACE, ROOT
from measure.stats import Series

# Unpacking, git and the like: the container's file system beside another's.
PLACES = {"layer": "/var/work", "shared directory": "/work/d"}


def run(setting):
    """benches/files.c in hull and in podman, by turns."""
    program = PLACE / "files"
    compiled = ["gcc", "-O2", "-static", "-o", program, ROOT / "benches/files.c"]
    subprocess.run(compiled, check=True)
    megabytes, files = setting.rounds(256, 32), setting.rounds(20_000, 2_000)
    runtimes = {"hull": (setting.hull, ("--engine", "uml", "--network", "none"))}
    if "podman" in setting.peers:
        runtimes["podman"] = (setting.peers["podman"], ())
    if "uml" not in setting.engines:
        return setting.report.skip("files", "uml does not run here")
    for place, directory in PLACES.items():
        measured = {}
        for number in range(setting.rounds(5, 1)):
            turn = list(runtimes.items())
            if number % 2:
                turn.reverse()
            for name, (runtime, options) in turn:
                for work, seconds in work_of(runtime, options, program, directory, megabytes, files):
                    series = measured.setdefault((work, name), Series(f"{work}, {name}"))
                    series.values.append(seconds * 1000)
        notes = []
        for work, name in measured:
            if name == "hull" and (work, "podman") in measured:
                ratio = measured[work, name].median / measured[work, "podman"].median
                notes.append(f"{work}: hull / podman {ratio:.2f}")
        title = f"{megabytes} MiB and {files} files on the {place}, ms"
        name = "files, " + place
        setting.report.section(name, title, list(measured.values()), notes=notes)


def work_of(runtime, options, program, directory, megabytes, files):
    """One container that does everything once: pairs of work and seconds."""
    with tempfile.TemporaryDirectory(dir=PLACE) as shared:
        volumes = ("-v", f"{program}:/files:ro", "-v", f"{shared}:/work")
        words = ("busybox", "/files", directory, str(megabytes), str(files))
        output = runtime.output("run", "--rm", *options, *volumes, *words)
    lines = [line.split() for line in output.splitlines()]
    if not all(len(words) == 2 for words in lines):
        raise Failed(f"files printed {output[-200:]!r}")
    return [(work, float(seconds)) for work, seconds in lines]
