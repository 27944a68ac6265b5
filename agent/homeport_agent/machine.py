"""Which machine and which boot this is: what makes a node's records its own."""

import uuid
from pathlib import Path

from homeport_api.errors import Invalid

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID = Path("/etc/machine-id")


def read_boot_id(given: str | None) -> str:
    """The kernel's boot id (random(4)): another one means that every link of ours is gone."""
    return given or BOOT_ID.read_text().strip()


def read_machine_id(given: str | None, data_dir: Path) -> str:
    """/etc/machine-id (machine-id(5)), else one made once and kept in the data directory: container images and minimal
    machines have none, and two machines must never look like one."""
    if given:
        return given
    for path in (MACHINE_ID, data_dir / "machine-id"):
        try:
            text = path.read_text().strip()
        except FileNotFoundError:
            continue
        if text and text != "uninitialized":
            return text
    made = uuid.uuid4().hex
    path = data_dir / "machine-id"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(made + "\n")
        fresh.replace(path)
    except OSError as error:
        raise Invalid(f"{path}: {error.strerror}: the data directory must be writable to the agent") from error
    return made
