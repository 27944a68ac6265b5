"""What this node sees of each Network: written when it changes, merged into status by whoever reads.

A report is written only when it differs from the last one, so a hundred quiet Networks cost nothing.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from homeport_agent.switch import Switch
from homeport_api import wire
from homeport_api.errors import HomeportError
from homeport_api.network import Network
from homeport_api.node import NodeReport
from homeport_store import keys
from homeport_store.protocol import Delete, Put, Store

log = logging.getLogger(__name__)

RETRY = 2.0


class Reporter:
    """`wake` after anything that may change what can be attached here."""

    def __init__(self, node: str, store: Store, switch: Switch, networks: Callable[[], Sequence[Network]]) -> None:
        self._node = node
        self._store = store
        self._switch = switch
        self._networks = networks
        self._written: dict[str, NodeReport] = {}
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)

    def start(self) -> None:
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._stop.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.is_set():
                return
            self._wake.clear()
            try:
                self._write()
            except HomeportError as error:
                log.info("reports put off error=%s", error)
                if self._stop.wait(RETRY):
                    return
                self._wake.set()

    def _write(self) -> None:
        networks = self._networks()
        for network in networks:
            report = self._look(network)
            if self._written.get(network.name) != report:
                self._store.txn((), [Put(keys.report(self._node, network.name), wire.REPORT.dumps(report))])
                self._written[network.name] = report
        for name in self._written.keys() - {network.name for network in networks}:
            self._store.txn((), [Delete(keys.report(self._node, name))])
            del self._written[name]

    def _look(self, network: Network) -> NodeReport:
        try:
            self._switch.place(network)
        except HomeportError as error:
            return NodeReport(self._node, network.name, ready=False, reason=str(error))
        return NodeReport(self._node, network.name, ready=True)
