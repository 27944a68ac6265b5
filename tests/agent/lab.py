"""A node with a running agent and both shims, and what a test asks of it: CNI calls, attaches, store, kernel.

What a runtime or an operator does goes the way they go: through the installed shims and the agent's socket. What a test
only looks at is read from etcd and from the kernel, never from the agent.
"""

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from homeport_api.attachment import PortKind, Source
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.wire import NETWORK
from homeport_cni.install import patch_run_dir
from homeport_dataplane.marks import PortMark, parse_mark
from homeport_ipam import fsck
from homeport_ipam.allocator import Allocator
from homeport_ipam.view import View
from homeport_netns_fixtures import cni
from homeport_netns_fixtures.cni import Answer
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node
from homeport_store import keys
from homeport_store.connect import StoreOptions, connect
from homeport_store.etcd import EtcdStore
from homeport_store.objects import Objects
from homeport_store.protocol import Delete
from tests.asking import Refused, ask

WITHIN = 30.0
KERNELS_OWN = ("claims", "new_flows", "used4", "used6")


def wait_until(condition: Callable[[], object], what: str, within: float = WITHIN) -> float:
    """Prints and returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + within, f"not within {within:.0f} s: {what}"
        time.sleep(0.01)
    took = time.monotonic() - began
    print(f"{what}: {took:.3f} s")
    return took


@dataclass(slots=True)
class Lab:
    """One node. `start` and `kill` are the agent's."""

    node: Node
    shims: Path
    endpoints: tuple[str, ...] = ()
    _store: EtcdStore | None = None
    _guests: list[Namespace] = field(default_factory=list)
    _started_with: tuple[str, ...] | None = None

    # Its life

    def start(self, *options: str, fault: str = "") -> None:
        """`fault` as `HOMEPORT_FAULT` wants it."""
        for name in ("fault-reached", "fault-continue"):
            (self.node.run_dir / name).unlink(missing_ok=True)
        self._started_with = (*options, *([fault] if fault else []))
        os.environ["HOMEPORT_FAULT"] = fault
        try:
            self.node.agent.start(*options)
        finally:
            del os.environ["HOMEPORT_FAULT"]
        self.node.agent.wait_ready()

    def kill(self) -> None:
        self.node.agent.kill()

    def restart(self, *options: str, fault: str = "") -> None:
        self.kill()
        self.start(*options, fault=fault)

    def wait_fault(self) -> None:
        wait_until((self.node.run_dir / "fault-reached").exists, "the paused step is reached")

    def resume(self) -> None:
        (self.node.run_dir / "fault-continue").touch()

    @property
    def plain(self) -> bool:
        """Whether the agent runs, and as it does for everybody."""
        return self.node.agent.alive and self._started_with == ()

    def guest(self, label: str = "guest") -> Namespace:
        """A container's namespace."""
        namespace = self.node.guest(label)
        self._guests.append(namespace)
        return namespace

    def clear(self) -> None:
        """As if nothing had ever been attached or applied."""
        for attachment in self.objects.attachments_on(self.node.name):
            key = attachment.key
            if attachment.source is Source.CLI:
                namespace, _, vm = key.cni_name.partition("/")
                with contextlib.suppress(Refused):  # its guest went a moment ago, and the agent ends it
                    self.ask("detach", vm=vm, namespace=namespace, interface=key.ifname)
            else:
                ipam = any(nic.kind is PortKind.NONE for nic in attachment.nics)
                done = self.delete(
                    key.container_id,
                    ifname=key.ifname,
                    executable="homeport-ipam" if ipam else "homeport",
                    name=key.cni_name,
                    type=key.plugin,
                )
                assert done.exit_code == 0, done
        for guest in self._guests:
            guest.delete()
        self._guests.clear()
        kept = (keys.NODES, keys.REPORTS, keys.POLICY_REPORTS, keys.GENERATION, keys.SWEEPER)
        for record in self.store.list(keys.PREFIX).records:
            if not record.key.startswith(kept):
                self.store.txn((), [Delete(record.key)])
        wait_until(lambda: self.node.switch.links() == {"lo"}, "the switch is empty")

    def close(self) -> None:
        if self._store is not None:
            self._store.close()

    def metric(self, name: str) -> float:
        _, text = self.node.agent.http_get("/metrics")
        return float(next(line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")))

    def pending(self) -> int:
        """Attachments that ended and that the store does not know of yet."""
        return int(self.metric("homeport_ended_attachments_pending"))

    # What is in the store

    @property
    def store(self) -> EtcdStore:
        if self._store is None:
            self._store = connect(StoreOptions(self.node.data_dir, self.endpoints))
        return self._store

    @property
    def objects(self) -> Objects:
        return Objects(self.store)

    def apply(self, name: str, pool: str | None = "10.77.0.0/24", **spec: Any) -> None:
        """A Network, isolated unless `uplink` names its link. A repeat changes it."""
        document: dict[str, Any] = {"type": "L2"} | spec
        if pool is not None:
            document.setdefault("ipam", {})["pools"] = [{"cidr": pool}]
        if (uplink := document.pop("uplink", None)) is not None:
            document["nodeInterfaceMatcher"] = {"interfaceName": uplink}
        manifest = {"apiVersion": "homeport.dev/v1", "kind": "Network", "metadata": {"name": name}, "spec": document}
        network, _ = NETWORK.parse(manifest)
        known = self.objects.networks.find(name)
        if known is not None:
            network = replace(network, meta=replace(network.meta, uid=known.meta.uid, revision=known.meta.revision))
        self.objects.networks.save(network)

    def interface(self, name: str, namespace: str = "default") -> Interface | None:
        return self.objects.interfaces.find(InterfaceKey(namespace, name))

    def holder(self, name: str) -> str | None:
        """The container that actively holds an Interface."""
        interface = self.interface(name)
        holder = interface.active_holder if interface else None
        return holder.container_id if holder else None

    def attachments(self) -> set[str]:
        """One of nothing only keeps an ADD that was given up from being applied late."""
        return {each.key.container_id for each in self.objects.attachments_on(self.node.name) if each.nics}

    def findings(self) -> list[str]:
        """What `homeport ipam fsck` has to say."""
        found = fsck.judge(self.store.list(keys.PREFIX), time.time(), random.Random(0))
        return [f"{finding.wrong} {finding.key}: {finding.explanation}" for finding in found]

    def delete_interface(self, name: str) -> None:
        allocator = Allocator(self.store, View(), "homeport", 0.0, time.time, random.Random(0))
        allocator.delete_interface(InterfaceKey("default", name), "deleted by a test")

    def kill_etcd(self) -> None:
        """SIGKILL to the embedded etcd, whose agent starts it again."""
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdigit() and (process / "comm").read_text() == "etcd\n":
                    directory = (process / "cwd").readlink()
                    if directory == self.node.data_dir / "etcd":
                        os.kill(int(process.name), signal.SIGKILL)

    def epoch(self, name: str) -> int:
        interface = self.interface(name)
        return interface.status.epoch if interface else 0

    # What is in the kernel

    def ports(self, where: Namespace | None = None) -> dict[str, PortMark]:
        marks = {
            link["ifname"]: parse_mark(link.get("ifalias", "")) for link in (where or self.node.switch).show("link")
        }
        return {name: mark for name, mark in marks.items() if mark is not None}

    def has_any_port(self) -> bool:
        """Also one that only waits for its deletion."""
        return any(re.fullmatch(r"hp[0-9a-f]{12}", link) for link in self.node.switch.links())

    def master(self, port: str) -> str | None:
        return next((link.get("master") for link in self.node.switch.show("link") if link["ifname"] == port), None)

    def port_indexes(self) -> dict[str, int]:
        ports = self.ports()
        return {link["ifname"]: link["ifindex"] for link in self.node.switch.show("link") if link["ifname"] in ports}

    def elements(self, where: Namespace | None = None, table: str = "homeport") -> dict[str, set[str]]:
        """The guard rules' sets, without the uplinks in them and those that the kernel fills by itself."""
        done = (where or self.node.switch).run("nft", "-j", "list", "table", "bridge", table, check=False)
        sets: dict[str, set[str]] = {}
        for each in json.loads(done.stdout)["nftables"] if done.returncode == 0 else ():
            if "set" in each and each["set"]["name"] not in KERNELS_OWN:
                texts = {json.dumps(element) for element in each["set"].get("elem", ())}
                sets[each["set"]["name"]] = {text for text in texts if "hpu" not in text}
        return sets

    def rules(self) -> list[str]:
        """The guard rules, without their counters."""
        done = self.node.switch.run("nft", "-s", "list", "table", "bridge", "homeport", check=False)
        return [line.strip() for line in done.stdout.splitlines() if "comment" in line]

    def require_clean(self, ports: int) -> None:
        """Nothing leaked: the store is consistent, the kernel has this many ports and the elements of these alone."""
        assert self.findings() == []
        present = self.ports()
        assert len(present) == ports, present
        for name, members in self.elements().items():
            strays = [member for member in members if not any(port in member for port in present)]
            assert not strays, f"stray elements in {name}: {strays}"
            assert name not in ("ports", "speaking") or len(members) == ports, f"{name}: {members}"

    # What runtimes and operators do

    def conf(self, network: str | None, **extra: Any) -> dict[str, Any]:
        named = {} if network is None else {"network": network}
        return {"cniVersion": "1.1.0", "name": "net", "type": "homeport"} | named | extra

    def call(
        self,
        command: str,
        container: str,
        guest: Namespace | None = None,
        *,
        network: str | None = "lab",
        ifname: str = "eth0",
        vm: str | None = None,
        cni_args: Mapping[str, str] | None = None,
        executable: str = "homeport",
        **extra: Any,
    ) -> Answer:
        """One call of the shim. With `vm`, for that VM; `extra` goes into the network configuration."""
        given = dict(cni_args or {}) | ({"VM_NAME": vm} if vm else {})
        return cni.call(
            self.shims / executable,
            command,
            self.conf(network, **extra),
            inside=self.node.namespace,
            container_id=container,
            netns=guest,
            ifname=ifname,
            args=given or None,
        )

    def add(self, container: str, guest: Namespace, **extra: Any) -> Answer:
        return self.call("ADD", container, guest, **extra)

    def added_soon(self, container: str, guest: Namespace, **extra: Any) -> tuple[str, str]:
        """As a runtime does: again for as long as the answer is to try again later."""
        answers: list[Answer] = []

        def done() -> bool:
            answers.append(self.add(container, guest, **extra))
            assert answers[-1].error in (0, 11), answers[-1]
            return answers[-1].exit_code == 0

        wait_until(done, f"ADD of {container}")
        return answers[-1].addresses[0], answers[-1].result["interfaces"][-1]["mac"]

    def delete(self, container: str, **extra: Any) -> Answer:
        return self.call("DEL", container, **extra)

    def added(self, container: str, guest: Namespace, **extra: Any) -> tuple[str, str]:
        """(address, MAC) of an ADD that must succeed."""
        answer = self.add(container, guest, **extra)
        assert answer.exit_code == 0, answer
        return answer.addresses[0], answer.result["interfaces"][-1]["mac"]

    def ask(self, verb: str, *, guest: Namespace | None = None, **request: Any) -> Any:
        """What the command line sends. Raises Refused."""
        return ask(self.node.run_dir, verb, guest=guest, **request)

    def attach(self, vm: str, guest: Namespace | None = None, *, interface: str = "eth0", **request: Any) -> str:
        """`homeport attach`; the address."""
        request.setdefault("network", "lab")
        answer = self.ask("attach", vm=vm, interface=interface, guest=guest, **request)
        address: str = answer["ips"][0]["address"]
        return address


@dataclass(slots=True)
class PingFlood:
    """A hundred echo requests a second from a guest to another, counted at the end."""

    process: subprocess.Popen[str]
    lost: int = -1
    sent: int = -1

    def finish(self) -> None:
        self.process.send_signal(2)
        output, _ = self.process.communicate(timeout=30)
        words = next(line for line in output.splitlines() if "packets transmitted" in line).split()
        self.sent, received = int(words[0]), int(words[3])
        self.lost = self.sent - received


@contextlib.contextmanager
def flood(guest: Namespace, address: str) -> Iterator[PingFlood]:
    """`with flood(web, "10.77.0.9") as ping: …`, then `ping.lost`. It has begun when the body does."""
    guest.wait_ping(address)
    argv = guest.command("ping", "-n", "-i", "0.01", "-W", "2", address)
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ping = PingFlood(process)
    try:
        yield ping
        time.sleep(0.1)
        ping.finish()
        print(f"ping {address}: {ping.sent} sent, {ping.lost} lost")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    """`work(0)` … `work(count - 1)`, each on its own thread, begun at once; what they returned or raised."""
    gate = threading.Barrier(count)
    results: list[Any] = [None] * count

    def run(index: int) -> None:
        gate.wait()
        try:
            results[index] = work(index)
        except Exception as error:
            results[index] = error

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def relocate(shims: Path, run_dir: Path, into: Path) -> Path:
    """The shims, serving the agent of `run_dir`."""
    into.mkdir()
    for name in ("homeport", "homeport-ipam"):
        program = (shims / name).read_bytes()
        if program.startswith(b"#!"):
            program = program.replace(b"'/run/homeport-nobody'", repr(str(run_dir)).encode())
        else:
            program = patch_run_dir(program, run_dir)
        (into / name).write_bytes(program)
        (into / name).chmod(0o755)
    return into
