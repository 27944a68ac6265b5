"""What this node sees of each Network, and which policies it does not enforce: written when it changes, merged into
status by whoever reads.

A report is written only when it differs from the store's, so a hundred quiet Networks cost nothing. While a Network is
not ready, or has its ports among the host's own, it is looked at again by itself: an address taken off the uplink is no
change of a link, and nobody tells of a sysctl.

Of policies there is one record for each node, and it names only those in trouble. It is written `PACE` apart at the
least, so that a thousand of them going wrong on every node are not a thousand writes of each.
"""

import logging
import time
from collections.abc import Callable, Sequence

from homeport_agent.conditions import HostFacts, host_conditions, kernel_conditions
from homeport_agent.placement import Place, Placement
from homeport_agent.policies import Policies
from homeport_agent.switch import Switch
from homeport_agent.worker import Worker
from homeport_api import wire
from homeport_api.errors import BadInput, HomeportError
from homeport_api.network import Network
from homeport_api.node import NodeReport, PolicyReport
from homeport_dataplane.features import br_netfilter
from homeport_dataplane.forwarding import inspect_firewall
from homeport_store import keys
from homeport_store.protocol import Delete, Put, Store

log = logging.getLogger(__name__)

RETRY = 2.0
LOOK_AGAIN = 5.0
PACE = 2.0


class Reporter(Worker):
    """`wake` after anything that may change what can be attached here, and when policies came into trouble or out of
    it."""

    def __init__(
        self,
        node: str,
        store: Store,
        switch: Switch,
        networks: Callable[[], Sequence[Network]],
        policies: Policies,
    ) -> None:
        super().__init__("reports", begin=0.0, first=RETRY, longest=LOOK_AGAIN)
        self._node = node
        self._store = store
        self._switch = switch
        self._networks = networks
        self._policies = policies
        self._written: dict[str, NodeReport | None] | None = None
        self._told: PolicyReport | None = None
        self._told_at = -PACE

    def doubt(self) -> None:
        """What was written may not be there: the store was out of sight, or restored."""
        self._written = self._told = None
        self.wake()

    def work(self) -> float | None:
        look = None if self._write_networks() else LOOK_AGAIN
        return min(filter(None, (look, self._write_policies())), default=None)

    def _write_policies(self) -> float | None:
        """After how many seconds to come back; None: all is told."""
        report = self._policies.troubles.report(self._node)
        if report == self._told:
            return None
        left = self._told_at + PACE - time.monotonic()
        if left > 0:
            return left
        key, data = keys.policy_report(self._node), wire.POLICY_REPORT.dumps(report)
        known = self._store.get(key) if self._told is None else None  # an agent before this one may have said the same
        if known is None or known.value != data:
            self._store.txn((), [Put(key, data)])
        self._told, self._told_at = report, time.monotonic()
        return None

    def _write_networks(self) -> bool:
        """True when every Network is ready here, and none depends on what the host may do unheard."""
        written = self._stored() if self._written is None else self._written
        self._written = written
        placed = {network.name: self._place(network) for network in self._networks()}
        on_host = any(isinstance(each, Placement) and each.place is Place.HOST for each in placed.values())
        facts = self._facts() if on_host else HostFacts(br_netfilter=False)
        looked = {name: self._judge(name, found, facts) for name, found in placed.items()}
        for name, report in looked.items():
            if written.get(name) != report:
                self._store.txn((), [Put(keys.report(self._node, name), wire.REPORT.dumps(report))])
                written[name] = report
        gone, sure = written.keys() - looked.keys(), self._policies.wait_ready(0)
        for name in gone if sure else ():  # else its Network may be one that the store has not told of yet
            self._store.txn((), [Delete(keys.report(self._node, name))])
            del written[name]
        return not on_host and (sure or not gone) and all(report.ready for report in looked.values())

    def _stored(self) -> dict[str, NodeReport | None]:
        """By Network, what an agent before this one reported; None where it cannot be read, and is written anew."""
        found: dict[str, NodeReport | None] = {}
        prefix = keys.reports_on(self._node)
        for record in self._store.list(prefix).records:
            network = keys.unescape(record.key.removeprefix(prefix))
            try:
                found[network] = wire.REPORT.loads(record.value, record.mod_revision)
            except BadInput as error:
                log.warning("a report cannot be read, and is written anew: key=%s error=%s", record.key, error)
                found[network] = None
        return found

    def _place(self, network: Network) -> Placement | HomeportError:
        try:
            return self._switch.place(network)
        except HomeportError as error:
            return error

    def _judge(self, name: str, found: Placement | HomeportError, facts: HostFacts) -> NodeReport:
        kernel = kernel_conditions(tracking=self._switch.features.bridge_conntrack)
        if isinstance(found, HomeportError):
            return NodeReport(self._node, name, ready=False, reason=str(found), conditions=kernel)
        return NodeReport(self._node, name, ready=True, conditions=(*host_conditions(found, facts), *kernel))

    def _facts(self) -> HostFacts:
        seen = br_netfilter(self._switch.host)
        if not (seen.ip4 or seen.ip6):
            return HostFacts(br_netfilter=False)
        firewall = inspect_firewall(self._switch.host)
        return HostFacts(True, firewall.dropping, firewall.tracking)
