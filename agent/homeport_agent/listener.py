"""Hears what rules copy to a log group, in the switch and in the host's namespace: a thread for each side.

A side is listened to only while there is something of ours on it: in the node's own namespace the group could be
somebody else's.
"""

import logging
import threading
from abc import ABC, abstractmethod

from homeport_agent.placement import Place
from homeport_agent.switch import Switch
from homeport_api.errors import HomeportError
from homeport_dataplane.nflog import Logged, PacketLog

log = logging.getLogger(__name__)

LOOK, RETRY = 2.0, 30.0
"""Seconds until a side with nothing of ours is looked at again, and until a group is tried again that somebody else
reads."""


class Listener(ABC):
    """From `start` to `close`. `name` is that of its threads; `lost` says in the agent's log what is missing while a
    side cannot be heard."""

    def __init__(self, name: str, lost: str, switch: Switch) -> None:
        self._lost = lost
        self._switch = switch
        self._lock = threading.Lock()
        self._logs: dict[Place, PacketLog] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(place,), name=f"{name}-{place.value}", daemon=True)
            for place in Place
        ]

    @abstractmethod
    def group(self, place: Place) -> int | None:
        """The group of a side; None while it has nothing of ours."""

    @abstractmethod
    def hear(self, place: Place, logged: Logged) -> None:
        """On the side's own thread."""

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        with self._lock:
            logs, self._logs = self._logs, {}
        for each in logs.values():
            each.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(5.0)

    def _run(self, place: Place) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            pause = LOOK
            group = self.group(place)
            if group is None:
                continue
            try:
                self._listen(place, group)
            except HomeportError as error:
                log.warning("%s place=%s error=%s", self._lost, place.value, error)
                pause = RETRY
            except Exception:
                log.exception("%s for a reason nobody foresaw place=%s", self._lost, place.value)
                pause = RETRY

    def _listen(self, place: Place, group: int) -> None:
        """Until the log ends."""
        opened = PacketLog(self._switch.side(place).namespace, (group,))
        with self._lock:
            self._logs[place] = opened
        if self._stop.is_set():
            opened.close()
        try:
            for logged in opened:
                self.hear(place, logged)
        finally:
            opened.close()
