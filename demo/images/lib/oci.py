"""Writes an OCI image layout: layers, configs, manifests, multi-architecture indexes."""

import gzip
import hashlib
import json
import os
import time
from pathlib import Path

from .tree import EPOCH, Tree

CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

# Debian's architecture names as OCI platforms.
PLATFORMS = {
    "amd64": {"architecture": "amd64"},
    "arm64": {"architecture": "arm64", "variant": "v8"},
    "armhf": {"architecture": "arm", "variant": "v7"},
    "i386": {"architecture": "386"},
    "ppc64el": {"architecture": "ppc64le"},
    "riscv64": {"architecture": "riscv64"},
    "s390x": {"architecture": "s390x"},
}


class HashingFile:
    """A write-only stream that hashes what passes through it."""

    def __init__(self, stream):
        self.stream, self.hash, self.size = stream, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        self.size += len(data)
        self.stream.write(data)
        return len(data)

    def flush(self) -> None:
        self.stream.flush()


class Layout:
    """An OCI image layout directory being written."""

    def __init__(self, path: Path):
        self.path = path
        (path / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self.references: list[dict] = []

    def blob(self, media_type: str, data: bytes) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (self.path / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}

    def document(self, media_type: str, content: dict) -> dict:
        return self.blob(media_type, json.dumps(content, sort_keys=True, separators=(",", ":")).encode())

    def layer(self, tree: Tree) -> tuple[dict, str]:
        """Compresses the tree into a layer blob: its descriptor and its diff-id."""
        part = self.path / f"blobs/layer.{os.getpid()}.{id(tree)}"
        with open(part, "wb") as stream:
            packed = HashingFile(stream)
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=packed, mtime=0) as squeezer:
                plain = HashingFile(squeezer)
                tree.write(plain)
        part.rename(self.path / "blobs/sha256" / packed.hash.hexdigest())
        descriptor = {"mediaType": LAYER, "digest": f"sha256:{packed.hash.hexdigest()}", "size": packed.size}
        return descriptor, f"sha256:{plain.hash.hexdigest()}"

    def manifest(self, architecture: str, layers: list[tuple[dict, str]], settings: dict, history: list) -> dict:
        """One architecture's image: the descriptor that goes into an index."""
        platform = {**PLATFORMS[architecture], "os": "linux"}
        config = self.document(CONFIG, {
            **platform,
            "created": CREATED,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
            "history": history,
        })
        manifest = self.document(MANIFEST, {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [descriptor for descriptor, _ in layers],
        })
        return {**manifest, "platform": platform}

    def tag(self, name: str, tags: list[str], manifests: list[dict]) -> None:
        """Names an index over the manifests `name:tag` for every tag."""
        index = self.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
        for tag in tags:
            self.references.append({**index, "annotations": {"org.opencontainers.image.ref.name": f"{name}:{tag}"}})

    def finish(self) -> None:
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": self.references}
        (self.path / "index.json").write_text(json.dumps(index, indent=1))


def history(created_by: str, layer: bool) -> dict:
    """One history entry as `docker history` shows it."""
    entry = {"created": CREATED, "created_by": created_by, "comment": "made from Debian packages"}
    return entry if layer else {**entry, "empty_layer": True}
