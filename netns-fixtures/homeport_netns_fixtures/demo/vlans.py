"""The steps with VLANs and policies. They run on this machine's kernel where that can, else inside Debian's, in a
virtual machine of its own:

    python -m homeport_netns_fixtures.demo.vlans here EXAMPLES         in the kernel that runs
    python -m homeport_netns_fixtures.demo.vlans elsewhere EXAMPLES    in Debian's
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from homeport_netns_fixtures import capability, debian_kernel, leftovers, programs
from homeport_netns_fixtures.demo.narrator import Narrator
from homeport_netns_fixtures.demo.scene import NotAsTold, Place, Scene
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import build

NETWORK = "blue"
POSTGRES = 5432
LABELS = {
    "left": ("--label", "role=web"),
    "right": ("--label", "role=db", "--port", f"postgres={POSTGRES}/tcp"),
    "third": (),
}
POLICY_SECONDS = 30.0
AGENT_SECONDS = 120.0
LIMIT_SECONDS = 600


class Elsewhere:
    """The step in Debian's kernel, begun early and told in its turn: that machine needs its time to boot, and the other
    steps leave a processor to it. Nothing is begun where this machine's own kernel will do."""

    def __init__(self, examples: Path, directory: Path) -> None:
        self._log = directory / "other-kernel.log"
        self._process: subprocess.Popen[bytes] | None = None
        if capability.kernel_lacks() is None:
            return
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, "elsewhere", os.fspath(examples)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # virtme-ng leaves files where temporary ones go; these go with the world.
                env=os.environ | {"TMPDIR": os.fspath(directory)},
            )

    def tell(self, narrator: Narrator, examples: Path) -> None:
        narrator.step("A VLAN, and a policy")
        if self._process is None:
            play(narrator, examples)
            return
        narrator.say(
            """This machine's kernel cannot filter VLANs on a bridge. So this step, and no other, runs in Debian's stock
            kernel, in a virtual machine on the same files (virtme-ng), with network namespaces as guests. It has been
            booting since the demo began."""
        )
        with self._log.open("rb") as growing:
            end = time.monotonic() + LIMIT_SECONDS
            while True:
                code = self._process.poll()
                sys.stdout.write(growing.read().decode(errors="replace"))
                sys.stdout.flush()
                if code is not None:
                    break
                if time.monotonic() > end:
                    raise NotAsTold(f"the other kernel did not get there within {LIMIT_SECONDS} s")
                time.sleep(0.1)
        if code != 0:
            raise NotAsTold(f"it ended with {code} in the other kernel")

    def close(self) -> None:
        """Ends it where it is. It takes its virtual machine down when it is interrupted, and only then."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(60)


def play(narrator: Narrator, examples: Path) -> None:
    """A node of its own, three guests on the VLAN, a look at the wire, and who may reach whom."""
    with ExitStack() as stack:
        world = stack.enter_context(build("beta"))
        scene = Scene(narrator, world, world.node("beta"), examples)
        scene.cable()
        scene.node.agent.start()
        scene.node.agent.wait_ready(AGENT_SECONDS)
        scene.apply(f"{NETWORK}.yaml")
        spec = scene.get("network", NETWORK)["spec"]
        vlan = spec.get("l2NetworkConfig", {}).get("vlanID")
        narrator.say(
            f"""Network {NETWORK} is VLAN {vlan} of {spec["nodeInterfaceMatcher"]["interfaceName"]}. Three guests join
            it on the node, and a host stands on the access port of VLAN {vlan} of the switch outside."""
        )
        guests = {name: scene.node.guest(name) for name in LABELS}
        places = {
            name: scene.attach(name, NETWORK, "--netns", f"{guest.path}", *LABELS[name])
            for name, guest in guests.items()
        }
        wire = world.wire(scene.node)
        address = scene.gateway(NETWORK)
        target = places["right"].bare[0]
        scene.require(_answers(guests["left"], target), f"left reaches right at {target}", f"no answer from {target}")
        if address is None:
            raise NotAsTold(f"Network {NETWORK} has no gateway4 to be reached")
        scene.require(_answers(guests["left"], address), f"left reaches {address} outside", f"no answer from {address}")
        frame = wire.wait(lambda frame: frame.source == places["left"].mac)
        scene.require(
            frame.vlan == vlan,
            f"on the wire its frames carry VLAN {frame.vlan}; on the guest's link they are untagged",
            f"on the wire its frames carry VLAN {frame.vlan}, not {vlan}",
        )
        _play_policy(scene, guests, places)


def _play_policy(scene: Scene, guests: Mapping[str, Namespace], places: Mapping[str, Place]) -> None:
    """One guest may reach the other's port, a third may not, and both are explained."""
    scene.narrator.say(
        """Now a policy. right has the label role=db and calls its port 5432 postgres, left has role=web, and third has
        no label. The policy lets role=web reach postgres on role=db. It is enforced in nftables on the node's
        bridge."""
    )
    target = places["right"].bare[0]
    with _listening(guests["right"], target):
        scene.require(_connects(guests["third"], target), "before it, third reaches right's port", "no answer to third")
        scene.apply("policy.yaml")
        end = time.monotonic() + POLICY_SECONDS
        while _connects(guests["third"], target):
            if time.monotonic() > end:
                raise NotAsTold("third reaches right's port in spite of the policy")
        scene.narrator.fact("third does not reach it any more")
        scene.require(_connects(guests["left"], target), "left does", "no answer to left")
    for sender, denied in (("left", False), ("third", True)):
        scene.homeport(
            "policy",
            "trace",
            "--from",
            f"default/{sender}",
            "--to",
            "default/right",
            "--port",
            "5432/tcp",
            refused=denied,
        )


@contextmanager
def _listening(guest: Namespace, address: str) -> Iterator[None]:
    with guest.entered():
        listener = socket.create_server((address, POSTGRES))
    with listener:
        yield


def _connects(guest: Namespace, address: str) -> bool:
    """Whether a connection from the guest is answered within two seconds."""
    with guest.entered():
        attempt = socket.socket()
    with attempt:
        attempt.settimeout(2)
        return attempt.connect_ex((address, POSTGRES)) == 0


def _answers(guest: Namespace, address: str) -> bool:
    """Within twenty seconds: a first packet waits for address resolution, and emulated kernels are slow."""
    return any(guest.pings(address, wait=1) for _ in range(20))


def run_in_debian_kernel(examples: Path) -> int:
    """Its exit code. That machine sees the checkout, and of the rest only what it is given: manifests from elsewhere go
    there as a copy."""
    with tempfile.TemporaryDirectory(prefix="hpt-manifests-") as directory:
        seen = examples
        if not examples.is_relative_to(Path.cwd()):
            seen = Path(shutil.copytree(examples, Path(directory) / "examples"))
        command = [sys.executable, "-m", __spec__.name, "here", os.fspath(seen)]
        return debian_kernel.run(command, writable=Path(directory), limit=LIMIT_SECONDS)


def main(argv: list[str]) -> int:
    where, examples = argv[0], Path(argv[1])
    if where == "elsewhere":
        return run_in_debian_kernel(examples)
    os.environ["PATH"] = programs.search_path()
    os.environ[leftovers.SESSION] = str(os.getpid())
    try:
        play(Narrator(), examples)
    except (NotAsTold, AssertionError) as error:
        print(f"Error: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
