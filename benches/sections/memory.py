"""Host memory of one idle container: `run -d busybox sleep`."""

import time

from measure import proc
from measure.stats import Series, Verdict

TARGET_MIB = 15
SAMPLES = 20
INTERVAL = 0.05


def run(setting):
    """The most that all processes of a container hold beyond the guest's touched pages."""
    hull, series, verdicts, notes = setting.hull, [], [], []
    for engine in setting.engines:
        container = hull.detach("--engine", engine, "busybox", "sleep", "1000")
        supervisor = hull.processes_of(container)
        peak = proc.Memory()
        kinds = {
            kind: Series(f"{engine}, {kind}", unit="MiB")
            for kind in ("beyond the guest", "of it programs", "guest's pages", "its kernel")
        }
        # From just after the start on, which is when it holds most.
        for _ in range(SAMPLES):
            now = proc.memory(proc.tree(supervisor))
            sizes = (now.beyond, now.programs, now.guest, now.kernel)
            for one, size in zip(kinds.values(), sizes):
                one.values.append(size / 1024)
            if now.beyond > peak.beyond:
                peak = now
            time.sleep(INTERVAL)
        hull.clean_up()
        series += kinds.values()
        shares = ", ".join(f"{name} {kib / 1024:.1f}" for name, kib in peak.processes.items())
        notes.append(f"{engine}, MiB at its peak beyond the guest: {shares}")
        beyond = peak.beyond / 1024
        verdicts.append(Verdict(f"beyond the guest, {engine}, peak", beyond, TARGET_MIB, "MiB"))
    setting.report.section("memory", "an idle container, proportional MiB", series, verdicts, notes)
