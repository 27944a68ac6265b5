"""Who is measured: both shims of ours in front of a real agent, and the stock plugins, old and new.

Each contender knows how one attachment is asked for and ended as a whole process. All run in the same node's
namespace; the stock plugins have a bridge and a directory of addresses of their own there, one per version.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport_cni.install import Shim, install
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.programs import cache_dir, find_cni_plugins
from homeport_netns_fixtures.topology import Node
from tests.bench.processes import Process

LINK = "eth0"
NETWORK = "bench"
NEWEST = "v1.9.1"
MODULE = "github.com/containernetworking/plugins/plugins"
OURS = "Homeport, C shim"
OURS_PYTHON = "Homeport, Python shim"
MANIFEST = f"""
apiVersion: homeport.dev/v1
kind: Network
metadata: {{name: {NETWORK}}}
spec:
  type: L2
  nodeInterfaceMatcher: {{interfaceName: eth1}}
  ipam: {{pools: [{{cidr: 10.64.0.0/12}}]}}
"""


@dataclass(frozen=True, slots=True)
class Contender:
    """`configuration` is what a runtime would give the executable on stdin."""

    name: str
    executable: Path
    configuration: dict[str, Any] = field(hash=False)
    ours: bool = False

    def call(
        self, command: str, container_id: str, guest: Namespace, previous: dict[str, Any] | None = None
    ) -> Process:
        """One call, ready to be executed. `previous` is the result of the plugin before, in a chain."""
        configuration = self.configuration if previous is None else self.configuration | {"prevResult": previous}
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": os.fspath(guest.path),
            "CNI_IFNAME": LINK,
            "CNI_PATH": os.fspath(self.executable.parent),
            "PATH": os.environ["PATH"],
        }
        return Process(os.fspath(self.executable), environ, json.dumps(configuration).encode())


def ours(directory: Path, run_dir: Path, *, chained: bool = False) -> list[Contender]:
    """Both shims, installed as `install-cni` does. Without a C compiler there is the Python one alone."""
    configuration: dict[str, Any] = {"cniVersion": "1.0.0", "name": NETWORK, "type": "homeport", "runDir": str(run_dir)}
    if chained:
        configuration["runtimeConfig"] = {"io.kubernetes.cri.pod-annotations": {"app": "web"}}
    else:
        configuration["network"] = NETWORK
    found = []
    for shim, name in ((Shim.C, OURS), (Shim.PYTHON, OURS_PYTHON)):
        installed = install(directory / f"bin-{shim}", run_dir, prefer=shim)
        if installed.shim is shim:
            found.append(Contender(name, installed.executables[0], configuration, ours=True))
    return found


def stock(directory: Path) -> list[Contender]:
    """bridge + host-local: Debian's, and the newest where Go can build it. Only what is measured is switched on: no
    gateway, no masquerade, no promiscuous mode."""
    found = []
    debian = find_cni_plugins()
    if debian is not None:
        found.append(_stock("bridge + host-local (Debian's 1.1.1)", debian, directory, "old"))
    newest = build_newest()
    if newest is not None:
        found.append(_stock(f"bridge + host-local ({NEWEST})", newest, directory, "new"))
    assert found, "no stock CNI plugins: `make setup` unpacks them"
    return found


def build_newest() -> Path | None:
    """The directory of the newest stock plugins, built once through the Go module proxy; None without Go."""
    target = cache_dir() / f"plugins-{NEWEST}"
    if (target / "bridge").exists() and (target / "host-local").exists():
        return target
    go = shutil.which("go") or shutil.which(cache_dir() / "go-bin/bin/go")
    if go is None:
        return None
    places = {"GOBIN": target, "GOPATH": cache_dir() / "go", "GOCACHE": cache_dir() / "go-build"}
    environ = os.environ | {name: os.fspath(path) for name, path in places.items()}
    environ |= {"GOFLAGS": "-modcacherw", "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    wanted = [f"{MODULE}/main/bridge@{NEWEST}", f"{MODULE}/ipam/host-local@{NEWEST}"]
    done = subprocess.run([go, "install", *wanted], env=environ, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"bench: the stock plugins {NEWEST} cannot be built and are left out: {done.stderr.strip()[-300:]}")
        return None
    return target


def prepare(node: Node) -> None:
    """Starts the node's agent with an etcd of its own, and makes the Network that all attachments are on."""
    node.agent.start()
    node.agent.wait_ready()
    manifest = node.directory / "bench.yaml"
    manifest.write_text(MANIFEST)
    node.homeport("apply", "-f", os.fspath(manifest))


def _stock(name: str, plugins: Path, directory: Path, label: str) -> Contender:
    ipam = {
        "type": "host-local",
        "dataDir": os.fspath(directory / f"addresses-{label}"),
        "ranges": [[{"subnet": "10.80.0.0/12"}]],
    }
    configuration = {"cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "bridge": f"stock-{label}", "ipam": ipam}
    return Contender(name, plugins / "bridge", configuration)
