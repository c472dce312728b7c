"""A root file system of another architecture, without running a program of it.

The packages are unpacked as dpkg would and recorded in dpkg's database; what their maintainer
scripts would have made (users, alternatives, certificates, compiled Python) is taken over from
the native image of the same recipe, where the scripts really ran. Only the linker's cache is
made by the foreign `ldconfig`, under qemu-user.
"""

import hashlib
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from .apt import run
from .tree import Tree, clean

TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
MERGED = {"amd64": ("bin", "sbin", "lib", "lib32", "lib64", "libx32"), "arm64": ("bin", "sbin", "lib")}
QEMU = {"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}
DPKG = "var/lib/dpkg"


def merge_usr(architecture: str):
    """Maps paths in packages to where a system with a merged /usr has them."""
    merged = MERGED[architecture]

    def rename(path: str) -> str:
        return f"usr/{path}" if path.partition("/")[0] in merged else path

    return rename


def build(native: Tree, native_architecture: str, architecture: str, packages: list[str], work: Path) -> Tree:
    """The tree of `packages` (.deb files) finished after the native tree's example."""
    tree = Tree()
    rename = merge_usr(architecture)
    for name in MERGED[architecture]:
        tree.put(name, tarfile.SYMTYPE, 0o777, link=f"usr/{name}")
        tree.put(f"usr/{name}", tarfile.DIRTYPE, 0o755)
    stanzas = [unpack(tree, package, architecture, rename, work) for package in packages]
    tree.put(f"{DPKG}/status", data="\n".join(stanzas).encode())
    tree.put(f"{DPKG}/info/format", data=b"1\n")
    finish(tree, native, native_architecture, architecture)
    return tree


def unpack(tree: Tree, package: str, architecture: str, rename, work: Path) -> str:
    """Adds a package's files and its dpkg records; its stanza for dpkg's status file."""
    stem = work / Path(package).name
    for option, suffix in (("--fsys-tarfile", ".data"), ("--ctrl-tarfile", ".control")):
        with open(f"{stem}{suffix}", "wb") as out:
            subprocess.run(["dpkg-deb", option, package], stdout=out, check=True)
    with tarfile.open(f"{stem}.data", "r:") as data:
        listing = ["/" + clean(member.name) if clean(member.name) else "/." for member in data]
    tree.add_tar(f"{stem}.data", rename)
    control = Tree()
    control.add_tar(f"{stem}.control")
    fields = control.text("control").rstrip("\n")
    values = dict(line.split(": ", 1) for line in fields.splitlines() if ": " in line and line[0] != " ")
    name = values["Package"]
    base = f"{name}:{architecture}" if values.get("Multi-Arch") == "same" else name
    for path, entry in control.items():
        if entry.info.isreg() and path != "control":
            tree.put(f"{DPKG}/info/{base}.{path}", mode=entry.info.mode & 0o777, data=entry.read())
    tree.put(f"{DPKG}/info/{base}.list", data="".join(f"{path}\n" for path in listing).encode())
    head, _, rest = fields.partition("\n")
    stanza = f"{head}\nStatus: install ok installed\n{rest}\n"
    if "conffiles" in control:
        stanza += "Conffiles:\n"
        for path in control.text("conffiles").split("\n"):
            entry = tree.get(rename(clean(path)))
            if path.startswith("/") and entry is not None:
                stanza += f" {path} {hashlib.md5(entry.read(), usedforsecurity=False).hexdigest()}\n"
    return stanza


def finish(tree: Tree, native: Tree, native_architecture: str, architecture: str) -> None:
    """Takes over what maintainer scripts made or changed in the native tree."""
    mine, theirs = TRIPLETS[native_architecture], TRIPLETS[architecture]
    owned = owned_paths(native, merge_usr(native_architecture))
    for path, entry in native.items():
        if path in tree:
            header, example = tree[path].info, entry.info
            if header.type == example.type and not header.issym():
                header.mode, header.uid, header.gid = example.mode, example.uid, example.gid
            continue
        if path in owned or path in MERGED[native_architecture] or mine in path or native_architecture in path:
            continue
        if path.startswith((f"{DPKG}/info/", f"{DPKG}/status")) or path == "etc/ld.so.cache":
            continue
        if path.endswith(".pyc") and not same_source(tree, native, path):
            continue
        parent = path.rpartition("/")[0]
        if parent not in tree and parent in owned:
            continue
        tree[path] = entry.copy()
        if entry.info.issym():
            tree[path].info.linkname = entry.info.linkname.replace(mine, theirs)
    linker_cache(tree, architecture)


def owned_paths(tree: Tree, rename) -> set[str]:
    """Every path that a package of the tree brought."""
    owned = {""}
    for path in tree:
        if path.startswith(f"{DPKG}/info/") and path.endswith(".list"):
            owned.update(rename(clean(line)) for line in tree.text(path).splitlines())
    return owned


def python_source(path: str) -> str:
    """`a/__pycache__/b.cpython-311.pyc` comes from `a/b.py`."""
    folder, _, name = path.rpartition("/__pycache__/")
    return f"{folder}/{name.partition('.')[0]}.py"


def same_source(tree: Tree, native: Tree, path: str) -> bool:
    source = python_source(path)
    return source in tree and source in native and tree[source].digest() == native[source].digest()


def linker_cache(tree: Tree, architecture: str) -> None:
    """Runs the foreign ldconfig over the tree's libraries."""
    with tempfile.TemporaryDirectory() as root:
        for path in sorted(tree):
            entry = tree[path]
            if path in MERGED[architecture] or path.startswith(("usr/lib", "etc/ld.so.conf", "usr/sbin/ldconfig")):
                target = Path(root, path)
                if entry.info.isdir():
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                wanted = ".so" in path or path.startswith(("etc/", "usr/sbin"))
                if not (wanted or path in MERGED[architecture]):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                if entry.info.issym():
                    target.symlink_to(entry.info.linkname)
                elif entry.info.isreg():
                    target.write_bytes(entry.read())
                    target.chmod(0o755)
        Path(root, "etc").mkdir(exist_ok=True)
        prefix = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
        run(*prefix, QEMU[architecture], f"{root}/usr/sbin/ldconfig", "-r", root, "-X")
        tree.put("etc/ld.so.cache", data=Path(root, "etc/ld.so.cache").read_bytes())
