"""Recipes: what goes into an image beyond packages, and what is left out of all of them."""

import re
import tarfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from .foreign import python_source
from .oci import history
from .tree import EPOCH, Tree

DEBIAN_SOURCES = """\
Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: bookworm-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""

# Documentation (licences stay), caches, logs, what belongs to the machine that built the image, and
# the compiled Python that interpreters wrote in passing, which differs from build to build.
UNWANTED = re.compile(
    r"dev/.*|etc/(hostname|resolv\.conf|(passwd|group|shadow|gshadow)-)|etc/apt/sources\.list"
    r"|etc/(apt/apt\.conf\.d|apt/preferences\.d|dpkg/dpkg\.cfg\.d)/99mmdebstrap"
    r"|usr/share/(man|info|lintian|linda)/.*|usr/share/locale/(?!locale\.alias).*"
    r"|usr/share/doc/[^/]+/(?!copyright$).*"
    r"|var/cache/(apt|ldconfig)/.*|var/lib/apt/lists/.*|var/cache/debconf/.*-old|var/lib/dpkg/.*-old"
    r"|var/lib/dpkg/(lock.*|triggers/Lock)|var/log/.*\.log|var/log/apt/.*|run/(?!lock$).*|tmp/.*"
    r"|usr/share/python3/.*\.pyc|usr/lib/python3/dist-packages/_distutils_hack/.*\.pyc"
)


@dataclass
class Recipe:
    """One image: `recipes/NAME.toml`."""

    name: str
    tags: list[str]
    title: str
    config: dict
    base: str | None = None
    architectures: list[str] = field(default_factory=lambda: ["amd64", "arm64"])
    packages: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    user: list[dict] = field(default_factory=list)
    directory: list[dict] = field(default_factory=list)
    file: list[dict] = field(default_factory=list)

    def settings(self) -> dict:
        """The image's config, which says honestly what the image is."""
        labels = {
            "org.opencontainers.image.title": self.name,
            "org.opencontainers.image.description": f"{self.title}. Made from Debian packages for hull's"
            " demonstration and tests; not the image of this name on Docker Hub.",
        }
        return {**self.config, "Labels": labels}

    def history(self) -> list[dict]:
        what = f"packages: {' '.join(self.packages)}" if self.base else f"{self.title} as the root file system"
        entries = [history(f"ADD {what}", layer=True)]
        for key in ("Env", "WorkingDir", "ExposedPorts", "Volumes", "Entrypoint", "Cmd"):
            if key in self.config:
                value = self.config[key]
                shown = " ".join(value) if isinstance(value, dict) or key == "Env" else str(value).replace("'", '"')
                entries.append(history(f"{WORDS[key]} {shown}", layer=False))
        return entries

    def apply(self, tree: Tree) -> None:
        """Leaves out what is unwanted, adds the recipe's own files."""
        tree.drop(lambda path: UNWANTED.fullmatch(path) is not None or path in self.remove)
        tree.put("etc/apt/sources.list.d/debian.sources", data=DEBIAN_SOURCES.encode())
        for path, target in self.links.items():
            tree.put(path, tarfile.SYMTYPE, 0o777, link=target)
        for item in self.file:
            tree.put(item["path"], mode=item["mode"], data=item["text"].lstrip("\n").encode())
        for item in self.user:
            add_user(tree, **item)
        for item in self.directory:
            uid, gid = user(tree, item["owner"])
            tree.put(item["path"], tarfile.DIRTYPE, 0o755, uid=uid, gid=gid)
        freshen_python(tree)


WORDS = {"Env": "ENV", "WorkingDir": "WORKDIR", "ExposedPorts": "EXPOSE", "Volumes": "VOLUME",
         "Entrypoint": "ENTRYPOINT", "Cmd": "CMD"}


def load(folder: Path) -> dict[str, Recipe]:
    """All recipes, a base before those that build on it."""
    found = [Recipe(name=path.stem, **tomllib.loads(path.read_text())) for path in sorted(folder.glob("*.toml"))]
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: (recipe.base is not None, recipe.name))}


def user(tree: Tree, name: str) -> tuple[int, int]:
    for line in tree.text("etc/passwd").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise SystemExit(f"the image has no user {name}")


def add_user(tree: Tree, name: str, id: int, home: str) -> None:
    """A user of a service, with a group of its own, that nobody can log in as."""
    for path, line in (("etc/passwd", f"{name}:x:{id}:{id}::{home}:/usr/sbin/nologin"), ("etc/group", f"{name}:x:{id}:"),
                       ("etc/shadow", f"{name}:!:20000::::::"), ("etc/gshadow", f"{name}:!::")):
        tree[path].replace_data(f"{tree.text(path)}{line}\n".encode())


def freshen_python(tree: Tree) -> None:
    """Makes compiled Python name the times that its sources have in the image, or Python would ignore it."""
    for path, entry in tree.items():
        source = tree.get(python_source(path)) if path.endswith(".pyc") and "/__pycache__/" in path else None
        if source is None:
            continue
        data = bytearray(entry.read())
        if data[4:8] == b"\0\0\0\0":
            data[8:12] = min(int(source.info.mtime), EPOCH).to_bytes(4, "little")
            data[12:16] = source.info.size.to_bytes(4, "little")
            entry.replace_data(bytes(data))
