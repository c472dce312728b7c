"""The host's own mirror configuration, and package downloads for any architecture.

The host's sources and lists are read, never changed: every download works in a directory of
its own.
"""

import glob
import os
import subprocess
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = os.environ.get("HULL_DEBIAN_MIRROR", "http://deb.debian.org/debian")
SUITE = "bookworm"


def run(*command: str, **options) -> str:
    """Runs a command; its output, or an end with the command's own words."""
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode:
        raise Failed(f"{command[0]} failed: {' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def sources() -> list[tuple[str, str]]:
    """(URI, suite) pairs of bookworm as the host has them; Debian's own mirror otherwise."""
    listing = run(
        "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"
    )
    found = []
    for line in sorted(set(listing.splitlines())):
        uri, suite, component = line.split()
        if component == "main" and suite in (SUITE, f"{SUITE}-updates", f"{SUITE}-security"):
            found.append((uri, suite))
    if not any(suite == SUITE for _, suite in found):
        return [(MIRROR, SUITE), (MIRROR, f"{SUITE}-updates"), (f"{MIRROR}-security", f"{SUITE}-security")]
    return found


def main_mirror() -> str:
    """The URI that serves bookworm itself, and other suites beside it."""
    return next(uri for uri, suite in sources() if suite == SUITE)


def source_lines(pairs: list[tuple[str, str]], architectures: list[str] | None = None) -> str:
    """One-line sources for the pairs, signatures checked against Debian's keyring."""
    options = [f"signed-by={KEYRING}"]
    if architectures:
        options.append(f"arch={','.join(architectures)}")
    return "".join(f"deb [{' '.join(options)}] {uri} {suite} main\n" for uri, suite in pairs)


def network_options() -> str:
    """The host's apt settings for reaching its mirrors (proxies, checks), for other apt roots."""
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check", "Acquire::Retries", "Acquire::ForceIPv4")
    lines = run("apt-config", "dump").splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(wanted) and not line.endswith(' "";'))


class Failed(Exception):
    """A command did not do its work; the text says which, with the command's own words."""


class Root:
    """A private apt: lists, cache and status of its own."""

    def __init__(self, path: Path, architecture: str, lines: str, foreign: tuple[str, ...] = ()):
        self.path, self.architecture = path, architecture
        for folder in ("lists/partial", "archives/partial", "etc"):
            (path / folder).mkdir(parents=True, exist_ok=True)
        (path / "status").touch()
        (path / "etc/sources.list").write_text(lines)
        architectures = "; ".join(f'"{name}"' for name in (architecture, *foreign))
        (path / "apt.conf").write_text(
            f'APT::Architecture "{architecture}";\nAPT::Architectures {{ {architectures}; }};\n'
            f'Dir::State::lists "{path}/lists";\nDir::State::status "{path}/status";\n'
            f'Dir::State::extended_states "{path}/extended_states";\n'
            f'Dir::Cache "{path}";\nDir::Cache::archives "{path}/archives";\n'
            f'Dir::Etc::sourcelist "{path}/etc/sources.list";\nDir::Etc::sourceparts "/dev/null";\n'
            f'Dir::Etc::preferencesparts "/dev/null";\nDir::Log "{path}";\n'
            'Acquire::Languages "none";\nAPT::Install-Recommends "false";\nAPT::Sandbox::User "root";\n'
            'Acquire::Retries "3";\nDebug::NoLocking "true";\n'
            'Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";\n'
        )

    def apt(self, tool: str, *words: str) -> str:
        environment = dict(os.environ, APT_CONFIG=str(self.path / "apt.conf"), DEBIAN_FRONTEND="noninteractive")
        return run(tool, *words, cwd=self.path / "archives", env=environment)

    def update(self) -> None:
        self.apt("apt-get", "-q", "update", "--error-on=any")

    def known(self) -> set[str]:
        return set(self.apt("apt-cache", "pkgnames").split())

    def download(self, packages: list[str]) -> list[str]:
        """Fetches the packages and all they depend on; the .deb files."""
        self.apt("apt-get", "-q", "-y", "install", "--download-only", *packages)
        plan = self.apt("apt-get", "-q", "-y", "install", "--print-uris", "-o",
                        f"Dir::Cache::archives={self.path}/none", *packages)
        names = [line.split()[1] for line in plan.splitlines() if line.startswith("'")]
        return [str(self.path / "archives" / name) for name in names]

    def download_bare(self, package: str, architectures: list[str]) -> dict[str, str]:
        """Fetches one package for several architectures without its dependencies; the .deb files."""
        self.apt("apt-get", "-q", "download", *(f"{package}:{name}" for name in architectures))
        return {name: glob.glob(f"{self.path}/archives/{package}_*_{name}.deb")[0] for name in architectures}
