"""What is measured: hull with a state of its own, docker and podman in places of their own."""

import os
import shutil
import subprocess
from pathlib import Path

from .process import Failed, measure

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "target/bench"


def output(command, environment=None):
    """A command's output, or its own words about why there is none."""
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


class Runtime:
    """A command that runs containers. What it was left to run is removed at the end."""

    def __init__(self, name, command, environment=None):
        self.name = name
        self.command = [str(word) for word in command]
        self.environment = {**os.environ, **(environment or {})}
        self.detached = []

    def measure(self, *words):
        """One command, measured."""
        errors = PLACE / "stderr"
        return measure([*self.command, *words], self.environment, errors=str(errors))

    def output(self, *words):
        """One command's output."""
        return output([*self.command, *words], self.environment)

    def popen(self, *words, **files):
        """One command, started."""
        return subprocess.Popen([*self.command, *words], env=self.environment, **files)

    def detach(self, *words):
        """A container that stays; its id."""
        container = self.output("run", "-d", *words).splitlines()[-1]
        self.detached.append(container)
        return container

    def clean_up(self):
        """Removes all that `detach` made."""
        if self.detached:
            self.output("rm", "-f", *self.detached)
            self.detached.clear()


class Hull(Runtime):
    """The checkout's release build."""

    def __init__(self, program=None):
        program = Path(program or ROOT / "target/release/hull").resolve()
        if not program.exists():
            raise Failed(f"{program} is not built: run make build")
        config = os.environ.get("HULL_CONFIG")
        if not config:
            output([ROOT / "demo/registry", "start"])
            config = ROOT / "target/demo/config.toml"
        environment = {
            "HULL_ROOT": str(PLACE / "hull"),
            "HULL_CONFIG": str(config),
            "HULL_ASSETS": os.environ.get("HULL_ASSETS", str(ROOT / "target")),
        }
        super().__init__("hull", [program], environment)
        self.assets = Path(environment["HULL_ASSETS"])

    def engine_fails(self, engine):
        """Why an engine cannot be measured; none if it can. Pulls the image on the way."""
        try:
            self.output("run", "--rm", "--engine", engine, "busybox", "true")
        except Failed as failed:
            return str(failed)
        return None

    def without_standby(self):
        """The same, where no guest waits for the next container."""
        settings = Path(self.environment["HULL_CONFIG"]).read_text()
        alone = PLACE / "without-standby.toml"
        alone.write_text(f"{settings}\n[defaults]\nstandby-seconds = 0\n")
        return Runtime("hull", self.command, {**self.environment, "HULL_CONFIG": str(alone)})

    def processes_of(self, container):
        """The supervisor of a container; everything else is below it."""
        return int(self.output("inspect", "--format", "{{.SupervisorPid}}", container))


def docker():
    """A dockerd of our own, started."""
    script = ROOT / "benches/peers/docker"
    needs("docker", "dockerd", script)
    output([script, "start"])
    host = output([script, "env"]).partition("=")[2]
    return Runtime("docker", ["docker"], {"DOCKER_HOST": host})


def podman():
    """podman with a storage of its own; the script loads the image."""
    needs("podman", "podman", ROOT / "benches/peers/docker")
    return Runtime("podman", [ROOT / "benches/peers/podman"])


def needs(name, program, installer):
    """Refuses a peer that cannot be started here."""
    if os.geteuid() != 0:
        raise Failed("needs root")
    if not shutil.which(program):
        raise Failed(f"{program} is not installed: run {installer.relative_to(ROOT)} install")


class Setting:
    """Everything that sections measure, made when first asked for."""

    def __init__(self, report, quick, program):
        PLACE.mkdir(parents=True, exist_ok=True)
        self.report = report
        self.quick = quick
        self.hull = Hull(program)
        self._engines = None
        self._peers = None

    def rounds(self, many, few):
        """How many samples: fewer when only a glance is wanted."""
        return few if self.quick else many

    @property
    def engines(self):
        """The engines that run here."""
        if self._engines is None:
            why = {engine: self.hull.engine_fails(engine) for engine in ("uml", "tcg")}
            for engine, failure in why.items():
                if failure:
                    self.report.skip(f"hull with {engine}", failure)
            self._engines = [engine for engine, failure in why.items() if not failure]
        return self._engines

    @property
    def peers(self):
        """The peers that run here, by name."""
        if self._peers is None:
            self._peers = {}
            for name, make in (("docker", docker), ("podman", podman)):
                try:
                    peer = make()
                    peer.output("run", "--rm", "busybox", "true")
                    self._peers[name] = peer
                except Failed as failed:
                    self.report.skip(name, str(failed))
        return self._peers

    def clean_up(self):
        """Ends what still runs."""
        for runtime in [self.hull, *(self._peers or {}).values()]:
            runtime.clean_up()
        if self._peers is not None:
            # It may run although it was of no use.
            output([ROOT / "benches/peers/docker", "stop"])
