"""The steps with real guests: two Networks, two virtual machines that die and come back, and a container."""

import json
import os
import signal
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport_netns_fixtures import accel
from homeport_netns_fixtures.containerd import Containerd
from homeport_netns_fixtures.cri import Sandbox
from homeport_netns_fixtures.demo.scene import NotAsTold, Place, Scene
from homeport_netns_fixtures.guest import Guest, Nic, open_tap
from homeport_netns_fixtures.netns import Namespace

NETWORK = "lab"
WIRED = "office"
BOOT_SECONDS = 120.0
RELEASED_SECONDS = 10.0


@dataclass(slots=True)
class Machine:
    """A virtual machine of the story: its present QEMU and the place it has."""

    name: str
    tap: str
    guest: Guest
    place: Place


class Story:
    """Each method is a step; they build on one another in this order."""

    def __init__(self, scene: Scene, stack: ExitStack) -> None:
        self._scene, self._stack = scene, stack
        self._narrator = scene.narrator
        self._machines: dict[str, Machine] = {}

    def start_node(self) -> None:
        scene, say = self._scene, self._narrator.say
        self._narrator.step("A node")
        names = scene.cable()
        say(
            f"""A network namespace plays a machine called {scene.node.name}; its NIC {", ".join(names)} is cabled to a
            switch in another. Nothing touches this machine's own links. The Homeport agent starts there with an etcd of
            its own, on unix sockets below {scene.node.directory}."""
        )
        scene.node.agent.start()
        seconds = scene.node.agent.wait_ready(60)
        self._narrator.fact(f"the agent is ready, after {seconds:.1f} s")
        say("The commands below run on that node as they stand here, from this checkout:")
        self._narrator.output(f"HOMEPORT_RUN_DIR={scene.node.run_dir}  HOMEPORT_DATA_DIR={scene.node.data_dir}")

    def apply_networks(self) -> None:
        self._narrator.step("Two Networks")
        self._narrator.say(
            f"""{NETWORK} lives inside the node, {WIRED} goes out through its NIC. Edit the pools in
            {self._scene.shown(self._scene.examples)}/ and run this again: you will see your addresses."""
        )
        self._scene.apply("lab.yaml", "office.yaml")
        self._scene.homeport("get", "networks")

    def boot_machines(self) -> None:
        self._narrator.step("Two virtual machines")
        how = "KVM" if accel.choose() is accel.Accel.KVM else "emulated, since KVM does not boot a guest here"
        self._narrator.say(
            f"""Two QEMU guests ({how}), web and db. web has a VirtualMachine object, db has none: an Interface is made
            when it first attaches. Each has a tap that its hypervisor holds open; `attach` moves it into the switch and
            answers with the place, which goes to the guest on its kernel command line."""
        )
        self._scene.apply("virtualmachine.yaml")
        for name in ("web", "db"):
            self._boot(name)
        self._wait(*self._machines.values())
        self._scene.homeport("get", "interfaces")
        self._ping("web", "db")

    def kill_and_restart(self) -> None:
        self._narrator.step("A guest is killed and starts again")
        before = self._machines["db"]
        self._narrator.say(
            "db's QEMU gets SIGKILL. Its tap goes with it, so nobody holds the Interface; its place stays."
        )
        self._narrator.command("kill", "-9", str(before.guest.pid))
        os.kill(before.guest.pid, signal.SIGKILL)
        before.guest.kill()
        self._wait_reserved("db-eth0")
        self._scene.homeport("get", "interface", "db-eth0")
        self._boot("db")
        self._wait(self._machines["db"])
        self._require_same(before)
        self._ping("web", "db")

    def delete_and_recreate(self) -> None:
        self._narrator.step("A virtual machine is deleted and made again")
        before = self._machines["web"]
        self._narrator.say(
            """Now web goes altogether: guest and object. Its Interface waits for reclaimAfter of its Network, 24 hours
            unless that says otherwise. Meanwhile another VM that asks for web's address is refused."""
        )
        before.guest.kill()
        self._wait_reserved("web-eth0")
        self._scene.homeport("delete", "virtualmachine", "web")
        rival = self._scene.node.guest("rival")
        wanted = ("--netns", os.fspath(rival.path), "--ip", before.place.bare[0])
        self._scene.homeport("attach", "rival", "--network", NETWORK, *wanted, refused=True)
        self._scene.apply("virtualmachine.yaml")
        self._boot("web")
        self._wait(self._machines["web"])
        self._require_same(before)
        self._ping("db", "web")

    def run_containers(self) -> None:
        self._narrator.step("A container, through containerd")
        scene = self._scene
        self._narrator.say(
            f"""A containerd of its own runs pods on the node. Its network is the stock bridge plugin with homeport
            chained after it; the pod's annotation names the Interface shop on {WIRED}, made beforehand. The pod's IP
            stays the bridge plugin's; eth1 is ours."""
        )
        scene.apply("interface.yaml")
        directory = scene.node.directory / "runtime"
        directory.mkdir()
        runtime = self._stack.enter_context(Containerd(scene.node.namespace, directory))
        scene.homeport("install-cni", "--bin-dir", os.fspath(runtime.cni_bin))
        runtime.configure("pods", _chain(directory, scene.node.run_dir))
        runtime.wait_network_ready()
        outside = scene.gateway(WIRED)
        seen: list[tuple[str, ...]] = []
        for round_ in ("first", "second"):
            if round_ == "second":
                self._narrator.say(
                    "The sandbox is stopped and removed, and another runs: new container ID, new namespace, new links."
                )
            annotation = json.dumps([{"interfaceName": "eth1", "interface": "shop"}])
            if not seen:
                self._narrator.output(f"annotation  homeport.dev/interfaces: {annotation}")
            sandbox = Sandbox("shop", f"uid-{round_}", annotations={"homeport.dev/interfaces": annotation})
            sandbox_id = runtime.cri.run_pod_sandbox(sandbox)
            namespace = runtime.sandbox_namespace(sandbox_id)
            place = _place_of_link(namespace, "eth1")
            self._narrator.output(f"sandbox {sandbox_id[:12]}   eth1   {'   '.join(place)}")
            if outside is not None:
                scene.require(
                    namespace.pings(outside, wait=5),
                    f"the container reaches {outside}, beyond the switch",
                    f"the container does not reach {outside}, the gateway of {WIRED}",
                )
            seen.append(place)
            if round_ == "first":
                runtime.cri.stop_pod_sandbox(sandbox_id)
                runtime.cri.remove_pod_sandbox(sandbox_id)
        scene.homeport("get", "interfaces")
        scene.require(seen[0] == seen[1], f"the same as before: {'   '.join(seen[1])}", f"it had {seen[0]}")

    def _boot(self, name: str) -> None:
        """Opens a tap, attaches it and starts QEMU on it, as a hypervisor would; returns while the guest boots."""
        scene = self._scene
        tap = f"tap-{name}"
        descriptor = open_tap(scene.node.namespace, tap)
        try:
            place = scene.attach(name, NETWORK, "--tap", tap)
            guest = Guest(
                scene.node.namespace,
                scene.node.directory,
                name,
                [Nic(tap, place.mac, opened=descriptor)],
                addresses=place.addresses,
                gateways=place.gateways,
                mtu=place.mtu,
            )
            self._stack.callback(guest.kill)
        except BaseException:
            os.close(descriptor)
            raise
        guest.start()
        self._machines[name] = Machine(name, tap, guest, place)

    def _wait(self, *machines: Machine) -> None:
        for machine in machines:
            machine.guest.wait_ready(BOOT_SECONDS)
            self._narrator.fact(f"{machine.name} has booted")

    def _ping(self, source: str, target: str) -> None:
        for address in self._machines[target].place.bare:
            answered = self._machines[source].guest.pings(address, attempts=10)
            self._scene.require(
                answered, f"{source} reaches {target} at {address}", f"{source} does not reach {target} at {address}"
            )

    def _require_same(self, before: Machine) -> None:
        now = self._machines[before.name].place
        self._scene.require(now == before.place, f"the same as before: {now}", f"it had {before.place}, and has {now}")

    def _wait_reserved(self, interface: str) -> None:
        """Until nobody holds it: the agent hears of the vanished tap from the kernel."""
        end = time.monotonic() + RELEASED_SECONDS
        while (phase := self._scene.get("interface", interface)["status"].get("phase")) != "Reserved":
            if time.monotonic() > end:
                raise NotAsTold(
                    f"Interface {interface} is still {phase} {RELEASED_SECONDS:.0f} s after its tap vanished"
                )
            time.sleep(0.1)


def _chain(directory: Path, run_dir: Path) -> list[Mapping[str, Any]]:
    """The stock bridge plugin, and ours after it."""
    ipam = {"type": "host-local", "subnet": "10.88.0.0/24", "dataDir": os.fspath(directory / "host-local")}
    ours = {
        "type": "homeport",
        "runDir": os.fspath(run_dir),
        "capabilities": {"io.kubernetes.cri.pod-annotations": True},
    }
    return [{"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}, ours]


def _place_of_link(namespace: Namespace, name: str) -> tuple[str, ...]:
    """Addresses and MAC of a link in a container, without the link-local one that the kernel adds."""
    link = next((each for each in namespace.show("address") if each["ifname"] == name), None)
    if link is None:
        raise NotAsTold(f"the container has no link {name}")
    addresses = (f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global")
    return (*addresses, f"MAC {link['address']}")
