"""Images from Dockerfiles, beside docker's classic builder."""

import itertools
import shutil
import tempfile
from pathlib import Path

from measure.setting import Runtime
from measure.stats import in_turns, ratio

CACHED_TARGET = 0.5
RUN_TARGET = 1.0
FILES = 20_000
STEPS = "FROM busybox\nENV A=1\nWORKDIR /w\nCOPY src /src\n" + "".join(
    f"RUN echo {number} > /step{number}\n" for number in range(6))
COUNT = "RUN i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\n"


def run(setting):
    """The same projects with hull and docker, in turns."""
    builders = {"hull": setting.hull}
    if docker := setting.peers.get("docker"):
        builders["docker classic"] = Runtime(
            "docker classic", docker.command, {**docker.environment, "DOCKER_BUILDKIT": "0"})
    work = Path(tempfile.mkdtemp(prefix="hull-bench-build-"))
    try:
        for title, key, target, few, case in cases(setting):
            series = measure(setting, builders, work, case, few)
            verdicts = []
            if len(series) == 2:
                ours, theirs = series.values()
                verdicts.append(ratio(f"{key}, hull / docker classic", ours, theirs, target))
            setting.report.section(f"build, {key}", f"{title}, ms", list(series.values()), verdicts)
    finally:
        shutil.rmtree(work)


def measure(setting, builders, work, case, few):
    """One project built over and over by every builder."""
    prepare, each = case
    runs = []
    for name, builder in builders.items():
        place = work / name.split()[0]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        prepare(place)
        builder.output("build", str(place))
        counter = itertools.count()

        def once(builder=builder, place=place, counter=counter):
            words = each(place, next(counter))
            return builder.measure("build", *words, str(place))
        runs.append((f"{name} build", once))
    return in_turns(runs, setting.rounds(*few))


def cases(setting):
    """Title, name, target, rounds and how to prepare the project and each build of it."""
    def steps(place):
        (place / "Dockerfile").write_text(STEPS)
        (place / "src").mkdir()
        for number in range(20):
            (place / "src" / str(number)).write_text("x" * 1000)

    def nothing(_place, _number):
        return []

    def last_line(place, number):
        (place / "Dockerfile").write_text(STEPS + f"RUN echo {number} > /last\n")
        return []

    def ten(place):
        lines = "".join(f"RUN echo {number} > /{number}\n" for number in range(10))
        (place / "Dockerfile").write_text("FROM busybox\n" + lines)

    def anew(_place, _number):
        return ["--no-cache"]

    def files(place):
        (place / "Dockerfile").write_text("FROM busybox\nCOPY src /src\n")
        for number in range(FILES if not setting.quick else FILES // 10):
            path = place / "src" / str(number % 100)
            path.mkdir(parents=True, exist_ok=True)
            (path / str(number)).write_text(f"{number}\n" * 50)

    def one_file(place, number):
        (place / "src/0/0").write_text(f"changed {number}\n")
        return []

    def stages(place):
        (place / "Dockerfile").write_text(
            f"FROM busybox AS a\n{COUNT}RUN echo a > /a\nFROM busybox AS b\n{COUNT}RUN echo b > /b\n"
            "FROM busybox\nCOPY --from=a /a /\nCOPY --from=b /b /\n")

    return [
        ("ten steps, nothing changed", "cached", CACHED_TARGET, (15, 3), (steps, nothing)),
        ("ten steps, one more line at the end", "last line", CACHED_TARGET, (10, 3), (steps, last_line)),
        ("ten RUN steps without the cache", "ten RUNs", RUN_TARGET, (8, 2), (ten, anew)),
        (f"COPY of {FILES} files, one changed", "copy", CACHED_TARGET, (5, 2), (files, one_file)),
        (f"COPY of {FILES} files, nothing changed", "copy cached", CACHED_TARGET, (5, 2), (files, nothing)),
        ("two independent stages without the cache", "two stages", RUN_TARGET, (5, 2), (stages, anew)),
    ]
