"""Typed objects over a store: by revision, and never a lost write."""

import pytest

from homeport_api import wire
from homeport_api.attachment import Attachment, AttachmentKey, Source
from homeport_api.errors import AlreadyExists, BadInput, Conflict, NotFound
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_api.network import Network, NetworkSpec
from homeport_api.networkpolicy import Namespace, NetworkPolicy, PolicyKey, PolicyKind
from homeport_api.node import NodeRecord, NodeReport
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.objects import Objects


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


def interface(name: str, namespace: str = "shop", network: str = "blue") -> Interface:
    return Interface(ObjectMeta(name, namespace), InterfaceSpec(network))


def test_an_object_is_created_once_and_then_replaced_by_who_read_it_last(objects: Objects) -> None:
    created = objects.networks.save(Network(ObjectMeta("blue")))
    assert created.meta.revision > 0
    assert objects.networks.get("blue") == created
    with pytest.raises(AlreadyExists, match="Network blue exists already"):
        objects.networks.save(Network(ObjectMeta("blue")))
    replaced = objects.networks.save(Network(created.meta, NetworkSpec(mtu=1500)))
    with pytest.raises(Conflict, match="was changed by somebody else"):
        objects.networks.save(Network(created.meta, NetworkSpec(mtu=9000)))
    assert objects.networks.get("blue") == replaced


def test_exactly_what_was_read_is_deleted(objects: Objects) -> None:
    first = objects.interfaces.save(interface("web-eth0"))
    second = objects.interfaces.save(first)
    with pytest.raises(Conflict):
        objects.interfaces.delete(first)
    objects.interfaces.delete(second)
    assert objects.interfaces.find(second.key) is None
    with pytest.raises(NotFound, match="Interface shop/web-eth0 does not exist"):
        objects.interfaces.get(second.key)


def test_namespaces_and_networks_are_kept_apart(objects: Objects) -> None:
    web = objects.interfaces.save(interface("web-eth0"))
    other = objects.interfaces.save(interface("web-eth0", "shop2", "green"))
    assert objects.interfaces_in("shop") == (web,)
    assert objects.interfaces_in(None) == (web, other)
    assert objects.interfaces_on("green") == (other,)


def test_an_identity_is_found_through_the_index(objects: Objects) -> None:
    assert objects.interface_of("shop", "web", "eth0") is None
    web = objects.interfaces.save(interface("web-eth0"))
    objects.store.put_if(keys.index("shop", "web", "eth0"), wire.INDEX.dumps(web.key), 0)
    assert objects.interface_of("shop", "web", "eth0") == web


def test_policies_of_both_kinds_are_kept_by_namespace_kind_and_name(objects: Objects) -> None:
    web = ObjectMeta("web", "shop")
    saved = [objects.policies.save(NetworkPolicy(kind, web)) for kind in PolicyKind]
    elsewhere = objects.policies.save(NetworkPolicy(PolicyKind.NETWORK_POLICY, ObjectMeta("web", "shop2")))
    assert objects.policies_in("shop") == tuple(sorted(saved, key=lambda policy: policy.key))
    assert objects.policies_in(None)[-1] == elsewhere
    assert objects.store.get("/homeport/v1/policies/shop/MultiNetworkPolicy/web") is not None
    with pytest.raises(NotFound, match="policy NetworkPolicy shop/db does not exist"):
        objects.policies.get(PolicyKey("shop", PolicyKind.NETWORK_POLICY, "db"))


def test_a_namespace_is_kept_by_its_name(objects: Objects) -> None:
    shop = objects.namespaces.save(Namespace(ObjectMeta("shop", labels={"team": "a"})))
    assert objects.store.get("/homeport/v1/namespaces/shop") is not None
    assert objects.namespaces.get("shop") == shop


def test_parts_of_a_transaction_hold_what_was_read(objects: Objects) -> None:
    new = interface("web-eth0")
    assert objects.store.txn((objects.interfaces.unchanged(new),), (objects.interfaces.put(new),)).applied
    assert not objects.store.txn((objects.interfaces.unchanged(new),), (objects.interfaces.put(new),)).applied
    read = objects.interfaces.get(InterfaceKey("shop", "web-eth0"))
    assert objects.store.txn((objects.interfaces.unchanged(read),), (objects.interfaces.remove(read),)).applied


def test_attachments_nodes_and_reports_are_listed(objects: Objects) -> None:
    attachment = objects.attachments.save(
        Attachment(AttachmentKey("n1", "homeport", "lab", "c/1", "eth0"), Source.CNI, "boot", ())
    )
    objects.store.put_if(keys.node("n1"), wire.NODE.dumps(NodeRecord("n1", "machine", "boot")), 0)
    objects.store.put_if(keys.report("n1", "blue"), wire.REPORT.dumps(NodeReport("n1", "blue", True)), 0)
    assert objects.attachments_on("n1") == (attachment,)
    assert objects.attachments_on("n") == ()
    assert [node.boot_id for node in objects.nodes()] == ["boot"]
    assert [report.network for report in objects.reports()] == ["blue"]


def test_a_record_that_cannot_be_read_is_named(objects: Objects) -> None:
    objects.store.put_if(keys.network("blue"), b"{}", 0)
    with pytest.raises(BadInput, match=r"/homeport/v1/networks/blue: a stored Network has no schema version"):
        objects.networks.list()
