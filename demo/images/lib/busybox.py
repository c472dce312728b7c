"""The busybox image: one static binary per architecture, a hard link per applet."""

import os
import subprocess
import tarfile
import tempfile

from .tree import Tree

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
disk:x:6:
wheel:x:10:
www-data:x:33:
users:x:100:
nogroup:x:65534:
"""
FOLDERS = {"dev": 0o755, "home": 0o755, "proc": 0o755, "root": 0o700, "sys": 0o755, "tmp": 0o1777, "usr/bin": 0o755,
           "usr/sbin": 0o755, "var/spool/mail": 0o755, "var/www": 0o755, "var/tmp": 0o1777}


def package_tar(package: str, folder: str) -> str:
    path = os.path.join(folder, os.path.basename(package) + ".data")
    with open(path, "wb") as out:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", package], stdout=out, check=True)
    return path


def applets(package: str) -> list[str]:
    """The applets of a package of the machine's own architecture."""
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "busybox")
        with tarfile.open(package_tar(package, folder)) as data, open(program, "wb") as out:
            out.write(data.extractfile("./bin/busybox").read())
        os.chmod(program, 0o755)
        return subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()


def build(package: str, names: list[str], folder: str) -> Tree:
    """The root file system around the package's busybox."""
    contents = Tree()
    contents.add_tar(package_tar(package, folder), lambda path: path.removeprefix("usr/bin/").removeprefix("bin/"))
    tree = Tree()
    for path, mode in FOLDERS.items():
        tree.put(path, tarfile.DIRTYPE, mode)
    tree.put("bin/busybox", mode=0o755, data=contents["busybox"].read())
    for name in names:
        if name != "busybox":
            tree.put(f"bin/{name}", tarfile.LNKTYPE, 0o755, link="bin/busybox")
    tree.put("usr/bin/env", tarfile.SYMTYPE, 0o777, link="../../bin/env")
    tree.put("etc/passwd", data=PASSWD.encode())
    tree.put("etc/group", data=GROUP.encode())
    shadow = "".join(f"{line.split(':')[0]}:*:20454:0:99999:7:::\n" for line in PASSWD.splitlines())
    tree.put("etc/shadow", mode=0o600, data=shadow.encode())
    licence = "usr/share/doc/busybox-static/copyright"
    tree.put(licence, data=contents[licence].read())
    return tree
