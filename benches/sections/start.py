"""A container from nothing to nothing: `run --rm busybox true`."""

import os

from measure.bare import BareGuest
from measure.stats import in_turns, ratio

BARE_TARGET = 2.0
DOCKER_TARGET = 0.5

# Seconds until the guest that waits for the next container has booted.
PAUSE = 0.2


def run(setting):
    """hull under each engine, its peers, and the bare kernels, in turns."""
    hull = setting.hull
    bare = {engine: BareGuest(hull, engine) for engine in setting.engines}

    def whole(runtime, *options):
        return lambda: runtime.measure("run", "--rm", *options, "busybox", "true")

    def candidates(engine):
        return [
            (f"hull run, {engine}", whole(hull, "--engine", engine)),
            (f"bare kernel, {engine}", bare[engine].measure),
        ]

    alone = "hull run, uml, none waits"
    fast = [pair for engine in setting.engines if engine != "tcg" for pair in candidates(engine)]
    if "uml" in bare:
        # Where no guest waits for the next container.
        cold = hull.without_standby()
        run_cold = ("run", "--rm", "--engine", "uml", "busybox", "true")
        fast.append((alone, lambda: cold.measure(*run_cold)))
    if "uml" in bare and os.geteuid() == 0:
        # Not what the target is about: what the guest's share is of what hull saves.
        fast.append(("bare kernel, uml, huge pages", bare["uml"].with_huge_pages().measure))
    fast += [(f"{name} run", whole(peer)) for name, peer in setting.peers.items()]
    series = in_turns(fast, setting.rounds(40, 5), PAUSE)
    if "tcg" in setting.engines:
        # Boots of seconds: fewer of them, and not between the others.
        series |= in_turns(candidates("tcg"), setting.rounds(10, 2))

    verdicts, notes = [], []
    if alone in series:
        times = series[alone].median / series["bare kernel, uml"].median
        notes.append(f"without a guest that waits: {times:.2f} times the bare kernel, uml")
    for engine in setting.engines:
        ours, kernel = series[f"hull run, {engine}"], series[f"bare kernel, {engine}"]
        verdicts.append(ratio(f"hull run / bare kernel, {engine}", ours, kernel, BARE_TARGET))
    if "docker" in setting.peers and "uml" in setting.engines:
        ours, theirs = series["hull run, uml"], series["docker run"]
        verdicts.append(ratio("hull run, uml / docker run", ours, theirs, DOCKER_TARGET))
    setting.report.section(
        "start", "run --rm busybox true, ms", list(series.values()), verdicts, notes
    )
