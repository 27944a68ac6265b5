"""The image made by hand is whole: every digest is that of what it names."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

from homeport_netns_fixtures import image


def unpack(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        files = {entry.name: opened.extractfile(entry) for entry in opened.getmembers() if entry.isfile()}
        return {name: file.read() for name, file in files.items() if file is not None}


def test_every_digest_leads_to_its_blob(tmp_path: Path) -> None:
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"\x7fELF")
    content = unpack(image.build(busybox))

    def blob(descriptor: dict[str, object]) -> bytes:
        found = content[f"blobs/{str(descriptor['digest']).replace(':', '/')}"]
        assert f"sha256:{hashlib.sha256(found).hexdigest()}" == descriptor["digest"]
        assert len(found) == descriptor["size"]
        return found

    (entry,) = json.loads(content["index.json"])["manifests"]
    assert entry["annotations"] == {"io.containerd.image.name": image.NAME}
    manifest = json.loads(blob(entry))
    config = json.loads(blob(manifest["config"]))
    (layer,) = (blob(descriptor) for descriptor in manifest["layers"])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    assert config["config"]["Entrypoint"][0].removeprefix("/") in unpack(layer)
