"""`delete`: what is used stays, and a VM's Interfaces outlive it."""

from collections.abc import Sequence

import pytest

from homeport_api.attachment import AttachmentKey, AttachRequest, Identity, NicRequest, Source
from homeport_api.interface import Interface, InterfaceKey, InterfaceSpec
from homeport_api.meta import ObjectMeta
from homeport_api.wire import INTERFACE
from homeport_store import keys
from homeport_store.memory import MemoryStore
from homeport_store.protocol import Delete, PrefixEmpty, Put, TxnResult, Unchanged

from .harness import NETWORK, WEB, Cli

WEB_ETH0 = InterfaceKey("default", "web-eth0")


@pytest.fixture
def lab(cli: Cli) -> Cli:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{WEB}")
    return cli


def attach(cli: Cli) -> None:
    """The store's part of an attach, as an agent does it."""
    key = AttachmentKey("n1", "homeport", "lab", "c1", "eth0")
    nic = NicRequest(Identity("default", "web", "eth0"), "eth0", network="lab")
    cli.session().allocator.attach(AttachRequest(key, Source.CLI, "boot", (nic,)))


def test_a_network_in_use_stays(lab: Cli) -> None:
    result = lab("delete", "net", "lab")
    assert (result.exit_code, result.stderr) == (
        5,
        "Error: Network lab is in use by Interface default/web-eth0: delete those first\n",
    )
    lab("delete", "interface", "web-eth0")
    assert lab("delete", "net", "lab").stdout == "network/lab deleted\n"
    assert lab("delete", "net", "lab").exit_code == 3


class Raced(MemoryStore):
    """A store in which somebody else writes one key just before the first transaction."""

    late: tuple[str, bytes] | None = None

    def txn(self, preconditions: Sequence[Unchanged | PrefixEmpty], writes: Sequence[Put | Delete]) -> TxnResult:
        if self.late is not None:
            (key, value), self.late = self.late, None
            super().put_if(key, value, 0)
        return super().txn(preconditions, writes)


def test_a_network_that_is_joined_in_this_very_moment_stays(cli: Cli) -> None:
    """One without pools: no address key stands in the deletion's way."""
    raced = cli.store = Raced()
    cli("apply", "-f", "-", stdin="{apiVersion: homeport.dev/v1, kind: Network, metadata: {name: lab}, spec: {}}")
    uid = cli.objects.networks.get("lab").meta.uid
    joined = Interface(ObjectMeta("web-eth0", "default", "u1"), InterfaceSpec("lab"))
    raced.late = (keys.interface(WEB_ETH0), INTERFACE.stored.dumps(joined))
    result = cli("delete", "net", "lab")
    assert result.exit_code == 5
    assert "in use by Interface default/web-eth0" in result.stderr
    assert cli.objects.networks.get("lab").meta.uid == uid


def test_a_held_interface_stays(lab: Cli) -> None:
    attach(lab)
    result = lab("delete", "interface", "web-eth0")
    assert result.exit_code == 5
    assert "held by container c1 (eth0) on node n1" in result.stderr


def test_addresses_without_an_interface_keep_the_network(lab: Cli) -> None:
    attach(lab)
    interface = lab.objects.interfaces.get(WEB_ETH0)
    lab.objects.interfaces.delete(interface)
    result = lab("delete", "net", "lab")
    assert result.exit_code == 5
    assert "homeport ipam fsck" in result.stderr


def test_a_deleted_vm_leaves_its_addresses_for_a_while(lab: Cli) -> None:
    attach(lab)
    before = lab.objects.interfaces.get(WEB_ETH0)
    assert lab("delete", "virtualmachine", "web").exit_code == 0
    after = lab.objects.interfaces.get(WEB_ETH0)
    assert after.status.orphaned == lab.now
    assert (after.status.addresses, after.status.mac) == (before.status.addresses, before.status.mac)
    lab.now += 3_600
    assert "interface/default/web-eth0 configured" in lab("apply", "-f", "-", stdin=WEB).stdout
    again = lab.objects.interfaces.get(WEB_ETH0)
    assert (again.status.orphaned, again.status.addresses) == (None, before.status.addresses)


def test_of_several_names_those_that_can_go_do(lab: Cli) -> None:
    result = lab("delete", "interface", "nope", "web-eth0", "neither")
    assert result.exit_code == 3
    assert result.stdout == "interface/web-eth0 deleted\n"
    assert len(result.stderr.splitlines()) == 2
