"""One more process in a running container: `exec C true`."""

from measure.stats import in_turns, ratio

TARGET = 1 / 3


def run(setting):
    """hull beside its peers, in turns."""
    candidates = []

    def add(runtime, name, *options):
        container = runtime.detach(*options, "busybox", "sleep", "1000")
        candidates.append((name, lambda: runtime.measure("exec", container, "true")))

    for engine in setting.engines:
        add(setting.hull, f"hull exec, {engine}", "--engine", engine)
    for name, peer in setting.peers.items():
        add(peer, f"{name} exec")
    series = in_turns(candidates, setting.rounds(40, 5))
    verdicts = []
    if "docker" in setting.peers and "uml" in setting.engines:
        ours, theirs = series["hull exec, uml"], series["docker exec"]
        verdicts.append(ratio("hull exec, uml / docker exec", ours, theirs, TARGET))
    setting.report.section("exec", "exec C true, ms", list(series.values()), verdicts)
