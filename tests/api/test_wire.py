"""The written forms: what is written is read back the same, whatever is read is an object or a refusal."""

import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport_api import wire
from homeport_api.attachment import Attachment
from homeport_api.errors import BadInput, Invalid
from homeport_api.interface import Interface, InterfaceKey
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network
from homeport_api.networkpolicy import Namespace, NetworkPolicy
from homeport_api.node import NodeRecord, NodeReport, PolicyReport, PolicyTrouble, TroubleReason
from homeport_api.owner import Owner, OwnerKind
from homeport_api.virtualmachine import VirtualMachine
from homeport_api.workload import Workload

from . import strategies

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(strategies.networks())
def test_a_stored_network_is_read_back_the_same(network: Network) -> None:
    assert wire.NETWORK.stored.loads(wire.NETWORK.stored.dumps(network)) == network


@settings(max_examples=40)
@given(strategies.interfaces)
def test_a_stored_interface_is_read_back_the_same(interface: Interface) -> None:
    assert wire.INTERFACE.stored.loads(wire.INTERFACE.stored.dumps(interface)) == interface


@settings(max_examples=40)
@given(strategies.attachments)
def test_a_stored_attachment_is_read_back_the_same(attachment: Attachment) -> None:
    assert wire.ATTACHMENT.loads(wire.ATTACHMENT.dumps(attachment)) == attachment


@settings(max_examples=40)
@given(strategies.networks())
def test_a_shown_network_is_a_manifest_of_the_same_spec(network: Network) -> None:
    shown = yaml.safe_load(yaml.safe_dump(wire.NETWORK.show(network)))
    again, warnings = wire.NETWORK.parse(shown)
    assert (again.spec, again.meta.labels, warnings) == (network.spec, network.meta.labels, ())


@settings(max_examples=40)
@given(strategies.interfaces)
def test_a_shown_interface_is_a_manifest_of_the_same_spec(interface: Interface) -> None:
    again, _ = wire.INTERFACE.parse(json.loads(json.dumps(wire.INTERFACE.show(interface))))
    assert (again.spec, again.key) == (interface.spec, interface.key)


@settings(max_examples=60)
@given(strategies.policies())
def test_a_policy_is_read_back_the_same_from_the_store_and_from_what_is_shown(policy: NetworkPolicy) -> None:
    assert wire.POLICY.loads(wire.POLICY.dumps(policy)) == policy
    kind = wire.POLICY_KINDS[policy.kind]
    again, warnings = kind.parse(yaml.safe_load(yaml.safe_dump(kind.show(policy))))
    assert (again.key, again.spec, again.networks) == (policy.key, policy.spec, policy.networks)
    assert (again.meta.annotations, warnings) == (policy.meta.annotations, ())


@settings(max_examples=20)
@given(strategies.namespaces)
def test_a_namespace_is_read_back_the_same_from_the_store_and_from_what_is_shown(namespace: Namespace) -> None:
    assert wire.NAMESPACE.stored.loads(wire.NAMESPACE.stored.dumps(namespace)) == namespace
    again, _ = wire.NAMESPACE.parse(json.loads(json.dumps(wire.NAMESPACE.show(namespace))))
    assert again.meta.labels == namespace.meta.labels


@settings(max_examples=20)
@given(strategies.workloads)
def test_a_stored_workload_is_read_back_the_same(workload: Workload) -> None:
    assert wire.WORKLOAD.loads(wire.WORKLOAD.dumps(workload)) == workload


@given(json_values, st.sampled_from(wire.KINDS))
def test_any_document_is_read_or_refused_with_reasons(body: Any, kind: wire.AnyKind) -> None:
    document = {"apiVersion": wire.GROUP, "kind": kind.name, "metadata": {"name": "x"}, "spec": body}
    try:
        kind.parse(document)
    except Invalid as invalid:
        assert invalid.fields


@given(st.binary(max_size=60))
def test_any_stored_bytes_are_read_or_refused(value: bytes) -> None:
    with pytest.raises(BadInput, match="a stored Network"):
        wire.NETWORK.stored.loads(value)


def test_the_revision_comes_from_the_store_and_not_from_the_bytes() -> None:
    network = Network(ObjectMeta("blue", revision=7))
    data = wire.NETWORK.stored.dumps(network)
    assert data == b'{"schema":1,"metadata":{"name":"blue"},"spec":{"type":"L2"}}'
    assert wire.NETWORK.stored.loads(data, 9).meta.revision == 9


def test_fields_of_a_newer_homeport_are_ignored_in_the_store() -> None:
    data = b'{"schema":1,"new":1,"metadata":{"name":"blue","x":{}},"spec":{"ipam":{"newer":true},"mtu":1500}}'
    assert wire.NETWORK.stored.loads(data).spec.mtu == 1500


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b"", "a stored Network is not JSON: Expecting value: line 1 column 1 (char 0)", id="empty"),
        pytest.param(
            b'{"schema":1,"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            "a stored Network is not JSON: it is nested too deeply",
            id="a hundred thousand deep",
        ),
        pytest.param(b"[]", "a stored Network has no schema version: it was not written by Homeport", id="a list"),
        pytest.param(
            b'{"schema":2}', "a stored Network has schema version 2; this Homeport reads 1: upgrade it", id="newer"
        ),
        pytest.param(
            b'{"schema":1}',
            "a stored Network cannot be read: metadata: is required; spec: is required",
            id="no metadata",
        ),
    ],
)
def test_what_is_no_record_of_ours_is_refused(value: bytes, text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        wire.NETWORK.stored.loads(value)
    assert str(refusal.value) == text


@pytest.mark.parametrize(
    ("form", "value", "data"),
    [
        pytest.param(
            wire.OWNER,
            Owner(InterfaceKey("shop", "web-eth0"), "u1", OwnerKind.STATIC),
            b'{"schema":1,"interface":{"namespace":"shop","name":"web-eth0"},"uid":"u1","kind":"static"}',
            id="owner",
        ),
        pytest.param(
            wire.INDEX,
            InterfaceKey("shop", "web-eth0"),
            b'{"schema":1,"namespace":"shop","name":"web-eth0"}',
            id="index",
        ),
        pytest.param(
            wire.NODE,
            NodeRecord("n1", "m", "b", 1748779200.5),
            b'{"schema":1,"name":"n1","machineID":"m","bootID":"b","started":"2025-06-01T12:00:00.5Z"}',
            id="node",
        ),
        pytest.param(
            wire.REPORT,
            NodeReport("n1", "blue", False, "uplink bond0 is missing"),
            b'{"schema":1,"node":"n1","network":"blue","ready":false,"reason":"uplink bond0 is missing"}',
            id="report",
        ),
        pytest.param(
            wire.POLICY_REPORT,
            PolicyReport(
                "n1", TroubleReason.REFUSED, "no memory", (PolicyTrouble("shop", "Foo", "x", TroubleReason.UNREADABLE),)
            ),
            b'{"schema":1,"node":"n1","reason":"Refused","message":"no memory",'
            b'"troubles":[{"namespace":"shop","kind":"Foo","name":"x","reason":"Unreadable"}]}',
            id="policy report",
        ),
        pytest.param(
            wire.POLICY_REPORT, PolicyReport("n1"), b'{"schema":1,"node":"n1"}', id="policy report without trouble"
        ),
    ],
)
def test_records_have_this_form(form: wire.Stored[Any], value: Any, data: bytes) -> None:
    assert form.dumps(value) == data
    assert form.loads(data) == value


def test_a_virtual_machine_keeps_what_is_not_read() -> None:
    document = {
        "apiVersion": "vm.cluster.gke.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "compute": {"cpu": {"vcpus": 2}},
            "interfaces": [{"name": "eth0", "networkName": "blue", "ipAddresses": ["10.0.0.5/24"], "model": "virtio"}],
        },
    }
    machine, warnings = wire.VIRTUAL_MACHINE.parse(document)
    assert warnings == ()
    assert [entry.network for entry in machine.interfaces] == ["blue"]
    stored: VirtualMachine = wire.VIRTUAL_MACHINE.stored.loads(wire.VIRTUAL_MACHINE.stored.dumps(machine))
    assert stored == machine
    assert wire.VIRTUAL_MACHINE.show(stored) == {**document, "apiVersion": "homeport.dev/v1"}
