"""A file tree held as tar members: read, filter, compare, write as a layer.

Nothing is unpacked: owners, modes and device nodes stay what the archive says, so no
privilege is needed, and file contents are read from the archives only when they are written.
"""

import copy
import hashlib
import io
import tarfile
from dataclasses import dataclass

# Constant times make every build of the same packages give the same bytes.
EPOCH = 1767225600


@dataclass
class Entry:
    """One file: its tar header, and where its bytes are."""

    info: tarfile.TarInfo
    archive: str | None = None
    data: bytes = b""
    _digest: str | None = None

    def read(self) -> bytes:
        if self.archive is None:
            return self.data
        with open(self.archive, "rb") as stream:
            stream.seek(self.info.offset_data)
            return stream.read(self.info.size)

    def digest(self) -> str:
        if self._digest is None:
            self._digest = hashlib.sha256(self.read()).hexdigest()
        return self._digest

    def copy(self) -> "Entry":
        return Entry(copy.copy(self.info), self.archive, self.data, self._digest)

    def replace_data(self, data: bytes) -> None:
        self.archive, self.data, self._digest = None, data, None
        self.info.size = len(data)

    def same(self, other: "Entry") -> bool:
        """Whether both would look alike in a container (times aside)."""
        a, b = self.info, other.info
        if (a.type, a.mode, a.uid, a.gid, a.linkname) != (b.type, b.mode, b.uid, b.gid, b.linkname):
            return False
        return not a.isreg() or (a.size == b.size and self.digest() == other.digest())


class Tree(dict):
    """Path (no leading slash, '' is the root) to Entry."""

    def add_tar(self, path: str, rename=lambda name: name) -> list[str]:
        """Adds the members of an uncompressed tar file; returns their paths."""
        added = []
        with tarfile.open(path, "r:") as archive:
            for info in archive:
                name = rename(clean(info.name))
                if info.islnk():
                    info.linkname = rename(clean(info.linkname))
                info.uname = info.gname = ""
                info.pax_headers = {}
                added.append(name)
                old = self.get(name)
                if info.isdir() and old is not None and not old.info.isreg():
                    continue
                self[name] = Entry(info, path)
        return added

    def put(self, path: str, kind=tarfile.REGTYPE, mode=0o644, data=b"", link="", uid=0, gid=0):
        """Adds one made-up entry and the directories above it."""
        parent = path.rpartition("/")[0]
        if parent and parent not in self:
            self.put(parent, tarfile.DIRTYPE, 0o755)
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.linkname = kind, mode, link
        info.uid, info.gid, info.mtime, info.size = uid, gid, EPOCH, len(data)
        self[path] = Entry(info, None, data)

    def text(self, path: str) -> str:
        return self[path].read().decode()

    def drop(self, unwanted) -> None:
        """Removes every entry whose path `unwanted` says yes to; a hard link survives its first name."""
        for path in [path for path in self if unwanted(path)]:
            del self[path]

    def resolve_links(self) -> None:
        """Turns hard links whose first name is gone into files of their own."""
        for path, entry in list(self.items()):
            if entry.info.islnk() and entry.info.linkname not in self:
                raise SystemExit(f"{path} is a hard link to {entry.info.linkname}, which was left out")

    def difference(self, base: "Tree") -> "Tree":
        """What must be laid over `base` to get this tree, whiteouts included."""
        self.resolve_links()
        changed = {path for path, entry in self.items() if path not in base or not entry.same(base[path])}
        for path, entry in self.items():
            if entry.info.islnk() and {path, entry.info.linkname} & changed:
                changed |= {path, entry.info.linkname}
        layer = Tree()
        for path in changed:
            while path not in layer:
                layer[path] = self[path]
                path = path.rpartition("/")[0]
                if path not in self:
                    break
        for path in base:
            parent, _, name = path.rpartition("/")
            if path and path not in self and (parent in self or not parent):
                layer.put(f"{parent}/.wh.{name}" if parent else f".wh.{name}")
        return layer

    def write(self, out: io.IOBase) -> None:
        """Writes the tree as a tar stream: sorted, hard links after their files, times clamped."""
        with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self, key=lambda path: (self[path].info.islnk(), path.split("/"))):
                if path == "":
                    continue
                entry = self[path]
                info = copy.copy(entry.info)
                info.name = path
                info.mtime = min(int(info.mtime), EPOCH)
                archive.addfile(info, io.BytesIO(entry.read()) if info.isreg() else None)


def clean(name: str) -> str:
    """`./usr/bin/` and `/usr/bin` as `usr/bin`."""
    while name.startswith("./"):
        name = name[2:]
    name = name.strip("/")
    return "" if name == "." else name
