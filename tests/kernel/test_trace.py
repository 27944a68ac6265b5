"""`policy trace` where policies are in the kernel: both answers, the counters, and what somebody changed."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from homeport_api.wire import NETWORK_POLICY
from homeport_store.objects import Objects

from .lan import Lan, ping, wait_until

SPEC = {
    "podSelector": {"matchLabels": {"kubevirt/vm": "blue2"}},
    "ingress": [
        {"ports": [{"port": 1}]},
        {"from": [{"podSelector": {"matchLabels": {"kubevirt/vm": "blue1"}}}]},
    ],
}


def trace(lan: Lan, *arguments: str, on: str = "a") -> tuple[int, Any]:
    node = lan.world.node(on)
    command = node.namespace.command(
        "homeport", "policy", "trace", "--run-dir", str(node.run_dir), "-o", "json", *arguments
    )
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


@pytest.fixture
def policy(lan: Lan) -> Iterator[None]:
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "b2"}, "spec": SPEC}
    wanted, _ = NETWORK_POLICY.parse(manifest, "default")
    objects = Objects(lan.store)
    saved = objects.policies.save(wanted)
    wait_until(lambda: trace(lan, "--from", "blue3", "--to", "blue2")[0] == 10, "the policy is in force")
    yield
    objects.policies.delete(saved)
    wait_until(lambda: trace(lan, "--from", "blue3", "--to", "blue2")[0] == 0, "nothing is denied any more")


def test_oracle_and_kernel_agree_and_count(lan: Lan, policy: None) -> None:
    assert not ping(lan["blue3"], lan["blue2"].address, wait=1)
    code, denied = trace(lan, "--from", "blue3", "--to", "blue2")
    assert (code, denied["verdict"], denied["policy"]) == (10, "denied", "NetworkPolicy default/b2")
    for family in denied["kernel"]["families"]:
        assert (family["hindered"], family["egress"], family["ingress"]["allowed"]) == ([], None, False)
    assert denied["kernel"]["families"][0]["ingress"]["packets"] > 0
    assert denied["kernel"]["notAsked"][0]["end"] == "default/blue3:eth0"
    assert ping(lan["blue1"], lan["blue2"].address)
    code, allowed = trace(lan, "--from", "blue1", "--to", "blue2")
    assert (code, allowed["policy"], allowed["rule"]) == (0, "NetworkPolicy default/b2", 1)
    assert allowed["kernel"]["families"][0]["ingress"]["packets"] > 0
    assert allowed["kernel"]["families"][0]["egress"]["chain"] is None
    assert trace(lan, "--from", "192.0.2.77", "--to", "blue2", "--network", "blue")[0] == 10
    code, elsewhere = trace(lan, "--from", "blue3", "--to", "blue2", on="b")
    assert (code, elsewhere["kernel"]["families"][0]["ingress"]) == (10, None)


def test_a_trunk_is_judged_in_its_vlan(lan: Lan) -> None:
    code, answer = trace(lan, "--from", "trunk1", "--to", "trunk2")
    assert (code, answer["kernel"]["families"][0]["hindered"], answer["packet"]["domain"]) == (0, [], "bond0:10")
    assert answer["kernel"]["families"][0]["zone"] is not None


def test_what_somebody_took_away_is_never_called_allowed(lan: Lan, policy: None) -> None:
    """A disagreement until the agent has put it back, which may be sooner than anybody asks."""
    lan.a.switch.run("nft", "flush", "map", "bridge", "homeport", "ingress")
    code, answer = trace(lan, "--from", "blue3", "--to", "blue2")
    assert (code, answer["verdict"]) in ((11, "disagree"), (10, "denied"))
