"""Series of samples, their spread, and comparisons that are taken in turns."""

import statistics
import time
from dataclasses import dataclass, field


@dataclass
class Series:
    """What one candidate was measured to do."""

    name: str
    unit: str = "ms"
    values: list = field(default_factory=list)

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def least(self):
        return min(self.values)

    def quartiles(self):
        if len(self.values) < 2:
            return self.median, self.median
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    def as_json(self):
        low, high = self.quartiles()
        return {
            "name": self.name,
            "unit": self.unit,
            "median": self.median,
            "minimum": self.least,
            "quartiles": [low, high],
            "values": self.values,
        }


@dataclass
class Verdict:
    """A figure beside the target that it is to stay below."""

    what: str
    value: float
    target: float
    unit: str = "x"
    # The same figure from the best samples, which a busy machine disturbs least.
    best: float | None = None

    @property
    def met(self):
        return self.value <= self.target

    def as_json(self):
        return {**self.__dict__, "met": self.met}


def ratio(what, of, to, target):
    """A verdict on how many times `to` the series `of` takes."""
    return Verdict(what, of.median / to.median, target, best=of.least / to.least)


def in_turns(candidates, rounds, pause=0.0):
    """Measures (name, function) pairs by turns after one round to warm up; in every round
    another one goes first. Functions return samples in seconds; series are in ms. `pause` seconds
    before each are for what the one before still does in the background."""
    series = {name: Series(name) for name, _ in candidates}
    for _, function in candidates:
        time.sleep(pause)
        function()
    for number in range(rounds):
        first = number % len(candidates)
        for name, function in candidates[first:] + candidates[:first]:
            time.sleep(pause)
            series[name].values.append(function().wall * 1000)
    return series
