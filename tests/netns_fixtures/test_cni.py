"""Stock plugins answer, called directly and by cnitool."""

import json
from collections.abc import Callable
from pathlib import Path

from homeport_netns_fixtures import cni
from homeport_netns_fixtures.netns import Namespace


def test_a_direct_call_carries_the_environment_and_brings_result_and_error(
    netns: Callable[[str], Namespace], cni_plugins: Path, short_dir: Path
) -> None:
    host, guest = netns("host"), netns("guest")
    ipam = {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}]], "dataDir": f"{short_dir}"}
    configuration = {"cniVersion": "1.0.0", "name": "n", "type": "bridge", "bridge": "b0", "ipam": ipam}
    bridge = cni_plugins / "bridge"
    args = {"IgnoreUnknown": "1", "VM_NAME": "web"}
    added = cni.call(
        bridge,
        "ADD",
        configuration,
        inside=host,
        container_id="c1",
        netns=guest,
        ifname="eth0",
        args=args,
    )
    assert (added.error, added.addresses) == (0, ["192.0.2.2/24"])
    assert "eth0" in guest.links()
    assert cni.call(bridge, "ADD", configuration, inside=host, container_id="c1", ifname="eth0").error == 4
    deleted = cni.call(bridge, "DEL", configuration, inside=host, container_id="c1", netns=guest, ifname="eth0")
    assert (deleted.error, deleted.result) == (0, {})
    assert "eth0" not in guest.links()


def test_cnitool_runs_a_list(netns: Callable[[str], Namespace], cnitool: cni.CniTool, short_dir: Path) -> None:
    host, guest = netns("host"), netns("guest")
    ipam = {"type": "host-local", "ranges": [[{"subnet": "192.0.2.0/24"}]], "dataDir": f"{short_dir}/ipam"}
    plugins = [{"type": "bridge", "bridge": "b0", "ipam": ipam}]
    (cnitool.conf_dir / "10-n.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "n", "plugins": plugins})
    )
    assert cnitool("add", "n", guest, inside=host).addresses == ["192.0.2.2/24"]
    assert cnitool("check", "n", guest, inside=host).exit_code == 0
    assert cnitool("del", "n", guest, inside=host).exit_code == 0
    assert guest.links() == {"lo"}
