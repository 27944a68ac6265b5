"""A container image made by hand, so that no test downloads one: a static busybox that sleeps.

It serves as the sandbox image, which only has to stay alive, and as a container in which something can be run. The
archive has the OCI image layout (OCI image-spec, image-layout.md), with one layer.
"""

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

NAME = "localhost/homeport-test:1"
_MEDIA = "application/vnd.oci.image"
_FOREVER = "2147483647"


def build(busybox: Path) -> bytes:
    """The image as a tar archive that `ctr images import` takes."""
    layer = _tar({"bin/busybox": busybox.read_bytes()}, links={"bin/sh": "busybox", "bin/ip": "busybox"})
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox", "sleep", _FOREVER], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = {"layer": layer, "config": json.dumps(config).encode()}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_MEDIA}.manifest.v1+json",
        "config": _descriptor(f"{_MEDIA}.config.v1+json", blobs["config"]),
        "layers": [_descriptor(f"{_MEDIA}.layer.v1.tar", layer)],
    }
    blobs["manifest"] = json.dumps(manifest).encode()
    entry = _descriptor(f"{_MEDIA}.manifest.v1+json", blobs["manifest"])
    entry["annotations"] = {"io.containerd.image.name": NAME}
    files = {f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}": blob for blob in blobs.values()}
    files["oci-layout"] = json.dumps({"imageLayoutVersion": "1.0.0"}).encode()
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    return _tar(files)


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return buffer.getvalue()
