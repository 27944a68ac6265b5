"""Addresses and MACs as an ADD is given or refused them, each with its code, and what a refusal leaves: nothing."""

import json
from typing import Any

import pytest

from .lab import Lab

ONE = {"cidr": "10.78.0.0/24", "ranges": [{"start": "10.78.0.7", "end": "10.78.0.7"}]}


def test_a_pool_of_one_is_given_refused_and_given_again(lab: Lab) -> None:
    lab.apply("one", None, ipam={"pools": [ONE]})
    first, second = lab.guest("first"), lab.guest("second")
    assert lab.call("STATUS", "", network="one").exit_code == 0
    assert lab.added("c1", first, network="one")[0] == "10.78.0.7/24"
    assert lab.add("c2", second, network="one").error == 101
    assert lab.call("STATUS", "", network="one").error == 50
    assert lab.call("STATUS", "", network=None).exit_code == 0, "a chained configuration serves pods that need nothing"
    lab.require_clean(ports=1)
    assert lab.delete("c1", network="one").exit_code == 0
    assert lab.call("STATUS", "", network="one").exit_code == 0, "an address at rest is given where there is no other"
    assert lab.added("c2", second, network="one")[0] == "10.78.0.7/24"


def test_a_call_of_many_nics_keeps_none_when_one_cannot_be_had(lab: Lab) -> None:
    lab.apply("one", None, ipam={"pools": [ONE]})
    lab.added("c0", lab.guest(), network="one")
    before = {record.key for record in lab.store.list("/homeport/v1/").records}
    entries = [{"interfaceName": f"net{at}", "network": network} for at, network in enumerate(("lab", "one", "lab"))]
    guest = lab.guest("pod")
    answer = lab.add("c1", guest, **chained(entries), cni_args={"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "pod"})
    assert answer.error == 101, answer
    assert {record.key for record in lab.store.list("/homeport/v1/").records} == before
    assert guest.links() == {"lo"}
    lab.require_clean(ports=1)


def chained(entries: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = {"homeport.dev/interfaces": json.dumps(entries)}
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": []}
    return {
        "network": None,
        "prevResult": previous,
        "runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations},
    }


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        pytest.param({"IP": "10.99.0.5"}, 104, id="outside the pool"),
        pytest.param({"IP": "10.77.0.1"}, 104, id="the gateway"),
        pytest.param({"IP": "10.77.0.9"}, 104, id="excluded"),
        pytest.param({"IP": "10.77.0.255"}, 104, id="the broadcast address"),
        pytest.param({"IP": "10.77.0.50"}, 103, id="owned by another"),
        pytest.param({"MAC": "02:00:00:00:00:50"}, 108, id="a MAC in use"),
        pytest.param({"IP": "10.77.0.60,10.77.0.61"}, 7, id="two of one family"),
    ],
)
def test_what_is_asked_for_and_cannot_be_had(lab: Lab, asked: dict[str, str], code: int) -> None:
    lab.apply(
        "lab", gateway4="10.77.0.1", ipam={"pools": [{"cidr": "10.77.0.0/24", "exclude": ["10.77.0.9"]}]}, pool=None
    )
    first = lab.add("c1", lab.guest("first"), cni_args={"IP": "10.77.0.50", "MAC": "02:00:00:00:00:50"})
    assert first.addresses == ["10.77.0.50/24"]
    answer = lab.add("c2", lab.guest("second"), cni_args=asked)
    assert answer.error == code, answer
    lab.require_clean(ports=1)


def test_what_a_vm_owns_is_kept_while_others_own_what_it_prefers(lab: Lab) -> None:
    """The preferred address of a VM is held by another: it keeps the one it was given then, through everything."""
    free = lab.added("probe", lab.guest("probe"), vm="web")
    preferred = free[0].split("/")[0]
    assert lab.delete("probe").exit_code == 0
    lab.delete_interface("web-eth0")
    assert lab.attach("squatter", lab.guest("squatter"), ips=[preferred]) == free[0]
    mine = lab.added("c1", lab.guest("one"), vm="web")
    assert mine[0] != free[0]
    assert lab.delete("c1").exit_code == 0
    two = lab.guest("two")
    assert lab.added("c2", two, vm="web") == mine, "another container"
    lab.restart()
    assert lab.call("CHECK", "c2", two, vm="web").exit_code == 0
    assert lab.added("c2", two, vm="web") == mine, "another agent"
    assert lab.delete("c2").exit_code == 0
    lab.kill_etcd()
    assert lab.added_soon("c3", lab.guest("three"), vm="web") == mine, "another etcd"
