"""The tables that are printed, and the file with everything."""

import json
import os
import platform
import sys
import time


def environment():
    """What the figures depend on."""
    with open("/proc/cpuinfo") as file:
        models = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo") as file:
        memory = int(file.readline().split()[1]) // 1024
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "cpu": models[0] if models else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": memory,
        "load": os.getloadavg()[0],
    }


class Report:
    """Collects the sections' figures and prints each section when it is complete."""

    def __init__(self):
        self.environment = environment()
        self.sections = {}
        self.skipped = []
        where = "{cpu}, {cpus} CPUs, {memory_mib} MiB, Linux {kernel}, load {load:.1f}"
        print(where.format(**self.environment), flush=True)

    def skip(self, what, why):
        """Names what is not measured."""
        if (what, why) not in self.skipped:
            self.skipped.append((what, why))
            print(f"not measured: {what}: {why}", file=sys.stderr, flush=True)

    def section(self, name, title, series, verdicts=(), notes=()):
        """Prints a section and keeps it."""
        self.sections[name] = {
            "title": title,
            "series": [one.as_json() for one in series],
            "verdicts": [verdict.as_json() for verdict in verdicts],
            "notes": list(notes),
            "load": os.getloadavg()[0],
        }
        print(f"\n{name}: {title}")
        print_series(series)
        for note in notes:
            print(f"  {note}")
        for verdict in verdicts:
            print_verdict(verdict)
        sys.stdout.flush()

    def verdicts_met(self):
        return all(v["met"] for s in self.sections.values() for v in s["verdicts"])

    def write(self, path):
        """Writes everything as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "environment": self.environment,
            "sections": self.sections,
            "skipped": [{"what": what, "why": why} for what, why in self.skipped],
        }
        path.write_text(json.dumps(result, indent=1) + "\n")


def print_series(series):
    if not series:
        return
    wide = max(len(one.name) for one in series)
    print(f"  {'':{wide}} {'median':>10} {'minimum':>10} {'quartiles':>19}  samples")
    for one in series:
        low, high = one.quartiles()
        print(
            f"  {one.name:{wide}} {one.median:10.2f} {one.least:10.2f} {low:9.2f}{high:10.2f}"
            f"  {len(one.values)} ({one.unit})"
        )


def print_verdict(verdict):
    best = f" (best samples {verdict.best:.2f})" if verdict.best is not None else ""
    met = "met" if verdict.met else "MISSED"
    print(
        f"  {verdict.what}: {verdict.value:.2f} {verdict.unit}{best}, "
        f"target {verdict.target:g}: {met}"
    )
