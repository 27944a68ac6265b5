"""Those who call the executables: cnitool with its lists, containerd with its plugins."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from homeport_netns_fixtures import names
from homeport_netns_fixtures.cni import Answer, CniTool
from homeport_netns_fixtures.containerd import Containerd
from homeport_netns_fixtures.netns import Namespace
from homeport_netns_fixtures.topology import Node

MakeContainerd = Callable[[Namespace], Containerd]
ANNOTATIONS = "io.kubernetes.cri.pod-annotations"


def configure(cnitool: CniTool, *plugins: Mapping[str, Any], version: str = "1.1.0") -> str:
    """A list of its own name: the reference client keeps results of all lists of this machine in one place."""
    name = names.unique("list")
    text = json.dumps({"cniVersion": version, "name": name, "plugins": plugins})
    (cnitool.conf_dir / f"{name}.conflist").write_text(text)
    return name


def succeeded(answer: Answer) -> Answer:
    assert answer.exit_code == 0, (answer.result, answer.stderr)
    return answer


def install_cni(node: Node, bin_dir: Path, shim: str = "c") -> None:
    """Both executables, as an administrator installs them. The shim asked for is the one that is installed."""
    done = node.homeport("install-cni", "--bin-dir", os.fspath(bin_dir), "--shim", shim)
    assert f"The {shim} shim" in done.stderr, done.stderr


def global_addresses(namespace: Namespace, link: str) -> list[str]:
    """What a link has, IPv4 first, without prefix lengths."""
    (found,) = (entry for entry in namespace.show("address") if entry["ifname"] == link)
    return [str(entry["local"]) for entry in found["addr_info"] if entry["scope"] == "global"]


def homeport(**keys: str) -> dict[str, Any]:
    """Our entry of a configuration list, with the capabilities that `install-cni` writes."""
    return {"type": "homeport", **keys, "capabilities": {"ips": True, "mac": True, ANNOTATIONS: True}}


def stock_bridge(directory: Path) -> dict[str, Any]:
    """The plugin that ordinary pods of a node have; `directory` keeps what it has given out."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "172.31.0.0/16"}]], "dataDir": f"{directory}/ipam"}
    ipam["routes"] = [{"dst": "0.0.0.0/0"}]
    return {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}


def start_runtime(
    node: Node, containerd: MakeContainerd, name: str, *plugins: Mapping[str, Any], shim: str = "c"
) -> Containerd:
    """A containerd on the node whose sandboxes have the network of these plugins. No plugins: the stock bridge, and
    ours after it."""
    runtime = containerd(node.namespace)
    install_cni(node, runtime.cni_bin, shim)
    runtime.configure(name, list(plugins) or [stock_bridge(runtime.directory), homeport()])
    runtime.wait_network_ready()
    return runtime
