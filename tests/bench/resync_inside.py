"""`python -m tests.bench.resync_inside FOLDER RESYNCS ADDS`, in the Debian kernel: one node with 1,000 policies and
10,000 Interfaces in its store."""

import contextlib
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

from homeport_api import wire
from homeport_api.addresses import MacAddress
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec, InterfaceStatus, Phase
from homeport_api.meta import ObjectMeta
from homeport_api.workload import Workload
from homeport_netns_fixtures import leftovers, topology
from homeport_netns_fixtures.etcd import Etcd, etcd_member
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node, NodeSpec
from homeport_store import keys
from homeport_store.connect import StoreOptions, connect
from homeport_store.protocol import Put, Store
from tests.asking import ask
from tests.bench import policies
from tests.bench.resync import REST, RESYNC, TIMES

BATCH = 100
WITHIN = 300.0


def main() -> int:
    folder, resyncs, adds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    os.environ[leftovers.SESSION] = str(os.getpid())
    times: dict[str, list[float]] = {REST: [], RESYNC: [], "resyncs": []}
    with contextlib.ExitStack() as stack:
        etcd = stack.enter_context(etcd_member("--heartbeat-interval", "200", "--election-timeout", "2000"))
        store = stack.enter_context(contextlib.closing(connect(StoreOptions(Path("/nonexistent"), etcd.endpoints))))
        for some in _batches(Put(key, value) for key, value in _records()):
            assert store.txn((), some).applied
        world = stack.enter_context(topology.build(NodeSpec("a"), etcd=etcd))
        bench = Bench(world.node("a"), etcd, store, world.node("a").guest("probe"))
        bench.node.agent.start()
        bench.node.agent.wait_ready(WITHIN)
        bench.wait_settled()
        print("the agent knows all of it", flush=True)
        for _ in range(3):
            bench.add()
        for number in range(resyncs):
            times[REST] += [bench.add() for _ in range(adds)]
            bench.cut()
            times[RESYNC] += [bench.add() for _ in range(adds)]
            bench.wait_settled()
            bench.cut()
            began = time.monotonic()
            times["resyncs"].append(bench.wait_settled() - began)
            print(f"{number + 1} of {resyncs}", flush=True)
    (folder / TIMES).write_text(json.dumps(times))
    return 0


@dataclass(slots=True)
class Bench:
    node: Node
    etcd: Etcd
    store: Store
    guest: Namespace
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def add(self) -> float:
        """Seconds of an ADD; its DEL is waited for."""
        began = time.monotonic()
        ask(self.node.run_dir, "attach", vm="vm0", namespace="ns0", interface="new", network="blue", guest=self.guest)
        took = time.monotonic() - began
        ask(self.node.run_dir, "detach", vm="vm0", namespace="ns0")
        while self.guest.links() != {"lo"}:
            time.sleep(0.01)
        return took

    def cut(self) -> None:
        """What the agent's watch missed is compacted away before it can ask for it, so it reads all anew."""
        self.node.agent.pause()
        (member,) = self.etcd.members
        for some in _batches(Put(keys.namespace(f"missed{next(self.numbers)}"), _namespace()) for _ in range(3)):
            self.store.txn((), some)
        self.etcd.etcdctl("compaction", str(self.store.list("/nothing").revision))
        member.stop()
        member.start()
        member.wait_ready()
        self.node.agent.resume()

    def wait_settled(self) -> float:
        """Until the policies' thread has had nothing to do for a second; the moment when it was last at work."""
        last, since = -1.0, time.monotonic()
        while time.monotonic() < since + 1:
            _, text = self.node.agent.http_get("/metrics", timeout=60)
            found = re.search(r"^homeport_policy_seconds_count (\S+)", text, re.MULTILINE)
            assert found is not None
            if (count := float(found[1])) != last:
                last, since = count, time.monotonic()
            time.sleep(0.05)
        return since


def _batches(puts: Iterable[Put]) -> Iterator[list[Put]]:
    each = iter(puts)
    while some := list(itertools.islice(each, BATCH)):
        yield some


def _namespace() -> bytes:
    parsed, _ = wire.NAMESPACE.parse({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "missed"}})
    return wire.NAMESPACE.stored.dumps(parsed)


def _records() -> Iterator[tuple[str, bytes]]:
    """The Network, the Interfaces of VMs that are nowhere, their labels, and the policies."""
    network, _ = wire.NETWORK.parse(
        {
            "apiVersion": "homeport.dev/v1",
            "kind": "Network",
            "metadata": {"name": "blue"},
            "spec": {
                "type": "L2",
                "nodeInterfaceMatcher": {"interfaceName": "eth1"},
                "l2NetworkConfig": {"vlanID": 100},
                "ipam": {
                    "pools": [{"cidr": "10.0.0.0/8", "ranges": [{"start": "10.200.0.0", "end": "10.200.255.255"}]}]
                },
            },
        }
    )
    yield keys.network("blue"), wire.NETWORK.stored.dumps(network)
    for number in range(policies.ADDRESSES):
        owner = policies.owner(number)
        key = InterfaceKey(owner.namespace, f"{owner.name}-eth0")
        status = InterfaceStatus(
            (IPv4Interface((IPv4Address(0x0A000001 + number), 8)),),
            MacAddress(f"02:00:5e:30:{number >> 8:02x}:{number & 0xFF:02x}"),
            phase=Phase.RESERVED,
        )
        meta = ObjectMeta(key.name, key.namespace, f"uid-{number}")
        spec = InterfaceSpec("blue", vm=owner.name, interface="eth0")
        yield keys.interface(key), wire.INTERFACE.stored.dumps(Interface(meta, spec, status))
        labelled = Workload(owner.namespace, owner.name, policies.labels(number))
        yield keys.workload(owner.namespace, owner.name), wire.WORKLOAD.dumps(labelled)
    for number in range(policies.POLICIES):
        made = policies.policy(number)
        yield keys.policy(made.key), wire.POLICY.dumps(made)


if __name__ == "__main__":
    sys.exit(main())
