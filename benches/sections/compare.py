"""Whether `hull compare` measures right: two runs beside each other, and hyperfine and time beside it."""

import json
import shlex
import shutil

from measure.process import Failed
from measure.setting import PLACE, output
from measure.stats import Series, Verdict

COLUMNS = ["process", "uml"]
RUN = ["run", "--rm", "--pull", "never", "--network", "none", "--engine", "uml", "busybox", "/bin/true"]


def run(setting):
    """Agreement of two comparisons, then of one with the tools that everybody knows."""
    if "uml" not in setting.engines:
        raise Failed("needs the engine uml")
    for tool in ("hyperfine", "/usr/bin/time"):
        if not shutil.which(tool):
            raise Failed(f"{tool} is not installed: run scripts/setup peers")
    rounds = setting.rounds(15, 7)
    first, second = (comparison(setting.hull, rounds) for _ in range(2))
    apart = []
    for column in COLUMNS:
        one, other = figures(first, column), figures(second, column)
        for figure in one:
            apart.append((gap(one[figure], other[figure]), f"{column} {figure}"))
    worst, where = max(apart)
    # What lies between two ranges is not more than the wider of them is wide.
    verdicts = [Verdict(f"two runs apart, in spreads they state (worst of {len(apart)}: {where})", worst, 1)]

    own = Series("hull compare, the whole command", values=figures(first, "uml")["command_ms"]["values"])
    line = shlex.join([*setting.hull.command, *RUN])
    times = {
        "hyperfine": hyperfine(setting.hull, line, 3 * rounds),
        "time": time(setting.hull, line, rounds),
    }
    series = [own]
    for tool, values in times.items():
        beside = Series(tool, values=values)
        series.append(beside)
        off = max(own.median / beside.median, beside.median / own.median)
        verdicts.append(Verdict(f"hull compare and {tool} apart", off, 1.25))
    setting.report.section("compare", f"{' '.join(RUN)}, ms", series, verdicts)


def comparison(hull, rounds):
    """What `hull compare` reports, by column."""
    report = hull.output(
        "compare", "-q", "--json", "--runs", str(rounds), "--instances", "3",
        "--only", ",".join(COLUMNS), "busybox", "--", "/bin/true",
    )  # fmt: skip
    return {column["id"]: column for column in json.loads(report)["columns"]}


def figures(report, column):
    return {figure["id"]: figure for figure in report[column]["figures"]}


def gap(one, other):
    """How far two ranges lie from each other, in widths of the wider one."""
    wide = max(one["high"] - one["low"], other["high"] - other["low"])
    between = max(one["low"] - other["high"], other["low"] - one["high"], 0)
    return between / wide if between else 0


def hyperfine(hull, line, runs):
    file = PLACE / "hyperfine.json"
    output(
        ["hyperfine", "--shell=none", "--warmup=1", f"--runs={runs}", f"--export-json={file}", line],
        hull.environment,
    )
    return [second * 1000 for second in json.loads(file.read_text())["results"][0]["times"]]


def time(hull, line, runs):
    """It says hundredths of seconds."""
    file = PLACE / "time"
    found = []
    for _ in range(runs):
        output(["/usr/bin/time", f"--output={file}", "--format=%e", *shlex.split(line)], hull.environment)
        found.append(float(file.read_text()) * 1000)
    return found
