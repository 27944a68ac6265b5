"""`policy trace` on a node whose kernel tracks no bridged connections: the oracle answers, and the agent says so."""

from typing import Any

import pytest

from homeport_api.node import STATEFUL_POLICY_UNAVAILABLE
from homeport_api.wire import NETWORK_POLICY
from tests.asking import Refused

from .lab import Lab, wait_until


def save_policy(lab: Lab, name: str, **spec: Any) -> None:
    manifest = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec}
    policy, _ = NETWORK_POLICY.parse(manifest, "default")
    lab.objects.policies.save(policy)


def trace(lab: Lab, source: str, target: str, **more: str) -> Any:
    return lab.ask("trace", **{"from": source, "to": target, **more})


@pytest.fixture
def guests(lab: Lab) -> dict[str, str]:
    return {name: lab.attach(name, lab.guest(name)).partition("/")[0] for name in ("web", "db")}


def test_what_a_policy_denies(lab: Lab, guests: dict[str, str]) -> None:
    wait_until(lambda: trace(lab, "web", "db")["verdict"] == "allowed", "both are known")
    save_policy(lab, "db", podSelector={"matchLabels": {"kubevirt/vm": "db"}}, ingress=[{"ports": [{"port": 5432}]}])
    wait_until(lambda: trace(lab, "web", "db")["verdict"] == "denied", "the policy is known")
    answer = trace(lab, "web", "db", port="5432/tcp")
    (family,) = answer["oracle"]["families"]
    assert (answer["oracle"]["allowed"], answer["policy"], answer["rule"]) == (True, "NetworkPolicy default/db", 0)
    assert (family["source"], family["target"]) == (guests["web"], guests["db"])
    denied = trace(lab, "web", guests["db"], port="5433/tcp")
    assert (denied["verdict"], denied["policy"], denied["rule"]) == ("denied", "NetworkPolicy default/db", None)
    assert denied["packet"]["to"] == "default/db:eth0"


def test_a_kernel_that_cannot_says_so(lab: Lab, guests: dict[str, str]) -> None:
    save_policy(lab, "db", podSelector={"matchLabels": {"kubevirt/vm": "db"}}, ingress=[{}])
    wait_until(lambda: trace(lab, "web", "db")["kernel"]["muted"], "the isolated guest is muted")
    answer = trace(lab, "web", "db")
    kernel = answer["kernel"]
    assert answer["verdict"] == "denied", "by whatever the policy allows: it is mute"
    assert (kernel["asked"], kernel["allowed"], list(kernel["muted"])) == (False, None, ["default/db:eth0"])
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in kernel["reason"]
    wait_until(lambda: any(report.conditions for report in lab.objects.reports()), "the Network has a condition")
    (condition,) = next(report.conditions for report in lab.objects.reports() if report.network == "lab")
    assert condition.type == STATEFUL_POLICY_UNAVAILABLE


def test_what_does_not_exist(lab: Lab, guests: dict[str, str]) -> None:
    wait_until(lambda: trace(lab, "web", "db"), "both are known")
    with pytest.raises(
        Refused, match="no VM or pod default/bd has an Interface; there are default/db, default/web"
    ) as e:
        trace(lab, "web", "bd")
    assert e.value.code == 107
    with pytest.raises(Refused, match="is not a port") as e:
        trace(lab, "web", "db", port="x/icmp")
    assert e.value.code == 7
