"""Policies where the kernel cannot enforce them: whom they isolate is refused or silent, and nobody else notices.

Where it can, all of these attach: what is enforced then is tried in `tests/kernel/test_policy.py`."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from homeport_agent.reports import PACE
from homeport_agent.troubles import NAMED
from homeport_api import wire
from homeport_api.networkpolicy import NetworkPolicy
from homeport_api.node import PolicyReport, TroubleReason
from homeport_api.wire import NETWORK_POLICY
from homeport_dataplane.features import probe
from homeport_netns_fixtures.netns import Namespace
from homeport_store import keys
from homeport_store.protocol import Delete

from .lab import WITHIN, Lab, wait_until

TRACKED = probe().bridge_conntrack


def policy(name: str, *vms: str, namespace: str = "default", **spec: Any) -> NetworkPolicy:
    """Isolates the ingress of these VMs."""
    selector = {"matchExpressions": [{"key": "kubevirt/vm", "operator": "In", "values": list(vms)}]}
    manifest = {"metadata": {"name": name, "namespace": namespace}, "spec": {"podSelector": selector, **spec}}
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


@contextmanager
def knocking(guest: Namespace, address: str) -> Iterator[list[str]]:
    """Echo requests all the while, a hundred a second; afterwards, the lines of those that were answered."""
    argv = guest.command("ping", "-n", "-i", "0.01", address)
    answered: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield answered
        finally:
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=30)
            answered += [line for line in output.splitlines() if "bytes from" in line]


def muted_pair(lab: Lab) -> tuple[Namespace, Namespace, str, NetworkPolicy]:
    """web, who reached db until db's port fell silent; db's address, and the policy that isolates it."""
    db, web = lab.guest("db"), lab.guest("web")
    lab.added("c1", web, vm="web")
    address = lab.added("c2", db, vm="db")[0].split("/")[0]
    with knocking(web, address) as answered:
        web.wait_ping(address)
        time.sleep(1.0)
    assert answered
    saved = lab.objects.policies.save(policy("db", "db"))
    wait_until(lambda: len(lab.elements()["speaking"]) == 1, "it is muted")
    return web, db, address, saved


def test_who_is_muted_stays_so_over_restarts(lab: Lab) -> None:
    """A new agent does not know yet that it must be: nothing opens before that is known."""
    if TRACKED:
        return  # nobody is muted
    web, _, address, saved = muted_pair(lab)
    with knocking(web, address) as answered:
        for _ in range(3):
            lab.restart()
            wait_until(lambda: lab.metric("homeport_policy_unenforced_ports") == 1, "the new agent knows")
    assert len(answered) == 0
    lab.objects.policies.delete(saved)
    wait_until(lambda: len(lab.elements()["speaking"]) == 2, "it speaks again")
    web.wait_ping(address)


def test_a_repeated_add_of_who_is_muted_changes_nothing(lab: Lab) -> None:
    if TRACKED:
        return  # nobody is muted
    web, db, address, saved = muted_pair(lab)
    indexes = lab.port_indexes()
    with knocking(web, address) as answered:
        for _ in range(3):
            assert lab.add("c2", db, vm="db").error == 111
            assert lab.metric("homeport_policy_unenforced_ports") == 1, "it is known all the while"
    assert len(answered) == 0
    assert lab.port_indexes() == indexes
    lab.objects.policies.delete(saved)
    wait_until(lambda: len(lab.elements()["speaking"]) == 2, "it speaks again")
    web.wait_ping(address)
    lab.added("c2", db, vm="db")


def test_the_network_says_what_the_kernel_lacks(lab: Lab) -> None:
    def said() -> set[str]:
        reports = [report for report in lab.objects.reports() if report.network == "lab"]
        return {condition.type for report in reports for condition in report.conditions}

    wait_until(lambda: ("StatefulPolicyUnavailable" in said()) != TRACKED, "the report says it")


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b'{"schema": 999}', id="of a version to come"),
        pytest.param(b'{"schema":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="a hundred thousand deep"),
        pytest.param(wire.POLICY.dumps(policy("elsewhere", "db", namespace="shop")), id="another than its path says"),
    ],
)
def test_a_policy_that_cannot_be_read_isolates_its_namespace_until_it_goes(lab: Lab, value: bytes) -> None:
    """It may isolate anybody there: nobody is let through for want of understanding. Elsewhere it does nothing."""
    wait_until(lambda: lab.objects.policy_reports() and not told(lab).troubles, "all is well")
    path = keys.policy(policy("new", "db").key)
    lab.store.put_if(path, value, 0)
    wait_until(lambda: [each.name for each in told(lab).troubles] == ["new"], "it was seen")
    answer = lab.add("c1", lab.guest("db"), vm="db")
    assert (answer.error == 0) == TRACKED, answer
    lab.added("c3", lab.guest("shop"), vm="db", cni_args={"VM_NAMESPACE": "shop"})
    lab.store.txn((), (Delete(path),))
    guest = lab.guest("again")
    wait_until(lambda: lab.add("c2", guest, vm="other").error == 0, "it is gone")


def test_a_guest_whose_labels_cannot_be_read_is_isolated_by_any_policy_there(lab: Lab) -> None:
    """It may be the one that is meant; a restart makes no difference."""
    manifest = {"metadata": {"name": "db"}, "spec": {"podSelector": {"matchLabels": {"role": "db"}}}}
    lab.objects.policies.save(NETWORK_POLICY.parse(manifest)[0])
    path = keys.workload("default", "db")
    lab.store.put_if(path, b'{"schema": 99}', 0)
    wait_until(lambda: lab.metric("homeport_policy_failures_total") > 0, "it was seen")
    assert (lab.add("c1", lab.guest("db"), vm="db").error == 0) == TRACKED
    lab.added("c2", lab.guest("web"), vm="web")
    lab.store.txn((), (Delete(path),))
    guest = lab.guest("again")
    wait_until(lambda: lab.add("c3", guest, vm="db").error == 0, "it is gone")


def told(lab: Lab) -> PolicyReport:
    (report,) = lab.objects.policy_reports()
    assert report.node == lab.node.name
    return report


def steps(lab: Lab, about: str, vm: str | None = None) -> list[tuple[str, str, str]]:
    """State, detail and remedy of those steps of the doctor that are about this."""
    asked = {} if vm is None else {"vm": vm}
    found = lab.ask("doctor", namespace="default", **asked)["steps"]
    return [(each["state"], each["detail"], each["remedy"]) for each in found if each["name"].startswith(about)]


def test_the_node_says_what_it_does_not_enforce_and_nothing_while_it_does(lab: Lab) -> None:
    good, broken = policy("good", "db"), policy("new", "db")
    wait_until(lambda: lab.objects.policy_reports() and not told(lab).troubles, "it has reported")
    assert (told(lab).reason is None) == TRACKED
    first = lab.store.get(keys.policy_report(lab.node.name))
    lab.objects.policies.save(good)
    lab.store.put_if(keys.policy(broken.key), b'{"schema": 999}', 0)
    wait_until(lambda: told(lab).troubles, "it names the one that it cannot read")
    (trouble,) = told(lab).troubles
    assert (trouble.name, trouble.reason) == ("new", TroubleReason.UNREADABLE)
    assert "schema version 999" in trouble.message
    assert "isolated until it can be read" in trouble.message
    ((state, detail, remedy),) = steps(lab, "policy NetworkPolicy default/new")
    assert (state, "schema version 999" in detail, "upgrade this agent" in remedy) == ("broken", True, True)
    assert not steps(lab, "policy NetworkPolicy default/good"), "it isolates nobody who is attached"
    lab.store.txn((), (Delete(keys.policy(broken.key)),))
    wait_until(lambda: not told(lab).troubles, "it is gone")
    second = lab.store.get(keys.policy_report(lab.node.name))
    assert first is not None
    assert second is not None
    assert second.value == first.value


def test_a_hundred_that_go_wrong_are_few_writes(lab: Lab) -> None:
    """Each node writes one record, and not for each of them: as many nodes would write as many times."""
    wait_until(lambda: lab.objects.policy_reports() and not told(lab).troubles, "all is well")
    began, writes = time.monotonic(), 0
    with closing(lab.store.watch(keys.POLICY_REPORTS, lab.store.list(keys.POLICY_REPORTS).revision)) as watch:
        for number in range(NAMED + 10):
            lab.store.put_if(keys.policy(policy(f"bad{number}", "db").key), b'{"schema": 999}', 0)
        for batch in watch:
            writes += len(batch)
            if len(told(lab).troubles) == NAMED:
                break
            assert time.monotonic() < began + WITHIN, "they are told"
    took = time.monotonic() - began
    print(f"{writes} writes in {took:.1f} s")
    assert 0 < writes <= 1 + took / PACE


def test_a_kind_of_policy_that_is_not_known_is_forgotten_when_it_goes(lab: Lab) -> None:
    path = keys.POLICIES + "default/BetterPolicy/db"
    lab.store.put_if(path, b'{"schema": 1}', 0)
    wait_until(lambda: [each.kind for each in told(lab).troubles] == ["BetterPolicy"], "it is named")
    assert (lab.add("c1", lab.guest("db"), vm="db").error == 0) == TRACKED, "its namespace is isolated"
    lab.store.txn((), (Delete(path),))
    wait_until(lambda: not told(lab).troubles, "it is gone")
    lab.added("c2", lab.guest("again"), vm="other")


def test_the_doctor_says_why_a_guest_is_muted(lab: Lab) -> None:
    lab.added("c1", lab.guest("db"), vm="db")
    ((state, _, _),) = steps(lab, "port of default/db-eth0", "db")
    assert state in {"ok", "warning"}
    assert [each[0] for each in steps(lab, "policies")] == ["ok"]
    lab.objects.policies.save(policy("shut", "db"))
    if TRACKED:
        wait_until(lambda: "1, of which none" in steps(lab, "policies")[0][1], "it is known, and enforced")
        return
    wait_until(lambda: lab.metric("homeport_policy_unenforced_ports") == 1, "the port is known to be unenforced")
    ((state, detail, remedy),) = steps(lab, "port of default/db-eth0", "db")
    assert state == "broken"
    assert "is muted: NetworkPolicy default/shut isolates it" in detail
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in detail
    assert "take the policy away" in remedy
    assert "guard rules" not in detail
    ((state, detail, remedy),) = steps(lab, "policy NetworkPolicy default/shut")
    assert state == "broken"
    assert "Enforced: StatefulPolicyUnavailable" in detail
    assert "muted: default/db-eth0" in detail
    assert "CONFIG_NF_CONNTRACK_BRIDGE" in remedy


def test_the_doctor_names_policies_without_effect(lab: Lab) -> None:
    manifest = {"metadata": {"name": "lost", "annotations": {"homeport.dev/network": "nowhere"}}, "spec": {}}
    lab.objects.policies.save(NETWORK_POLICY.parse(manifest)[0])
    wait_until(lambda: steps(lab, "policy NetworkPolicy default/lost"), "it is named")
    found = steps(lab, "policy NetworkPolicy default/lost")
    assert {state for state, _, _ in found} == {"warning"}
    assert "there is no Network nowhere" in found[0][1]
