"""The steps of an ADD and of a DEL, by name and in order. Each one is announced as it is passed.

The announcement goes to a hook, so that a test can stop or kill the agent between any two steps; without
`HOMEPORT_FAULT` in the environment the hook is empty. `HOMEPORT_FAULT=add:wired=kill` ends the process with SIGKILL
the first time ADD has passed `wired`; `=pause` holds that thread until the file `<run-dir>/fault-continue` exists.
"""

import os
import signal
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path


class Add(StrEnum):
    """identify → allocate → wire, muted → admit (guards read back) → open → answer."""

    IDENTIFIED = "identified"
    ALLOCATED = "allocated"
    WIRED = "wired"
    ADMITTED = "admitted"
    OPENED = "opened"
    RECORDED = "recorded"


class Delete(StrEnum):
    """mute → journal → unplug → (answer) → settle in the store."""

    MUTED = "muted"
    JOURNALED = "journaled"
    UNPLUGGED = "unplugged"
    SETTLED = "settled"


Step = Add | Delete
Hook = Callable[[Step], None]


def no_hook(step: Step) -> None:
    """What runs in production: nothing."""
    del step


def hook_from(environment: str, run_dir: Path) -> Hook:
    """The hook that `HOMEPORT_FAULT` asks for. Raises ValueError for anything but `add|del:STEP=kill|pause`."""
    if not environment:
        return no_hook
    where, _, action = environment.partition("=")
    verb, _, name = where.partition(":")
    wanted: Step = Add(name) if verb == "add" else Delete(name)
    if verb not in {"add", "del"} or action not in {"kill", "pause"}:
        raise ValueError(f"HOMEPORT_FAULT={environment!r}: write add:STEP=kill, del:STEP=kill, or =pause")
    once = threading.Lock()

    def hook(step: Step) -> None:
        if step is not wanted or not once.acquire(blocking=False):
            return
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        (run_dir / "fault-reached").touch()
        while not (run_dir / "fault-continue").exists():
            time.sleep(0.01)

    return hook
