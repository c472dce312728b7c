"""A hundred containers at once: until all answer, and what each takes."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

from measure import proc
from measure.bare import BareGuest
from measure.stats import Series


def run(setting):
    """hull's default engine beside as many bare kernels that boot and end."""
    if "uml" not in setting.engines:
        return setting.report.skip("density", "the uml engine does not run here")
    hull, many = setting.hull, setting.rounds(100, 10)
    bare = BareGuest(hull, "uml")
    boots = Series(f"{many} bare kernels, all booted and ended", "s")
    started = time.perf_counter()
    guests = [bare.start() for _ in range(many)]
    for guest in guests:
        os.waitpid(guest, 0)
    boots.values.append(time.perf_counter() - started)

    names = [f"density-{number}" for number in range(many)]
    free = proc.available()
    started = time.perf_counter()

    def begin(name):
        hull.detach("--engine", "uml", "--name", name, "busybox", "sleep", "1000")
        hull.output("exec", name, "true")
        return time.perf_counter() - started

    with ThreadPoolExecutor(many) as pool:
        answered = list(pool.map(begin, names))
    taken = (free - proc.available()) / many / 1024
    supervisors = hull.output("inspect", "--format", "{{.SupervisorPid}}", *names).split()
    trees = [pid for supervisor in supervisors for pid in proc.tree(int(supervisor))]
    memory = proc.memory(trees)
    started = time.perf_counter()
    hull.clean_up()
    removed = time.perf_counter() - started

    all_answer = Series(f"{many} hull run -d, all answer exec", "s", [max(answered)])
    notes = [
        f"memory of each: {memory.total / many / 1024:.1f} MiB proportional, of it the guest's "
        f"{(memory.guest + memory.kernel) / many / 1024:.1f}; the host has {taken:.1f} MiB less",
        f"all removed by one rm -f in {removed:.2f} s",
    ]
    title = f"{many} containers at once, s"
    setting.report.section("density", title, [all_answer, boots], notes=notes)
