"""Policies where the kernel cannot enforce them: whom they isolate is refused or silent, and nobody else notices.

Where it can, all of these attach: what is enforced then is tried in `tests/kernel/test_policy.py`."""

from typing import Any

from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.wire import NETWORK_POLICY
from homeport_dataplane.features import probe
from homeport_store import keys
from homeport_store.protocol import Delete

from .lab import Lab, wait_until

TRACKED = probe().bridge_conntrack


def policy(name: str, *vms: str, **spec: Any) -> NetworkPolicy:
    """Isolates the ingress of these VMs."""
    selector = {"matchExpressions": [{"key": "kubevirt/vm", "operator": "In", "values": list(vms)}]}
    manifest = {"metadata": {"name": name}, "spec": {"podSelector": selector, **spec}}
    return NETWORK_POLICY.parse(manifest)[0]


def test_who_is_isolated_is_refused_and_others_attach(lab: Lab) -> None:
    lab.objects.policies.save(policy("db", "db"))
    lab.added("c1", lab.guest("web"), vm="web")
    answer = lab.add("c2", lab.guest("db"), vm="db")
    if TRACKED:
        assert answer.error == 0
        return
    assert answer.error == 111, answer
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in answer.result["msg"]
    assert lab.attachments() == {"c1"}
    assert lab.interface("db-eth0") is None, "a refused call leaves nobody a place"
    lab.require_clean(ports=1)


def test_who_runs_when_a_policy_comes_is_silent_until_it_goes(lab: Lab) -> None:
    db, web = lab.guest("db"), lab.guest("web")
    lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    web.wait_ping(address)
    saved = lab.objects.policies.save(policy("db", "db"))
    if TRACKED:
        wait_until(lambda: not web.pings(address, wait=1), "it is isolated")
        return
    wait_until(lambda: lab.metric("homeport_policy_unenforced_ports") == 1, "the port is known to be unenforced")
    wait_until(lambda: len(lab.elements()["speaking"]) == 1, "it is muted")
    assert not web.pings(address, wait=1)
    lab.objects.policies.delete(saved)
    wait_until(lambda: len(lab.elements()["speaking"]) == 2, "it speaks again")
    web.wait_ping(address)


def test_the_network_says_what_the_kernel_lacks(lab: Lab) -> None:
    def said() -> set[str]:
        reports = [report for report in lab.objects.reports() if report.network == "lab"]
        return {condition.type for report in reports for condition in report.conditions}

    wait_until(lambda: ("StatefulPolicyUnavailable" in said()) != TRACKED, "the report says it")


def test_a_policy_that_cannot_be_read_isolates_its_namespace_until_it_goes(lab: Lab) -> None:
    """It may isolate anybody there: nobody is let through for want of understanding."""
    path = keys.policy(policy("new", "db").key)
    lab.store.put_if(path, b'{"schema": 999}', 0)
    wait_until(lambda: lab.metric("homeport_policy_failures_total") > 0, "it was seen")
    answer = lab.add("c1", lab.guest("db"), vm="db")
    assert (answer.error == 0) == TRACKED, answer
    lab.store.txn((), (Delete(path),))
    guest = lab.guest("again")
    wait_until(lambda: lab.add("c2", guest, vm="other").error == 0, "it is gone")
