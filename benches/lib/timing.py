"""Timing of commands that take turns, so that a busy moment of the machine hits all of them."""

import statistics
import subprocess
import time
from collections.abc import Callable


class Case:
    """One thing to time: a command, or a function."""

    def __init__(self, name: str, action: list[str] | Callable[[], None], expected: int = 0, **options):
        self.name, self.action, self.expected, self.options = name, action, expected, options
        self.times: list[float] = []
        self.trouble = ""

    def once(self) -> float | None:
        start = time.perf_counter()
        if callable(self.action):
            self.action()
        else:
            done = subprocess.run(self.action, stdin=subprocess.DEVNULL, capture_output=True, text=True, **self.options)
            if done.returncode != self.expected:
                words = (done.stderr or done.stdout).strip().splitlines()
                self.trouble = f"exit code {done.returncode}: {words[-1] if words else 'no message'}"
                return None
        return time.perf_counter() - start

    @property
    def median(self) -> float | None:
        return statistics.median(self.times) if self.times else None


def take_turns(cases: list[Case], rounds: int) -> None:
    """Runs every case `rounds` times, one after the other, after one warm-up each."""
    for case in cases:
        case.once()
    for _ in range(rounds):
        for case in cases:
            took = None if case.trouble else case.once()
            if took is not None:
                case.times.append(took)


def report(cases: list[Case]) -> None:
    for case in cases:
        if case.median is None:
            print(f"   {case.name:<44} failed: {case.trouble}")
        else:
            print(f"   {case.name:<44} {milliseconds(case.median)}   (best {milliseconds(min(case.times))},"
                  f" worst {milliseconds(max(case.times))}, {len(case.times)} runs)")


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:8.1f} ms"


class Targets:
    """Ratios to hold."""

    def __init__(self):
        self.missed = 0

    def ratio(self, text: str, case: Case, other: Case, most: float) -> None:
        """Says whether `case` takes at most `most` times what `other` takes."""
        if case.median is None or other.median is None:
            self.say(text, "not measured", f"at most {most:.2f} times", False)
        else:
            value = case.median / other.median
            self.say(text, f"{value:.2f} times", f"at most {most:.2f}", value <= most)

    def say(self, text: str, value: str, bound: str, held: bool) -> None:
        self.missed += not held
        print(f"   {'held  ' if held else 'MISSED'} {text}: {value} ({bound})")
