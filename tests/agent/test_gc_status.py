"""GC judges its own configuration's attachments and nothing else; what belongs to a VM outlives every GC."""

from .lab import Lab
from .test_pools import chained

POD = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "pod"}


def gc(lab: Lab, name: str, valid: list[tuple[str, str]], network: str | None = "lab") -> None:
    listed = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
    answer = lab.call("GC", "", network=network, name=name, **{"cni.dev/valid-attachments": listed})
    assert answer.exit_code == 0, answer


def test_gc_of_one_of_two_configurations_frees_nothing_that_runs(lab: Lab) -> None:
    lab.apply("other", "10.78.0.0/24")
    lab.added("c1", lab.guest("one"), name="blue", vm="web")
    lab.added("c2", lab.guest("two"), name="blue")
    lab.added("c1", lab.guest("three"), name="green", network="other", ifname="eth1")
    entries = [{"interfaceName": "net1", "network": "lab"}]
    assert lab.add("pod", lab.guest("pod"), name="chain", cni_args=POD, **chained(entries)).exit_code == 0
    lab.attach("db", lab.guest("db"))
    gc(lab, "blue", [("c1", "eth0"), ("c2", "eth0")])
    gc(lab, "green", [("c1", "eth1")], "other")
    gc(lab, "chain", [("pod", "eth0")], None)
    lab.require_clean(ports=5)

    gc(lab, "blue", [("c1", "eth0")])
    lab.require_clean(ports=4)
    assert "c2" not in lab.attachments()
    gc(lab, "blue", [])
    lab.require_clean(ports=3)
    assert lab.interface("web-eth0") is not None, "a VM keeps what it owns"
    assert lab.holder("web-eth0") is None
    gc(lab, "chain", [], None)
    lab.require_clean(ports=2)
    assert lab.interface("pod-net1", "shop") is None


def test_gc_without_its_list_is_refused_and_frees_nothing(lab: Lab) -> None:
    lab.added("c1", lab.guest())
    assert lab.call("GC", "").error == 7
    lab.require_clean(ports=1)


def test_check_tells_all_that_is_different(lab: Lab) -> None:
    guest = lab.guest()
    address, _ = lab.added("c1", guest, vm="web")
    assert lab.call("CHECK", "c1", guest, vm="web").exit_code == 0
    guest.ip(f"address delete {address} dev eth0", "link set eth0 address 02:00:00:00:00:99")
    answer = lab.call("CHECK", "c1", guest, vm="web")
    assert answer.exit_code == 1
    text = answer.result["msg"] + answer.result.get("details", "")
    assert address in text
    assert "02:00:00:00:00:99" in text
    assert lab.delete("c1").exit_code == 0
    assert lab.call("CHECK", "c1", guest, vm="web").exit_code == 1
