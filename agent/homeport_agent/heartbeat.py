"""This node's record in the store: its name belongs to one machine, and its lease is the heartbeat.

The record is on an etcd lease, so it vanishes when the agent is silent for `ttl` seconds. A new boot ID in it tells
every other node that no link of before can exist here. A node name that another machine holds is refused: two machines
under one name would end each other's attachments.
"""

import logging
from dataclasses import replace

from homeport_agent.worker import Worker
from homeport_api import wire
from homeport_api.errors import AlreadyExists, Unavailable
from homeport_api.node import NodeRecord
from homeport_store import keys
from homeport_store.protocol import Lease, Store

log = logging.getLogger(__name__)


class Heartbeat(Worker):
    """`register` once at start (it may refuse), then `start` keeps the record there, over lost leases and outages."""

    def __init__(self, store: Store, record: NodeRecord, ttl: float) -> None:
        self._interval = min(1.0, ttl / 3)
        super().__init__("heartbeat", begin=self._interval, first=self._interval, longest=self._interval)
        self._store = store
        self._record = record
        self._ttl = ttl
        self._lease: Lease | None = None

    def register(self) -> None:
        """Raises AlreadyExists when another machine, or another agent on this one, has the name, and Unavailable when
        the store is away. A repeat, or a restart on the same machine, replaces the record."""
        key = keys.node(self._record.name)
        lease = self._store.lease(self._ttl)
        try:
            while True:
                found = self._store.get(key)
                if found is not None:
                    other = wire.NODE.loads(found.value, found.mod_revision)
                    if other.machine_id != self._record.machine_id:
                        raise AlreadyExists(
                            f"node name {self._record.name} belongs to the machine with ID {other.machine_id} "
                            f"(this one has {self._record.machine_id}): give this node another --node, or stop "
                            f"the other agent and wait {self._ttl:.0f} s"
                        )
                    if other.boot_id == self._record.boot_id and _differ(other.run_dir, self._record.run_dir):
                        raise AlreadyExists(
                            f"node name {self._record.name} belongs to the agent with --run-dir {other.run_dir} on "
                            f"this machine (this one has {self._record.run_dir}): give this one another --node, or "
                            f"stop the other and wait {self._ttl:.0f} s"
                        )
                revision = found.mod_revision if found else 0
                if self._store.put_if(key, wire.NODE.dumps(self._record), revision, lease.id) is not None:
                    break
        except BaseException:
            lease.close()
            raise
        previous, self._lease = self._lease, lease
        if previous is not None:
            _close_quietly(previous)

    def tell_generation(self, generation: str) -> None:
        """Others may count on this node having told the store of this generation all that it has attached."""
        self._record = replace(self._record, generation=generation)
        self.register()

    def work(self) -> float:
        """`close` ends this, and the record stays until its lease runs out: a restart is not a departure."""
        if self._lease is None or self._lease.lost:
            try:
                self.register()
            except AlreadyExists:
                # Somebody started another machine under this name while we were cut off. Our attachments stay ours.
                log.exception("this node's name was taken while the store was out of reach")
                return self._ttl
            log.info("node registered again node=%s", self._record.name)
        return self._interval


def _differ(one: str, other: str) -> bool:
    """Where both are said: older agents did not."""
    return bool(one and other) and one != other


def _close_quietly(lease: Lease) -> None:
    try:
        lease.close()
    except Unavailable as error:
        log.debug("an old lease runs out by itself error=%s", error)
