"""`apply`, from text on standard input to objects in the store."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest
import yaml

from homeport_api import wire
from homeport_api.addresses import L2Domain
from homeport_api.interface import InterfaceKey
from homeport_api.network import Network
from homeport_store import keys
from homeport_store.memory import MemoryStore

from .harness import NETWORK, WEB, Cli


def test_objects_are_created_once_and_changed_where_they_differ(cli: Cli) -> None:
    assert cli("apply", "-f", "-", stdin=NETWORK).stdout == "network/lab created\n"
    assert cli("apply", "-f", "-", stdin=NETWORK).stdout == "network/lab unchanged\n"
    changed = NETWORK.replace("type: L2", "type: L2, mtu: 1400")
    assert cli("apply", "-f", "-", stdin=changed).stdout == "network/lab configured\n"
    assert cli.objects.networks.get("lab").spec.mtu == 1400


def test_nothing_is_applied_when_one_document_is_invalid(cli: Cli) -> None:
    bad = NETWORK.replace("lab", "bad").replace("type: L2", "type: L2, mut: 1400, mtu: 1")
    result = cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{bad}")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: standard input:4 Network bad spec.mtu: 1 is not between 68 and 65535\n"
        "Error: standard input:4 Network bad spec.mut: unknown field; did you mean spec.mtu?\n"
    )
    assert cli.objects.networks.list() == ()


@pytest.mark.parametrize(
    ("text", "code", "error"),
    [
        pytest.param(
            "apiVersion: homeport.dev/v1\nkind: [",
            2,
            "standard input:2:8: expected the node content, but found '<stream end>'",
            id="YAML syntax",
        ),
        pytest.param("{a: 1, a: 2}", 2, "standard input:1:8: 'a' is there twice", id="double key"),
        pytest.param("{? [a] : 1}", 2, "standard input:1:4: a key must be text", id="list as key"),
        pytest.param("\tx: 1", 2, "standard input:1:1: found character '\\t' that cannot start any token", id="tab"),
        pytest.param(
            "!!python/object:os.system {}", 2, "standard input:1:1: could not determine a constructor", id="tag"
        ),
        pytest.param("[" * 1000, 2, "standard input: is nested too deeply", id="deep"),
        pytest.param(
            NETWORK.replace("type: L2", "nodeInterfaceMatcher: {interfaceName: eth7}"),
            2,
            "Network lab spec.nodeInterfaceMatcher.interfaceName: never changes, and is absent, not eth7",
            id="immutable",
        ),
        pytest.param(
            WEB.replace("networkName: lab", "networkName: red"), 3, "Network red does not exist", id="no network"
        ),
        pytest.param(
            "{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: a}, "
            "spec: {networkName: lab, ipAddresses: [10.9.9.9]}}",
            1,
            "10.9.9.9",
            id="address outside the pool",
        ),
    ],
)
def test_refusals_tell_where_and_why(cli: Cli, text: str, code: int, error: str) -> None:
    cli("apply", "-f", "-", stdin=NETWORK)
    result = cli("apply", "-f", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (code, "")
    assert error in result.stderr
    assert all(line.startswith("Error: ") for line in result.stderr.splitlines())


def test_two_networks_in_one_place_are_a_conflict(cli: Cli) -> None:
    place = "type: L2, nodeInterfaceMatcher: {interfaceName: bond0}, l2NetworkConfig: {vlanID: 100}"
    cli("apply", "-f", "-", stdin=NETWORK.replace("type: L2", place))
    result = cli("apply", "-f", "-", stdin=NETWORK.replace("lab", "lab2").replace("type: L2", place))
    assert result.exit_code == 5
    assert "is the place of Network lab already" in result.stderr


class Raced(MemoryStore):
    """A store in which somebody else makes Network `rival` just before our first write."""

    rival: Network | None = None

    def put_if(self, key: str, value: bytes, revision: int, lease: int = 0) -> int | None:
        if self.rival is not None:
            rival, self.rival = self.rival, None
            super().put_if(keys.network(rival.name), wire.NETWORK.stored.dumps(rival), 0)
        return super().put_if(key, value, revision, lease)


def test_of_two_who_apply_to_one_place_at_once_the_later_gives_way(cli: Cli) -> None:
    place = NETWORK.replace("type: L2", "type: L2, nodeInterfaceMatcher: {interfaceName: bond0}")
    cli.store = store = Raced()
    store.rival, _ = wire.NETWORK.parse(yaml.safe_load(place.replace("lab", "rival")))
    result = cli("apply", "-f", "-", stdin=place)
    assert (result.exit_code, result.stdout) == (5, "")
    assert "Network lab has the uplink and VLAN of Network rival, made meanwhile" in result.stderr
    assert [network.name for network in cli.objects.networks.list()] == ["rival"]


def test_a_reservation_owns_its_address_at_once_and_nobody_else_can(cli: Cli) -> None:
    reservation = (
        "{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: NAME}, "
        "spec: {networkName: lab, ipAddresses: [10.77.0.9]}}"
    )
    cli("apply", "-f", "-", stdin=NETWORK)
    assert cli("apply", "-f", "-", stdin=reservation.replace("NAME", "one")).exit_code == 0
    assert cli.store.get(keys.address(L2Domain(":lab"), IPv4Address("10.77.0.9"))) is not None
    second = cli("apply", "-f", "-", stdin=reservation.replace("NAME", "two"))
    assert second.exit_code == 5
    assert "default/one" in second.stderr


def test_a_guests_address_does_not_become_the_gateway(cli: Cli) -> None:
    reservation = (
        "{apiVersion: homeport.dev/v1, kind: Interface, metadata: {name: web}, "
        "spec: {networkName: lab, ipAddresses: [10.77.0.9]}}"
    )
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{reservation}")
    result = cli("apply", "-f", "-", stdin=NETWORK.replace("type: L2", "type: L2, gateway4: 10.77.0.9"))
    assert result.exit_code == 5
    assert "gateway 10.77.0.9 is the address of Interface default/web" in result.stderr
    assert cli.objects.networks.get("lab").spec.gateway4 is None
    free = NETWORK.replace("type: L2", "type: L2, gateway4: 10.77.0.1")
    assert [cli("apply", "-f", "-", stdin=free).exit_code for _ in range(2)] == [0, 0]


def test_a_virtual_machine_makes_its_interfaces_in_its_namespace(cli: Cli) -> None:
    result = cli("-n", "shop", "apply", "-f", "-", stdin=f"{NETWORK}---\n{WEB}")
    assert result.stdout.splitlines() == [
        "network/lab created",
        "interface/shop/web-eth0 created",
        "virtualmachine/shop/web created",
    ]
    interface = cli.objects.interface_of("shop", "web", "eth0")
    assert interface is not None
    assert interface.key == InterfaceKey("shop", "web-eth0")


def test_files_and_directories_are_read_together(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "vm.yaml").write_text(WEB)
    (tmp_path / "notes.txt").write_text("not a manifest")
    network = tmp_path / "sub" / "network.json"
    network.parent.mkdir()
    network.write_text(
        '{"apiVersion": "homeport.dev/v1", "kind": "Network", "metadata": {"name": "lab"}, "spec": {"type": "L2"}}'
    )
    assert cli("apply", "-f", str(tmp_path), "-f", str(network)).exit_code == 0


@pytest.mark.parametrize("name", ["missing.yaml", "empty"])
def test_a_path_without_a_manifest_is_a_mistake(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("apply", "-f", str(tmp_path / name))
    assert result.exit_code == 2
    assert str(tmp_path / name) in result.stderr


def test_what_get_prints_can_be_applied(cli: Cli) -> None:
    cli("apply", "-f", "-", stdin=f"{NETWORK}---\n{WEB}")
    for kind in ("network", "vm", "interface"):
        shown = cli("get", kind, "-o", "yaml").stdout
        assert " unchanged\n" in cli("apply", "-f", "-", stdin=shown).stdout


def test_fields_without_effect_are_stored_and_said(cli: Cli) -> None:
    result = cli("apply", "-f", "-", stdin=NETWORK.replace("type: L2", "type: L2, ra: {mode: Own}"))
    assert result.exit_code == 0
    assert result.stderr == "Warning: network/lab: stored, and without effect in this version: spec.ra\n"
    assert "NotEnforced" in cli("describe", "net", "lab").stdout


def reserved(name: str, address: str) -> str:
    return (
        f"---\n{{apiVersion: homeport.dev/v1, kind: Interface, metadata: {{name: {name}}}, "
        f"spec: {{networkName: lab, ipAddresses: [{address}]}}}}\n"
    )


def test_a_pool_smaller_than_what_was_given_out_is_told_and_nothing_is_taken(cli: Cli) -> None:
    inside, outside = reserved("inside", "10.77.0.9"), reserved("outside", "10.77.0.200")
    assert cli("apply", "-f", "-", stdin=NETWORK + inside + outside).exit_code == 0
    owned = cli.store.list(keys.ADDRESSES).records
    for larger in ("10.77.0.0/24}, {cidr: fd00::/64", "10.77.0.0/23"):
        grown = cli("apply", "-f", "-", stdin=NETWORK.replace("10.77.0.0/24", larger))
        assert (grown.stdout, grown.stderr) == ("network/lab configured\n", "")
    smaller = NETWORK.replace("10.77.0.0/24", "10.77.0.0/25")
    shrunk = cli("apply", "-f", "-", stdin=smaller)
    assert (shrunk.exit_code, shrunk.stdout) == (0, "network/lab configured\n")
    assert shrunk.stderr == (
        "Warning: network/lab: 1 address in use lies outside its pools now, and whoever has one keeps it until the "
        "Interface is deleted or the address released: 10.77.0.200 (Interface default/outside)\n"
    )
    assert cli.store.list(keys.ADDRESSES).records == owned
    assert cli("apply", "-f", "-", stdin=smaller).stderr == "", "once"
    assert cli("apply", "-f", "-", stdin=outside).stdout == "interface/default/outside unchanged\n"
    assert cli("apply", "-f", "-", stdin=NETWORK).stderr == "", "it is back"


def test_many_addresses_outside_are_counted(cli: Cli) -> None:
    many = "".join(reserved(f"i{number}", f"10.77.0.{number}") for number in range(200, 209))
    assert cli("apply", "-f", "-", stdin=NETWORK + many).exit_code == 0
    excluded = NETWORK.replace("10.77.0.0/24", "10.77.0.0/24, exclude: [10.77.0.202-10.77.0.250]")
    told = cli("apply", "-f", "-", stdin=excluded).stderr
    assert "7 addresses in use lie outside" in told
    assert "10.77.0.202 (Interface default/i202), 10.77.0.203" in told
    assert told.endswith("10.77.0.206 (Interface default/i206) and 2 more\n")
